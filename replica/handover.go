package replica

import (
	"fmt"
	"time"
)

// handState is how far a planned change of roles has come.
type handState uint8

const (
	handNone    handState = iota
	handAsked             // the machine is to stop at its next opportunity
	handStopped           // it stands still after the newest entry
	handClaimed           // and the view that makes the backup primary is claimed
)

// HandOver asks that the backup become primary and we its backup, with nothing lost and nothing copied: the machine
// stops, the backup executes all of the log, and the next view is claimed for it. The error says why it cannot be.
// If it takes longer than five times SuspectAfter it is given up, and the machine runs on.
func (c *Core) HandOver(now time.Duration) error {
	switch {
	case c.role != Primary:
		return ErrNotPrimary
	case !c.InSync():
		return fmt.Errorf("%w that is in sync", ErrNoBackup)
	case c.handing != handNone:
		return nil
	case c.claim != claimNone || c.finished:
		return fmt.Errorf("%w that can take over now", ErrNoBackup)
	}
	c.handing = handAsked
	c.handUntil = now + maxPatience*c.cfg.SuspectAfter
	c.notice(now, "hands over to %s", c.peer)
	return nil
}

// HandingOver tells whether a change of roles that HandOver began is under way.
func (c *Core) HandingOver() bool { return c.handing != handNone }

// Stopping tells that the machine is to stop for HandOver: the caller appends a last entry at the position where
// it stands, so that every output is followed by one, and then calls Stopped.
func (c *Core) Stopping() bool { return c.handing == handAsked }

// Stopped tells that the machine stands still after the newest entry, which with Config.Durable is on disk here, and has
// nothing more to say. It runs on when
// Full is no longer true, be it as primary or, after a change of role, as backup.
func (c *Core) Stopped(now time.Duration) {
	if c.handing == handAsked {
		c.handing = handStopped
		c.tickHandOver(now)
	}
}

// tickHandOver goes on with a planned change, or gives it up.
func (c *Core) tickHandOver(now time.Duration) {
	switch {
	case c.handing != handAsked && c.handing != handStopped:
	case c.handing == handStopped && c.gated && c.peerUp && c.claim == claimNone && c.acked == c.last && c.applied == c.last && len(c.held) == 0:
		c.handing = handClaimed
		c.ask(now, Claim{Number: uint64(c.view + 1), Primary: c.peer, Backup: c.cfg.ID})
	case now > c.handUntil:
		c.notice(now, "does not hand over: %s took too long", c.peer)
		c.handing = handNone
	}
}

// stepDown makes a primary that has handed over the backup of its backup. Both hold the same log, and both machines
// stand where it ends.
func (c *Core) stepDown(now time.Duration, n ViewNumber) {
	c.view = n
	c.role = Backup
	c.gated = false
	c.clearWindow()
	c.stored, c.released, c.gone = c.last, c.last, c.last
	c.newestSent, c.lastHeard, c.excused = 0, now, 0
	c.handedOver = true
	c.notice(now, "backup of view %d, handed over after entry %d", n, c.last)
	if c.peerUp {
		c.sendAck(now)
	} else {
		c.suspect(now, "log channel closed")
	}
}

// protect makes a backup that was handed the machine its primary, with the former primary as its backup. All that the
// machine has said left that one before it claimed the view. To say it again would be idle, and if we hear of the
// view late, others may have spoken in a later one.
func (c *Core) protect(now time.Duration) {
	c.clearWindow()
	for i := range c.held {
		c.ready.Left = append(c.ready.Left, c.held[i].out)
	}
	c.drop(len(c.held))
	c.released = c.last
	c.ships, c.gated, c.syncAt = true, true, c.last
	c.progress = c.myProgress
	c.lastHeard, c.lastEcho, c.excused = now, 0, 0
	c.sendAppend(now, nil)
	if !c.peerUp {
		c.suspect(now, "log channel closed")
	}
}
