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
	// Spare holds nothing yet: a first primary that waits for its backup or for view 1, or a server without a part.
	Spare Role = iota
	// Joining holds a state and follows the log, but the primary may still act without it: it may not take over.
	Joining
	// Backup follows the log and holds all that the primary's outputs depend on.
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
	Peer        string // the other's name, in a pair that finds itself; NewSpare learns it from views
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

	// Durable: what is held is on disk. A follower acknowledges only what StoredTo told of.
	Durable bool

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
	Left     []any     // not on a primary: outputs of which we hear that they have left it, in order; for records only
	HangUp   bool      // the log channel serves no more, once Messages are sent: close it
	Claim    *Claim    // to be asked of the arbiter; its answer comes back by Claimed
	Notices  []Notice
}

type held struct {
	need  event.Seq     // released once the entry with this number is held by the backup
	asked time.Duration // and once something sent no earlier than this was acknowledged; 0: no matter when
	at    time.Duration
	out   any
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
	why  string // why Halted
	pair bool   // made by NewPrimary or NewBackup: there are only these two, and both begin with the same state
	peer string // the other's name in the present view; empty: there is none

	// A primary's relation to its backup. Invariant: gated ⇒ ships ⇒ peer ≠ "".
	ships  bool      // entries are kept for the backup and sent to it
	gated  bool      // outputs wait for the backup's acknowledgements. Invariant: false only where the view allows it, see doc.go
	syncAt event.Seq // gated: a backup that holds this entry holds all that ever left
	epochs bool      // see ByEpochs
	joinAt event.Seq // ships: the entry after which the backup's state was taken

	last     event.Seq // newest entry appended here (primary) or received (backup)
	sent     event.Seq // primary: newest entry sent
	acked    event.Seq // primary: newest entry that the backup holds
	applied  event.Seq // backup: newest entry executed here. primary: newest executed by the backup
	stored   event.Seq // Durable: newest entry that is on disk here. Invariant on a follower: applied ≤ stored ≤ last
	released event.Seq // outputs that need at most this entry may leave, or have left
	gone     event.Seq // those that need at most this one were handed out by an earlier Ready: they have left
	window   []event.Entry
	// window holds the entries after `acked` (primary) or after `applied` (backup), oldest first.
	windowBytes    int
	unappliedSizes []int // primary: sizes of entries after applied
	unappliedBytes int
	held           []held
	gateStats      GateStats
	progress       uint64 // primary: the backup's last reported progress (opaque, see ExecutedTo)
	myProgress     uint64 // backup: ours

	peerUp     bool
	peerLife   string        // the other's incarnation
	lastHeard  time.Duration // newest proof of life of the peer, moved on by pauses of our own (see Tick)
	lastEcho   time.Duration // primary: send time of the newest acknowledged message
	lastTick   time.Duration
	excused    time.Duration // of the present silence, by our own stand-stills
	usual      time.Duration // longest silence that lately ended by itself
	usualAt    time.Duration // when usual was last raised or halved
	maxSilence time.Duration // longest silence of the peer seen at a tick
	lastSent   time.Duration
	resendAt   time.Duration
	askedFor   time.Duration // primary: when Ask was last called
	askSent    time.Duration // when something was last sent that is acknowledged at once
	newestSent time.Duration // backup: Sent of the newest append, echoed in acks
	ackDue     bool
	gap        bool          // backup: the next ack reports a gap
	gapAt      time.Duration // primary: a reported gap is answered no earlier

	claim        claimState
	claimRec     Claim
	claimRetryAt time.Duration
	claimErr     error
	finished     bool // see Finish

	granted  bool          // backup: the view is ours, we go live when everything held is applied
	liveAt   time.Duration // and no earlier than this
	liveGate bool          // and then need the acknowledgements of the former primary, which is our backup

	handing   handState
	handUntil time.Duration // handAsked, handStopped: given up then

	filed ViewNumber // spare: the view of which it holds everything, by its files; see Recoverable

	handedOver bool // backup: was the primary of the view before, and has not heard its successor yet

	ready Ready
}

// NewPrimary makes the core of the first primary of a pair. It claims view 1 when its backup has joined (PeerUp)
// or, with BeginAlone, without one.
func NewPrimary(cfg Config) *Core { return &Core{cfg: cfg, role: Spare, pair: true, peer: cfg.Peer} }

// NewBackup makes the core of a pair's backup. It holds the state from which the log starts.
func NewBackup(cfg Config) *Core { return &Core{cfg: cfg, role: Joining, pair: true, peer: cfg.Peer} }

// NewSpare makes the core of a server that takes the parts that views give it: it founds the group (Adopt) or
// receives the primary's state (Restored).
func NewSpare(cfg Config) *Core { return &Core{cfg: cfg, role: Spare} }

// Role is the present role. A backup that won its view becomes Primary when it has applied all it holds.
func (c *Core) Role() Role { return c.role }

// View is the newest view that this replica has been part of.
func (c *Core) View() ViewNumber { return c.view }

// Peer is the other's name in that view; empty if there is none.
func (c *Core) Peer() string { return c.peer }

// Solo tells whether a primary acts without the acknowledgements of a backup.
func (c *Core) Solo() bool { return c.role == Primary && !c.gated }

// Ships tells whether a primary sends its log to a backup, be it one that still joins.
func (c *Core) Ships() bool { return c.role == Primary && c.ships }

// Granted tells whether a backup is about to be primary: the view is its own, and it executes what it holds.
func (c *Core) Granted() bool { return c.role == Backup && c.granted }

// InSync tells whether a primary's backup holds all that ever left, so that it may take over. Once true it
// stays so within a view.
func (c *Core) InSync() bool { return c.role == Primary && c.gated && c.acked >= c.syncAt }

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

// Full tells the machine to wait: the log buffer has reached its bound, or the machine stands still to be handed
// over. The first ends with acknowledgements, or with the backup's failure.
func (c *Core) Full() bool {
	return c.role == Primary && (c.handing >= handStopped || c.ships &&
		(c.windowBytes > c.cfg.MaxUnackedBytes || c.unappliedBytes > c.cfg.MaxUnappliedBytes))
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
	c.handing = handNone
	c.notice(now, "halted: %s", why)
}

// Finish tells that the machine has come to its end with the newest entry (primary: appended, backup:
// executed). Once both have executed it there is nothing left to take over, and no silence is a reason for
// a claim any more. The primary may leave when Applied equals Last and HeldOutputs is 0: the acknowledgement
// that tells of the end may be too old to release the last outputs, which then leave with the next one.
func (c *Core) Finish() { c.finished = true }

// ErrNotPrimary is returned when something is asked of a replica that only a primary may do.
var ErrNotPrimary = errors.New("not the primary")
