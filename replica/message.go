package replica

import (
	"fmt"
	"time"

	"understudy/event"
)

// MessageType says what a Message is.
type MessageType uint8

// The messages of the log channel.
const (
	// MsgAppend goes from the primary to the backup: consecutive entries, perhaps none (a heartbeat).
	MsgAppend MessageType = iota + 1
	// MsgAck goes from the backup to the primary: what it holds and what it has executed. To whom it brings a
	// view that he does not know, it says that he was deposed.
	MsgAck
	// MsgHandOver goes from a primary that has handed over to the new one, instead of acknowledgements until the new
	// one is heard: the view was granted.
	MsgHandOver
)

// Message is one message of the log channel. Lost, repeated and reordered messages do no harm.
type Message struct {
	Type MessageType
	View ViewNumber
	// Sent is the sender's clock when an append was sent; Echo, in an ack, is the Sent of the newest append
	// that the backup has received. Only the primary's own clock is ever compared with them.
	Sent, Echo time.Duration
	Entries    []event.Entry // MsgAppend
	Released   event.Seq     // MsgAppend: outputs that need at most this entry have left
	InSync     bool          // MsgAppend: whoever holds the log up to SyncAt may take over
	SyncAt     event.Seq     // MsgAppend
	Ask        bool          // MsgAppend: it is to be acknowledged at once
	Held       event.Seq     // MsgAck: newest entry held. MsgHandOver: the log's last
	Executed   event.Seq     // MsgAck: newest entry executed
	Progress   uint64        // MsgAck: see Core.ExecutedTo
	Gap        bool          // MsgAck: entries after Held are missing though later ones arrived: send again
}

// maxBatchBytes bounds the entries of one message, so that a receiver can bound its frames.
const maxBatchBytes = 1 << 20

// maxBacklogBytes is what a backup that joins may yet have to receive when outputs begin to wait for it.
const maxBacklogBytes = 256 << 10

// flush sends the entries that were not sent yet.
func (c *Core) flush(now time.Duration) {
	if !c.peerUp {
		return
	}
	for c.sent < c.last {
		first := int(c.sent - c.acked)
		end, bytes := first, 0
		for end < len(c.window) && (end == first || bytes+entryBytes(&c.window[end]) <= maxBatchBytes) {
			bytes += entryBytes(&c.window[end])
			end++
		}
		batch := make([]event.Entry, end-first)
		copy(batch, c.window[first:end])
		c.sent = batch[len(batch)-1].Seq
		c.sendAppend(now, batch)
	}
}

// sendAppend tells the backup only of outputs that left before: were it told of those that leave together with
// the message, and this side were killed between the two, nobody would ever release them.
func (c *Core) sendAppend(now time.Duration, batch []event.Entry) {
	if !c.peerUp {
		return
	}
	if len(batch) > 0 {
		c.resendAt = now + c.cfg.ResendAfter
	}
	c.lastSent = now
	ask := c.askedFor > c.lastEcho
	if ask || len(batch) > 0 {
		c.askSent = now
	}
	c.ready.Messages = append(c.ready.Messages, Message{
		Type: MsgAppend, View: c.view, Sent: now, Entries: batch, Released: c.gone, InSync: c.gated, SyncAt: c.syncAt, Ask: ask,
	})
}

func (c *Core) sendAck(now time.Duration) {
	c.lastSent = now
	c.ackDue = false
	if c.handedOver {
		c.ready.Messages = append(c.ready.Messages, Message{Type: MsgHandOver, View: c.view, Held: c.last})
		return
	}
	c.ready.Messages = append(c.ready.Messages, Message{
		Type: MsgAck, View: c.view, Echo: c.newestSent, Held: c.holds(), Executed: c.applied, Progress: c.myProgress,
		Gap: c.gap,
	})
	c.gap = false
}

// freshFor is how long an acknowledgement of something sent releases output: less than SuspectAfter, so that
// clocks may differ. It holds while the backup's clock is at most 4/3 as fast as the primary's.
func freshFor(suspectAfter time.Duration) time.Duration { return suspectAfter / 4 * 3 }

// Step takes a message from the peer.
func (c *Core) Step(now time.Duration, m Message) {
	switch {
	case c.role == Halted:
	case m.Type == MsgAppend:
		c.stepAppend(now, m)
	case m.Type == MsgAck:
		c.stepAck(now, m)
	case m.Type == MsgHandOver && c.role == Backup && m.View == c.view+1 && m.Held == c.last:
		c.settle(now, Claim{Number: uint64(m.View), Primary: c.cfg.ID, Backup: c.peer, Claimant: c.peerLife})
	}
}

func (c *Core) stepAppend(now time.Duration, m Message) {
	switch c.role {
	case Joining:
		if c.view == 0 {
			c.view = m.View // a pair's first
		}
		if m.View == 0 || m.View != c.view {
			return
		}
	case Backup:
		if m.View < c.view || c.claim != claimNone || c.granted {
			return // an old primary, or we have already claimed the next view: its entries come too late
		}
		if m.View > c.view {
			c.Halt(now, "the primary is in a view that we are not part of")
			return
		}
	default:
		if m.View > c.view && (c.role == Primary || c.pair) && c.handing != handClaimed {
			c.Halt(now, "deposed: a message of a later view arrived")
		} else if c.role == Primary && m.View < c.view && c.view > 0 {
			c.sendAck(now) // an old primary that was stopped or cut off learns that it was deposed
		}
		return
	}
	c.handedOver = false // the new primary knows
	c.heard(now, now)
	if m.Sent > c.newestSent {
		c.newestSent = m.Sent
	}
	for i := range m.Entries {
		e := m.Entries[i]
		if e.Seq != c.last+1 {
			c.gap = c.gap || e.Seq > c.last+1
			continue // repeated, or after a gap: the ack tells the primary where to resume
		}
		c.last = e.Seq
		c.window = append(c.window, e)
		c.windowBytes += entryBytes(&e)
	}
	if c.role == Joining && m.InSync && c.last >= m.SyncAt {
		c.role = Backup
		c.notice(now, "backup of view %d", c.view)
	}
	if m.Released > c.released {
		c.released = m.Released
		i := 0
		for i < len(c.held) && c.held[i].need <= c.released {
			c.ready.Left = append(c.ready.Left, c.held[i].out)
			i++
		}
		c.drop(i)
	}
	c.ackDue = true
	if len(m.Entries) > 0 && c.holds() == c.last || m.Ask || now-c.lastSent >= c.cfg.HeartbeatEvery/2 {
		c.sendAck(now)
	}
}

func (c *Core) stepAck(now time.Duration, m Message) {
	if c.role == Spare && !c.pair {
		return // from one that was to send us its state, and goes on without us: we lose nothing
	}
	if m.View > c.view {
		c.Halt(now, fmt.Sprintf("deposed: the other side is in view %d", m.View))
		return
	}
	if c.role != Primary || !c.ships || m.View != c.view || m.Held < c.joinAt {
		return
	}
	if m.Echo > now || m.Held > c.last || m.Executed > m.Held {
		c.Halt(now, "the backup acknowledged what was never sent")
		return
	}
	c.heard(now, m.Echo)
	c.lastEcho = max(c.lastEcho, m.Echo)
	if m.Held > c.acked {
		n := int(m.Held - c.acked)
		for i := range c.window[:n] {
			c.windowBytes -= entryBytes(&c.window[i])
			c.window[i] = event.Entry{}
		}
		c.window = c.window[n:]
		if len(c.window) == 0 {
			c.window = nil
		}
		c.acked = m.Held
		if c.sent < c.acked {
			c.sent = c.acked
		}
		c.resendAt = now + c.cfg.ResendAfter
	}
	if m.Executed > c.applied {
		for range int(m.Executed - c.applied) {
			c.unappliedBytes -= c.unappliedSizes[0]
			c.unappliedSizes = c.unappliedSizes[1:]
		}
		c.applied = m.Executed
	}
	if m.Gap && c.sent > c.acked && now >= c.gapAt {
		c.gapAt = now + c.cfg.HeartbeatEvery/5
		c.sent = c.acked
	}
	if m.Progress > c.progress {
		c.progress = m.Progress
	}
	if !c.gated {
		c.lastHeard = now
		// Before that it works through what gathered behind the state. Were outputs made to wait for it meanwhile, it would
		// be silent for as long as that takes: what it acknowledges was sent long ago.
		if c.windowBytes <= maxBacklogBytes {
			c.gate(now)
		}
	}
	c.releaseAcked(now)
	c.flush(now)
	c.askAgain(now)
	c.tickHandOver(now)
}
