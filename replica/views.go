package replica

import (
	"fmt"
	"time"

	"understudy/arbiter"
)

// BeginAlone claims view 1 without a backup.
func (c *Core) BeginAlone(now time.Duration) {
	if c.role == Spare && c.claim == claimNone {
		c.peer = ""
		c.ask(now, Claim{Number: 1})
	}
}

// ask claims rec for us, unless it says for whom.
func (c *Core) ask(now time.Duration, rec Claim) {
	if rec.Primary == "" {
		rec.Primary = c.cfg.ID
	}
	rec.Claimant = c.cfg.Incarnation
	c.claimRec = rec
	c.claim = claimAsk
	c.claimErr = nil
}

// Claimed gives the arbiter's answer to a Ready.Claim: the record now in force and whether it is the one that was
// asked for, or an error when the answer is unknown. The answer to a claim that Adopt has overtaken is ignored.
func (c *Core) Claimed(now time.Duration, asked, current Claim, won bool, err error) {
	if c.claim != claimOpen || asked != c.claimRec {
		return
	}
	if err != nil {
		if c.claimErr == nil {
			c.notice(now, "frozen: cannot reach the arbiter: %v", err)
		}
		c.claimErr = err
		c.claim = claimWait
		c.claimRetryAt = now + c.cfg.ClaimRetryEvery
		return
	}
	if won {
		current = asked
	}
	c.settle(now, current)
}

// Adopt tells of a record that was read from the arbiter or told by the view service. One that is not newer than
// what is known is ignored, so every record that comes along may be told.
func (c *Core) Adopt(now time.Duration, rec arbiter.Record) {
	if c.role == Halted || ViewNumber(rec.Number) <= c.view {
		return
	}
	if c.pair && c.view == 0 {
		return // a pair makes its first view itself
	}
	c.settle(now, rec)
}

// settle takes the part that a record newer than the present view gives us, or halts. An open claim is settled by
// it: either rec is the claim, or the number went to rec or to one before it.
func (c *Core) settle(now time.Duration, rec Claim) {
	n := ViewNumber(rec.Number)
	won := c.claim != claimNone && rec == c.claimRec
	lost := c.claim != claimNone && !won
	if won || lost {
		c.claim, c.claimErr = claimNone, nil
	}
	handed := c.handing == handClaimed && won
	c.handing = handNone
	ours := rec.Primary == c.cfg.ID
	switch {
	case c.role == Spare:
		c.found(now, rec, won, lost)
	case n != c.view+1:
		// We have missed a view, so what we hold is old: rule 5 of the view service, section "What the servers owe".
		c.Halt(now, fmt.Sprintf("view %d belongs to %s; we were part of view %d", n, rec.Primary, c.view))
	case c.role == Backup && ours:
		c.promoted(now, rec, won)
	case c.role == Primary && ours:
		c.view = n
		c.goAlone(now, rec.Backup)
		if won {
			c.notice(now, "won view %d, goes on without a backup", n)
		} else {
			c.notice(now, "primary of view %d, backup %q", n, rec.Backup)
		}
	case handed:
		c.stepDown(now, n)
	case c.role == Joining && ours:
		c.Halt(now, fmt.Sprintf("view %d names us primary, but we do not hold all the state", n))
	default:
		c.Halt(now, fmt.Sprintf("view %d belongs to %s, not to us", n, rec.Primary))
	}
}

// found makes a spare the first primary, if rec says so of this very life. Any other view is no news to it: what
// it may be part of, Restored tells.
func (c *Core) found(now time.Duration, rec Claim, won, lost bool) {
	granted := rec.Primary == c.cfg.ID && rec.Claimant == c.cfg.Incarnation
	switch {
	case granted && c.filed > 0 && rec.Number == uint64(c.filed)+1:
		c.recovered(now, rec)
		return
	case granted && rec.Number == 1:
	case lost:
		c.Halt(now, fmt.Sprintf("view %d belongs to %s, not to us", rec.Number, rec.Primary))
		return
	default:
		return
	}
	c.role, c.view, c.peer = Primary, 1, rec.Backup
	// The backup of a pair begins with the state that we begin with.
	c.gated = won && rec.Backup != ""
	c.ships = c.gated
	c.notice(now, "primary of view %d", c.view)
	c.lastHeard, c.lastEcho = now, now
	if c.ships {
		c.sendAppend(now, nil)
	}
}

// promoted makes a backup the primary of its next view, as soon as it has executed all it holds. After silence of
// our own hearing there is nothing to wait for. If others decided, the former primary may have heard from us a
// moment ago, and release output on the strength of it: see Freshness.
func (c *Core) promoted(now time.Duration, rec Claim, won bool) {
	c.view = ViewNumber(rec.Number)
	c.liveGate = rec.Backup != "" && rec.Backup == c.peer && rec.Claimant == c.peerLife
	if !won && !c.liveGate && c.peerUp {
		c.liveAt = c.lastHeard + c.cfg.SuspectAfter
	}
	c.granted = true
	c.peer = rec.Backup
	if won {
		c.notice(now, "won view %d, %d entries to replay", c.view, len(c.window))
	} else {
		c.notice(now, "made primary of view %d, %d entries to replay", c.view, len(c.window))
	}
	c.goLiveWhenDrained(now)
}

// goLiveWhenDrained makes a backup that was granted its view the primary.
func (c *Core) goLiveWhenDrained(now time.Duration) {
	if c.role != Backup || !c.granted || c.applied < c.last || now < c.liveAt {
		return
	}
	c.role = Primary
	c.granted = false
	if c.liveGate {
		c.protect(now)
	} else {
		c.goAlone(now, c.peer)
	}
	c.notice(now, "live in view %d after entry %d", c.view, c.last)
}

// goAlone makes a primary act without anybody's acknowledgement in a view that allows it: with no backup, or with
// one that nobody was told is in sync. The channel, if there is one, is of a former view.
func (c *Core) goAlone(now time.Duration, backup string) {
	c.handedOver = false
	if c.peerUp {
		c.sendAck(now) // should the other be stopped and resumed, it learns from this that it was deposed
		c.ready.HangUp = true
	}
	c.peerUp = false
	c.peer = backup
	c.gated = false
	c.clearWindow()
	c.releaseTo(now, c.last+1)
}

func (c *Core) clearWindow() {
	c.ships = false
	c.window, c.windowBytes = nil, 0
	c.unappliedSizes, c.unappliedBytes = nil, 0
	c.acked, c.sent, c.applied = c.last, c.last, c.last
}
