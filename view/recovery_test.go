package view

import (
	"errors"
	"testing"
	"time"

	"understudy/arbiter"
)

func TestLongPausesAndLatePings(t *testing.T) {
	b := pair(t)
	late := b.seqs["a"]
	b.pass(500*ms, "a:2!", "b:2")
	// A ping 0 from the start of a's life, and one repeated.
	for _, p := range []Ping{
		{Group: "g", Server: "a", Incarnation: "a/0", Seq: 1, View: 0},
		{Group: "g", Server: "a", Incarnation: "a/0", Seq: late, View: 2},
	} {
		if _, err := b.core.Ping(b.now, p); err != nil {
			t.Fatal(err)
		}
	}
	b.pass(200*ms, "a:2!", "b:2")
	b.want(2, "a", "b")
	if got := b.core.Counts().StalePings; got != 2 {
		t.Errorf("%d stale pings", got)
	}
	b.pass(450*ms, "b:2")
	b.want(2, "a", "b") // silent for less than five intervals
	b.pass(200*ms, "b:2")
	b.want(3, "b", "")

	// A ping of a life that has ended is no sign of life, nor one of the next.
	b = pair(t)
	b.life["b"]++
	b.ping("b", 0)
	b.want(3, "a", "")
	if b.raw(Ping{Server: "b", Incarnation: "b/0", View: 2}); b.core.Counts().StalePings != 1 {
		t.Error("the ping of a former life was taken")
	}
}

// The service itself is stopped, or its clock jumps: it heard nobody, and nobody is dead for it.
func TestServicePauses(t *testing.T) {
	b := pair(t)
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour} {
		b.now += jump
		b.core.Tick(b.now)
		b.settle()
		if st, err := b.core.Status(b.now, "g"); err != nil || !st.Acked {
			t.Errorf("after a jump of %v: %+v, %v", jump, st, err)
		}
		b.pass(250*ms, "b:2")
		b.want(2, "a", "b")
		b.pass(300*ms, "a:2!", "b:2")
	}
	b.want(2, "a", "b")
}

// The service is cut off from everybody, for as long as you like. The backup is heard again first.
func TestServiceHearsNobody(t *testing.T) {
	for _, cut := range []time.Duration{300 * ms, 450 * ms, 600 * ms, 5 * time.Second, 9 * time.Second} {
		b := pair(t)
		b.pass(300*ms, "a:2!", "b:2")
		b.pass(cut)
		b.pass(200*ms, "b:2")
		b.pass(300*ms, "a:2!", "b:2")
		b.want(2, "a", "b")
	}
}

// A life that changes without ever pinging 0 to this copy.
func TestOtherLifeIsACrash(t *testing.T) {
	b := pair(t)
	b.life["a"]++
	b.ping("a", 2)
	b.want(3, "b", "")
}

// The same life says that it has lost everything.
func TestPing0IsACrash(t *testing.T) {
	b := pair(t)
	b.ping("b", 0)
	b.want(3, "a", "")
	b = pair(t)
	b.ping("a", 0)
	b.want(3, "b", "")
}

// A backup that never hears that it is one, and one that thinks that a former life was meant, ping 0 for
// ever: they are left out, and named anew if they are still there.
func TestBackupThatNeverTakesPart(t *testing.T) {
	b := newBench(t)
	b.ping("a", 0)
	b.ping("a", 1)
	b.ping("b", 0)
	b.want(2, "a", "b")
	b.pass(450*ms, "a:2", "b:0")
	b.want(2, "a", "b")
	b.pass(200*ms, "a:2", "b:0")
	b.want(3, "a", "")
	b.pass(100*ms, "a:3", "b:3")
	b.want(4, "a", "b")
}

func TestServiceRestart(t *testing.T) {
	t.Run("nobody is dead before a dead interval, nothing moves before an acknowledgement", func(t *testing.T) {
		b := pair(t)
		b.restart()
		b.pass(5*time.Second, "b:2", "c:2")
		b.want(2, "a", "b")
		b.why("waits for a to acknowledge")
		b.sync("a", 2)
		b.pass(400*ms, "b:2", "c:2")
		b.want(2, "a", "b")
		b.pass(200*ms, "b:2", "c:2")
		b.want(3, "b", "c")
	})
	t.Run("acknowledged at once, backup gets its dead interval", func(t *testing.T) {
		b := pair(t)
		b.restart()
		b.pass(400*ms, "a:2!")
		b.want(2, "a", "b")
		b.pass(400*ms, "a:2!")
		b.want(3, "a", "")
	})
	t.Run("claim won, answer never seen", func(t *testing.T) {
		b := pair(t)
		b.hold = true
		b.pass(700*ms, "b:2", "c:2")
		if len(b.held) != 1 || b.held[0].Next.Number != 3 {
			t.Fatal(b.held)
		}
		b.table.CompareAndSet("g", b.held[0].Next)
		b.hold = false
		b.restart()
		b.ping("c", 2)
		b.want(3, "b", "c")
		b.pass(2*time.Second, "c:3")
		b.want(3, "b", "c") // not acknowledged as far as this life knows
		b.sync("b", 3)
		b.pass(time.Second, "b:3!", "a:3")
		b.want(4, "b", "a")
	})
	t.Run("claim lands after the restart", func(t *testing.T) {
		b := pair(t)
		b.hold = true
		b.pass(700*ms, "b:2", "c:2")
		late := b.held[0].Next
		b.hold = false
		b.restart()
		b.sync("a", 2) // a lives after all
		b.pass(300*ms, "a:2!", "b:2")
		b.want(2, "a", "b")
		b.table.CompareAndSet("g", late)
		b.ping("b", 3) // b knows
		b.pass(200*ms, "a:2!", "b:3")
		b.want(3, "b", "c")
	})
	t.Run("founder whose answer was lost", func(t *testing.T) {
		b := newBench(t)
		b.hold = true
		b.ping("a", 0)
		b.perform(b.held[0]) // read: empty
		b.held = nil
		b.settle()
		b.table.CompareAndSet("g", b.held[0].Next)
		b.hold = false
		b.restart()
		b.pass(3*time.Second, "a:0")
		b.want(1, "a", "")
		if st, _ := b.core.Status(b.now, "g"); st.Servers[0].Crashed {
			t.Error("the founder has not restarted")
		}
		b.ping("a", 1)
		b.ping("b", 1)
		b.want(2, "a", "b")
	})
	t.Run("founder restarted meanwhile", func(t *testing.T) {
		b := newBench(t)
		b.ping("a", 0)
		b.ping("a", 1)
		b.restart()
		b.life["a"]++
		b.pass(time.Second, "a:0", "b:1")
		b.want(1, "a", "")
		if st, _ := b.core.Status(b.now, "g"); !st.Servers[0].Crashed {
			t.Error("the founder has restarted")
		}
	})
	t.Run("server restarted while the service was down", func(t *testing.T) {
		b := pair(t)
		b.restart()
		b.life["b"]++
		b.ping("b", 0)
		b.ping("b", 0)
		b.sync("a", 2)
		b.want(3, "a", "")
	})
}

func TestReplicaClaims(t *testing.T) {
	b := pair(t)
	// The backup wins view 3 alone, the service's own claim comes too late.
	claim := arbiter.Record{Number: 3, Primary: "b", Claimant: "b/0"}
	if _, won, err := b.table.CompareAndSet("g", claim); !won || err != nil {
		t.Fatal(won, err)
	}
	b.want(2, "a", "b") // nobody has told
	b.pass(700*ms, "b:2", "c:2")
	b.want(3, "b", "") // found when the claim was lost
	if b.core.Counts().ClaimsLost != 1 {
		t.Errorf("%+v", b.core.Counts())
	}
	b.pass(time.Second, "c:3")
	b.want(3, "b", "")
	b.ping("b", 3)
	b.want(4, "b", "c") // the lone primary gets a backup once it acknowledged
	b.sync("b", 4)

	// Told by a ping with a number that the service does not know.
	b.table.CompareAndSet("g", arbiter.Record{Number: 5, Primary: "b", Claimant: "b/0"})
	b.pass(200*ms, "b:5", "d:4")
	b.want(6, "b", "d") // c was claimed away and not heard since: it is probably dead
	b.sync("b", 6)

	// Several views at once, the last by a server that was not in the one that we know.
	for n, r := range []arbiter.Record{{Number: 7, Primary: "c"}, {Number: 8, Primary: "c", Backup: "d"}, {Number: 9, Primary: "d"}} {
		r.Claimant = "x"
		if _, won, _ := b.table.CompareAndSet("g", r); !won {
			t.Fatal(n)
		}
	}
	b.pass(200*ms, "d:9")
	a, _ := b.core.Get(b.now, "g")
	if a.View.Primary != "d" || a.View.Number < 9 {
		t.Errorf("%+v", a)
	}
}

func TestClaimAndDecisionCannotBothWin(t *testing.T) {
	b := pair(t)
	b.hold = true
	b.pass(700*ms, "b:2", "c:2")
	b.table.CompareAndSet("g", arbiter.Record{Number: 3, Primary: "b", Claimant: "b/0"})
	b.release()
	b.want(3, "b", "")

	b = pair(t)
	b.pass(700*ms, "b:2", "c:2")
	b.want(3, "b", "c")
	if cur, won, _ := b.table.CompareAndSet("g", arbiter.Record{Number: 3, Primary: "b", Claimant: "b/0"}); won || cur.Backup != "c" {
		t.Error("two views 3")
	}
}

func TestTwoCopies(t *testing.T) {
	b := pair(t)
	one, two := b.core, b.another("other")
	b.core = two
	b.sync("a", 2)
	b.sync("a", 2)
	b.ping("c", 2) // only this copy hears c
	b.core = one
	b.sync("a", 2)
	b.hold = true
	var calls []Call
	for range 14 { // both hold a for dead at the same time
		b.now += 50 * ms
		for _, c := range []*Core{one, two} {
			b.core = c
			c.Tick(b.now)
			b.raw(Ping{Server: "b", View: 2})
			if c == two {
				b.raw(Ping{Server: "c", View: 2})
			}
		}
	}
	calls, b.held, b.hold = b.held, nil, false
	if len(calls) != 2 || calls[0].Next == calls[1].Next {
		t.Fatalf("claims %+v", calls)
	}
	for i, c := range calls {
		b.core = map[string]*Core{"service-1": one, "other": two}[c.Next.Claimant]
		b.perform(c)
		b.settle()
		b.want(3, calls[0].Next.Primary, calls[0].Next.Backup)
		if lost := b.core.Counts().ClaimsLost; lost != uint64(i) {
			t.Errorf("claim %d: %d lost", i, lost)
		}
	}
}

func TestArbiterUnreachable(t *testing.T) {
	b := newBench(t)
	b.down = true
	b.ping("a", 0)
	if _, err := b.core.Get(b.now, "g"); !errors.Is(err, ErrUnknown) || !errors.Is(err, arbiter.ErrUnreachable) {
		t.Fatal(err)
	}
	b.down = false
	b.now += 100 * ms
	b.ping("a", 0)
	b.want(1, "a", "")

	b = pair(t)
	b.down = true
	b.pass(5*time.Second, "b:2", "c:2")
	b.want(2, "a", "b")
	if a, _ := b.core.Get(b.now, "g"); !a.Stale {
		t.Error("not marked stale")
	}
	if n := b.core.Counts().CallErrors; n < 10 || n > 60 {
		t.Errorf("%d calls in 5 s", n)
	}
	b.down = false
	b.pass(200*ms, "b:2", "c:2")
	b.want(3, "b", "c")
	if a, _ := b.core.Get(b.now, "g"); a.Stale {
		t.Error("still marked stale")
	}

	// It comes back to a group whose first server has died meanwhile.
	b = newBench(t)
	b.down = true
	b.ping("a", 0)
	b.pass(3 * time.Second)
	b.down = false
	b.pass(time.Second)
	b.ping("b", 0)
	b.pass(200*ms, "b:0")
	b.want(1, "b", "")

	// It comes back to a group that needs no change any more.
	b = pair(t)
	b.down = true
	b.pass(time.Second, "b:2")
	b.down = false
	b.sync("a", 2)
	b.pass(time.Second, "a:2!", "b:2")
	b.want(2, "a", "b")
	if a, _ := b.core.Get(b.now, "g"); a.Stale {
		t.Error("marked stale for ever")
	}
}
