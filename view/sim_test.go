package view

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
)

// The simulation: two copies of the service, one register, four servers with a toy of replicated state, and
// a network that loses, delays and repeats. Watchers know the truth and look at every grant.

const (
	simFaultsEnd = 10 * time.Second
	simEnd       = 22 * time.Second
)

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simLife is one life of a server: a Member and the state that it holds.
type simLife struct {
	*Member
	name, inc string
	up        bool
	pausedTo  time.Duration
	has       bool   // holds all the state as of version
	version   int    // number of writes
	joined    Number // as backup, the view in which it receives state
	synced    Number // as backup, the view in which it was told that it is in sync
	told      Number // as primary, the view in which it told so
}

type simService struct {
	core   *Core
	id     string
	up     bool
	offset time.Duration // its clock's
	rate   float64
}

type sim struct {
	rng      *rand.Rand
	faults   faults
	now      time.Duration
	queue    simQueue
	seq      int
	table    arbiter.Table
	granted  map[Number]arbiter.Record
	ours     map[string]bool   // claimants that are services
	acked    map[Number]string // truth: the primary has said that it knows the view
	inSync   map[Number]bool   // truth: the primary has told that its backup is in sync
	founders int
	written  int // writes that some client was told of
	lives    map[string]*simLife
	names    []string
	services []*simService
	cut      map[string]bool // "from>to"
	down     bool            // arbiter
	births   int
	bad      string
	trace    []string

	promotions, switches, handovers, claims, crashes int
}

func (s *sim) logf(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%8.3fs ", s.now.Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) violation(format string, args ...any) {
	if s.bad == "" {
		s.bad = fmt.Sprintf(format, args...)
		s.logf("VIOLATION: %s", s.bad)
	}
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + d, s.seq, do})
}

func (s *sim) faulty() bool          { return s.now < simFaultsEnd }
func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }
func (s *sim) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d) + 1))
}

// send delivers over the link from one to the other: perhaps never, late, twice, out of order.
func (s *sim) send(from, to string, do func()) {
	delay := s.upTo(5 * ms)
	if s.faulty() {
		if s.cut[from+">"+to] || s.chance(0.05) {
			return
		}
		if s.chance(0.1) {
			delay += s.upTo(2 * time.Second)
		}
		if s.chance(0.05) {
			s.after(s.upTo(time.Second), do)
		}
	}
	s.after(delay, do)
}

func (s *sim) cas(group string, next arbiter.Record) (arbiter.Record, bool, error) {
	prev, _ := s.table.Get(group)
	cur, won, err := s.table.CompareAndSet(group, next)
	if !won || cur == prev {
		return cur, won, err
	}
	n := Number(next.Number)
	s.granted[n] = next
	s.logf("view %d {%s, %q} granted to %s", n, next.Primary, next.Backup, next.Claimant)
	if n == 1 || !s.ours[next.Claimant] {
		return cur, won, err
	}
	switch {
	case s.acked[n-1] != prev.Primary:
		s.violation("rule 4: view %d was not acknowledged by %s", prev.Number, prev.Primary)
	case !viewOf(prev).Names(next.Primary):
		s.violation("rule 5: %s was not in view %d", next.Primary, prev.Number)
	case next.Primary != prev.Primary && !s.inSync[n-1]:
		s.violation("%s promoted, but was not in sync in view %d", next.Primary, prev.Number)
	case next.Primary != prev.Primary:
		s.promotions++
	}
	return cur, won, err
}

func (s *sim) born(name string) {
	s.births++
	inc := fmt.Sprintf("%s#%d", name, s.births)
	s.lives[name] = &simLife{Member: NewMember("g", name, inc), name: name, inc: inc, up: true}
	s.logf("%s starts", inc)
}

func (s *sim) start(v *simService) {
	s.births++
	v.id = fmt.Sprintf("service#%d", s.births)
	v.core, _ = New(Config{ID: v.id})
	v.core.faults = s.faults
	v.up = true
	s.ours[v.id] = true
	s.logf("%s starts", v.id)
}

func (v *simService) clock(now time.Duration) time.Duration {
	return time.Duration(float64(now)*v.rate) + v.offset
}

// ready carries out what a service wants.
func (s *sim) ready(v *simService) {
	core := v.core
	r := core.Ready()
	for _, n := range r.Notices {
		s.logf("%s: view %d: %s", v.id, n.View, n.Text)
	}
	for _, c := range r.Calls {
		res := Result{Call: c.ID, Group: c.Group}
		perform := func() {
			if c.Next.Number == 0 {
				res.Current, res.Err = s.table.Get(c.Group)
			} else {
				res.Current, _, res.Err = s.cas(c.Group, c.Next)
			}
		}
		delay := s.upTo(10 * ms)
		if s.faulty() && s.chance(0.2) {
			delay += s.upTo(time.Second)
		}
		fail := s.faulty() && (s.down || s.chance(0.1))
		switch {
		case fail && s.chance(0.5): // lost on the way: it may arrive even after its failure was told
			if s.chance(0.5) {
				s.after(delay+s.upTo(time.Second), perform)
			}
		default:
			s.after(delay, perform)
		}
		s.after(delay+s.upTo(10*ms)+1, func() {
			if core != v.core || !v.up {
				return
			}
			if fail {
				res.Err = arbiter.ErrUnreachable
			}
			core.Result(v.clock(s.now), res)
			s.ready(v)
		})
	}
}

func (s *sim) observe(l *simLife, a Answer) {
	if !l.Observe(a) {
		return
	}
	v := l.View()
	if l.has && v.Primary != l.name && v.Number > l.Taken() {
		l.has = false // deposed, or to be filled anew
	}
}

func (s *sim) pings(l *simLife) {
	if !l.up {
		return
	}
	s.after(90*ms+s.upTo(20*ms), func() { s.pings(l) })
	if s.now < l.pausedTo {
		return
	}
	p := l.Ping()
	if r, ok := s.granted[p.View]; ok && r.Primary == l.name && l.Taken() == p.View {
		s.acked[p.View] = l.name
	}
	for i, v := range s.services {
		to := fmt.Sprint(i)
		s.send(l.name, to, func() {
			if !v.up {
				return
			}
			a, err := v.core.Ping(v.clock(s.now), p)
			s.ready(v)
			if err != nil {
				return
			}
			s.answered(a)
			s.send(to, l.name, func() {
				if l.up {
					s.observe(l, a)
				}
			})
		})
	}
}

func (s *sim) answered(a Answer) {
	if n := a.View.Number; n > 0 && viewOf(s.granted[n]) != a.View {
		s.violation("rule 6: answer %+v, granted was %+v", a.View, s.granted[n])
	}
}

// acts is the toy replica: joins, goes live, writes, claims.
func (s *sim) acts(l *simLife) {
	if !l.up {
		return
	}
	s.after(20*ms, func() { s.acts(l) })
	if s.now < l.pausedTo {
		return
	}
	v := l.View()
	reach := func(other string) *simLife {
		o := s.lives[other]
		if o == nil || !o.up || s.now < o.pausedTo || s.faulty() && (s.cut[l.name+">"+other] || s.cut[other+">"+l.name]) {
			return nil
		}
		return o
	}
	switch {
	case l.MayFound() && l.Taken() == 0:
		l.has = true
		if s.founders++; s.founders > 1 {
			s.violation("the state was founded twice")
		}
		l.Take(1)
	case v.Primary == l.name && l.Taken()+1 == v.Number && l.has:
		l.Take(v.Number)
	case v.Backup == l.name && l.MayJoin() && l.Taken() < v.Number:
		l.Take(v.Number)
		l.joined, l.has = v.Number, false
	}
	n := l.Taken()
	switch r := viewOf(s.granted[n]); {
	case n == 0 || !l.has || v.Number > n:
	case r.Primary == l.name:
		b := reach(r.Backup)
		if b != nil && (b.joined != n || b.Taken() != n || b.View().Number > n) {
			b = nil
		}
		switch {
		case r.Backup == "" || l.told < n:
			s.write(l, nil)
			if b != nil && s.chance(0.1) {
				b.has, b.version, b.synced = true, l.version, n
				l.told = n
				s.inSync[n] = true
				l.InSync(n)
			}
		case b != nil:
			s.write(l, b)
			if l.Seen().HandOver && s.chance(0.2) {
				s.handOver(l, b)
				break
			}
			if s.faulty() && s.chance(0.001) {
				s.claim(l)
			}
		case s.chance(0.05):
			s.claim(l)
		}
	case r.Backup == l.name && l.synced == n:
		p := reach(r.Primary)
		if (p == nil || p.Taken() != n) && s.chance(0.05) || s.faulty() && s.chance(0.0005) {
			s.claim(l)
		}
	}
}

// write is one write that a client is told of: with the backup's acknowledgement, or without.
func (s *sim) write(l, backup *simLife) {
	if l.version != s.written {
		s.violation("%s acts in view %d with %d of %d writes", l.inc, l.Taken(), l.version, s.written)
	}
	l.version++
	if backup != nil {
		backup.version++
	}
	s.written = l.version
}

func (s *sim) claim(l *simLife) {
	if s.faulty() && s.down {
		return
	}
	next := arbiter.Record{Number: uint64(l.Taken() + 1), Primary: l.name, Claimant: l.inc}
	if _, won, _ := s.cas("g", next); won {
		s.claims++
		l.Take(l.Taken() + 1)
	} else if cur, _ := s.table.Get("g"); cur.Primary != l.name {
		s.kill(l.name, s.upTo(time.Second)) // halted: the host starts over
	}
}

// handOver is a planned change of roles: both hold the state, and either may take over from the other.
func (s *sim) handOver(l, b *simLife) {
	if s.faulty() && s.down {
		return
	}
	n := l.Taken() + 1
	next := arbiter.Record{Number: uint64(n), Primary: b.name, Backup: l.name, Claimant: l.inc}
	if _, won, _ := s.cas("g", next); won {
		s.handovers++
		l.Take(n)
		b.Take(n)
		l.joined, l.synced, b.joined = n, n, n
		b.told = n
		s.inSync[n] = true
		b.InSync(n)
	} else if cur, _ := s.table.Get("g"); cur.Primary != l.name {
		s.kill(l.name, s.upTo(time.Second))
	}
}

func (s *sim) kill(name string, back time.Duration) {
	l := s.lives[name]
	if !l.up {
		return
	}
	s.crashes++
	l.up = false
	s.logf("%s dies", l.inc)
	s.after(back, func() { s.boot(name) })
}

func (s *sim) boot(name string) {
	s.born(name)
	s.pings(s.lives[name])
	s.acts(s.lives[name])
}

func (s *sim) ticks(v *simService) {
	s.after(50*ms, func() { s.ticks(v) })
	if v.up {
		v.core.Tick(v.clock(s.now))
		s.ready(v)
	}
}

// harm does one thing, then waits for the next.
func (s *sim) harm() {
	if !s.faulty() {
		return
	}
	s.after(s.upTo(800*ms), s.harm)
	name := s.names[s.rng.IntN(len(s.names))]
	v := s.services[s.rng.IntN(len(s.services))]
	switch s.rng.IntN(9) {
	case 0:
		s.kill(name, s.upTo(100*ms))
	case 1:
		s.kill(name, s.upTo(3*time.Second))
	case 2:
		s.lives[name].pausedTo = s.now + s.upTo(3*time.Second)
		s.logf("%s is stopped until %v", name, s.lives[name].pausedTo)
	case 3:
		ends := append([]string{"0", "1"}, s.names...)
		link := name + ">" + ends[s.rng.IntN(len(ends))]
		if s.chance(0.5) {
			from, to, _ := strings.Cut(link, ">")
			link = to + ">" + from
		}
		s.cut[link] = true
		s.logf("cut %s", link)
		s.after(s.upTo(4*time.Second), func() { delete(s.cut, link); s.logf("mended %s", link) })
	case 4:
		if v.up {
			v.up = false
			s.logf("%s dies", v.id)
			s.after(s.upTo(2*time.Second), func() { s.start(v) })
		}
	case 5:
		s.down = true
		s.logf("arbiter is cut off")
		s.after(s.upTo(2*time.Second), func() { s.down = false; s.logf("arbiter is back") })
	case 6:
		v.offset += s.upTo(20*time.Second) - 5*time.Second
	case 7:
		if v.up {
			if _, err := v.core.Switch(v.clock(s.now), "g"); err == nil {
				s.switches++
			}
			s.ready(v)
		}
	case 8:
		if v.up {
			_ = v.core.Drain(v.clock(s.now), name, true)
			s.ready(v)
			s.after(s.upTo(2*time.Second), func() {
				for _, v := range s.services {
					_ = v.core.Drain(v.clock(s.now), name, false)
				}
			})
		}
	}
}

func simulate(seed uint64, f faults) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 20150)), faults: f, granted: map[Number]arbiter.Record{}, ours: map[string]bool{},
		acked: map[Number]string{}, inSync: map[Number]bool{}, lives: map[string]*simLife{}, cut: map[string]bool{},
		names: []string{"a", "b", "c", "d"},
	}
	for range 2 {
		v := &simService{rate: 0.9 + 0.2*s.rng.Float64(), offset: s.upTo(time.Hour)}
		s.services = append(s.services, v)
		s.start(v)
		s.ticks(v)
	}
	for _, name := range s.names {
		s.after(s.upTo(time.Second), func() { s.boot(name) })
		s.lives[name] = &simLife{Member: NewMember("g", name, "never"), name: name}
	}
	s.after(s.upTo(3*time.Second), s.harm)
	for s.bad == "" && len(s.queue) > 0 && s.queue[0].at < simEnd {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.finish()
	return s
}

// healthy tells whether the group ended as an acknowledged pair in sync.
func (s *sim) healthy() bool {
	cur, _ := s.table.Get("g")
	n := Number(cur.Number)
	return s.acked[n] == cur.Primary && cur.Backup != "" && s.inSync[n] && s.lives[cur.Primary].Taken() == n
}

// finish checks that with faults over the group has come back, if somebody who may act holds the state.
func (s *sim) finish() {
	if s.bad != "" || s.healthy() {
		return
	}
	cur, _ := s.table.Get("g")
	n := Number(cur.Number)
	p, b := s.lives[cur.Primary], s.lives[cur.Backup]
	if p == nil {
		s.violation("no view ever")
	} else if p.has && p.Taken() == n || b != nil && b.has && b.synced == n {
		s.violation("liveness: view %d {%s, %q} can go on and does not", n, cur.Primary, cur.Backup)
	}
}

func simSeeds(t *testing.T, n int) (from, to uint64) {
	if one := os.Getenv("VIEW_SIM_SEED"); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed, seed + 1
	}
	if many := os.Getenv("VIEW_SIM_SEEDS"); many != "" {
		var err error
		if n, err = strconv.Atoi(many); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		n /= 10
	}
	return 1, uint64(n) + 1
}

func TestSimulation(t *testing.T) {
	from, to := simSeeds(t, 150)
	var healthy, promotions, switches, handovers, claims, crashes, views int
	for seed := from; seed < to; seed++ {
		s := simulate(seed, faults{})
		if s.bad != "" || os.Getenv("VIEW_SIM_SEED") != "" {
			t.Logf("%s", strings.Join(s.trace, "\n"))
		}
		if s.bad != "" {
			t.Fatalf("seed %d: %s\nrepeat: VIEW_SIM_SEED=%d go test ./view -run TestSimulation -v", seed, s.bad, seed)
		}
		if s.healthy() {
			healthy++
		}
		promotions, switches, handovers, claims, crashes = promotions+s.promotions, switches+s.switches, handovers+s.handovers, claims+s.claims, crashes+s.crashes
		views += len(s.granted)
	}
	n := int(to - from)
	t.Logf("%d seeds: %d healthy at the end (the others stopped: state was lost); %d views, %d promotions, %d own claims, %d switches asked for, %d done, %d crashes",
		n, healthy, views, promotions, claims, switches, handovers, crashes)
	if n >= 15 && (promotions < n/4 || claims < n/4 || handovers < n/15 || healthy < n/3) {
		t.Error("the simulation does not exercise the rules")
	}
}

// Each rule broken on purpose is noticed: a check of the watchers.
func TestSimulationNoticesBrokenRules(t *testing.T) {
	for name, c := range map[string]struct {
		faults faults
		want   string
	}{
		"acknowledgement ignored":  {faults{ignoreAck: true}, "rule 4"},
		"idle server promoted":     {faults{promoteIdle: true}, "rule 5"},
		"unsynced backup promoted": {faults{ignoreSync: true}, "not in sync"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 2000; seed++ {
				if s := simulate(seed, c.faults); s.bad != "" {
					if !strings.Contains(s.bad, c.want) {
						t.Errorf("seed %d: caught as %q, want %q", seed, s.bad, c.want)
					}
					t.Logf("seed %d: %s", seed, s.bad)
					return
				}
			}
			t.Error("not noticed within 2000 seeds")
		})
	}
}
