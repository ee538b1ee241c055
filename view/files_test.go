package view

import (
	"strings"
	"testing"
	"time"
)

// files is the ping of a server's new life that has files of view n, which claimant made, up to entry last.
func (b *bench) files(server string, n Number, claimant string, last uint64) {
	b.t.Helper()
	if _, err := b.raw(Ping{Server: server, Files: Files{View: n, Claimant: claimant, Last: last}, CannotFound: true}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) claimant() string {
	b.t.Helper()
	a, err := b.core.Get(b.now, "g")
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Claimant
}

// lost is view 2 {a, b} whose servers and service have all died and started again.
func lost(t *testing.T) *bench {
	b := pair(t)
	b.life["a"]++
	b.life["b"]++
	b.restart()
	return b
}

// pings lets time go by with pings of new lives that have files, which are told by name:last.
func (b *bench) passFiles(d time.Duration, n Number, claimant string, has map[string]uint64) {
	b.t.Helper()
	for end := b.now + d; b.now < end; b.pass(100 * ms) {
		for _, name := range []string{"a", "b", "c"} {
			if last, ok := has[name]; ok {
				b.files(name, n, claimant, last)
			}
		}
	}
}

func TestGroupComesBackFromFiles(t *testing.T) {
	b := lost(t)
	b.passFiles(200*ms, 2, "service-1", map[string]uint64{"a": 100})
	b.why("waits for more files than those of a")
	b.want(2, "a", "b")
	b.files("b", 2, "service-1", 101)
	b.want(3, "b", "") // it has more
	if got := b.claimant(); got != "b/1" {
		t.Errorf("granted to %s", got)
	}
	// It loads its files before it takes its part, and is alive meanwhile.
	b.passFiles(2*time.Second, 2, "service-1", map[string]uint64{"a": 100, "b": 101})
	b.want(3, "b", "")
	b.ping("b", 3)
	b.files("a", 2, "service-1", 100)
	b.want(4, "b", "a")
}

func TestGroupComesBackFromTheFilesOfOne(t *testing.T) {
	for _, name := range []string{"a", "b"} {
		b := lost(t)
		b.passFiles(4*time.Second, 2, "service-1", map[string]uint64{name: 100})
		b.want(2, "a", "b") // the other's may come yet
		b.passFiles(3*time.Second, 2, "service-1", map[string]uint64{name: 100})
		b.want(3, name, "")
		// It dies while it loads: the view is its own, and so is the next.
		b.life[name]++
		b.passFiles(2*time.Second, 3, name+"/1", map[string]uint64{name: 100})
		b.want(4, name, "")
	}
}

// TestOldFilesDoNotLead: of an older view, of another history with the same numbers, or of a server that the view does not name.
func TestOldFilesDoNotLead(t *testing.T) {
	for name, files := range map[string]Files{
		"older":           {View: 1, Claimant: "service-1", Last: 1000},
		"newer":           {View: 3, Claimant: "service-1", Last: 1000},
		"another history": {View: 2, Claimant: "service-0", Last: 1000},
	} {
		b := lost(t)
		for range 100 {
			b.files("a", files.View, files.Claimant, files.Last)
			b.pass(100*ms, "c:0")
		}
		b.want(2, "a", "b")
		b.why("which is dead")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	b := lost(t)
	b.passFiles(10*time.Second, 2, "service-1", map[string]uint64{"c": 1000})
	b.want(2, "a", "b")
}

// TestFilesDoNotOvertakeTheLiving: whoever is alive and holds the state is preferred to any file.
func TestFilesDoNotOvertakeTheLiving(t *testing.T) {
	// The backup comes back while the primary lives.
	b := pair(t)
	b.life["b"]++
	b.files("b", 2, "service-1", 100)
	b.want(3, "a", "")
	// The primary comes back while the backup lives.
	b = pair(t)
	b.life["a"]++
	b.files("a", 2, "service-1", 100)
	b.want(3, "b", "")
	// The service has forgotten who was in sync. The backup that holds the state claims the view itself, in time.
	b = pair(t)
	b.life["a"]++
	b.restart()
	for range 20 {
		b.files("a", 2, "service-1", 100)
		b.pass(100*ms, "b:2")
	}
	b.want(2, "a", "b")
	// One that does not was not in sync.
	for range 50 {
		b.files("a", 2, "service-1", 100)
		b.pass(100*ms, "b:2")
	}
	b.want(3, "a", "")
}

func TestFilesOfAPing(t *testing.T) {
	b := newBench(t)
	for _, f := range []Files{{View: 1}, {Claimant: "x"}, {View: 1, Claimant: strings.Repeat("x", 10_000)}} {
		if _, err := b.raw(Ping{Server: "a", Files: f}); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}

// TestFilesOfOneThatHeardAnOldView: a copy of the service that has missed views lets a server that starts again take the part of a
// spare in one of them. The files that it offers say that it has none in the newest.
func TestFilesOfOneThatHeardAnOldView(t *testing.T) {
	b := lost(t)
	for end := b.now + 7*time.Second; b.now < end; b.pass(100 * ms) {
		p := Ping{Server: "a", View: 1, Files: Files{View: 2, Claimant: "service-1", Last: 100}, CannotFound: true}
		if _, err := b.raw(p); err != nil {
			t.Fatal(err)
		}
	}
	b.want(3, "a", "")
}
