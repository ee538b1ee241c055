package replica

import (
	"time"

	"understudy/event"
)

// Files. A state machine may keep its log on disk too, so that a group whose servers all died comes back. What such a log is
// worth depends on what was acknowledged on the strength of it:
//
//   - With Config.Durable a follower acknowledges an entry when it is on disk (StoredTo), and the caller of a primary gives a
//     reply to Reply when the entries that it needs are on disk here. Then whatever was released is in the files of both
//     members of the view, or in those of the primary that was alone.
//   - Files that say that their server was primary of view n, or backup in sync, hold all that was ever released if no view
//     follows n, for whoever acts in n+1 must have had a part in n and makes n+1 first.
//
// So whoever holds such files of the newest view may claim the next one, alone: Recoverable.

// holds is the newest entry that we may tell that we hold.
func (c *Core) holds() event.Seq {
	if c.cfg.Durable {
		return c.stored
	}
	return c.last
}

// Unstored gives the entries that a follower has received and that StoredTo has not told of, oldest first. The caller does not
// change them.
func (c *Core) Unstored() []event.Entry {
	if !c.follows() || c.stored >= c.last {
		return nil
	}
	return c.window[len(c.window)-int(c.last-c.stored):]
}

// StoredTo tells a follower that the entries up to s are on disk. Without Config.Durable it does nothing.
func (c *Core) StoredTo(now time.Duration, s event.Seq) {
	if !c.cfg.Durable || !c.follows() || s <= c.stored || s > c.last {
		return
	}
	c.stored = s
	if c.role == Backup && (c.claim != claimNone || c.granted) || c.view == 0 {
		return // acknowledges no more, or not yet
	}
	c.sendAck(now)
}

// Recoverable tells that the files of a spare hold everything of view v up to entry s, in which it was primary or backup in
// sync: if it is granted view v+1 in this very life it goes on from there. progress is as in ExecutedTo. The caller has made
// sure that the arbiter's newest record is the very view v of the files.
func (c *Core) Recoverable(v ViewNumber, s event.Seq, progress uint64) {
	if c.role != Spare || c.pair || c.claim != claimNone {
		return
	}
	c.filed, c.last, c.myProgress = v, s, progress
}

// recovered makes a spare the primary of the group whose state it holds in its files.
func (c *Core) recovered(now time.Duration, rec Claim) {
	c.role, c.view, c.filed = Primary, ViewNumber(rec.Number), 0
	c.lastHeard, c.lastEcho = now, now
	c.released, c.gone = c.last, c.last
	c.goAlone(now, rec.Backup)
	c.notice(now, "primary of view %d, by its files, after entry %d", c.view, c.last)
}
