package replica

import (
	"errors"
	"time"

	"understudy/event"
)

// ErrNoBackup is returned when something is asked of a primary that takes a backup it does not have.
var ErrNoBackup = errors.New("no backup")

// Join tells that the backup of the present view is being sent the state after the newest entry, by the channel
// that PeerUp told of. From now on it is sent the log too. The machine does not wait for it, and outputs do not
// either until the backup has acknowledged that it holds the state.
func (c *Core) Join(now time.Duration) (event.Seq, error) {
	switch {
	case c.role != Primary:
		return 0, ErrNotPrimary
	case c.peer == "" || c.ships || !c.peerUp || c.claim != claimNone:
		return 0, ErrNoBackup
	}
	c.clearWindow()
	c.ships = true
	c.joinAt = c.last
	c.progress = 0
	c.lastHeard, c.lastEcho = now, 0
	c.sendAppend(now, nil)
	return c.last, nil
}

// Restored tells that a spare has received the whole state of the machine after the entry with number s, as the
// backup of view v. It follows the log from there; progress is as in ExecutedTo.
func (c *Core) Restored(now time.Duration, v ViewNumber, primary string, s event.Seq, progress uint64) error {
	if c.role != Spare || c.pair || v < c.view || v == 0 {
		return ErrNoBackup
	}
	c.role, c.view, c.peer = Joining, v, primary
	c.last, c.applied, c.stored, c.released, c.gone = s, s, s, 0, 0
	c.filed = 0
	c.myProgress = progress
	c.newestSent, c.lastHeard = 0, now
	c.notice(now, "holds the state of %s after entry %d", primary, s)
	c.sendAck(now)
	return nil
}

// gate makes outputs wait for a backup that holds the state, before anybody, it or the view service, is told
// that it may take over: the machine has said things since the newest entry that it could not say the same
// without the next one.
func (c *Core) gate(now time.Duration) {
	c.gated = true
	c.syncAt = noEntry
	c.notice(now, "%s holds the state; output waits for it after entry %d", c.peer, c.last)
}

// noEntry is beyond every entry.
const noEntry event.Seq = 1 << 62

// ByEpochs says that entries do not speak for the moment at which they are appended, but for an earlier one: in
// checkpoint mode an epoch's entries are appended while the next epoch runs. The caller then calls Cover itself.
func (c *Core) ByEpochs(on bool) { c.epochs = on }

// Cover tells that the next entry to be appended stands behind all that has left ungated: whoever holds it may take
// over. Append does this by itself, unless ByEpochs is on.
func (c *Core) Cover() {
	if c.role == Primary && c.gated && c.syncAt == noEntry {
		c.syncAt = c.last + 1
	}
}

// stopShipping gives up a backup that was joining. Nobody was told that it may take over, so no view has to change.
func (c *Core) stopShipping(now time.Duration, reason string) {
	if c.ships {
		c.notice(now, "%s has not joined: %s", c.peer, reason)
	}
	c.ready.HangUp = c.ready.HangUp || c.peerUp
	c.peerUp = false
	c.clearWindow()
}

// forget makes a replica that was joining a spare again: the state that it holds is worth nothing without the log.
func (c *Core) forget(now time.Duration, reason string) {
	c.notice(now, "has not joined: %s", reason)
	c.role = Spare
	c.held, c.window, c.windowBytes = nil, nil, 0
	c.last, c.applied, c.stored, c.released, c.gone = 0, 0, 0, 0, 0
	c.ready.HangUp = true
}
