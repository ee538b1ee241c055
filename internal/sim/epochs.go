package sim

import (
	"slices"
	"time"

	"understudy/event"
	"understudy/replica"
)

// epoch is what happened at a stop of the machine and is not logged yet. In checkpoint mode (internal/host) the log says of an
// epoch what it was while the next one runs already.
type epoch struct {
	entries []event.Entry
	digests []uint64 // after each
	outs    []any    // said before the stop, and waiting
	covers  bool     // output waited at the stop: whoever holds these entries holds all that had left before it began to
}

// maxEpochs are not logged at most.
const maxEpochs = 3

// endEpoch puts off to log what happened at a stop. What was said leaves at once where nobody has to hold it.
func (p *process) endEpoch(outs []any, digests []uint64, stops bool) {
	w, c := p.w, p.core
	e := epoch{entries: append([]event.Entry(nil), p.entries...), digests: digests, outs: outs, covers: !c.Solo()}
	if !e.covers {
		if slices.ContainsFunc(p.epochs, func(e epoch) bool { return e.covers }) {
			p.flush(0) // it has just become alone: what waited leaves first
		}
		p.do(func(now time.Duration) { c.Hold(now, w.mutation.holds(p, outs)) })
		e.outs = nil
	}
	if len(e.entries) > 0 {
		p.epochs = append(p.epochs, e)
	}
	keep := w.rng.intn(maxEpochs + 1)
	if stops || !c.Ships() {
		keep = 0
	}
	p.flush(keep)
	if stops && !p.dead {
		p.do(c.Stopped)
	}
}

// flush logs all epochs but the newest ones.
func (p *process) flush(keep int) {
	for len(p.epochs) > keep && !p.dead && p.role == replica.Primary {
		w, c, e := p.w, p.core, p.epochs[0]
		p.epochs = p.epochs[1:]
		p.do(func(now time.Duration) {
			for i := range e.entries {
				w.watch.appended(p, c.Last()+event.Seq(i)+1, e.digests[i])
			}
			c.ByEpochs(!w.mutation.coverEarly)
			c.Hold(now, w.mutation.holds(p, e.outs))
			if e.covers && !w.mutation.coverEarly {
				c.Cover()
			}
			_ = c.Append(now, e.entries)
		})
	}
}
