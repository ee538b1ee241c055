package sim

import (
	"slices"
	"time"

	"understudy/event"
	"understudy/replica"
	"understudy/view"
)

// callTimeout is how long a primary waits for its backup's welcome.
const callTimeout = 100 * time.Millisecond

// joins is how far a primary has come with the backup that its view names.
type joins struct {
	calls   int           // number of calls made: an answer to an older one is none
	calling bool          // a call is not answered yet
	again   time.Duration // no call before
	copied  time.Duration // when the state is copied but for what changes meanwhile; 0: there is no transfer
	old     *machine      // for a mutation: the state when the transfer began
}

// ended is called when the log channel has.
func (j *joins) ended(p *process) {
	j.copied = 0
	j.again = p.w.now + p.w.rng.between(5*ms, 50*ms)
}

// state is a machine on its way to a backup.
type state struct {
	view     replica.ViewNumber
	from     string
	seq      event.Seq
	progress uint64
	m        *machine
	disk     []uint32 // requests under way
}

func (m *machine) copy() *machine {
	c := *m
	c.jobs, c.sessions, c.outs = slices.Clone(m.jobs), slices.Clone(m.sessions), slices.Clone(m.outs)
	c.disk = slices.Clone(m.disk)
	// These only grow.
	c.onDisk, c.chains = slices.Clip(m.onDisk), slices.Clip(m.chains)
	return &c
}

// callBackup has a primary call the backup of its view, if it has no channel to it.
func (p *process) callBackup() {
	w, c := p.w, p.core
	if p.role != replica.Primary || c.Peer() == "" || c.Ships() || p.link != nil || p.joins.calling || w.now < p.joins.again || p.ended() {
		return
	}
	p.joins.calls++
	p.joins.calling = true
	number, v := p.joins.calls, c.View()
	failed := func() {
		if p.joins.calls == number && p.joins.calling {
			p.joins.calling = false
			p.joins.ended(p)
		}
	}
	w.plan(callTimeout, p, failed)
	q := w.present(c.Peer())
	if q == nil || !w.passes(p, q) {
		return
	}
	w.plan(w.wireDelay(p, q), q, func() {
		l := q.welcome(p, v)
		if !w.passes(q, p) {
			return // q waits in vain, until it is called anew
		}
		w.plan(w.wireDelay(q, p), p, func() {
			switch {
			case l == nil:
				failed()
			case p.joins.calls != number || !p.joins.calling || p.role != replica.Primary || c.View() != v || c.Ships():
				l.hangUp(p)
				failed()
			default:
				p.joins.calling = false
				p.link, p.mate, p.brokenAt = l, q, 0
				w.tell(p, "has a log channel to %s", q.title)
				p.joins.copied = w.now + w.rng.between(0, 80*ms)
				if w.mutation.oldState && p.m != nil {
					p.joins.old = p.m.copy()
				}
				p.do(func(now time.Duration) { p.core.PeerUp(now, q.incarnation) })
			}
		})
	})
}

func (w *World) passes(from, to *process) bool {
	wr := &w.wires[from.slot][to.slot]
	return w.now >= wr.cut && !w.rng.permille(wr.drop)
}

func (w *World) wireDelay(from, to *process) time.Duration {
	wr := &w.wires[from.slot][to.slot]
	return w.rng.between(wr.lo, wr.hi)
}

// welcome answers a primary's call: only the primary of the view that names this very life its backup may call. One that
// calls again has lost the channel, even if this side does not know it yet.
func (q *process) welcome(p *process, v replica.ViewNumber) *link {
	if n := q.member.View(); !q.member.MayJoin() || n.Number != view.Number(v) || n.Primary != p.name {
		return nil
	}
	if l := q.link; l != nil && (q.role == replica.Spare || q.role == replica.Joining) {
		l.hangUp(q)
		q.parted()
		q.do(q.core.PeerDown)
	}
	if q.role != replica.Spare || q.dead {
		return nil
	}
	l := &link{w: q.w, ends: [2]*process{p, q}, stream: q.w.s.stream}
	q.link, q.mate, q.brokenAt = l, p, 0
	q.do(func(now time.Duration) { q.core.PeerUp(now, p.incarnation) })
	return l
}

// sendState is done at a stop of the machine: its state as of now goes to the backup that is to join.
func (p *process) sendState() {
	w := p.w
	if p.joins.copied == 0 || w.now < p.joins.copied || p.link == nil || p.m.down {
		return
	}
	if p.flush(0); p.dead || p.role != replica.Primary || p.link == nil {
		return
	}
	p.joins.copied = 0
	st := state{view: p.core.View(), from: p.name, progress: uint64(p.m.pos), m: p.m.copy()}
	if p.joins.old != nil {
		st.m, p.joins.old = p.joins.old, nil
	}
	for _, r := range p.disk.open {
		st.disk = append(st.disk, r.id)
	}
	var err error
	p.do(func(now time.Duration) { st.seq, err = p.core.Join(now) })
	if err != nil {
		w.tell(p, "cannot send its state: %v", err)
		p.hangUp()
		return
	}
	if p.step() && p.link != nil {
		w.tell(p, "sends its state after entry %d", st.seq)
		p.link.sendState(p, st)
	}
}

// sendState carries the state, in order with the messages if the link is a stream. It is never lost unless the
// link breaks.
func (l *link) sendState(from *process, st state) {
	l.carry(from, 60*ms, func(to *process) { to.restore(st) })
}

// carry carries something of a state to the other end, in order.
func (l *link) carry(from *process, most time.Duration, f func(to *process)) {
	w := l.w
	side := 1 - l.side(from)
	to := l.ends[side]
	wr := &w.wires[from.slot][to.slot]
	if l.broken {
		return
	}
	at := max(w.now, wr.cut) + w.wireDelay(from, to) + w.rng.between(0, most)
	floor := &l.carried[side]
	if l.stream {
		floor = &l.floor[side]
	}
	at = max(at, *floor)
	*floor = at
	w.planAt(at, to, func() {
		if (!l.broken || !l.vanish) && l.serves(to) {
			f(to)
		}
	})
}

// restore makes the machine that was sent.
func (q *process) restore(st state) {
	if q.role != replica.Spare || q.member.View().Number != view.Number(st.view) || !q.member.MayJoin() {
		q.hangUp()
		return
	}
	q.w.mutation.joined(q, &st)
	q.m, q.disk, q.outs = st.m, disk{}, nil
	for _, id := range st.disk {
		q.disk.open = append(q.disk.open, diskRequest{id, q.w.now + q.w.rng.between(0, 3*ms)})
	}
	q.do(func(now time.Duration) { _ = q.core.Restored(now, st.view, st.from, st.seq, st.progress) })
}
