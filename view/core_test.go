package view

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
)

const ms = time.Millisecond

// bench is one service, an arbiter that can be made to fail, and pings by hand.
type bench struct {
	t     *testing.T
	now   time.Duration
	core  *Core
	table *arbiter.Table
	down  bool   // the arbiter cannot be reached
	hold  bool   // calls are not answered until released
	held  []Call // meanwhile
	seqs  map[string]uint64
	life  map[string]int
	calls int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, table: &arbiter.Table{}, seqs: map[string]uint64{}, life: map[string]int{}}
	b.restart()
	return b
}

// restart is a new life of the service, with nothing in memory.
func (b *bench) restart() {
	b.calls++
	b.core = b.another(fmt.Sprintf("service-%d", b.calls))
	b.held = nil
}

func (b *bench) another(id string) *Core {
	c, err := New(Config{ID: id, MaxServers: 8, MaxGroups: 4})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) settle() {
	for {
		calls := b.core.Ready().Calls
		if b.hold {
			b.held = append(b.held, calls...)
			return
		}
		for _, c := range calls {
			b.perform(c)
		}
		if len(calls) == 0 {
			return
		}
	}
}

func (b *bench) perform(c Call) {
	r := Result{Call: c.ID, Group: c.Group}
	switch {
	case b.down:
		r.Err = fmt.Errorf("%w: no route", arbiter.ErrUnreachable)
	case c.Next.Number == 0:
		r.Current, r.Err = b.table.Get(c.Group)
	default:
		r.Current, _, r.Err = b.table.CompareAndSet(c.Group, c.Next)
	}
	b.core.Result(b.now, r)
}

func (b *bench) release() {
	b.hold = false
	held := b.held
	b.held = nil
	for _, c := range held {
		b.perform(c)
	}
	b.settle()
}

func (b *bench) raw(p Ping) (Answer, error) {
	b.seqs[p.Server]++
	p.Group = "g"
	p.Seq = b.seqs[p.Server]
	if p.Incarnation == "" {
		p.Incarnation = fmt.Sprintf("%s/%d", p.Server, b.life[p.Server])
	}
	_, err := b.core.Ping(b.now, p)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Answer{}, err
	}
	b.settle()
	return b.core.Get(b.now, "g")
}

func (b *bench) ping(server string, n Number) View {
	b.t.Helper()
	a, err := b.raw(Ping{Server: server, View: n})
	if err != nil && !errors.Is(err, ErrUnknown) {
		b.t.Fatal(err)
	}
	return a.View
}

// sync is the ping of a primary whose backup is in sync.
func (b *bench) sync(server string, n Number) View {
	b.t.Helper()
	a, err := b.raw(Ping{Server: server, View: n, InSync: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return a.View
}

// pass lets time go by in ticks, with pings by those named as "name:view" or "name:view!" (in sync).
func (b *bench) pass(d time.Duration, pings ...string) {
	b.t.Helper()
	for end := b.now + d; b.now < end; {
		b.now += 50 * ms
		b.core.Tick(b.now)
		b.settle()
		if b.now%(100*ms) != 0 {
			continue
		}
		for _, p := range pings {
			name, rest, _ := strings.Cut(p, ":")
			rest, inSync := strings.CutSuffix(rest, "!")
			var n Number
			fmt.Sscan(rest, &n)
			if _, err := b.raw(Ping{Server: name, View: n, InSync: inSync}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

func (b *bench) want(n Number, primary, backup string) {
	b.t.Helper()
	a, err := b.core.Get(b.now, "g")
	if v := (View{n, primary, backup}); err != nil || a.View != v {
		st, _ := b.core.Status(b.now, "g")
		b.t.Fatalf("view %+v, %v; want %+v; %s", a.View, err, v, st.Why)
	}
}

func (b *bench) why(text string) {
	b.t.Helper()
	if st, err := b.core.Status(b.now, "g"); err != nil || !strings.Contains(st.Why, text) {
		b.t.Fatalf("status %q, %v; want %q", st.Why, err, text)
	}
}

// pair brings up view 2 {a, b}, acknowledged and in sync.
func pair(t *testing.T) *bench {
	b := newBench(t)
	b.ping("a", 0)
	b.want(1, "a", "")
	b.ping("a", 1)
	b.ping("b", 0)
	b.want(2, "a", "b")
	b.sync("a", 2)
	b.ping("b", 2)
	b.why("protected")
	return b
}

// The cases of the lab's test, in its order.
func TestLab(t *testing.T) {
	b := newBench(t)
	if _, err := b.core.Get(b.now, "g"); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	b.settle()
	b.want(0, "", "") // there was never a primary
	b.ping("a", 0)
	b.want(1, "a", "") // first primary
	b.ping("a", 1)
	b.ping("b", 0)
	b.want(2, "a", "b") // first backup
	b.sync("a", 2)

	b.pass(700*ms, "b:2")
	b.want(3, "b", "") // backup takes over if the primary fails
	b.pass(200*ms, "b:3")
	b.life["a"]++
	b.ping("a", 0)
	b.want(4, "b", "a") // restarted server becomes backup
	b.ping("c", 0)
	b.pass(100*ms, "b:4!", "a:4", "c:4")

	b.pass(700*ms, "a:4", "c:4")
	b.want(5, "a", "c") // idle third server becomes backup in the same step
	b.ping("c", 5)
	b.sync("a", 5)
	b.life["a"]++
	b.ping("a", 0)
	b.want(6, "c", "") // restarted primary counts as dead though it pings
	b.ping("c", 6)
	b.ping("a", 0)
	b.want(7, "c", "a")
	b.sync("c", 7)
	b.pass(700*ms, "c:7!")
	b.want(8, "c", "") // dead backup is removed

	b.ping("d", 0) // c has not acknowledged 8
	b.pass(2*time.Second, "d:8")
	b.want(8, "c", "") // view waits for the primary's acknowledgement, even if it is dead
	b.why("waits for c to acknowledge")
	b.ping("c", 8)
	b.want(9, "c", "d")
	b.ping("c", 9)
	b.pass(3*time.Second, "e:9")
	b.want(9, "c", "d") // both dead: an uninitialised server cannot become primary
	b.why("stopped: primary c is dead")
	b.pass(200*ms, "c:9", "e:9") // the primary is heard again, with all its state
	b.want(10, "c", "e")
}

func TestViewWaitsForAcknowledgement(t *testing.T) {
	b := newBench(t)
	b.ping("a", 0)
	b.ping("b", 0)
	b.pass(3*time.Second, "b:1", "a:0")
	b.want(1, "a", "")
	b.ping("a", 1)
	b.want(2, "a", "b")
	b.pass(2*time.Second, "b:2", "c:2", "a:1") // a says that it knows 1, not 2
	b.want(2, "a", "b")
	b.pass(2*time.Second, "b:2", "c:2")
	b.want(2, "a", "b")
	b.ping("a", 2)
	b.pass(2*time.Second, "b:2", "c:2")
	b.want(2, "a", "b") // acknowledged, but b was never in sync
	b.why("not in sync")
}

func TestInSyncIsOfOneView(t *testing.T) {
	b := pair(t)
	b.life["b"]++
	b.ping("b", 0) // the backup has restarted: dead at once
	b.want(3, "a", "")
	b.sync("a", 3) // in sync with whom?
	b.ping("b", 0)
	b.want(4, "a", "b")
	if a, _ := b.core.Get(b.now, "g"); a.InSync || a.Acked {
		t.Errorf("a new view is %+v", a)
	}
	b.sync("a", 3) // of the view before: neither acknowledges nor says that the new b is in sync
	b.ping("a", 4)
	b.pass(time.Second, "b:4")
	b.want(4, "a", "b")
	b.why("not in sync")
	b.sync("a", 4)
	b.sync("b", 4) // the backup's word does not count either
	b.pass(time.Second, "b:4")
	b.want(5, "b", "")

	// What only the backup says.
	c := newBench(t)
	c.ping("a", 0)
	c.ping("b", 0)
	c.ping("a", 1)
	c.ping("a", 2)
	c.pass(time.Second, "b:2!")
	c.want(2, "a", "b")
}

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
	b.want(6, "b", "c") // c may have lost its place only because its link was slow
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

	// It comes back to a group that needs no change any more.
	b = pair(t)
	b.down = true
	b.pass(time.Second, "b:2")
	b.down = false
	b.sync("a", 2)
	b.pass(time.Second, "a:2!", "b:2")
	b.want(2, "a", "b")
}

func TestLiars(t *testing.T) {
	b := newBench(t)
	b.ping("a", 0)
	b.ping("a", 7)
	b.ping("b", 1<<63)
	before := b.core.Counts().RegisterGets
	b.pass(2*time.Second, "a:7", "b:1")
	b.want(1, "a", "") // 7 does not acknowledge 1
	if n := b.core.Counts().RegisterGets - before; n == 0 || n > 25 {
		t.Errorf("%d reads of the register in 2 s", n)
	}
	b.ping("a", 1)
	b.want(2, "a", "b")

	// A server that knows views of a group whose register is empty: the register was lost.
	b = newBench(t)
	b.ping("a", 7)
	b.ping("b", 0)
	b.pass(300*ms, "a:7", "b:0")
	b.want(0, "", "")
	b.why("register is empty")
}

func TestRegisterContradictsItself(t *testing.T) {
	b := pair(t)
	b.hold = true
	b.ping("a", 3)
	b.now += 100 * ms
	b.ping("a", 3)
	if len(b.held) != 1 {
		t.Fatal(b.held)
	}
	b.core.Result(b.now, Result{Call: b.held[0].ID, Group: "g", Current: arbiter.Record{Number: 2, Primary: "x", Claimant: "y"}})
	if _, err := b.core.Get(b.now, "g"); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	if _, err := b.core.Switch(b.now, "g"); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}

	// One that falls back, and one that talks nonsense.
	b = pair(t)
	b.hold = true
	b.now += 100 * ms
	b.ping("a", 3)
	b.core.Result(b.now, Result{Call: b.held[0].ID, Group: "g"})
	b.held, b.hold = nil, false
	b.want(2, "a", "b")
	b.hold = true
	b.now += 100 * ms
	b.ping("a", 3)
	b.core.Result(b.now, Result{Call: b.held[0].ID, Group: "g", Current: arbiter.Record{Number: 9, Primary: "a", Backup: "a"}})
	b.want(2, "a", "b")
	b.core.Result(b.now, Result{Call: 999, Group: "g", Current: arbiter.Record{Number: 9, Primary: "z", Claimant: "z"}})
	b.core.Result(b.now, Result{Call: 1, Group: "other"})
	b.want(2, "a", "b")
}

func TestLastNumber(t *testing.T) {
	b := newBench(t)
	b.hold = true
	b.ping("a", 0)
	b.core.Result(b.now, Result{Call: b.held[0].ID, Group: "g", Current: arbiter.Record{Number: math.MaxUint64, Primary: "a", Claimant: "a/0"}})
	b.held, b.hold = nil, false
	b.pass(time.Second, "a:18446744073709551615!", "b:1")
	b.want(math.MaxUint64, "a", "")
	b.why("no more numbers")
}

func TestSwitch(t *testing.T) {
	b := newBench(t)
	refused := func(text string) {
		t.Helper()
		if _, err := b.core.Switch(b.now, "g"); !errors.Is(err, ErrNotNow) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want %q", err, text)
		}
		b.settle()
	}
	if _, err := b.core.Switch(b.now, "g"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	b.settle()
	refused("no view")
	b.ping("a", 0)
	refused("not acknowledged")
	b.ping("a", 1)
	refused("no backup")
	b.ping("b", 1)
	b.ping("a", 2)
	refused("not in sync")
	b.sync("a", 2)
	b.ping("c", 2)
	if n, err := b.core.Switch(b.now, "g"); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	b.settle()
	b.want(3, "b", "a") // the former primary, not the idle server
	refused("not acknowledged")
	b.ping("b", 3)
	b.want(3, "b", "a")
	b.sync("b", 3)
	b.pass(time.Second, "b:3!", "c:3")
	b.want(4, "b", "c")

	// A wish that could not be fulfilled in time does not come true much later.
	b = pair(t)
	b.down = true
	if _, err := b.core.Switch(b.now, "g"); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.pass(2*time.Second, "a:2!", "b:2")
	b.down = false
	b.pass(2*time.Second, "a:2!", "b:2")
	b.want(2, "a", "b")
}

func TestDrainAndLeave(t *testing.T) {
	drain := func(b *bench, name string, on bool) {
		t.Helper()
		if err := b.core.Drain(b.now, name, on); err != nil {
			t.Fatal(err)
		}
		b.settle()
	}
	b := pair(t)
	b.ping("c", 2)
	drain(b, "b", true)
	b.want(3, "a", "c")
	if b.core.Holding("b") != nil || len(b.core.Holding("a")) != 1 {
		t.Error(b.core.Holding("b"), b.core.Holding("a"))
	}
	drain(b, "a", true)
	b.pass(time.Second, "a:3", "b:3", "c:3")
	b.want(3, "a", "c") // c is not in sync yet: a goes on
	b.pass(100*ms, "a:3!", "b:3", "c:3")
	b.want(4, "c", "") // neither a nor b may be backup
	b.pass(time.Second, "c:4", "a:4", "b:4")
	b.want(4, "c", "")
	drain(b, "b", false)
	b.pass(100*ms, "c:4", "a:4", "b:4")
	b.want(5, "c", "b")
	drain(b, "b", true)
	b.pass(200*ms, "c:5!", "b:5")
	b.want(6, "c", "") // nobody can take its place: it leaves all the same

	b = pair(t)
	leaving := func(name string, n Number) { b.raw(Ping{Server: name, View: n, Leaving: true, InSync: true}) }
	leaving("a", 2)
	b.want(3, "b", "")
	b.ping("b", 3)
	leaving("a", 3)
	b.want(3, "b", "")
	leaving("b", 3) // alone: it stays
	b.want(3, "b", "")
	b.ping("a", 3)
	b.want(4, "b", "a")
	b.sync("b", 4)
	leaving("b", 4)
	b.want(5, "a", "")
	if err := b.core.Drain(b.now, "", true); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}

	// A leaving server founds no group.
	b = newBench(t)
	leaving("a", 0)
	b.ping("b", 0)
	b.want(1, "b", "")
	// Nor is the role pushed to a backup that leaves too.
	b = pair(t)
	leaving("b", 2)
	leaving("a", 2)
	b.want(3, "a", "")
}

func TestBadInput(t *testing.T) {
	b := newBench(t)
	long := strings.Repeat("x", 1000)
	good := Ping{Group: "g", Server: "a", Incarnation: "i", Seq: 1}
	for _, edit := range []func(*Ping){
		func(p *Ping) { p.Group = "" }, func(p *Ping) { p.Group = "G/.." }, func(p *Ping) { p.Group = long },
		func(p *Ping) { p.Server = "" }, func(p *Ping) { p.Server = long }, func(p *Ping) { p.Server = "a\n" },
		func(p *Ping) { p.Server = "\xff" }, func(p *Ping) { p.Incarnation = "" }, func(p *Ping) { p.Incarnation = long },
		func(p *Ping) { p.Seq = 0 },
	} {
		p := good
		edit(&p)
		if _, err := b.core.Ping(0, p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if _, err := b.core.Get(0, "-"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if len(b.core.Groups()) != 0 {
		t.Error("bad input left a group behind")
	}
	for i := range 4 {
		if _, err := b.core.Get(0, fmt.Sprint("g", i)); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	}
	if _, err := b.core.Get(0, "one-more"); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	b.settle()
	b.pass(15 * time.Second)
	if g := b.core.Groups(); len(g) != 0 {
		t.Errorf("groups that nobody uses are kept: %v", g)
	}
	for i := range 8 {
		if _, err := b.raw(Ping{Server: fmt.Sprint("s", i)}); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.raw(Ping{Server: "one-more"}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	b.pass(time.Second, "s0:1") // the others die and make room
	if _, err := b.raw(Ping{Server: "one-more"}); err != nil {
		t.Error(err)
	}
	for _, cfg := range []Config{{}, {ID: "x", DeadPings: -1}, {ID: "x", PingInterval: -1}, {ID: "x\n"}, {ID: "x", MaxServers: -1}, {ID: "x", PingInterval: 1 << 62}} {
		if _, err := New(cfg); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// A view that names servers never heard of, in a group that is full.
func TestForeignViewInAFullGroup(t *testing.T) {
	b := newBench(t)
	for i := range 8 {
		b.raw(Ping{Server: fmt.Sprint("s", i)})
	}
	b.table.CompareAndSet("g", arbiter.Record{Number: 2, Primary: "x", Backup: "y", Claimant: "z"})
	b.pass(200*ms, "s0:2", "s1:1")
	b.want(2, "x", "y")
	b.pass(2*time.Second, "x:2!")
	b.want(3, "x", "s0")
}

func TestGroupsAreApart(t *testing.T) {
	b := pair(t)
	if _, err := b.core.Ping(b.now, Ping{Group: "h", Server: "b", Incarnation: "b/0", Seq: 1}); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	b.settle()
	a, err := b.core.Get(b.now, "h")
	if err != nil || a.View != (View{1, "b", ""}) {
		t.Error(a, err)
	}
	b.want(2, "a", "b")
}

func TestMember(t *testing.T) {
	m := NewMember("g", "a", "i")
	ping := func(want Number) {
		t.Helper()
		if p := m.Ping(); p.View != want {
			t.Errorf("pings %d, want %d", p.View, want)
		}
	}
	see := func(n Number, primary, backup, claimant string) {
		m.Observe(Answer{View: View{n, primary, backup}, Claimant: claimant})
	}
	ping(0)
	see(3, "a", "b", "s")
	ping(0) // restarted: does not take up a role that a former life had
	if m.MayFound() || m.MayJoin() {
		t.Error("takes up a former life's role")
	}
	see(4, "b", "", "s")
	ping(4)
	see(5, "b", "a", "s")
	if !m.MayJoin() {
		t.Error("was named anew")
	}
	ping(4)
	m.Take(5)
	ping(5)
	see(4, "b", "", "s") // from a copy that lags
	ping(5)
	m.Take(6) // claims it itself
	m.InSync(6)
	if p := m.Ping(); p.View != 6 || !p.InSync {
		t.Errorf("%+v", p)
	}
	see(6, "a", "", "i")
	see(7, "a", "b", "s")
	m.Take(7)
	if p := m.Ping(); p.View != 7 || p.InSync {
		t.Errorf("in sync with a new backup: %+v", p)
	}

	f := NewMember("g", "a", "i")
	f.Observe(Answer{View: View{1, "a", ""}, Claimant: "other life"})
	if f.MayFound() {
		t.Error("founds a group for a former life")
	}
	f = NewMember("g", "a", "i")
	f.Observe(Answer{View: View{1, "a", ""}, Claimant: "i"})
	if !f.MayFound() {
		t.Error("does not found its group")
	}
}
