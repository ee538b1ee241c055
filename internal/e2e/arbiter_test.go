package e2e

import (
	"testing"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

// TestArbiterDies: while both replicas live nobody misses the arbiter. Without it, a survivor freezes rather
// than guess, says so, and goes on when the arbiter is back with its store.
func TestArbiterDies(t *testing.T) {
	long(t)
	p := startPair(t, demo.PairOptions{})
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 50)

	if err := p.Arbiter.Kill(); err != nil {
		t.Fatal(err)
	}
	w.more(t, 100)
	if err := p.StartArbiter(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.more(t, 100)
	for _, r := range []*demo.Process{p.A, p.B} {
		if s := status(r); s.View != 1 || s.Frozen != "" {
			t.Errorf("after a restart of the arbiter %s is in view %d, frozen %q; nothing should have changed", r.Name, s.View, s.Frozen)
		}
	}
	if rec := record(t, p); rec.Number != 1 || rec.Primary != "a" || rec.Backup != "b" {
		t.Errorf("after its restart the arbiter's record is %+v, want view 1 of a and b", rec)
	}

	if err := p.Arbiter.Kill(); err != nil {
		t.Fatal(err)
	}
	at := kill(t, p.A)
	s := waitStatus(t, p.B, "frozen", func(s host.Status) bool { return s.Frozen != "" || s.View != 1 })
	if s.Frozen == "" || s.Role != "backup" || s.View != 1 {
		t.Errorf("without an arbiter the survivor is %s of view %d, frozen %q; want a frozen backup of view 1", s.Role, s.View, s.Frozen)
	}
	t.Logf("frozen: %s", s.Frozen)
	acks := w.Acks()
	time.Sleep(2 * time.Second) // that nothing happens can only be seen by watching for a while
	if n := w.Acks(); n != acks {
		t.Errorf("%d writes were acknowledged without a grant", n-acks)
	}
	if s := status(p.B); s.Frozen == "" || s.View != 1 {
		t.Errorf("the survivor did not stay frozen: %+v", s)
	}
	if err := p.StartArbiter(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitAlone(t, p.B)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
	t.Logf("blackout %s", l.Blackout(at))
}
