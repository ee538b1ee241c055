package sim

import (
	"time"

	"understudy/replica"
)

// wire is the network in one direction between two places.
type wire struct {
	cut       time.Duration // nothing gets through until
	drop, dup int           // of a thousand datagrams
	lo, hi    time.Duration // how long a message takes
}

// link is the log channel between two processes: of datagrams, or a stream like TCP, which keeps order and
// loses nothing unless it breaks.
type link struct {
	w      *World
	ends   [2]*process
	stream bool
	broken bool             // streams only
	floor  [2]time.Duration // streams: nothing arrives at an end before
	vanish bool             // what was under way when the stream broke is lost

	carried [2]time.Duration // the same as floor, for the pieces of a state in a world of datagrams
}

func (w *World) connect(a, b *process) {
	l := &link{w: w, ends: [2]*process{a, b}, stream: w.s.stream}
	a.link, b.link = l, l
	a.mate, b.mate = b, a
}

// serves tells whether what comes by the link is for p: of a group's members each has one link at a time.
func (l *link) serves(p *process) bool { return p.link == l || !l.w.group || l.w.mutation.namesakes }

func (l *link) side(p *process) int {
	if l.ends[0] == p {
		return 0
	}
	return 1
}

func (l *link) send(from *process, m replica.Message) {
	w := l.w
	side := l.side(from)
	to := l.ends[1-side]
	wr := &w.wires[from.slot][to.slot]
	sentAt := w.now
	if l.stream {
		if l.broken {
			return
		}
		at := w.now + w.rng.between(wr.lo, wr.hi)
		if w.now < wr.cut { // sent again by the transport some time after the cut
			at = wr.cut + w.rng.between(0, 200*time.Millisecond)
		}
		at = max(at, l.floor[1-side])
		l.floor[1-side] = at
		w.planAt(at, to, func() {
			if (!l.broken || !l.vanish) && l.serves(to) {
				to.receive(m, sentAt)
			}
		})
		return
	}
	copies := 1
	if w.rng.permille(wr.dup) {
		copies = 2
	}
	for range copies {
		if w.now < wr.cut || w.rng.permille(wr.drop) {
			continue
		}
		if w.mutation.namesakes && !w.group {
			slot := to.slot
			w.plan(w.rng.between(wr.lo, wr.hi), nil, func() {
				if p := w.members[slot]; !p.dead && !p.stopped {
					p.receive(m, sentAt)
				}
			})
			continue
		}
		w.plan(w.rng.between(wr.lo, wr.hi), to, func() {
			if l.serves(to) {
				to.receive(m, sentAt)
			}
		})
	}
}

// notBefore keeps the order of a stream when its end was stopped: what waits there comes first.
func (l *link) notBefore(p *process, at time.Duration) {
	side := l.side(p)
	l.floor[side] = max(l.floor[side], at)
	if l.w.kv {
		l.carried[side] = max(l.carried[side], at)
	}
}

// hangUp is the end of one end: the other learns of it after all that was sent before.
func (l *link) hangUp(p *process) {
	if !l.stream || l.broken {
		return
	}
	l.broken = true
	l.tellDown(l.ends[1-l.side(p)])
}

// breakOff breaks the stream while both ends live. Each end learns of it at a time of its own, or never.
func (l *link) breakOff() {
	if !l.stream || l.broken {
		return
	}
	l.broken = true
	l.vanish = l.w.rng.chance(2)
	for _, p := range l.ends {
		if !l.w.rng.chance(4) {
			l.tellDown(p)
		}
	}
}

func (l *link) tellDown(p *process) {
	w := l.w
	at := w.now + w.rng.between(50*time.Microsecond, 2*time.Millisecond)
	if w.rng.chance(4) {
		at += w.rng.between(0, 150*time.Millisecond)
	}
	if from := l.ends[1-l.side(p)]; w.now < w.wires[from.slot][p.slot].cut {
		at = w.wires[from.slot][p.slot].cut + w.rng.between(0, 200*time.Millisecond)
	}
	at = max(at, l.floor[l.side(p)])
	w.planAt(at, p, func() { p.peerDown(l) })
}
