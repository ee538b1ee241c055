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
	b.want(2, "a", "b") // nothing happens before the primary has stopped
	b.handOver("b", "a")
	b.want(3, "b", "a") // the former primary, not the idle server
	if a, _ := b.core.Get(b.now, "g"); a.InSync || a.Acked {
		t.Errorf("after the switch: %+v", a)
	}
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
	if a, _ := b.core.Get(b.now, "g"); a.HandOver {
		t.Error("an old wish is still told")
	}
}

// TestCannotFound: whoever has nothing to begin with is not asked to, but makes a good backup.
func TestCannotFound(t *testing.T) {
	b := newBench(t)
	spare := func(n Number) Answer {
		a, err := b.raw(Ping{Server: "s", View: n, CannotFound: true, Addr: "s:1"})
		if err != nil && !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
		return a
	}
	spare(0)
	b.want(0, "", "")
	b.ping("a", 0)
	b.want(1, "a", "")
	spare(0)
	b.ping("a", 1)
	if a := spare(1); a.View.Backup != "s" || a.BackupAddr != "s:1" {
		t.Errorf("%+v", a)
	}
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
	b.want(3, "a", "c")
	b.handOver("c", "a")
	b.ping("c", 4)
	b.want(5, "c", "") // neither a nor b may be backup
	b.pass(time.Second, "c:5", "a:5", "b:5")
	b.want(5, "c", "")
	drain(b, "b", false)
	b.pass(100*ms, "c:5", "a:5", "b:5")
	b.want(6, "c", "b")
	drain(b, "b", true)
	b.pass(200*ms, "c:6!", "b:6")
	b.want(7, "c", "") // nobody can take its place: it leaves all the same

	b = pair(t)
	leaving := func(name string, n Number) { b.raw(Ping{Server: name, View: n, Leaving: true, InSync: true}) }
	leaving("a", 2)
	b.want(2, "a", "b")
	b.handOver("b", "a")
	b.ping("b", 3)
	leaving("a", 3)
	b.want(4, "b", "")
	b.ping("b", 4)
	leaving("a", 4)
	b.want(4, "b", "")
	leaving("b", 4) // alone: it stays
	b.want(4, "b", "")
	b.ping("a", 4)
	b.want(5, "b", "a")
	if err := b.core.Drain(b.now, "", true); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}

	// A leaving server founds no group.
	b = newBench(t)
	leaving("a", 0)
	b.ping("b", 0)
	b.want(1, "b", "")
	// Nor is the role pushed to a backup that leaves too.
	b = newBench(t)
	b.ping("a", 0)
	b.ping("a", 1)
	b.ping("b", 1)
	leaving("b", 1)
	leaving("a", 2)
	b.want(3, "a", "")
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
		func(p *Ping) { p.Seq = 0 }, func(p *Ping) { p.Addr = long }, func(p *Ping) { p.Addr = "a\x00" },
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
	b := NewMember("g", "b", "j")
	b.Observe(Answer{View: View{3, "a", "b"}})
	if b.MayJoin() || b.Ping().View != 0 {
		t.Error("takes up a former life's place")
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
