package sim

import (
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/kv"
	"understudy/replica"
)

// sending is a state on its way to a backup while commands go on: a snapshot of one instant, piece by piece.
type sending struct {
	l     *link
	view  replica.ViewNumber
	snap  *kv.Snapshot
	past  past
	seq   event.Seq         // the log goes on after this entry
	sent  [][]byte          // pieces
	whole bool              // that was the last one
	held  []replica.Message // streams: the log goes behind the state
}

// receiving is the other end.
type receiving struct {
	of   *sending
	from *kv.Restorer
	next int // piece
}

// sendState begins to send the state between two batches, when a backup waits for it.
func (s *server) sendState() {
	p, w := s.p, s.p.w
	if s.staged || p.dead || p.role != replica.Primary || p.joins.copied == 0 || w.now < p.joins.copied || p.link == nil {
		return
	}
	out := &sending{l: p.link, view: p.core.View(), snap: s.st.kv.BeginSnapshot(), past: s.st.past.copy()}
	if w.mutation.oldState {
		if s.early == nil {
			s.early = out
			return
		}
		out.snap.Close()
		out.snap, out.past, s.early = s.early.snap, s.early.past, nil
	}
	p.joins.copied = 0
	s.out = out
	var seq event.Seq
	var err error
	p.do(func(now time.Duration) { seq, err = p.core.Join(now) })
	switch {
	case p.dead:
	case err != nil:
		w.tell(p, "cannot send its state: %v", err)
		p.hangUp()
	case seq != out.past.seq && !w.mutation.oldState:
		w.fail(ruleOnce, "%s joins a backup after entry %d, but has executed %d", p.title, seq, out.past.seq)
	default:
		out.seq = seq
		w.tell(p, "sends its state after entry %d", seq)
		s.sendPiece(out)
	}
}

// sendPiece sends the next piece, and the log behind the last one.
func (s *server) sendPiece(out *sending) {
	p, w := s.p, s.p.w
	if s.out != out {
		return // the channel is no more
	}
	piece, done := out.snap.Next(nil, 1<<10)
	out.sent, out.whole = append(out.sent, piece), done
	out.l.carry(p, 5*ms, func(to *process) { to.kv.take(out) })
	if !done {
		w.plan(s.takes(5*ms), p, func() { s.sendPiece(out) })
		return
	}
	s.closeTransfer()
	for i := range out.held {
		out.l.send(p, out.held[i])
	}
}

// holds keeps a message behind the state.
func (s *server) holds(m replica.Message) bool {
	if s.out == nil || !s.p.w.s.stream {
		return false
	}
	s.out.held = append(s.out.held, m)
	return true
}

// parted is the end of the log channel.
func (s *server) parted() {
	s.closeTransfer()
	s.in = nil
}

func (s *server) closeTransfer() {
	if s.out != nil {
		s.out.snap.Close()
		s.out = nil
	}
}

// take takes the next piece of the state. A process that was stopped may be given what waited for it out of order; no channel
// does that to a state.
func (s *server) take(out *sending) {
	p := s.p
	if p.role != replica.Spare {
		p.hangUp()
		return
	}
	if s.in == nil || s.in.of != out {
		s.in = &receiving{of: out, from: kv.NewRestorer()}
	}
	in := s.in
	in.next++
	if err := in.from.Write(out.sent[in.next-1]); err != nil {
		p.w.fail(ruleDigests, "%s cannot restore the state of %s: %v", p.title, out.l.ends[0].title, err)
		return
	}
	out.l.carry(p, ms, func(to *process) { to.do(to.core.Joins) })
	if !out.whole || in.next < len(out.sent) {
		return
	}
	state, err := in.from.Finish()
	if err != nil {
		p.w.fail(ruleDigests, "%s cannot restore the state: %v", p.title, err)
		return
	}
	s.in = nil
	s.st = newStore(kv.Limits{})
	s.st.kv, s.st.past = state, out.past.copy()
	seq := out.seq
	switch {
	case p.w.mutation.joinWithoutLog:
		seq = p.mate.core.Last()
	case p.w.mutation.onceUnsent:
		s.st.suffix = "!"
	}
	if f := s.files(); f != nil {
		rec := arbiter.Record{Number: uint64(out.view), Primary: out.l.ends[0].name, Backup: p.name}
		f.begin(out.sent, s.st.past.copy(), filesMark{rec, partJoining})
		p.stores(seq)
	}
	p.do(func(now time.Duration) {
		err = p.core.Restored(now, out.view, out.l.ends[0].name, seq, uint64(s.st.clock))
	})
	if err != nil && !p.dead {
		p.hangUp()
	}
}
