package sim

import (
	"encoding/binary"
	"time"

	"understudy/event"
	"understudy/replica"
)

// goodbyeTimeout is how long a primary whose machine has ended waits for its backup to execute that.
const goodbyeTimeout = 500 * time.Millisecond

// execute is one round of the executor.
func (p *process) execute() {
	w := p.w
	pause := w.rng.between(w.s.pace/4, w.s.pace*2)
	slow := w.now < p.sluggish
	switch p.role {
	case replica.Primary:
		if p.m.down {
			p.sayGoodbye()
		} else if frozen, _ := p.core.Frozen(); !frozen && (!p.core.Full() || p.w.mutation.mayRun(p)) {
			p.lead()
		}
		if slow {
			pause *= 4
		}
	case replica.Backup, replica.Joining:
		n := 16
		if slow {
			n, pause = 1, pause*4
		}
		for range n {
			if !p.follow() {
				break
			}
		}
	}
	if p.alive() {
		w.plan(pause, p, p.execute)
	}
}

// lead takes what the machine said, delivers what came for it, ships the log of that, and runs on.
func (p *process) lead() {
	w, m := p.w, p.m
	p.disk.submit(w, p)
	outs := p.said()
	p.entries = p.entries[:0]
	var digests []uint64
	deliver := func(e event.Entry) {
		e.Pos = m.pos
		m.deliver(&e)
		if w.s.epochs {
			digests = append(digests, m.digest())
		} else {
			w.watch.appended(p, m.delivered, m.digest())
		}
		p.entries = append(p.entries, e)
	}
	if w.rng.permille(w.s.chatter) {
		deliver(event.Entry{Kind: event.KindClock})
	}
	for _, e := range p.inbox {
		deliver(e)
	}
	p.inbox = p.inbox[:0]
	for _, id := range p.disk.finished(w.now) {
		deliver(event.Entry{Kind: event.KindDisk, Data: binary.LittleEndian.AppendUint32(nil, id)})
	}
	if w.rng.permille(20) {
		deliver(event.Entry{Kind: event.KindDigest, Data: binary.LittleEndian.AppendUint64(nil, m.digest())})
	}
	stops := p.core.Stopping()
	// Alone nothing waits for an entry, so that there may be none.
	if len(p.entries) == 0 && (stops || p.core.WantsEntry() && !w.mutation.syncEarly || len(outs) > 0 && (!p.core.Solo() || w.rng.chance(2))) {
		deliver(event.Entry{Kind: event.KindCommit})
	}
	if w.s.epochs {
		p.endEpoch(outs, digests, stops)
	} else if len(p.entries)+len(outs) > 0 {
		p.do(func(now time.Duration) {
			outs = w.mutation.holds(p, outs)
			p.core.Hold(now, outs)
			_ = p.core.Append(now, append([]event.Entry(nil), p.entries...))
			if stops {
				p.core.Stopped(now)
			}
		})
	}
	if stops && !w.mutation.handRunning || p.dead {
		return
	}
	p.sendState()
	m.run(m.pos + event.Position(w.rng.intn(2*requestCost)+1))
}

// said takes the machine's outputs.
func (p *process) said() []any {
	if len(p.m.outs) == 0 {
		return nil
	}
	outs := make([]any, 0, len(p.m.outs))
	for i := range p.m.outs {
		outs = append(outs, p.m.outs[i])
	}
	p.m.outs = p.m.outs[:0]
	return outs
}

// end shuts the machine of a primary down: a last entry says so.
func (p *process) end() {
	if p == nil || p.dead || p.stopped || p.role != replica.Primary || p.m.down {
		return
	}
	w := p.w
	if p.core.Full() { // it stands still
		w.plan(tickEvery, p, p.end)
		return
	}
	w.tell(p, "the machine shuts down")
	e := event.Entry{Pos: p.m.pos, Kind: event.KindCommit, Data: []byte("down")}
	p.m.deliver(&e)
	outs := p.said()
	p.flush(0)
	if p.dead || p.role != replica.Primary {
		return
	}
	p.w.watch.appended(p, p.m.delivered, p.m.digest())
	p.do(func(now time.Duration) {
		p.core.Hold(now, w.mutation.holds(p, outs))
		_ = p.core.Append(now, []event.Entry{e})
		p.core.Finish()
	})
	p.goodbyeAt = p.w.now
}

// sayGoodbye leaves when the backup has executed the end too, or there is none, or it takes too long.
func (p *process) sayGoodbye() {
	if p.goodbyeAt == 0 { // learned of the end as a backup
		p.goodbyeAt = p.w.now
		p.do(func(time.Duration) { p.core.Finish() })
	}
	// The acknowledgement that told of the end may have come too late to release anything: the next one will.
	executed := p.core.Applied() == p.core.Last() && (p.core.HeldOutputs() == 0 || p.w.mutation.hastyGoodbye)
	if p.core.Solo() || executed || p.w.now > p.goodbyeAt+goodbyeTimeout {
		p.w.tell(p, "leaves, as the machine has ended")
		p.w.watch.ended(p, executed && !p.core.Solo())
		p.left = true
		p.kill(false)
	}
}

// follow executes one entry of the log, if there is one and what it needs of the disk is there.
func (p *process) follow() bool {
	if p.role != replica.Backup && p.role != replica.Joining || p.dead {
		return false
	}
	e, ok := p.core.Next()
	if !ok {
		return false
	}
	w, m := p.w, p.m
	m.run(e.Pos)
	p.disk.submit(w, p)
	p.outs = append(p.outs, p.said()...)
	if m.pos != e.Pos {
		w.fail("digests agree", "%s: entry %d is for position %d, the machine is at %d", p.title, e.Seq, e.Pos, m.pos)
		return false
	}
	if e.Kind == event.KindDisk && !p.disk.await(w.now, binary.LittleEndian.Uint32(e.Data)) {
		return false
	}
	if e.Kind == event.KindDigest && binary.LittleEndian.Uint64(e.Data) != m.digest() {
		w.fail("digests agree", "%s: entry %d has another digest", p.title, e.Seq)
		return false
	}
	for range w.mutation.times(p) {
		m.deliver(&e)
	}
	w.mutation.executed(p)
	w.watch.executed(p, e.Seq)
	outs := p.outs
	p.outs = nil
	p.do(func(now time.Duration) {
		p.core.Hold(now, outs)
		p.core.ExecutedTo(now, e.Seq, uint64(m.pos))
		if m.down && !w.mutation.forgetEnd {
			p.core.Finish()
		}
	})
	return true
}
