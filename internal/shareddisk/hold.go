package shareddisk

import (
	"slices"
	"time"

	"understudy/event"
)

// The hold. When backups read by themselves (Options.BackupReads), what a primary read is not in its log: only that it
// did, with a checksum. So the sectors must stay as they were until the backup has read them too:
//
//	Invariant: from the moment at which a read is pinned to entry s until the backup has executed s, or is the group's
//	backup no more, no write or discard of these sectors is sent that left the machine after the read. Whatever left it
//	before the read was carried out before it.
//
// Case by case:
//
//   - Follower in lockstep: a change of sectors waits from the moment at which a read of them is submitted, not only
//     when it is answered: behind it on the same connection the change would be carried out before the answer is here.
//   - Nobody follows, or by epochs: nothing waits, for what was read goes nowhere, or is in the state. A change that is
//     sent behind a read that has no entry yet overtakes that entry: the read's guard is gone, Pin refuses, and the log
//     has the data. So it does not matter at which moment somebody begins to follow. A new backup that joins after entry
//     s has in its state what was read up to s, and the entries after s were pinned with the hold in force, or
//     carry data.
//   - The follower is lost: until the arbiter has granted a view without it nothing changes, for it may be
//     the one that goes on, and it reads what it has of the log. Granted, everything may be sent.
//   - This replica loses its part: what waits is never sent. Its successor issues it again, when it has read and executed
//     all of its log; a planned change happens when all is executed.
//   - A successor begins without pinned reads: nobody follows it who has not executed all entries of the former views.
//   - A connection is lost: requests without an answer are sent again, in order, and wait as before. A pinned read
//     has its answer, as had all changes before it; so nothing that is sent again can touch its sectors.
//   - The server's host loses its cache (see Client.lost): the sectors may be older then. The backup finds another sum
//     and halts; its primary goes on alone.
//
// Order: of two requests that overlap the later one never overtakes the earlier one if either changes the sectors, and a
// flush overtakes no change. Others pass. There is no deadlock: a request waits for earlier ones, and for a backup that
// waits for none of them.

// maxPinned bounds the reads that wait for the backup to execute their entries, and the cost of a look through them.
// Beyond it the log carries the data: a backup that is so far behind has enough to do.
const maxPinned = 4096

// request is one of the client's queue.
type request struct {
	event.DiskRequest
	order  uint64 // of submission
	sent   bool   // over the present link
	behind *guard // which was found to hold it
	since  time.Time
}

func (q *request) changes() bool { return q.Op == event.DiskWrite || q.Op == event.DiskDiscard }

func (q *request) end() uint64 { return q.Sector + uint64(q.Count) }

// follows tells whether q, the later one, must not overtake p.
func (q *request) follows(p *request) bool {
	if q.Op == event.DiskFlush {
		return p.changes()
	}
	return (q.changes() || p.changes()) && q.Sector < p.end() && p.Sector < q.end()
}

// guard keeps sectors as they were read.
type guard struct {
	read  *request
	seq   event.Seq // of the entry that it is pinned to; 0: there is none yet
	done  bool      // it was answered
	taken bool      // and handed out by Finished
	gone  bool
}

// guards are those of a client.
type guards struct {
	follower bool     // somebody replays our reads: changes wait
	open     []*guard // of reads without an entry, by rising order
	pinned   []*guard // by rising seq; at most maxPinned
}

// holds gives a guard that a change must wait for, or nil.
func (g *guards) holds(q *request) *guard {
	if q.behind != nil && !q.behind.gone {
		return q.behind
	}
	// The newest first: when that one is gone, so are the older ones as a rule.
	if g.follower {
		if o := newest(g.open, q); o != nil {
			return o
		}
	}
	return newest(g.pinned, q)
}

// newest gives the newest guard of a row whose read q follows.
func newest(row []*guard, q *request) *guard {
	for i := len(row) - 1; i >= 0; i-- {
		if row[i].read.order < q.order && q.follows(row[i].read) {
			return row[i]
		}
	}
	return nil
}

// end ends the guards of a row for which f says so, and gives those that are left.
func end(row []*guard, f func(*guard) bool) []*guard {
	return slices.DeleteFunc(row, func(g *guard) bool {
		g.gone = g.gone || f(g)
		return g.gone
	})
}

// sent ends the guards of reads without an entry that a change overtakes.
func (g *guards) sent(q *request) {
	g.open = end(g.open, func(o *guard) bool { return o.read.order < q.order && q.follows(o.read) })
}

// read notes that a read was answered. It reports whether that ended its guard, as it gave nothing.
func (g *guards) read(q *request, ok bool) bool {
	i := slices.IndexFunc(g.open, func(o *guard) bool { return o.read == q })
	if i < 0 {
		return false
	}
	if g.open[i].done = ok; !ok {
		g.open[i].gone = true
		g.open = slices.Delete(g.open, i, i+1)
	}
	return !ok
}

// reset ends them all.
func (g *guards) reset() { *g = guards{} }

// Follow tells how the group's backup follows, after every change: whether there is one, whether it replays what this
// replica reads, and the newest entry that it has executed. Without one nothing is held.
func (c *Client) Follow(ships, replays bool, applied event.Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view == 0 || !c.o.BackupReads {
		return
	}
	n := len(c.guards.pinned)
	c.guards.pinned = end(c.guards.pinned, func(g *guard) bool { return !ships || g.seq <= applied })
	replays = ships && replays
	if len(c.guards.pinned) < n || c.guards.follower != replays {
		c.guards.follower = replays
		c.changed.Broadcast()
	}
}

// Pin says that the read that Finished last gave with this ID is completed by entry seq, the next of the log. It reports
// whether its sectors stay as they were read until Follow tells that the entry is executed: if not, the entry must
// carry the data. It gives what an entry needs that does not, but for the sum.
func (c *Client) Pin(id uint64, seq event.Seq) (event.DiskSum, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.guards.open, func(g *guard) bool { return g.taken && g.read.ID == id })
	if i < 0 {
		return event.DiskSum{}, false
	}
	g := c.guards.open[i]
	if !c.guards.follower || len(c.guards.pinned) >= maxPinned {
		return event.DiskSum{}, false // the next Finished ends the guard
	}
	c.guards.open = slices.Delete(c.guards.open, i, i+1)
	g.seq = seq
	c.guards.pinned = append(c.guards.pinned, g)
	return event.DiskSum{ID: id, Sector: g.read.Sector, Count: g.read.Count}, true
}

// sendableLocked appends frames of requests that may be sent now to b, about writeAtOnce bytes of them.
func (c *Client) sendableLocked(b []byte) []byte {
	var waiting []*request
	room := c.roomLocked()
	for _, q := range c.queue {
		if q.sent {
			continue
		}
		if len(b) >= writeAtOnce || !room.take(q) {
			break
		}
		wait := slices.ContainsFunc(waiting, q.follows)
		if q.changes() && !wait {
			q.behind = c.guards.holds(q)
			wait = q.behind != nil
		}
		if wait {
			if q.since.IsZero() {
				q.since = time.Now()
				c.held++
			}
			waiting = append(waiting, q)
			continue
		}
		if !q.since.IsZero() {
			c.heldTime += time.Since(q.since)
			q.since = time.Time{}
		}
		if q.changes() {
			c.guards.sent(q)
		}
		q.sent = true
		c.sent = append(c.sent, q)
		b = appendRequest(b, q.DiskRequest)
	}
	return b
}

// longHold is how long a request may be held before the log tells of it.
const longHold = time.Second

// Watch tells in the log when a request has been held for long, and when it goes on. It is called now and then.
func (c *Client) Watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, oldest := c.heldLocked()
	switch long := oldest >= longHold; {
	case long && !c.toldHeld:
		c.toldHeld = true
		c.o.Log.Warn("a write to the shared disk waits for the backup to read what it replaces", "addr", c.o.Addr, "held", n, "for", oldest)
	case n == 0 && c.toldHeld:
		c.toldHeld = false
		c.o.Log.Info("the shared disk's writes go on", "addr", c.o.Addr)
	}
}

// Holds tells whether a request waits for the backup.
func (c *Client) Holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, _ := c.heldLocked()
	return n > 0
}

// heldLocked is how many requests are held, and for how long the oldest of them has been.
func (c *Client) heldLocked() (n int, oldest time.Duration) {
	for _, q := range c.queue {
		if !q.since.IsZero() {
			n++
			oldest = max(oldest, time.Since(q.since))
		}
	}
	return n, oldest
}
