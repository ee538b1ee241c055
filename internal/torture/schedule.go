package torture

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Role names a host by its part in the view when the harm comes.
type Role string

// Roles.
const (
	Primary Role = "primary"
	Backup  Role = "backup"
	Spare   Role = "spare"
	Nobody  Role = "" // the harm is not one of a host
)

// Kind is a kind of harm.
type Kind string

// Kinds of harm.
const (
	KillHost    Kind = "kill host"    // SIGKILL to a host and its replicas; started again under its name after Lasts
	KillReplica Kind = "kill replica" // SIGKILL to the replica alone
	StopHost    Kind = "stop host"    // SIGSTOP to a host and its replicas, SIGCONT after Lasts
	KillControl Kind = "kill control" // SIGKILL to control; started again after Lasts
	StopControl Kind = "stop control" // SIGSTOP to control, SIGCONT after Lasts
	Failover    Kind = "failover"     // planned
	Drain       Kind = "drain"        // the host is drained until it holds nothing, and later taken back
	KillJoining Kind = "kill joining" // the backup's host is killed, then the replica that receives the state in its place
	StopJoining Kind = "stop joining" // the backup's host is killed, then the host that receives the state in its place is stopped
	CutHost     Kind = "cut host"     // the host's link is cut in both directions, for Lasts
	CutOneWay   Kind = "cut one way"  // nothing leaves the host, but it hears the others
	CutPeers    Kind = "cut peers"    // primary and backup do not reach each other
)

// Harm is one blow.
type Harm struct {
	Kind  Kind
	Role  Role
	Lasts time.Duration // see Kind
	Calm  time.Duration // before it
	// Then comes a moment after, without waiting for anything but its own Calm.
	Then *Harm
}

func (h Harm) String() string {
	s := string(h.Kind)
	if h.Role != Nobody {
		s += " " + string(h.Role)
	}
	if h.Lasts > 0 {
		s += fmt.Sprintf(" (%v)", h.Lasts.Round(time.Millisecond))
	}
	if h.Then != nil {
		s += fmt.Sprintf(", %v later %s", h.Then.Calm.Round(time.Millisecond), h.Then)
	}
	return s
}

// Schedule makes harms from a seed. The same seed and options give the same harms.
type Schedule struct {
	rng          *rand.Rand
	links, moves bool
}

// NewSchedule makes a schedule; links says whether links can be cut, moves that most harms are to be ones that move the
// primary's part.
func NewSchedule(seed uint64, links, moves bool) *Schedule {
	return &Schedule{rng: rand.New(rand.NewPCG(seed, 0x7067)), links: links, moves: moves}
}

// between is a random time from a to b, in milliseconds.
func (s *Schedule) between(a, b int) time.Duration {
	return time.Duration(a+s.rng.IntN(b-a+1)) * time.Millisecond
}

func (s *Schedule) role() Role {
	switch n := s.rng.IntN(10); {
	case n < 6, s.moves && n < 8:
		return Primary
	case n < 9:
		return Backup
	}
	return Spare
}

// Next makes the next harm.
func (s *Schedule) Next() Harm {
	h := s.single()
	for tries := 0; s.moves && tries < 3 && h.Role != Primary && h.Kind != Failover; tries++ {
		h = s.single()
	}
	h.Calm = s.between(100, 1500)
	if s.rng.IntN(5) == 0 {
		s.double(&h)
	}
	return h
}

func (s *Schedule) single() Harm {
	type choice struct {
		weight int
		make   func() Harm
	}
	choices := []choice{
		{22, func() Harm { return Harm{Kind: KillHost, Role: s.role(), Lasts: s.between(100, 4000)} }},
		{18, func() Harm { return Harm{Kind: KillReplica, Role: s.role()} }},
		{16, func() Harm { return Harm{Kind: StopHost, Role: s.role(), Lasts: s.stop()} }},
		{6, func() Harm { return Harm{Kind: KillControl, Lasts: s.between(0, 3000)} }},
		{5, func() Harm { return Harm{Kind: StopControl, Lasts: s.stop()} }},
		{14, func() Harm { return Harm{Kind: Failover} }},
		{7, func() Harm { return Harm{Kind: Drain, Role: s.role()} }},
		{6, func() Harm { return Harm{Kind: KillJoining, Lasts: s.between(100, 3000)} }},
		{6, func() Harm { return Harm{Kind: StopJoining, Lasts: s.stop()} }},
	}
	if s.links {
		choices = append(choices,
			choice{10, func() Harm { return Harm{Kind: CutHost, Role: s.role(), Lasts: s.stop()} }},
			choice{8, func() Harm { return Harm{Kind: CutOneWay, Role: s.role(), Lasts: s.stop()} }},
			choice{8, func() Harm { return Harm{Kind: CutPeers, Lasts: s.stop()} }},
		)
	}
	sum := 0
	for _, c := range choices {
		sum += c.weight
	}
	n := s.rng.IntN(sum)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.make()
		}
	}
	panic("torture: weights do not add up")
}

// stop is how long something stands still: as often shortly as long.
func (s *Schedule) stop() time.Duration {
	if s.rng.IntN(2) == 0 {
		return s.between(100, 1000)
	}
	return s.between(1000, 5000)
}

// double adds a second blow, if there is one that the group can be asked to survive together with the first: one that
// leaves at least one of primary and backup untouched.
func (s *Schedule) double(h *Harm) {
	var then Harm
	switch h.Kind {
	case KillHost, KillReplica, StopHost:
		// The survivor needs the arbiter to go on: it must wait for it without harm.
		choices := []Harm{
			{Kind: KillControl, Lasts: s.between(0, 3000)},
			{Kind: StopControl, Lasts: s.stop()},
		}
		if h.Role != Spare {
			choices = append(choices, Harm{Kind: KillReplica, Role: Spare}, Harm{Kind: KillHost, Role: Spare, Lasts: s.between(100, 3000)})
		}
		then = choices[s.rng.IntN(len(choices))]
	case KillControl, StopControl, Failover:
		// Roles are those of before the first blow.
		choices := []Harm{{Kind: KillReplica, Role: Backup}, {Kind: KillHost, Role: Backup, Lasts: s.between(100, 3000)}}
		if h.Kind != Failover {
			choices = append(choices, Harm{Kind: KillReplica, Role: Primary}, Harm{Kind: KillHost, Role: Primary, Lasts: s.between(100, 3000)},
				Harm{Kind: StopHost, Role: Primary, Lasts: s.stop()})
		} else {
			// The backup is on its way to become primary: it must not die. The former primary may.
			choices = []Harm{{Kind: KillControl, Lasts: s.between(0, 3000)}, {Kind: StopHost, Role: Spare, Lasts: s.stop()}}
		}
		then = choices[s.rng.IntN(len(choices))]
	default:
		return
	}
	then.Calm = s.between(0, 600)
	h.Then = &then
}
