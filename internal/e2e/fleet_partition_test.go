package e2e

import (
	"errors"
	"os"
	"testing"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/internal/e2e/fleet"
)

// TestFleetPartitions cuts the wires of a fleet whose parts have addresses of their own, one direction at a time: the
// primary's to its backup, to control and to the LAN that its clients come through. Never do two lead in one view, what
// was acknowledged is kept, and the client's connection lives through all of it.
func TestFleetPartitions(t *testing.T) {
	long(t)
	n, err := fleet.NewNet("x", "y")
	if errors.Is(err, fleet.ErrNoNet) && os.Getenv("UNDERSTUDY_REQUIRE") == "" {
		t.Skipf("%v: it needs root and ip(8)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	w := startFleet(t, fleet.Options{Hosts: []string{"a", "b", "c"}, Apart: true})
	w.run(t, "--wait", "protected")
	w.watch(t)
	steps(t, w,
		step{"primary not heard by backup", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return m.Primary, []string{m.Backup} }, someoneGoesOn)
		}},
		step{"backup not heard by primary", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return m.Backup, []string{m.Primary} }, someoneGoesOn)
		}},
		step{"primary not heard by control", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return m.Primary, []string{"control"} }, backupTakesOver)
		}},
		step{"control not heard by primary", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return "control", []string{m.Primary} }, backupTakesOver)
		}},
		step{"backup not heard by control", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return m.Backup, []string{"control"} }, spareFollows)
		}},
		step{"primary not heard by anybody", func(t *testing.T, w *web) {
			partition(t, w, func(m *api.Machine) (string, []string) { return m.Primary, w.Net.Others(m.Primary) }, backupTakesOver)
		}},
		step{"primary not heard by the LAN", func(t *testing.T, w *web) {
			offLAN(t, w, func(m *api.Machine) (string, string) { return m.Primary, "lan" })
		}},
		step{"LAN not heard by the primary", func(t *testing.T, w *web) {
			offLAN(t, w, func(m *api.Machine) (string, string) { return "lan", m.Primary })
		}},
		step{"control not heard by anybody", controlAlone},
	)
}

// partition loses what one part sends to others, sees that things go on as expected, heals it, and sees everybody well.
func partition(t *testing.T, w *web, which func(*api.Machine) (from string, to []string), expect func(*testing.T, *web, *api.Machine)) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	from, to := which(m)
	at := time.Now()
	if err := w.Net.Cut(from, to...); err != nil {
		t.Fatal(err)
	}
	expect(t, w, m)
	w.load.more(t, 20)
	now := w.protected(t) // with the wire still cut: there is a spare
	moves := w.moves()
	if err := w.Net.HealAll(); err != nil {
		t.Fatal(err)
	}
	w.ready(t, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		w.spareReady(t, name)
	}
	w.intact(t)
	if n := w.protected(t); n.Primary == now.Primary && w.moves() != moves {
		t.Errorf("the guest's address moved %d times after the wire was whole again: somebody else sent a frame", w.moves()-moves)
	}
	t.Logf("%s to %v cut: view %d of %s and %s became view %d of %s and %s; blackout %v",
		from, to, m.View, m.Primary, m.Backup, now.View, now.Primary, now.Backup, w.load.Blackout(at))
}

// someoneGoesOn: two that do not hear each other both claim; one wins, the spare becomes its backup.
func someoneGoesOn(t *testing.T, w *web, m *api.Machine) {
	n := w.until(t, "in the hands of one of the two", func(n *api.Machine) bool { return n.View > m.View && n.Backup == spare(m) && isProtected(n) })
	if n.Primary != m.Primary && n.Primary != m.Backup {
		t.Errorf("%s leads, which had no part", n.Primary)
	}
}

func backupTakesOver(t *testing.T, w *web, m *api.Machine) {
	w.takenOver(t, m)
	w.told(t, "failover")
}

func spareFollows(t *testing.T, w *web, m *api.Machine) {
	n := w.until(t, "protected by the spare", func(n *api.Machine) bool { return n.View > m.View && isProtected(n) })
	if n.Primary != m.Primary || n.Backup != spare(m) {
		t.Errorf("view %d is of %s and %s, want %s and %s", n.View, n.Primary, n.Backup, m.Primary, spare(m))
	}
}

// offLAN cuts the primary off from its clients only. It cannot know, nor can the others: nothing changes until the wire is
// whole again, or, as here, a person has the backup take over.
func offLAN(t *testing.T, w *web, which func(*api.Machine) (from, to string)) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	from, to := which(m)
	at := time.Now()
	if err := w.Net.Cut(from, to); err != nil {
		t.Fatal(err)
	}
	w.cli(t, "failover", "web")
	w.takenOver(t, m)
	w.load.more(t, 20)
	w.protected(t)
	if err := w.Net.HealAll(); err != nil {
		t.Fatal(err)
	}
	w.ready(t, "a", "b", "c")
	w.intact(t)
	t.Logf("blackout %v, ended by a failover on demand", w.load.Blackout(at))
}

// controlAlone: what control says reaches nobody. Nothing changes but that nobody can ask it.
func controlAlone(t *testing.T, w *web) {
	m := w.protected(t)
	if err := w.Net.Cut("control", w.Net.Others("control")...); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	w.load.more(t, 100)
	if rest := stoppedFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	w.load.more(t, 20)
	if err := w.Net.HealAll(); err != nil {
		t.Fatal(err)
	}
	w.ready(t, "a", "b", "c")
	w.load.more(t, 20)
	if n := w.protected(t); n.Primary != m.Primary {
		t.Logf("%s leads after control was alone, before it was %s", n.Primary, m.Primary)
	}
	w.intact(t)
}
