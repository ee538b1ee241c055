package view

import (
	"fmt"
	"slices"
	"time"

	"understudy/arbiter"
)

const (
	// maxStepPings bounds, in PingIntervals, how far one input moves the clock of the service, and one ping
	// that of its group. See the package comment.
	maxStepPings = 2
	// forgetDeads is how many dead intervals a group stays in memory that nobody pings or asks for. To forget
	// it is as safe as to restart the service.
	forgetDeads = 20
	// rereadDeads is after how many dead intervals the register of a group is read again though nothing says that it
	// has changed: a claim of ours, or of a former life of the service, that was long under way may have won after
	// all, and no server would learn of that view before it claims the next one itself, in vain.
	rereadDeads = 10
	// recoverDeads is for how many dead intervals a group that could be brought back from one server's files waits for the
	// other member of its view.
	recoverDeads = 10
	// maxDrained bounds the servers that are being drained.
	maxDrained = 4096
)

// faults break rules on purpose. Only tests set them, to see that the checkers would notice.
type faults struct {
	ignoreAck, promoteIdle, ignoreSync bool
}

// Core is the policy of one copy of the view service for all its groups. See the package comment.
type Core struct {
	cfg     Config
	started bool
	last    time.Duration // the caller's clock at the last input
	clock   time.Duration // time spent listening; all times in groups are on it
	groups  map[string]*group
	names   []string // of groups, sorted: what happens must not depend on the order of a map
	drained map[string]bool
	calls   uint64
	counts  Counts
	ready   Ready
	faults  faults
}

// New makes a Core that knows nothing yet. The error wraps ErrInvalid.
func New(cfg Config) (*Core, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Core{cfg: cfg, groups: make(map[string]*group), drained: make(map[string]bool)}, nil
}

// Config returns the parameters with the defaults filled in.
func (c *Core) Config() Config { return c.cfg }

// Counts returns what was counted so far.
func (c *Core) Counts() Counts { return c.counts }

// Ready takes what is to be done.
func (c *Core) Ready() Ready {
	r := c.ready
	c.ready = Ready{}
	return r
}

func (c *Core) advance(now time.Duration) {
	if d := now - c.last; c.started && d > 0 {
		c.clock += min(d, maxStepPings*c.cfg.PingInterval)
	}
	c.started, c.last = true, now
}

func (c *Core) deadAfter() time.Duration { return time.Duration(c.cfg.DeadPings) * c.cfg.PingInterval }

func (c *Core) refused(err error) error {
	c.counts.Refused++
	return err
}

// group returns the named group, which must be valid, and makes it if there is room.
func (c *Core) group(name string) (*group, error) {
	g := c.groups[name]
	if g == nil {
		if len(c.groups) >= c.cfg.MaxGroups {
			return nil, c.refused(fmt.Errorf("%w: %d groups", ErrFull, len(c.groups)))
		}
		g = &group{core: c, name: name, pinged: c.clock}
		c.groups[name] = g
		at, _ := slices.BinarySearch(c.names, name)
		c.names = slices.Insert(c.names, at, name)
	}
	g.touched = c.clock
	return g, nil
}

// Ping takes a server's ping and answers with the newest view that is known. The error wraps ErrInvalid,
// ErrUnknown (the ping was taken, the view follows), ErrFull or ErrConflict.
func (c *Core) Ping(now time.Duration, p Ping) (Answer, error) {
	c.advance(now)
	if err := p.Validate(); err != nil {
		return Answer{}, c.refused(err)
	}
	g, err := c.group(p.Group)
	if err != nil {
		return Answer{}, err
	}
	s := g.server(p.Server)
	if s == nil {
		if s = g.add(p.Server); s == nil {
			return Answer{}, c.refused(fmt.Errorf("%w: %d servers in group %s", ErrFull, len(g.servers), g.name))
		}
	}
	c.counts.Pings++
	if g.take(s, p) {
		g.decide()
	} else {
		c.counts.StalePings++
	}
	return g.answer()
}

// Get answers with the newest view that is known. It is no sign of life. Errors as for Ping.
func (c *Core) Get(now time.Duration, group string) (Answer, error) {
	c.advance(now)
	if err := validGroup(group); err != nil {
		return Answer{}, c.refused(err)
	}
	g, err := c.group(group)
	if err != nil {
		return Answer{}, err
	}
	c.counts.Gets++
	g.decide()
	return g.answer()
}

// Known is Get that is not counted and changes nothing, for callers that waited for a Result.
func (c *Core) Known(group string) (Answer, error) {
	g := c.groups[group]
	if g == nil {
		return Answer{}, ErrUnknown
	}
	return g.answer()
}

// Tick lets time pass. The caller ticks at least once per PingInterval.
func (c *Core) Tick(now time.Duration) {
	c.advance(now)
	for i := 0; i < len(c.names); {
		g := c.groups[c.names[i]]
		g.prune()
		if g.call == 0 && c.clock-g.touched > forgetDeads*c.deadAfter() {
			delete(c.groups, g.name)
			c.names = slices.Delete(c.names, i, i+1)
			continue
		}
		g.decide()
		i++
	}
}

// Result gives the outcome of a Call. One of a group that was forgotten meanwhile is ignored.
func (c *Core) Result(now time.Duration, r Result) {
	c.advance(now)
	g := c.groups[r.Group]
	if g == nil || g.call == 0 || g.call != r.Call {
		return
	}
	g.result(r)
	g.decide()
}

// Switch asks that the backup become primary and the primary backup: a planned failover. The primary is told so in
// the answers to its pings (Answer.HandOver) and claims the view itself. Switch returns the number of the view that
// will say so; if the primary does not hand over within a dead interval, or another change comes first, the wish
// lapses. The error wraps ErrInvalid, ErrUnknown, ErrConflict, ErrFull or ErrNotNow.
func (c *Core) Switch(now time.Duration, group string) (Number, error) {
	c.advance(now)
	if err := validGroup(group); err != nil {
		return 0, c.refused(err)
	}
	g, err := c.group(group)
	if err != nil {
		return 0, err
	}
	g.decide()
	if _, err := g.answer(); err != nil {
		return 0, err
	}
	if why := g.cannotPromote(); why != "" {
		return 0, c.refused(fmt.Errorf("%w: %s", ErrNotNow, why))
	}
	if c.leaving(g.server(g.rec.Backup)) {
		return 0, c.refused(fmt.Errorf("%w: backup %s is leaving", ErrNotNow, g.rec.Backup))
	}
	c.counts.Switches++
	g.switchUntil = c.clock + c.deadAfter()
	target := Number(g.rec.Number + 1)
	g.notice("a switch to %s was asked for", g.rec.Backup)
	g.decide()
	return target, nil
}

// Drain has a server relieved of its roles in all groups, and given no other, until it is called again with
// on false: as backup it is dropped or replaced, as primary it is asked to hand over to a backup that is in sync. A
// primary without one keeps running. The wish is this copy's and is forgotten at its restart; a server that
// wants to leave for good says so in its pings (Ping.Leaving). The error wraps ErrInvalid or ErrFull.
func (c *Core) Drain(now time.Duration, server string, on bool) error {
	c.advance(now)
	if err := validServer(server); err != nil {
		return c.refused(err)
	}
	if !on {
		delete(c.drained, server)
		return nil
	}
	if len(c.drained) >= maxDrained && !c.drained[server] {
		return c.refused(fmt.Errorf("%w: %d servers are being drained", ErrFull, len(c.drained)))
	}
	c.drained[server] = true
	for _, name := range c.names {
		c.groups[name].decide()
	}
	return nil
}

// Holding returns the groups in memory whose view names server, sorted: what a drain has still to wait for.
func (c *Core) Holding(server string) []string {
	var held []string
	for _, name := range c.names {
		if viewOf(c.groups[name].rec).Names(server) {
			held = append(held, name)
		}
	}
	return held
}

// Groups returns the names of the groups in memory, sorted.
func (c *Core) Groups() []string { return slices.Clone(c.names) }

func (c *Core) leaving(s *server) bool { return s.leaving || c.drained[s.name] }

func (c *Core) ask(g *group, next arbiter.Record) {
	c.calls++
	g.call, g.claim = c.calls, next
	if next.Number == 0 {
		c.counts.RegisterGets++
	} else {
		c.counts.Claims++
	}
	c.ready.Calls = append(c.ready.Calls, Call{ID: g.call, Group: g.name, Next: next})
}
