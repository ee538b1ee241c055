package replica

import (
	"errors"
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/event"
)

// ViewNumber numbers the views of a group. It is granted by the arbiter, each number once.
type ViewNumber uint64

// Role says what a replica may do.
type Role uint8

const (
	// Spare holds nothing yet: a primary-to-be that waits for its backup or for view 1.
	Spare Role = iota
	// Joining has the first state of the machine and waits for the first entry of a view.
	Joining
	// Backup follows the log.
	Backup
	// Primary runs the machine, protected by a backup or alone (Core.Solo).
	Primary
	// Halted has lost: it never acts again, and its unreleased outputs are gone.
	Halted
)

// String gives the role's name in the glossary.
func (r Role) String() string {
	return [...]string{"spare", "joining", "backup", "primary", "halted"}[r]
}

// Config are the parameters of a Core. Durations are of the local monotonic clock.
type Config struct {
	ID          string // this replica's name in views
	Peer        string // the other's name
	Incarnation string // random per start: tells a claim of ours from one of a former life

	// HeartbeatEvery is how long a side stays silent at most. A quarter of SuspectAfter serves well.
	HeartbeatEvery time.Duration
	// SuspectAfter is the silence after which the other side is suspected to have failed.
	SuspectAfter time.Duration
	// ClaimRetryEvery is the pause before an arbiter that could not be reached is asked again.
	ClaimRetryEvery time.Duration
	// ResendAfter is how long an entry may stay unacknowledged before it is sent again. The log channel is
	// reliable as a rule; this covers a replaced channel.
	ResendAfter time.Duration

	// MaxUnackedBytes bounds the entries that the backup has not acknowledged. MaxUnappliedBytes bounds
	// those that it has not executed. Beyond either, Full tells the machine to wait.
	MaxUnackedBytes, MaxUnappliedBytes int
}

// Claim asks the arbiter for the next view number.
type Claim = arbiter.Record

// Notice tells a change that users and logs want to hear of.
type Notice struct {
	At   time.Duration
	Role Role
	View ViewNumber
	Text string
}

// Ready is what the caller must do now.
type Ready struct {
	Messages []Message // to the peer, in order
	Release  []any     // outputs that may leave, in order
	Claim    *Claim    // to be asked of the arbiter; its answer comes back by Claimed
	Notices  []Notice
}

type held struct {
	need event.Seq // released once the entry with this number is held by the backup
	at   time.Duration
	out  any
}

type claimState uint8

const (
	claimNone claimState = iota
	claimAsk             // to be handed out by Ready
	claimOpen            // asked, answer unknown
	claimWait            // arbiter unreachable; asked again at claimRetryAt
)

// Core is one replica's part of the protocol. See the package comment.
type Core struct {
	cfg  Config
	role Role
	view ViewNumber
	solo bool   // no backup: outputs go at once. Invariant: only in a granted view without a backup
	why  string // why Halted

	last     event.Seq // newest entry appended here (primary) or received (backup)
	sent     event.Seq // primary: newest entry sent
	acked    event.Seq // primary: newest entry that the backup holds
	applied  event.Seq // backup: newest entry executed here. primary: newest executed by the backup
	released event.Seq // outputs that need at most this entry may leave, or have left
	gone     event.Seq // those that need at most this one were handed out by an earlier Ready: they have left
	window   []event.Entry
	// window holds the entries after `acked` (primary) or after `applied` (backup), oldest first.
	windowBytes    int
	unappliedSizes []int // primary: sizes of entries after applied
	unappliedBytes int
	held           []held
	progress       uint64 // primary: the backup's last reported progress (opaque, see Applied)
	myProgress     uint64 // backup: ours

	peerUp     bool
	lastHeard  time.Duration // newest proof of life of the peer, moved on by pauses of our own (see Tick)
	lastEcho   time.Duration // primary: send time of the newest acknowledged message
	lastTick   time.Duration
	excused    time.Duration // of the present silence, by our own stand-stills
	usual      time.Duration // longest silence that lately ended by itself
	usualAt    time.Duration // when usual was last raised or halved
	maxSilence time.Duration // longest silence of the peer seen at a tick
	lastSent   time.Duration
	resendAt   time.Duration
	newestSent time.Duration // backup: Sent of the newest append, echoed in acks
	ackDue     bool
	gap        bool          // backup: the next ack reports a gap
	gapAt      time.Duration // primary: a reported gap is answered no earlier

	claim        claimState
	claimRec     Claim
	claimRetryAt time.Duration
	claimErr     error
	finished     bool // see Finish
	granted      bool // backup: has won its view, goes live when everything held is applied

	ready Ready
}

// NewPrimary makes the core of a group's first primary. It claims view 1 when its backup has joined (PeerUp)
// or, with BeginAlone, without one.
func NewPrimary(cfg Config) *Core { return &Core{cfg: cfg, role: Spare} }

// NewBackup makes the core of a backup that holds the state from which the log starts.
func NewBackup(cfg Config) *Core { return &Core{cfg: cfg, role: Joining} }

// Role is the present role. A backup that won its view becomes Primary when it has applied all it holds.
func (c *Core) Role() Role { return c.role }

// View is the newest view that this replica has been part of.
func (c *Core) View() ViewNumber { return c.view }

// Solo tells whether a primary is without a backup.
func (c *Core) Solo() bool { return c.role == Primary && c.solo }

// Last is the newest entry appended or received, Acked the newest that the backup is known to hold, Applied
// the newest that the backup executed.
func (c *Core) Last() event.Seq    { return c.last }
func (c *Core) Acked() event.Seq   { return c.acked }
func (c *Core) Applied() event.Seq { return c.applied }

// Progress is what the backup last told of its execution: on a primary the other's, on a backup our own.
func (c *Core) Progress() uint64 {
	if c.role == Primary {
		return c.progress
	}
	return c.myProgress
}

// MaxSilence is the longest silence of the peer so far: how near it came to a false suspicion.
func (c *Core) MaxSilence() time.Duration { return c.maxSilence }

// HeldOutputs is the number of outputs that wait at the gate.
func (c *Core) HeldOutputs() int { return len(c.held) }

// Frozen tells whether the replica waits for an arbiter that cannot be reached, and the last error.
func (c *Core) Frozen() (bool, error) {
	return c.claim == claimWait || c.claim == claimOpen && c.claimErr != nil, c.claimErr
}

// HaltReason says why the role is Halted.
func (c *Core) HaltReason() string { return c.why }

// Full tells the machine to wait: the log buffer has reached its bound. It ends with acknowledgements, or
// with the backup's failure.
func (c *Core) Full() bool {
	return c.role == Primary && !c.solo &&
		(c.windowBytes > c.cfg.MaxUnackedBytes || c.unappliedBytes > c.cfg.MaxUnappliedBytes)
}

// Ready takes what is to be done. The caller does it before the next input's Ready.
func (c *Core) Ready() Ready {
	r := c.ready
	c.ready = Ready{}
	c.gone = c.released
	if c.claim == claimAsk {
		rec := c.claimRec
		r.Claim = &rec
		c.claim = claimOpen
	}
	return r
}

func (c *Core) notice(now time.Duration, format string, args ...any) {
	c.ready.Notices = append(c.ready.Notices,
		Notice{At: now, Role: c.role, View: c.view, Text: fmt.Sprintf(format, args...)})
}

// BeginAlone claims view 1 without a backup.
func (c *Core) BeginAlone(now time.Duration) {
	if c.role == Spare && c.claim == claimNone {
		c.ask(now, 1, "")
	}
}

// PeerUp tells that the log channel to the peer stands and that its handshake succeeded.
func (c *Core) PeerUp(now time.Duration) {
	c.peerUp = true
	c.lastHeard = now
	switch c.role {
	case Spare:
		if c.claim == claimNone {
			c.ask(now, 1, c.cfg.Peer)
		}
	case Primary:
		c.sent = c.acked // a new channel: send again what may have been lost with the old one
		c.flush(now)
	}
}

// PeerDown tells that the log channel broke. It is as good a reason for suspicion as silence: the claim
// decides, not the suspicion.
func (c *Core) PeerDown(now time.Duration) {
	if !c.peerUp {
		return
	}
	c.peerUp = false
	if c.role == Backup || c.role == Primary && !c.solo {
		c.suspect(now, "log channel closed")
	}
}

// Tick lets time pass: heartbeats, suspicion, retries. A gap between two ticks that is longer than a
// heartbeat says that this side stood still, stopped or starved of CPU, and could not have heard the other:
// it does not count as the other's silence. Output is not released on the strength of it, though.
func (c *Core) Tick(now time.Duration) {
	if gap := now - c.lastTick; gap > c.cfg.HeartbeatEvery && c.lastTick != 0 && c.excused < maxPatience*c.cfg.SuspectAfter {
		c.lastHeard = min(now, c.lastHeard+gap)
		c.excused += gap
	}
	c.lastTick = now
	if now-c.usualAt > maxPatience*c.cfg.SuspectAfter {
		c.usual /= 2
		c.usualAt = now
	}
	if c.role == Backup || c.role == Primary && !c.solo {
		c.maxSilence = max(c.maxSilence, now-c.lastHeard)
	}
	if c.claim == claimWait && now >= c.claimRetryAt {
		c.claim = claimAsk
	}
	switch {
	case c.role == Primary && !c.solo:
		if c.sent > c.acked && now >= c.resendAt {
			c.sent = c.acked
			c.flush(now)
		} else if now-c.lastSent >= c.cfg.HeartbeatEvery {
			c.sendAppend(now, nil)
		}
		if now-c.lastHeard > c.patience() {
			c.suspect(now, fmt.Sprintf("silent for %v", now-c.lastHeard))
		}
	case c.role == Backup:
		if c.claim == claimNone {
			if c.ackDue || now-c.lastSent >= c.cfg.HeartbeatEvery {
				c.sendAck(now)
			}
			if now-c.lastHeard > c.patience() {
				c.suspect(now, fmt.Sprintf("silent for %v", now-c.lastHeard))
			}
		}
	}
}

// maxPatience bounds, in units of SuspectAfter, how far the time-out grows on a host where silences are
// common, and how much of a silence can be excused by stand-stills of our own.
const maxPatience = 5

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

// Halt makes the replica stop for a reason of its own, such as a divergence.
func (c *Core) Halt(now time.Duration, why string) {
	if c.role == Halted {
		return
	}
	c.role = Halted
	c.why = why
	c.held, c.window, c.unappliedSizes = nil, nil, nil
	c.ready.Release, c.ready.Messages = nil, nil
	c.claim = claimNone
	c.notice(now, "halted: %s", why)
}

// Finish tells that the machine has come to its end with the newest entry (primary: appended, backup:
// executed). Once both have executed it there is nothing left to take over, and no silence is a reason for
// a claim any more. The primary may leave when Applied equals Last and HeldOutputs is 0: the acknowledgement
// that tells of the end may be too old to release the last outputs, which then leave with the next one.
func (c *Core) Finish() { c.finished = true }

func (c *Core) suspect(now time.Duration, reason string) {
	if c.claim != claimNone || c.granted || c.finished && c.applied == c.last {
		return
	}
	c.notice(now, "suspects %s: %s; claims view %d", c.cfg.Peer, reason, c.view+1)
	c.ask(now, c.view+1, "")
}

func (c *Core) ask(now time.Duration, n ViewNumber, backup string) {
	c.claimRec = Claim{Number: uint64(n), Primary: c.cfg.ID, Backup: backup, Claimant: c.cfg.Incarnation}
	c.claim = claimAsk
	c.claimErr = nil
}

// Claimed gives the arbiter's answer to the last Ready.Claim: the record now in force and whether it is
// ours, or an error when the answer is unknown.
func (c *Core) Claimed(now time.Duration, current Claim, won bool, err error) {
	if c.claim != claimOpen {
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
	c.claim, c.claimErr = claimNone, nil
	if !won {
		c.Halt(now, fmt.Sprintf("view %d belongs to %s, not to us", current.Number, current.Primary))
		return
	}
	c.view = ViewNumber(c.claimRec.Number)
	switch c.role {
	case Spare:
		c.role = Primary
		c.solo = c.claimRec.Backup == ""
		c.notice(now, "primary of view %d", c.view)
		c.lastHeard, c.lastEcho = now, now
		if !c.solo {
			c.sendAppend(now, nil)
		}
	case Primary:
		c.goSolo(now)
		c.notice(now, "won view %d, goes on without a backup", c.view)
	case Backup:
		c.granted = true
		c.notice(now, "won view %d, %d entries to replay", c.view, len(c.window))
		c.goLiveWhenDrained(now)
	}
}

func (c *Core) goSolo(now time.Duration) {
	c.solo = true
	c.window, c.windowBytes = nil, 0
	c.unappliedSizes, c.unappliedBytes = nil, 0
	c.acked, c.sent = c.last, c.last
	c.releaseTo(c.last + 1)
}

func (c *Core) goLiveWhenDrained(now time.Duration) {
	if c.role != Backup || !c.granted || c.applied < c.last {
		return
	}
	c.role = Primary
	c.goSolo(now)
	c.notice(now, "live in view %d after entry %d", c.view, c.last)
}

// ErrNotPrimary is returned when something is asked of a replica that only a primary may do.
var ErrNotPrimary = errors.New("not the primary")
