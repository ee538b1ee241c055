package replica

import (
	"fmt"
	"time"
)

// PeerUp tells that the log channel to the peer stands and that its handshake succeeded. life is the peer's
// incarnation.
func (c *Core) PeerUp(now time.Duration, life string) {
	c.peerUp = true
	c.peerLife = life
	c.lastHeard = now
	switch c.role {
	case Spare:
		if c.pair && c.claim == claimNone {
			c.ask(now, Claim{Number: 1, Backup: c.cfg.Peer})
		}
	case Primary:
		if c.ships {
			c.sent = c.acked // a new channel: send again what may have been lost with the old one
			c.flush(now)
		}
	}
}

// PeerDown tells that the log channel broke. It is as good a reason for suspicion as silence: the claim
// decides, not the suspicion.
func (c *Core) PeerDown(now time.Duration) {
	if !c.peerUp {
		return
	}
	c.peerUp = false
	switch {
	case c.role == Backup, c.role == Primary && c.gated:
		c.suspect(now, "log channel closed")
	case c.role == Primary:
		c.stopShipping(now, "log channel closed")
	case c.role == Joining && !c.pair:
		c.forget(now, "log channel closed")
	}
}

// Tick lets time pass: heartbeats, suspicion, retries. A gap between two ticks that is longer than a
// heartbeat says that this side stood still, stopped or starved of CPU, and could not have heard the other:
// it does not count as the other's silence. Output is not released on the strength of it, though.
func (c *Core) Tick(now time.Duration) {
	if gap := now - c.lastTick; gap > c.cfg.HeartbeatEvery && c.lastTick != 0 && c.excused < maxPatience*c.cfg.SuspectAfter {
		c.lastHeard = min(now, c.lastHeard+gap)
		c.liveAt += gap // likewise: see promoted
		c.excused += gap
	}
	c.lastTick = now
	if now-c.usualAt > maxPatience*c.cfg.SuspectAfter {
		c.usual /= 2
		c.usualAt = now
	}
	if c.role == Backup || c.role == Primary && c.ships {
		c.maxSilence = max(c.maxSilence, now-c.lastHeard)
	}
	if c.claim == claimWait && now >= c.claimRetryAt {
		c.claim = claimAsk
	}
	silent := ""
	if now-c.lastHeard > c.patience() {
		silent = fmt.Sprintf("silent for %v", now-c.lastHeard)
	}
	switch {
	case c.role == Primary && c.ships:
		if c.gated && c.sent > c.acked && now >= c.resendAt {
			c.sent = c.acked
			c.flush(now)
		} else if now-c.lastSent >= c.cfg.HeartbeatEvery {
			c.sendAppend(now, nil)
		}
		c.tickHandOver(now)
		switch {
		case silent != "" && c.gated:
			c.suspect(now, silent)
		case now-c.lastHeard > joinPatience*c.cfg.SuspectAfter && !c.gated:
			c.stopShipping(now, silent)
		}
	case c.role == Joining:
		if c.view > 0 && (c.ackDue || now-c.lastSent >= c.cfg.HeartbeatEvery) {
			c.sendAck(now)
		}
	case c.role == Backup && c.granted:
		c.goLiveWhenDrained(now)
	case c.role == Backup && c.claim == claimNone:
		if c.ackDue || now-c.lastSent >= c.cfg.HeartbeatEvery {
			c.sendAck(now)
		}
		if silent != "" {
			c.suspect(now, silent)
		}
	}
}

// maxPatience bounds, in units of SuspectAfter, how far the time-out grows on a host where silences are
// common, and how much of a silence can be excused by stand-stills of our own.
const maxPatience = 5

// joinPatience is the silence, in units of SuspectAfter, after which a backup that joins is given up. It has a
// whole machine to put together before it can say anything.
const joinPatience = 10

// patience is the silence that raises suspicion: SuspectAfter, or half as much again as the longest silence that
// lately ended by itself, if that is more. Where both sides compete with others for a processor, a fixed time-out
// that suits a quiet host would end the protection every few minutes. Waiting longer is always safe: what
// may be released does not depend on it.
func (c *Core) patience() time.Duration {
	return min(max(c.cfg.SuspectAfter, c.usual*3/2), maxPatience*c.cfg.SuspectAfter)
}

// heard notes a proof of life that the peer gave at the time at.
func (c *Core) heard(now, at time.Duration) {
	if at <= c.lastHeard {
		return // nothing new: a repeated message, or a backup that does not hear us
	}
	standStill := now-c.lastTick > c.cfg.HeartbeatEvery
	if silence := now - c.lastHeard; silence > c.usual && !standStill {
		c.usual = silence
		c.usualAt = now
	}
	c.lastHeard = at
	c.excused = 0
}

func (c *Core) suspect(now time.Duration, reason string) {
	if c.claim != claimNone || c.granted || c.finished && c.applied == c.last {
		return
	}
	c.handing = handNone
	c.notice(now, "suspects %s: %s; claims view %d", c.peer, reason, c.view+1)
	c.ask(now, Claim{Number: uint64(c.view + 1)})
}
