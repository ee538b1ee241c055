package replica

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/event"
)

const ms = time.Millisecond

func testConfig(id, peer string) Config {
	return Config{
		ID: id, Peer: peer, Incarnation: "life of " + id,
		HeartbeatEvery: 25 * ms, SuspectAfter: 100 * ms, ClaimRetryEvery: 50 * ms, ResendAfter: 60 * ms,
		MaxUnackedBytes: 64 << 10, MaxUnappliedBytes: 256 << 10,
	}
}

// said is one output of the toy machine: the state after the n-th input.
type said struct {
	n     int
	state uint64
}

// toy is a replica of the simplest machine: its state is a hash of its inputs, and it tells the state after
// each.
type toy struct {
	name    string
	core    *Core
	history []uint64 // state after each input
	offset  time.Duration
	dead    bool
	paused  time.Duration // until, world time
	inbox   []arrival
}

type arrival struct {
	at time.Duration
	f  func(now time.Duration)
}

func (t *toy) apply(data []byte) said {
	h := fnv.New64a()
	if n := len(t.history); n > 0 {
		fmt.Fprint(h, t.history[n-1])
	}
	h.Write(data)
	t.history = append(t.history, h.Sum64())
	return said{len(t.history), h.Sum64()}
}

// world runs two toys, a network and an arbiter under one seed.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	now      time.Duration
	a, b     *toy
	record   arbiter.Record
	arbDown  time.Duration
	drop     float64
	cut      time.Duration // network cut until
	released map[int]uint64
	most     int        // highest output released
	inView   ViewNumber // highest view in which something was released
	story    strings.Builder
	mutate   func(r *Ready, c *Core)
}

func newWorld(t *testing.T, seed int64) *world {
	w := &world{t: t, rng: rand.New(rand.NewSource(seed)), released: map[int]uint64{}}
	w.a = &toy{name: "a", core: NewPrimary(testConfig("a", "b")), offset: 5 * time.Second}
	w.b = &toy{name: "b", core: NewBackup(testConfig("b", "a")), offset: 77 * time.Second}
	return w
}

func (w *world) tell(format string, args ...any) {
	fmt.Fprintf(&w.story, "%8.1fms  %s\n", float64(w.now)/1e6, fmt.Sprintf(format, args...))
}

func (w *world) other(t *toy) *toy {
	if t == w.a {
		return w.b
	}
	return w.a
}

// step gives one input to a replica and does what it asks for. It returns an error when a rule is broken.
func (w *world) step(t *toy, f func(now time.Duration)) error {
	if t.dead {
		return nil
	}
	now := w.now + t.offset
	f(now)
	r := t.core.Ready()
	if w.mutate != nil {
		w.mutate(&r, t.core)
	}
	for _, n := range r.Notices {
		w.tell("%s: %s", t.name, n.Text)
	}
	for _, o := range r.Release {
		s := o.(said)
		if known, ok := w.released[s.n]; ok && known != s.state {
			return fmt.Errorf("%s says state %x after input %d, the world has seen %x", t.name, s.state, s.n, known)
		}
		if t.core.View() < w.inView {
			return fmt.Errorf("%s releases in view %d after output of view %d", t.name, t.core.View(), w.inView)
		}
		w.inView = t.core.View()
		w.released[s.n] = s.state
		w.most = max(w.most, s.n)
	}
	for _, m := range r.Messages {
		m := m
		to := w.other(t)
		if w.now < w.cut || w.rng.Float64() < w.drop {
			continue
		}
		copies := 1
		if w.rng.Float64() < w.drop/2 {
			copies = 2
		}
		for range copies {
			at := w.now + time.Duration(w.rng.Intn(3000))*time.Microsecond
			to.inbox = append(to.inbox, arrival{at, func(now time.Duration) { to.core.Step(now, m) }})
		}
	}
	if r.Claim != nil {
		w.claim(t, *r.Claim)
	}
	return nil
}

func (w *world) claim(t *toy, c Claim) {
	at := w.now + time.Duration(w.rng.Intn(4000))*time.Microsecond
	if w.now < w.arbDown {
		t.inbox = append(t.inbox, arrival{at, func(now time.Duration) {
			t.core.Claimed(now, Claim{}, false, errors.New("no answer"))
		}})
		return
	}
	current, won, err := arbiter.Decide(w.record, c)
	w.record = current
	if w.rng.Intn(5) == 0 { // the claim was carried out, the answer is lost
		won, err = false, errors.New("answer lost")
	}
	t.inbox = append(t.inbox, arrival{at, func(now time.Duration) { t.core.Claimed(now, current, won, err) }})
}

// run lets 1 ms pass for a replica.
func (w *world) run(t *toy) error {
	if t.dead || w.now < t.paused {
		return nil
	}
	// Everything that has arrived, in random order: messages overtake each other.
	for {
		var ready []int
		for i, a := range t.inbox {
			if a.at <= w.now {
				ready = append(ready, i)
			}
		}
		if len(ready) == 0 {
			break
		}
		i := ready[w.rng.Intn(len(ready))]
		f := t.inbox[i].f
		t.inbox = append(t.inbox[:i], t.inbox[i+1:]...)
		if err := w.step(t, f); err != nil {
			return err
		}
	}
	if err := w.step(t, t.core.Tick); err != nil {
		return err
	}
	switch t.core.Role() {
	case Primary:
		frozen, _ := t.core.Frozen()
		if t.core.Full() || frozen {
			return nil
		}
		return w.step(t, func(now time.Duration) {
			var entries []event.Entry
			var outs []any
			for range w.rng.Intn(3) {
				e := event.Entry{Kind: event.KindNet, Data: []byte(strconv.Itoa(w.rng.Int()))}
				entries = append(entries, e)
			}
			entries = append(entries, event.Entry{Kind: event.KindCommit})
			if err := t.core.Append(now, entries); err != nil {
				return
			}
			for _, e := range entries[:len(entries)-1] {
				outs = append(outs, t.apply(e.Data))
			}
			t.core.Hold(now, outs)
		})
	case Backup:
		for range w.rng.Intn(4) {
			e, ok := t.core.Next()
			if !ok {
				break
			}
			if err := w.step(t, func(now time.Duration) {
				t.core.ExecutedTo(now, e.Seq, uint64(len(t.history)))
				if e.Kind == event.KindNet {
					t.core.Hold(now, []any{t.apply(e.Data)})
				}
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// crash kills a replica; the other's log channel breaks.
func (w *world) crash(t *toy) {
	t.dead = true
	w.tell("%s is killed", t.name)
	o := w.other(t)
	o.inbox = append(o.inbox, arrival{w.now + ms, func(now time.Duration) { o.core.PeerDown(now) }})
}

// play runs a seed's schedule and checks the rules throughout.
func (w *world) play() error {
	if err := errors.Join(w.step(w.b, w.b.core.PeerUp), w.step(w.a, w.a.core.PeerUp)); err != nil {
		return err
	}
	fault := time.Duration(20+w.rng.Intn(400)) * ms
	kind := w.rng.Intn(7)
	victim := w.a
	if w.rng.Intn(2) == 0 {
		victim = w.b
	}
	if w.rng.Intn(3) == 0 {
		w.drop = 0.02
	}
	end := fault + 1500*ms
	for ; w.now < end; w.now += ms {
		if w.now == fault {
			switch kind {
			case 0, 1:
				w.crash(victim)
			case 2:
				victim.paused = w.now + time.Duration(50+w.rng.Intn(400))*ms
				w.tell("%s is stopped until %v", victim.name, victim.paused)
			case 3:
				w.cut = w.now + time.Duration(20+w.rng.Intn(500))*ms
				w.tell("the network is cut until %v", w.cut)
			case 4:
				w.arbDown = w.now + 400*ms
				w.tell("the arbiter is down until %v", w.arbDown)
				w.crash(victim)
			case 5:
				w.arbDown = w.now + 300*ms
				w.cut = w.now + 10*time.Second
				w.tell("arbiter down until %v, network cut for good", w.arbDown)
			case 6:
				w.crash(w.a)
				if w.rng.Intn(2) == 0 {
					w.arbDown = w.now + 100*ms
				}
			}
		}
		for _, t := range []*toy{w.a, w.b} {
			if err := w.run(t); err != nil {
				return err
			}
		}
	}
	// Faults have stopped: if a majority of what is needed is left, somebody leads and has all that was said.
	var leader *toy
	for _, t := range []*toy{w.a, w.b} {
		if !t.dead && t.core.Role() == Primary && (t.core.Solo() || !w.other(t).dead) {
			if leader != nil {
				return fmt.Errorf("both are primary")
			}
			leader = t
		}
	}
	if leader == nil {
		if w.record.Number == 0 {
			return nil // killed before there was a view
		}
		if w.record.Number == 1 && w.b.core.Role() == Joining {
			return nil // killed before the backup heard of view 1: nothing was ever released
		}
		return fmt.Errorf("nobody leads: a %v, b %v", w.a.core.Role(), w.b.core.Role())
	}
	if leader.core.HeldOutputs() > 400 {
		return fmt.Errorf("%s leads but holds %d outputs back", leader.name, leader.core.HeldOutputs())
	}
	for n, s := range w.released {
		if n > len(leader.history) || leader.history[n-1] != s {
			return fmt.Errorf("output %d was released, but the leader %s does not know it", n, leader.name)
		}
	}
	if w.most < len(leader.history)-1000 {
		return fmt.Errorf("%d of %d outputs were released", w.most, len(leader.history))
	}
	return nil
}

func seeds(t *testing.T) (from, to int64) {
	if s, err := strconv.ParseInt(os.Getenv("UNDERSTUDY_SEED"), 10, 64); err == nil {
		return s, s + 1
	}
	if testing.Short() {
		return 1, 300
	}
	return 1, 2000
}

func TestPairUnderFaults(t *testing.T) {
	from, to := seeds(t)
	for seed := from; seed < to; seed++ {
		w := newWorld(t, seed)
		if err := w.play(); err != nil {
			t.Fatalf("%v\n%s\nrepeat: UNDERSTUDY_SEED=%d go test ./replica -run %s", err, w.story.String(), seed, t.Name())
		}
	}
}

// TestWatchersBite breaks rules on purpose: a checker that finds nothing then checks nothing.
func TestWatchersBite(t *testing.T) {
	mutations := map[string]func(*Ready, *Core){
		"release before the backup holds the entry": func(r *Ready, c *Core) {
			if c.role == Primary {
				c.releaseTo(c.last + 1)
				r.Release = append(r.Release, c.ready.Release...)
				c.ready.Release = nil
			}
		},
		"go live without a grant": func(r *Ready, c *Core) {
			if r.Claim != nil && c.view > 0 {
				rec := *r.Claim
				r.Claim = nil
				c.Claimed(c.lastHeard, rec, true, nil)
			}
		},
	}
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			for seed := int64(1); seed < 2000; seed++ {
				w := newWorld(t, seed)
				w.mutate = m
				if err := w.play(); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not caught by any seed")
		})
	}
}

// TestStoppedPrimaryReleasesNothing is the resumed primary of the package comment: acknowledgements that
// waited in its socket while it was stopped must not release anything.
func TestStoppedPrimaryReleasesNothing(t *testing.T) {
	c := NewPrimary(testConfig("a", "b"))
	c.PeerUp(0)
	rec := *c.Ready().Claim
	c.Claimed(ms, rec, true, nil)
	c.Ready()
	c.Hold(2*ms, []any{"reply"})
	if err := c.Append(2*ms, []event.Entry{{Kind: event.KindCommit}}); err != nil {
		t.Fatal(err)
	}
	ack := Message{Type: MsgAck, View: 1, Echo: 2 * ms, Held: 1}
	fresh, stale := *c, *c
	fresh.Step(50*ms, ack)
	if r := fresh.Ready(); len(r.Release) != 1 {
		t.Fatalf("a fresh acknowledgement released %v", r.Release)
	}
	stale.Step(5*time.Second, ack)
	if r := stale.Ready(); len(r.Release) != 0 {
		t.Fatalf("a stale acknowledgement released %v", r.Release)
	}
	var claim *Claim
	for at := 5*time.Second + ms; claim == nil; at += 5 * ms {
		if at > 6*time.Second {
			t.Fatal("never suspects the backup that does not answer any more")
		}
		stale.Tick(at)
		r := stale.Ready()
		if claim = r.Claim; len(r.Release) != 0 {
			t.Fatalf("after the stop: release %v", r.Release)
		}
	}
	if claim.Number != 2 {
		t.Fatalf("claims %v", claim)
	}
	stale.Claimed(5*time.Second+2*ms, Claim{Number: 2, Primary: "b", Claimant: "x"}, false, nil)
	if stale.Role() != Halted || len(stale.Ready().Release) != 0 || stale.HeldOutputs() != 0 {
		t.Fatalf("lost the claim, but is %v with %d outputs", stale.Role(), stale.HeldOutputs())
	}
}

// TestFreshnessToleratesClocks: the backup's clock runs 4/3 as fast as the primary's. An acknowledgement that releases
// output is read before the backup could claim.
func TestFreshnessToleratesClocks(t *testing.T) {
	for age := ms; age < 200*ms; age += ms {
		c := NewPrimary(testConfig("a", "b"))
		c.PeerUp(0)
		rec := *c.Ready().Claim
		c.Claimed(0, rec, true, nil)
		c.Hold(ms, []any{"reply"})
		_ = c.Append(ms, []event.Entry{{Kind: event.KindCommit}})
		c.Ready()
		c.Step(ms+age, Message{Type: MsgAck, View: 1, Echo: ms, Held: 1})
		if released := len(c.Ready().Release) > 0; released && age*4/3 > c.cfg.SuspectAfter {
			t.Errorf("released %v after sending, when a fast backup may have claimed", age)
		} else if !released && age <= 70*ms {
			t.Errorf("not released %v after sending", age)
		}
	}
}

// TestBackupHearsOfOutputsThatHaveLeft: what a message says has left must not be what leaves with that message,
// or it is lost if the primary is killed after sending the one and before releasing the other.
func TestBackupHearsOfOutputsThatHaveLeft(t *testing.T) {
	c := NewPrimary(testConfig("a", "b"))
	c.PeerUp(0)
	rec := *c.Ready().Claim
	c.Claimed(0, rec, true, nil)
	c.Hold(ms, []any{"first"})
	_ = c.Append(ms, []event.Entry{{Kind: event.KindCommit}})
	c.Ready()
	c.Hold(2*ms, []any{"second"})
	_ = c.Append(2*ms, []event.Entry{{Kind: event.KindCommit}})
	c.Ready()
	// The acknowledgement of one of two entries releases an output and has the other entry sent again.
	c.Step(3*ms, Message{Type: MsgAck, View: 1, Echo: 2 * ms, Held: 1, Gap: true})
	r := c.Ready()
	if len(r.Release) != 1 || len(r.Messages) != 1 {
		t.Fatalf("%+v", r)
	}
	if r.Messages[0].Released != 0 {
		t.Errorf("tells that outputs up to entry %d have left before they have", r.Messages[0].Released)
	}
	c.Tick(40 * ms)
	if r = c.Ready(); len(r.Messages) != 1 || r.Messages[0].Released != 1 {
		t.Errorf("the next message: %+v", r.Messages)
	}
}

func TestFullLogMakesTheMachineWait(t *testing.T) {
	c := NewPrimary(testConfig("a", "b"))
	c.PeerUp(0)
	rec := *c.Ready().Claim
	c.Claimed(0, rec, true, nil)
	for i := 0; !c.Full(); i++ {
		if i > 100 {
			t.Fatal("never full")
		}
		_ = c.Append(ms, []event.Entry{{Kind: event.KindNet, Data: make([]byte, 1500)}})
	}
	c.Step(2*ms, Message{Type: MsgAck, View: 1, Echo: ms, Held: c.Last(), Executed: c.Last()})
	if c.Full() {
		t.Fatal("still full after everything was acknowledged and executed")
	}
}

func TestLyingBackupHaltsThePrimary(t *testing.T) {
	for _, m := range []Message{
		{Type: MsgAck, View: 1, Held: 99},
		{Type: MsgAck, View: 1, Executed: 1},
		{Type: MsgAck, View: 1, Echo: time.Hour},
		{Type: MsgAck, View: 2},
	} {
		c := NewPrimary(testConfig("a", "b"))
		c.PeerUp(0)
		rec := *c.Ready().Claim
		c.Claimed(0, rec, true, nil)
		c.Step(ms, m)
		if c.Role() != Halted {
			t.Errorf("%+v was believed", m)
		}
	}
}
