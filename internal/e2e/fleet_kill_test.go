package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/internal/e2e/fleet"
)

// TestFleetSmoke is a fleet's life in a minute: the primary's host dies, the spare steps in, and the machine is
// protected again; then the backup takes over as planned.
func TestFleetSmoke(t *testing.T) {
	w := startFleet(t, fleet.Options{Hosts: []string{"a", "b", "c"}})
	w.run(t)
	w.protected(t)
	steps(t, w, step{"primary's host killed", primaryHostKilled}, step{"planned failover", plannedFailover})
}

// TestFleetKills kills and stops every part of a fleet, one after the other, while one client writes over one
// connection. Whatever happened, nothing acknowledged is lost, nothing is done twice, the connection lives, and the
// machine is protected again.
func TestFleetKills(t *testing.T) {
	long(t)
	w := startFleet(t, fleet.Options{Hosts: []string{"a", "b", "c"}, OwnLAN: true})
	w.run(t, "--wait", "protected")
	w.watch(t)
	steps(t, w,
		step{"primary's replica killed", primaryReplicaKilled},
		step{"primary's host killed", primaryHostKilled},
		step{"backup's host killed", backupHostKilled},
		step{"spare's host killed", spareHostKilled},
		step{"two hosts killed in turn", twoHostsKilled},
		step{"primary's host stopped", primaryHostStopped},
		step{"backup's host stopped", backupHostStopped},
		step{"control killed", controlKilled},
		step{"control stopped", controlStopped},
		step{"control killed, then the primary", controlThenPrimaryKilled},
		step{"planned failover", plannedFailover},
		step{"drain", drain},
		step{"stop, start, rm", stopStartRemove},
	)
}

// spare is the host that has no part in the view.
func spare(m *api.Machine) string {
	for _, h := range []string{"a", "b", "c"} {
		if h != m.Primary && h != m.Backup {
			return h
		}
	}
	return ""
}

// primaryReplicaKilled kills the primary's process alone: its host starts another life of it, which stands ready.
func primaryReplicaKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	pids := w.Host(m.Primary).Replicas()
	if len(pids) != 1 {
		t.Fatalf("host %s has the replicas %v, want one", m.Primary, pids)
	}
	at := time.Now()
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.takenOver(t, m)
	w.protected(t)
	w.spareReady(t, m.Primary)
	w.told(t, "view.changed", "failover", "protected", "replica.ended", "replica.started")
	w.intact(t)
	t.Logf("blackout %v", w.load.Blackout(at))
}

func primaryHostKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	at := time.Now()
	w.die(t, m.Primary)
	w.takenOver(t, m)
	w.load.more(t, 20)
	if n := w.protected(t); n.Backup != spare(m) {
		t.Errorf("the backup is %q, want the spare %s", n.Backup, spare(m))
	}
	w.told(t, "view.changed", "failover", "transfer.done", "protected", "host.lost")
	w.intact(t)
	t.Logf("blackout %v", w.load.Blackout(at))
	w.start(t, m.Primary)
	w.spareReady(t, m.Primary)
}

func backupHostKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	w.die(t, m.Backup)
	n := w.until(t, "protected by the spare", func(n *api.Machine) bool { return n.View > m.View && isProtected(n) })
	if n.Primary != m.Primary || n.Backup != spare(m) {
		t.Errorf("view %d is of %s and %s, want %s and %s", n.View, n.Primary, n.Backup, m.Primary, spare(m))
	}
	w.told(t, "view.changed", "protected")
	w.intact(t)
	w.start(t, m.Backup)
	w.spareReady(t, m.Backup)
}

// spareHostKilled: nobody notices, and nobody leads or follows in its stead.
func spareHostKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	w.die(t, spare(m))
	w.told(t, "host.lost")
	if n := w.protected(t); n.View != m.View {
		t.Errorf("the view went from %d to %d for a spare's death", m.View, n.View)
	}
	w.intact(t)
	w.start(t, spare(m))
	w.spareReady(t, spare(m))
}

// twoHostsKilled leaves the machine on the last of three hosts; then both come back under their names.
func twoHostsKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.die(t, m.Primary)
	second := w.until(t, "protected by the spare", func(n *api.Machine) bool { return n.Primary == m.Backup && isProtected(n) })
	w.die(t, second.Primary)
	last := w.takenOver(t, second)
	// The service may name the first of the dead once more, as long as it has not missed enough pings.
	w.until(t, "alone, as ps says", func(n *api.Machine) bool {
		if n.Backup != "" || !strings.HasPrefix(n.Protection, "alone") {
			return false
		}
		out := w.cli(t, "ps")
		return strings.Contains(out, "alone") && strings.Contains(out, last.Primary)
	})
	w.intact(t)
	for _, name := range []string{m.Primary, second.Primary} {
		w.start(t, name)
	}
	w.protected(t)
	w.intact(t)
	for _, name := range []string{m.Primary, second.Primary} {
		w.spareReady(t, name)
	}
}

// stoppedFor is how long a host is stopped: far longer than any suspicion.
const stoppedFor = 5 * time.Second

// primaryHostStopped: the primary that wakes up believes that no time has passed; not a frame of it may leave.
func primaryHostStopped(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	old := w.replica(t, m.Primary).Incarnation
	moves := w.moves()
	at := time.Now()
	w.Host(m.Primary).Freeze()
	w.takenOver(t, m)
	w.load.more(t, 20)
	w.protected(t)
	if n := w.moves() - moves; n != 1 {
		t.Errorf("the guest's address moved %d times when the backup took over, want 1", n)
	}
	if rest := stoppedFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	w.Host(m.Primary).Thaw()
	wait(t, "the old primary to give up", func() (bool, string) {
		s := w.replica(t, m.Primary)
		return s.Incarnation != "" && s.Incarnation != old, s.Role
	})
	w.ready(t, m.Primary)
	w.spareReady(t, m.Primary)
	w.told(t, "failover", "protected")
	w.intact(t)
	if n := w.moves() - moves; n != 1 {
		t.Errorf("the guest's address has moved %d times, want 1: the old primary sent a frame", n)
	}
	t.Logf("blackout %v", w.load.Blackout(at))
}

func backupHostStopped(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	old := w.replica(t, m.Backup).Incarnation
	moves := w.moves()
	at := time.Now()
	w.Host(m.Backup).Freeze()
	n := w.until(t, "protected by the spare", func(n *api.Machine) bool { return n.View > m.View && isProtected(n) })
	if n.Primary != m.Primary || n.Backup != spare(m) {
		t.Errorf("view %d is of %s and %s, want %s and %s", n.View, n.Primary, n.Backup, m.Primary, spare(m))
	}
	if rest := stoppedFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	w.Host(m.Backup).Thaw()
	wait(t, "the old backup to give up", func() (bool, string) {
		s := w.replica(t, m.Backup)
		return s.Incarnation != "" && s.Incarnation != old, s.Role
	})
	w.spareReady(t, m.Backup)
	w.intact(t)
	if n := w.moves() - moves; n != 0 {
		t.Errorf("the guest's address moved %d times: the old backup sent a frame", n)
	}
}

// restartControl starts control again and waits until it knows the fleet.
func restartControl(t *testing.T, w *web) {
	t.Helper()
	if err := w.StartControl(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.seen = 0
	w.ready(t, "a", "b", "c")
}

// controlKilled: the machine does not notice, nor does its client.
func controlKilled(t *testing.T, w *web) {
	m := w.protected(t)
	if err := w.Control.Kill(); err != nil {
		t.Fatal(err)
	}
	w.load.more(t, 100)
	restartControl(t, w)
	if n := w.protected(t); n.View != m.View {
		t.Errorf("the view went from %d to %d while control was away", m.View, n.View)
	}
	w.intact(t)
}

func controlStopped(t *testing.T, w *web) {
	m := w.protected(t)
	w.mark(t)
	at := time.Now()
	if err := w.Control.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.load.more(t, 100)
	if rest := stoppedFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	if err := w.Control.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.ready(t, "a", "b", "c")
	w.load.more(t, 100)
	if n := w.protected(t); n.View != m.View {
		t.Errorf("the view went from %d to %d because control was stopped", m.View, n.View)
	}
	w.intact(t)
}

// controlThenPrimaryKilled: without the arbiter the backup waits, and goes on when control is back.
func controlThenPrimaryKilled(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	if err := w.Control.Kill(); err != nil {
		t.Fatal(err)
	}
	w.load.more(t, 20)
	at := time.Now()
	w.die(t, m.Primary)
	wait(t, "the backup to freeze", func() (bool, string) {
		s := w.replica(t, m.Backup)
		return s.Frozen != "", s.Role
	})
	acks := w.load.Acks()
	time.Sleep(time.Second) // that nothing happens can only be seen by watching for a while
	if n := w.load.Acks(); n != acks {
		t.Errorf("%d writes were acknowledged without a grant", n-acks)
	}
	if s := w.replica(t, m.Backup); s.Frozen == "" || s.Role != "backup" || s.View != m.View {
		t.Errorf("without an arbiter the survivor is %s of view %d, frozen %q", s.Role, s.View, s.Frozen)
	}
	if err := w.StartControl(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.seen = 0
	w.takenOver(t, m)
	w.load.more(t, 20)
	if n := w.protected(t); n.Backup != spare(m) {
		t.Errorf("the backup is %q, want the spare %s", n.Backup, spare(m))
	}
	w.intact(t)
	t.Logf("blackout %v", w.load.Blackout(at))
	w.start(t, m.Primary)
	w.spareReady(t, m.Primary)
}

func plannedFailover(t *testing.T, w *web) {
	m := w.protected(t)
	w.mark(t)
	at := time.Now()
	out := w.cli(t, "failover", "web")
	n := w.takenOver(t, m)
	if !strings.Contains(out, n.Primary+" is primary of view") {
		t.Errorf("failover says %q, and %s leads", out, n.Primary)
	}
	w.protected(t)
	w.told(t, "failover", "protected")
	w.intact(t)
	t.Logf("blackout %v; %s", w.load.Blackout(at), strings.TrimSpace(out))
}

// drain relieves the primary's host, then lets it take parts again.
func drain(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.mark(t)
	w.cli(t, "drain", "--wait", m.Primary)
	n := w.protected(t)
	if n.Primary != m.Backup || n.Backup != spare(m) {
		t.Errorf("with %s drained the view is of %s and %s, want %s and %s", m.Primary, n.Primary, n.Backup, m.Backup, spare(m))
	}
	if pids := w.Host(m.Primary).Replicas(); len(pids) != 0 {
		t.Errorf("the drained host runs %v", pids)
	}
	w.told(t, "host.draining", "failover")
	w.intact(t)
	w.cli(t, "drain", "--undo", m.Primary)
	w.spareReady(t, m.Primary)
}

// stopStartRemove: what was written to the disk is there after a start; after rm nothing is left.
func stopStartRemove(t *testing.T, w *web) {
	m := w.protected(t)
	w.spareReady(t, spare(m))
	w.load.stop(t)
	verify(t, w.load.Load)
	w.load.Close()
	w.mark(t)
	w.cli(t, "stop", "web")
	for _, name := range []string{"a", "b", "c"} {
		if pids := w.Host(name).Replicas(); len(pids) != 0 {
			t.Errorf("after stop host %s runs %v", name, pids)
		}
	}
	w.told(t, "machine.stopped")
	w.cli(t, "start", "web")
	w.until(t, "up", func(n *api.Machine) bool { return n.State == "running" })
	w.protected(t)
	w.told(t, "machine.started", "machine.up")
	ctx := t.Context()
	l, err := w.Await(ctx, w.machine(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kept, err := l.Counter()
	if err != nil {
		t.Fatal(err)
	}
	if kept == 0 {
		t.Error("after stop and start the counter is gone")
	}
	w.cli(t, "rm", "-f", "web")
	wait(t, "the hosts to remove the machine", func() (bool, string) {
		for _, name := range []string{"a", "b", "c"} {
			if left := w.Host(name).Machines(); len(left) != 0 {
				return false, "host " + name + " keeps " + strings.Join(left, ", ")
			}
		}
		return true, ""
	})
	if out := w.cli(t, "ps", "-a", "-q"); strings.TrimSpace(out) != "" {
		t.Errorf("after rm ps lists %q", out)
	}
}
