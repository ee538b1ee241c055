package view

import (
	"errors"
	"fmt"
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

// handOver is what a primary does that is asked to: it claims the next view for its backup, and pings it.
func (b *bench) handOver(to, from string) {
	b.t.Helper()
	a, err := b.core.Get(b.now, "g")
	if err != nil || !a.HandOver || a.View.Primary != from || a.View.Backup != to {
		b.t.Fatalf("%+v, %v: %s is not asked to hand over to %s", a, err, from, to)
	}
	next := arbiter.Record{Number: uint64(a.View.Number + 1), Primary: to, Backup: from, Claimant: fmt.Sprintf("%s/%d", from, b.life[from])}
	if _, won, err := b.table.CompareAndSet("g", next); !won || err != nil {
		b.t.Fatal(won, err)
	}
	b.now += 100 * ms // a register is not read twice within a ping interval
	b.ping(from, a.View.Number+1)
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

	// What only the backup says, and what is said of no backup.
	c := newBench(t)
	c.ping("a", 0)
	c.sync("a", 1)
	if a, _ := c.core.Get(c.now, "g"); a.InSync || !a.Acked {
		t.Errorf("without a backup: %+v", a)
	}
	c.ping("b", 0)
	c.ping("a", 2)
	c.pass(time.Second, "b:2!")
	c.want(2, "a", "b")
}
