package replica

import (
	"time"

	"understudy/event"
)

// Replies are the outputs of a state machine whose outputs come of its entries and of nothing else: what an entry said needs
// that entry, where what a computer says after an entry needs the next one (Hold).
//
// A read changes nothing and has no entry. It may see what the backup does not hold yet, so its reply needs the newest entry
// that was executed before it. And it must not miss what another primary has told its clients: the reply needs an
// acknowledgement of something that was sent after the read came (Ask), for a backup that has claimed acknowledges
// nothing. So, with asked from Ask:
//
//   - A reply is released only when the backup holds the log up to its need, and has acknowledged something sent at or after
//     asked, freshly (see Freshness), in a view in which this replica is still primary and claims nothing; or when this replica
//     is alone by a grant.
//
// What is released late, by a primary stopped between Ready and doing it, was true when the backup acknowledged, which was after
// the read came.

// Ask asks the backup for an acknowledgement on behalf of reads that came no later than now. The result goes with their
// replies. However many ask, one question is under way at a time, and the log's own messages are questions too.
func (c *Core) Ask(now time.Duration) time.Duration {
	if c.role == Primary && c.gated {
		c.askedFor = now
		c.askAgain(now)
	}
	return now
}

// askAgain sends what was asked for since the newest message, when that is answered.
func (c *Core) askAgain(now time.Duration) {
	if c.askedFor > c.lastSent && c.lastEcho >= c.askSent {
		c.sendAppend(now, nil)
	}
}

// Reply takes what the machine said by executing the log up to entry need, or, with asked from Ask, what it said to reads
// between this and the next. It may be acknowledged already. Replies must be given in their order.
func (c *Core) Reply(now time.Duration, need event.Seq, asked time.Duration, outs []any) error {
	if c.role != Primary {
		return ErrNotPrimary
	}
	for _, o := range outs {
		c.held = append(c.held, held{need: need, asked: asked, at: now, out: o})
	}
	if c.gated {
		c.releaseAcked(now)
	} else {
		c.releaseTo(now, c.last+1)
	}
	return nil
}

// releaseAcked lets out what the backup's acknowledgements allow. They count only while it cannot have claimed: see the package
// comment.
func (c *Core) releaseAcked(now time.Duration) {
	if now-c.lastEcho <= freshFor(c.cfg.SuspectAfter) && c.claim == claimNone {
		c.releaseTo(now, c.acked)
	}
}

// Joins tells that the backup that joins has taken more of the state: it is alive, though it cannot acknowledge yet.
func (c *Core) Joins(now time.Duration) {
	if c.role == Primary && c.ships && !c.gated {
		c.lastHeard = now
	}
}
