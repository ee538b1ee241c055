package sim

import (
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/replica"
	"understudy/view"
)

// clock is a process's monotonic clock: rate thousandths of the world's speed, since a moment.
type clock struct {
	base, since time.Duration
	rate        int
}

func (c *clock) at(now time.Duration) time.Duration {
	return c.base + (now-c.since)*time.Duration(c.rate)/1000
}

// process is one life of a replica: what internal/host is to the core, without threads.
type process struct {
	w           *World
	slot        int    // which of the group's members it is
	life        int    // from 1
	name        string // the member's name, the same in every life
	title       string // name, and which life if not the first
	incarnation string
	core        *replica.Core
	m           *machine // nil in the world of the key-value service
	kv          *server  // only there
	disk        disk
	clock       clock
	link        *link
	mate        *process // at the other end of the newest link
	joins       joins    // groups: the state's way to a backup
	member      *view.Member
	inbox       []event.Entry
	role        replica.Role
	entries     []event.Entry // scratch of one stop
	epochs      []epoch       // not logged yet, oldest first
	outs        []any         // backup: produced while an entry waits for the disk

	dead      bool
	gone      bool // its host will not come again
	comes     bool // groups: dead, and its host will start another life
	fuse      int  // steps of the shell until it is killed, 0: none. See step
	doom      doom
	powerOff  bool
	stopped   bool
	resumeAt  time.Duration
	suspended bool          // stopped with its clock
	waiting   []happening   // what happened to it while it was stopped
	sluggish  time.Duration // executes slowly until

	held      event.Seq // newest entry that it ever held
	kept      event.Seq // newest entry that its files ever had, as far as they matter to others
	follows   replica.ViewNumber
	heard     time.Duration      // when the newest message that it took as backup was sent
	brokenAt  time.Duration      // when PeerDown was told; 0: never
	soloIn    replica.ViewNumber // views in which it acted alone, and at all, newest
	actsIn    replica.ViewNumber
	goodbyeAt time.Duration // when the machine ended
	left      bool          // in good order, after the machine's end
	askedView uint64
	saw       event.Seq // newest entry that arrived, for a mutation
	early     bool      // claimed its view because the channel broke, not because of silence
}

func (w *World) newProcess(slot int, life int, primary bool) *process {
	p := &process{w: w, slot: slot, life: life, name: memberNames[slot]}
	if w.kv {
		p.kv = w.newServer(p)
	} else {
		p.m = newMachine(len(w.clients), w.mutation.forgetRequests)
	}
	p.title = p.name
	if life > 1 {
		p.title = fmt.Sprintf("%s' (life %d)", p.name, life)
	}
	p.incarnation = fmt.Sprintf("%s-%d-%x", p.name, life, w.rng.next()&0xffff)
	if former := w.members[slot]; former != nil && w.mutation.reuseIncarnation {
		p.incarnation = former.incarnation
	}
	p.clock = clock{base: w.rng.between(0, time.Hour), since: w.now, rate: w.s.rates[slot]}
	cfg := w.s.config
	cfg.ID, cfg.Incarnation = p.name, p.incarnation
	switch {
	case w.group:
		p.member = view.NewMember(groupName, p.name, p.incarnation)
		cfg.Durable = w.s.filing != filesNone
		p.core = replica.NewSpare(cfg)
		if m, _ := w.files[slot].held(); m.part != partNone {
			p.member.CannotFound()
			w.plan(w.rng.between(0, 20*ms), p, func() { p.kv.consult(m, false) })
		}
		w.plan(w.rng.between(0, w.s.ping), p, p.ping)
	case primary:
		cfg.Peer = memberNames[1-slot]
		p.core = replica.NewPrimary(cfg)
	default:
		cfg.Peer = memberNames[1-slot]
		p.core = replica.NewBackup(cfg)
	}
	p.role = p.core.Role()
	w.members[slot] = p
	w.everyone = append(w.everyone, p)
	w.plan(w.rng.between(0, tickEvery), p, p.tick)
	if !w.kv {
		w.plan(w.rng.between(0, w.s.pace), p, p.execute)
	}
	return p
}

// hear takes a frame from the network of the clients.
func (p *process) hear(data []byte) {
	if p.role == replica.Primary {
		p.inbox = append(p.inbox, event.Entry{Kind: event.KindNet, Data: data})
	}
}

func (p *process) alive() bool { return !p.dead }

// ended tells whether the machine has shut down.
func (p *process) ended() bool { return p.m != nil && p.m.down }

// executed is the newest entry that was executed here.
func (p *process) executed() event.Seq {
	if p.kv != nil {
		return p.kv.st.seq
	}
	return p.m.delivered
}

// forget is called when a replica that was joining is a spare again.
func (p *process) forget() {
	p.held = 0
	if p.kv != nil {
		p.kv.forget()
		return
	}
	p.m, p.disk, p.outs = newMachine(len(p.w.clients), p.w.mutation.forgetRequests), disk{}, nil
}

// step is a moment between two things that the shell does: the process may be killed there.
func (p *process) step() bool {
	if p.fuse > 0 {
		if p.fuse--; p.fuse == 0 {
			p.kill(p.powerOff)
		}
	}
	return !p.dead
}

// doom is the moment at which a process is killed, if not some steps from now.
type doom uint8

const (
	doomNone      doom = iota
	doomAfterSend      // when it has sent messages
	doomAtRelease      // when it is about to release output
	doomInBetween      // when it has sent messages and is about to release output
	doomJoined         // some steps after its backup, or it as backup, has got the state
)

// strike kills the process if its moment has come: messages are sent, outputs are not yet released.
func (p *process) strike(r *replica.Ready) {
	sent, releases := len(r.Messages) > 0, len(r.Release) > 0
	if p.doom == doomAfterSend && sent || p.doom == doomAtRelease && releases || p.doom == doomInBetween && sent && releases {
		p.kill(p.powerOff)
	}
}

// joined is called when a backup has got the state, or its primary learns of that.
func (p *process) joined() {
	if p.doom == doomJoined {
		p.doom, p.fuse = doomNone, 1+p.w.rng.intn(12)
		p.w.tell(nil, "%s will be killed %d steps from now", p.title, p.fuse)
	}
}

// do steps the core with f and carries out what it asks for.
func (p *process) do(f func(now time.Duration)) {
	if !p.step() {
		return
	}
	w := p.w
	f(p.clock.at(w.now))
	r := p.core.Ready()
	w.mutation.ready(p, &r)
	p.held = max(p.held, p.core.Last())
	for _, n := range r.Notices {
		w.tell(p, "%s", n.Text)
	}
	role := p.core.Role()
	if role != p.role {
		was := p.role
		p.role = role
		switch role {
		case replica.Spare:
			p.forget()
		case replica.Joining:
			p.follows = p.core.View()
			p.joined()
		case replica.Backup:
			p.follows = p.core.View()
			p.inbox = nil
		case replica.Primary:
			if was == replica.Backup {
				if p.kv != nil {
					p.kv.promoted()
				}
				w.watch.live(p)
			}
		case replica.Halted:
			p.inbox = nil
		}
	}
	if role == replica.Primary && p.actsIn != p.core.View() {
		p.actsIn = p.core.View()
		w.watch.acts(p)
	}
	if p.core.Solo() && p.soloIn != p.core.View() {
		p.soloIn = p.core.View()
		w.watch.solo(p)
	}
	for i := range r.Messages {
		if !p.step() {
			return
		}
		p.send(r.Messages[i])
	}
	if r.HangUp {
		p.hangUp()
	}
	p.strike(&r)
	for _, o := range r.Release {
		if !p.step() {
			return
		}
		p.release(o)
	}
	if r.Claim != nil && p.step() {
		w.claim(p, *r.Claim)
	}
	if role == replica.Halted && p.step() {
		w.tell(p, "leaves")
		if p.kv != nil {
			p.kv.settled()
		}
		p.kill(false) // the process ends, and its sockets with it
	} else if p.kv != nil && !p.dead {
		p.kv.settled()
	}
}

func (p *process) release(o any) {
	if b, ok := o.(*batch); ok {
		p.kv.release(b)
		return
	}
	s := o.(said)
	p.w.watch.released(p, s)
	if s.reply {
		p.w.tell(p, "releases output %d in view %d: answers request %d of client %d", s.n, p.core.View(), s.request, s.client)
		p.w.answer(p, s.answer)
	} else {
		p.w.tell(p, "releases output %d in view %d: a line on the console", s.n, p.core.View())
	}
}

func (p *process) send(m replica.Message) {
	if p.w.telling && (len(m.Entries) > 0 || m.Type == replica.MsgAck) {
		p.w.tell(p, "sends %s", describe(m))
	}
	if p.link != nil {
		p.w.watch.sent(p, m)
		if p.kv == nil || !p.kv.holds(m) {
			p.link.send(p, m)
		}
	}
}

// hangUp closes the log channel.
func (p *process) hangUp() {
	if l := p.link; l != nil {
		l.hangUp(p)
		p.parted()
	}
}

// parted forgets a log channel that has ended. Those of a pair are not opened a second time.
func (p *process) parted() {
	if p.w.group {
		p.link = nil
		p.joins.ended(p)
		if p.kv != nil {
			p.kv.parted()
		}
	}
}

func describe(m replica.Message) string {
	if m.Type == replica.MsgAck {
		return fmt.Sprintf("ack{view %d, holds %d, executed %d}", m.View, m.Held, m.Executed)
	}
	if len(m.Entries) == 0 {
		return fmt.Sprintf("heartbeat{view %d, released %d}", m.View, m.Released)
	}
	return fmt.Sprintf("append{view %d, entries %d-%d, released %d}", m.View, m.Entries[0].Seq, m.Entries[len(m.Entries)-1].Seq, m.Released)
}

func (p *process) receive(m replica.Message, sentAt time.Duration) {
	m = p.w.mutation.arrives(p, m)
	p.do(func(now time.Duration) { p.core.Step(now, m) })
	if p.isFollowing() && m.View == p.follows {
		p.heard = max(p.heard, sentAt)
		p.w.watch.backlog(p)
	}
}

// isFollowing tells whether it takes entries: a backup that has claimed the next view does not.
func (p *process) isFollowing() bool {
	return (p.role == replica.Backup || p.role == replica.Joining) &&
		p.core.View() == p.follows && p.askedView <= uint64(p.follows)
}

func (p *process) peerDown(l *link) {
	if !l.serves(p) {
		return
	}
	p.parted()
	p.w.tell(p, "learns that the log channel broke")
	p.brokenAt = p.w.now
	p.do(func(now time.Duration) { p.core.PeerDown(now) })
	if p.ended() && p.role == replica.Backup && p.step() {
		if asked, _ := p.core.Frozen(); !asked && p.core.Applied() == p.core.Last() {
			p.w.tell(p, "leaves too, as the machine has ended")
			p.w.watch.ended(p, false) // the primary may not know: it may still claim
			p.left = true
			p.kill(false)
		}
	}
}

func (p *process) claimed(asked, current arbiter.Record, won bool, err error) {
	if p.kv != nil && err == nil {
		p.kv.learn(current)
	}
	p.do(func(now time.Duration) { p.core.Claimed(now, asked, current, won, err) })
}

func (p *process) tick() {
	p.do(p.core.Tick)
	if p.w.group && !p.dead {
		p.callBackup()
		if p.kv != nil {
			p.kv.sendState()
		}
	}
	p.w.plan(tickEvery*1000/time.Duration(p.clock.rate), p, p.tick)
}

// kill ends the process. Its sockets end with it unless the whole host loses power.
func (p *process) kill(power bool) {
	if p.dead {
		return
	}
	p.dead = true
	p.fuse = 0
	if power && p.w.s.filing == filesAlways {
		p.w.files[p.slot].powerFails(&p.w.rng)
	}
	if p.core.Role() != replica.Halted && !p.left {
		p.w.tell(p, "is killed")
	}
	p.waiting, p.inbox = nil, nil
	if p.link != nil && !power {
		p.link.hangUp(p)
	}
	if p.w.group {
		p.w.rebirth(p)
	}
}

// stop makes the process stand still, as SIGSTOP or a long garbage collection does; with its clock, as
// the suspension of its host does.
func (p *process) stop(d time.Duration, withClock bool) {
	if p == nil || p.dead || p.stopped {
		return
	}
	w := p.w
	p.stopped, p.suspended = true, withClock
	p.resumeAt = w.now + d
	at := w.now
	w.plan(d, nil, func() { p.resume(w.now - at) })
}

func (p *process) resume(stood time.Duration) {
	if p.dead || !p.stopped {
		return
	}
	w := p.w
	p.stopped = false
	if p.suspended {
		p.clock.since += stood
	}
	// What waited happens now, in order, but for the ticker, which may be first.
	var after time.Duration
	first := w.rng.chance(2)
	if first {
		p.do(p.core.Tick)
	}
	for _, h := range p.waiting {
		w.plan(after, p, h.f)
		after += w.rng.between(0, 100*time.Microsecond)
	}
	p.waiting = p.waiting[:0]
	if p.link != nil {
		p.link.notBefore(p, w.now+after)
	}
}
