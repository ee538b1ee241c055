package replica

import (
	"time"

	"understudy/event"
)

// entryOverhead is what an entry costs in a buffer beside its data.
const entryOverhead = 64

func entryBytes(e *event.Entry) int { return entryOverhead + len(e.Data) }

// Append adds entries that the machine has just consumed to the log, numbers them in place, and sends them if
// there is a backup. Only a primary may append.
func (c *Core) Append(now time.Duration, entries []event.Entry) error {
	if c.role != Primary {
		return ErrNotPrimary
	}
	if !c.epochs && len(entries) > 0 {
		c.Cover()
	}
	for i := range entries {
		c.last++
		entries[i].Seq = c.last
		if !c.ships {
			continue
		}
		n := entryBytes(&entries[i])
		c.window = append(c.window, entries[i])
		c.windowBytes += n
		c.unappliedSizes = append(c.unappliedSizes, n)
		c.unappliedBytes += n
	}
	if !c.ships {
		c.acked, c.sent, c.applied = c.last, c.last, c.last
	}
	if !c.gated {
		c.releaseTo(now, c.last+1)
	}
	c.flush(now)
	return nil
}

// WantsEntry tells whether an entry is to be appended soon even if nothing happens: the one with which a new
// backup is in sync.
func (c *Core) WantsEntry() bool { return c.role == Primary && c.gated && c.last < c.syncAt }

// Hold takes outputs that the machine produced after the newest entry (primary) or after the newest applied
// entry (backup). A primary with a backup releases them when the next entry is acknowledged, so the caller
// must append one soon; alone it releases them at once. A backup keeps them until it hears that the primary
// released them, and releases what is left when it goes live.
func (c *Core) Hold(now time.Duration, outs []any) {
	if c.role == Halted {
		return
	}
	need := c.last + 1
	if c.role != Primary {
		need = c.applied + 1
	}
	for _, o := range outs {
		if c.role != Primary && need <= c.released {
			c.ready.Left = append(c.ready.Left, o)
			continue
		}
		c.held = append(c.held, held{need: need, at: now, out: o})
	}
	if c.role == Primary && !c.gated {
		c.releaseTo(now, c.last+1)
	}
}

// releaseTo lets out everything that needs at most entry s. The machine may yet say more that needs the entry after
// the newest: of these nobody may be told that they have left, for when they come the gate may be closed.
func (c *Core) releaseTo(now time.Duration, s event.Seq) {
	i := 0
	for i < len(c.held) && c.held[i].need <= s && (!c.gated || c.held[i].asked <= c.lastEcho) {
		waited := now - c.held[i].at
		c.gateStats.Outputs++
		c.gateStats.Waited += waited
		c.gateStats.Longest = max(c.gateStats.Longest, waited)
		c.ready.Release = append(c.ready.Release, c.held[i].out)
		i++
	}
	if i < len(c.held) {
		s = min(s, c.held[i].need-1)
	}
	c.drop(i)
	c.released = max(c.released, min(s, c.last))
}

func (c *Core) drop(n int) {
	if n > 0 {
		rest := copy(c.held, c.held[n:])
		clear(c.held[rest:])
		c.held = c.held[:rest]
	}
}

// Unreleased gives the outputs at the gate, in order: on a backup those of which it has not heard that they left.
func (c *Core) Unreleased() []any {
	var outs []any
	for i := range c.held {
		outs = append(outs, c.held[i].out)
	}
	return outs
}

// GateStats say how long outputs waited at the gate before they left.
type GateStats struct {
	Outputs uint64        // released
	Waited  time.Duration // all together
	Longest time.Duration
}

// GateStats are those of this life.
func (c *Core) GateStats() GateStats { return c.gateStats }

// OldestHeld is when the oldest output at the gate was produced.
func (c *Core) OldestHeld() (time.Duration, bool) {
	if len(c.held) == 0 {
		return 0, false
	}
	return c.held[0].at, true
}

func (c *Core) follows() bool { return c.role == Backup || c.role == Joining }

// Next gives a backup the next entry to execute, if it holds one; with Config.Durable, on disk.
func (c *Core) Next() (event.Entry, bool) {
	if !c.follows() || len(c.window) == 0 || c.applied >= c.holds() {
		return event.Entry{}, false
	}
	return c.window[0], true
}

// ExecutedTo tells that a backup has executed the entry with number s, the one that Next gave. progress is
// reported to the primary, which computes the lag from it; for a machine it is guest time in nanoseconds.
func (c *Core) ExecutedTo(now time.Duration, s event.Seq, progress uint64) {
	if !c.follows() || len(c.window) == 0 || c.window[0].Seq != s {
		return
	}
	c.windowBytes -= entryBytes(&c.window[0])
	c.window[0] = event.Entry{}
	c.window = c.window[1:]
	if len(c.window) == 0 {
		c.window = nil
	}
	c.applied = s
	c.myProgress = progress
	c.ackDue = true
	c.goLiveWhenDrained(now)
}
