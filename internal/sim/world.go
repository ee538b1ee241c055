package sim

import (
	"bytes"
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/kv/resp"
	"understudy/replica"
)

// memberNames are those of the hosts: two in a pair, three or four in a group.
var memberNames = [...]string{"a", "b", "c", "d"}

// tickEvery is how often a shell lets its core's time pass, by its own clock.
const tickEvery = 5 * time.Millisecond

// recovery bounds how long after the end of all faults every client must have been served, unless the group is
// rightly dead: 300 ticks. The slowest clocks run at half speed, and patience may grow. In a group a new backup
// must be in sync by then too, perhaps after one that never answered was given up.
const recovery, groupRecovery = 300 * tickEvery, 1500 * tickEvery

// setting is what a seed chose for a whole run.
type setting struct {
	hosts      int
	ping       time.Duration // between two pings of a server to the view service
	stream     bool          // the log channel is like TCP, else datagrams
	config     replica.Config
	rates      [len(memberNames)]int // of the members' clocks, in thousandths
	wild       bool                  // clocks do what the freshness rule does not tolerate
	pace       time.Duration         // between two stops of a machine
	think      time.Duration         // clients' pause between two requests
	chatter    int                   // lines on the console per thousand stops
	syncs      int                   // of a thousand additions, those that go to disk
	clientLoss int                   // of a thousand messages
	claimLoss  int                   // of a thousand answers of the arbiter
	trouble    time.Duration         // when the faults end
	epochs     bool                  // groups: entries are logged some stops after the machine took them, as in checkpoint mode

	// Of the key-value service.
	work       time.Duration                   // longest execution of a batch
	follow     int                             // entries that a backup executes in one step
	flight     int                             // batches at the gate
	entryBytes int                             // up to where commands share an entry
	digests    int                             // one entry in so many has the state digested
	clockEvery time.Duration                   // between two entries that tell the time
	readers    bool                            // most clients only read
	walls      [len(memberNames)]time.Duration // how far the hosts' times of day are off
	twice      int                             // of a thousand requests and replies, those that come twice
	filing     filing                          // whether servers keep their log on disk
	fsync      time.Duration                   // longest
	strikes    bool                            // some die when a backup has marked its files
	late       int                             // and those that come late
}

// World is one run.
type World struct {
	rng      rng
	s        setting
	now      time.Duration
	q        queue
	planned  uint64
	group    bool       // of hosts that the view service gives their parts, else a pair that finds itself
	kv       bool       // a group of servers of the key-value service
	members  []*process // the present life of each
	services []*service
	everyone []*process
	wires    [len(memberNames)][len(memberNames)]wire
	slowDisk [len(memberNames)]time.Duration
	reg      register
	clients  []*client
	users    []*user // clients of the key-value service
	keys     []key
	files    [len(memberNames)]files // of the hosts
	replies  bytes.Buffer            // one at a time, for reader
	reader   *resp.ReplyReader
	watch    watchers
	mutation mutation
	births   int           // planned: hosts whose server will start again
	healed   time.Duration // when the faults ended
	over     bool          // the machine has ended in good order
	failure  *Failure
	telling  bool
	story    []string
	steps    int
}

// Failure is a broken rule.
type Failure struct {
	Watcher string // the rule's name
	At      time.Duration
	Text    string
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %s", f.Watcher, f.Text) }

func (w *World) plan(after time.Duration, p *process, f func()) { w.planAt(w.now+after, p, f) }

func (w *World) planAt(at time.Duration, p *process, f func()) {
	w.planned++
	w.q.push(happening{at, w.planned, p, f})
}

func (w *World) fail(watcher, format string, args ...any) {
	if w.failure == nil {
		w.failure = &Failure{watcher, w.now, fmt.Sprintf(format, args...)}
		w.tell(nil, "BROKEN RULE: %v", w.failure)
	}
}

// tell adds a line to the story: who, what, when.
func (w *World) tell(p *process, format string, args ...any) {
	if !w.telling {
		return
	}
	who := ""
	if p != nil {
		who = p.title + ": "
	}
	w.story = append(w.story, fmt.Sprintf("%9.3f ms  %s%s", float64(w.now)/1e6, who, fmt.Sprintf(format, args...)))
}

func newWorld(seed uint64, kind string, m mutation, telling bool) *World {
	w := &World{rng: rng{mix(seed, 0x5eed)}, mutation: m, telling: telling}
	w.watch.w = w
	w.kv = kind == worldKV
	w.group = w.kv || kind == worldGroup || kind == "" && mix(seed, 0x9a1f)&1 == 0
	w.choose()
	w.s.epochs = w.group && !w.kv && (mix(seed, 0xe90c5)&3 == 0 || m.coverEarly)
	w.members = make([]*process, w.s.hosts)
	w.reg.cut = make([]time.Duration, w.s.hosts)
	for i := range w.toyClients() {
		w.clients = append(w.clients, &client{w: w, id: i})
	}
	if w.group {
		w.beginGroup()
	} else {
		w.beginPair()
	}
	for _, c := range w.clients {
		c.think()
	}
	for _, u := range w.users {
		u.think()
	}
	w.plan(w.s.trouble, nil, w.heal)
	w.planFaults()
	return w
}

// toyClients is the number of clients of the toy machine.
func (w *World) toyClients() int {
	if w.kv {
		w.newUsers()
		return 0
	}
	return 2 + w.rng.intn(3)
}

func (w *World) beginPair() {
	a, b := w.newProcess(0, 1, true), w.newProcess(1, 1, false)
	w.connect(a, b)
	for _, p := range []*process{b, a} {
		w.plan(w.rng.between(0, 3*time.Millisecond), p, func() { p.do(func(now time.Duration) { p.core.PeerUp(now, p.mate.incarnation) }) })
	}
}

// run lets the world's time pass until a rule is broken, the group has come back, or nothing more can come.
func (w *World) run() {
	for w.failure == nil {
		h, ok := w.q.pop()
		if !ok {
			break
		}
		w.now = h.at
		w.steps++
		if p := h.p; p != nil {
			if p.dead {
				continue
			}
			if p.stopped {
				p.waiting = append(p.waiting, h)
				continue
			}
		}
		h.f()
		if w.healed > 0 && w.ended() {
			break
		}
	}
	if w.failure == nil {
		w.watch.end()
	}
}

// ended tells whether the run has shown what it can: every client was served after the faults, or nobody is
// left to serve, or time is up.
func (w *World) ended() bool {
	if w.over {
		return w.now > w.healed+2*w.s.config.SuspectAfter
	}
	if w.group {
		return w.groupEnded()
	}
	served := true
	for _, c := range w.clients {
		served = served && c.after > 0
	}
	if served {
		w.watch.counts.Slowest = w.now - w.healed
		return true
	}
	someone := false
	for _, p := range w.members {
		someone = someone || !p.dead
	}
	if someone && w.now < w.healed+recovery {
		return false
	}
	if why, ok := w.rightlyDead(); ok {
		w.tell(nil, "the group is dead, and rightly so: %s", why)
		return true
	}
	if !someone || w.now >= w.healed+recovery {
		w.fail("comes back", "%v after the last fault not every client is served: %s", w.now-w.healed, w.census())
	}
	return true
}

func (w *World) census() string {
	s := ""
	for _, p := range w.everyone {
		state := p.core.Role().String()
		if p.core.Solo() {
			state += " alone"
		}
		if frozen, _ := p.core.Frozen(); frozen {
			state += ", frozen"
		}
		if p.core.Full() {
			state += ", log full"
		}
		if p.core.Role() == replica.Halted {
			state += " (" + p.core.HaltReason() + ")"
		} else if p.dead {
			state += ", killed"
		}
		s += fmt.Sprintf("%s is %s in view %d; ", p.title, state, p.core.View())
	}
	return s + fmt.Sprintf("the arbiter has granted view %d to %s", w.reg.record.Number, w.reg.record.Primary)
}

// rightlyDead tells whether the rules leave nobody who may lead: the last view's primary is gone, and so is its backup, if
// it ever was one. A group stops rather than forget its state.
func (w *World) rightlyDead() (string, bool) {
	if w.over {
		return "its machine has shut down", true
	}
	if w.group {
		return w.groupRightlyDead()
	}
	r := w.reg.record
	if r == (arbiter.Record{}) {
		return "its first primary was killed before view 1", w.everyone[0].killed()
	}
	for _, p := range w.everyone {
		if p.m.down && !p.dead && p.core.Applied() == p.core.Last() {
			return "its machine has shut down, and " + p.title + " has executed that", true
		}
		if p.incarnation == r.Claimant && !p.killed() {
			return "", false
		}
	}
	if r.Backup != "" {
		b := w.everyone[1]
		if b.core.View() == 0 { // still joining, or it has given up

			return "the primary was killed before its backup had heard of the view", true
		}
		if !b.killed() {
			return "", false
		}
	}
	return fmt.Sprintf("all of view %d were killed", r.Number), true
}

// killed tells whether a process died of a fault, rather than halting by a rule.
func (p *process) killed() bool { return p.dead && p.core.Role() != replica.Halted }

// heal ends all faults.
func (w *World) heal() {
	w.healed = w.now
	w.tell(nil, "the faults end")
	for i := range w.reg.cut {
		for j := range w.reg.cut {
			w.wires[i][j] = wire{lo: 50 * time.Microsecond, hi: time.Millisecond}
		}
		w.slowDisk[i], w.reg.cut[i] = 0, 0
	}
	w.reg.down, w.reg.mute, w.reg.slow = 0, 0, 0
	w.s.clientLoss, w.s.claimLoss = 0, 0
	for _, s := range w.services {
		s.heal()
	}
	for _, p := range w.everyone {
		p.fuse, p.doom, p.sluggish = 0, doomNone, 0
		if p.stopped {
			p := p
			at := max(0, p.resumeAt-w.now)
			w.plan(min(at, 20*time.Millisecond), nil, func() { p.resume(0) })
		}
	}
	for _, c := range w.clients {
		c.cut = 0
		c.ask()
	}
	for _, u := range w.users {
		u.cut = 0
		clear(u.apart[:])
	}
}
