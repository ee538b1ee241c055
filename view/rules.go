package view

import (
	"fmt"
	"math"

	"understudy/arbiter"
)

// decide asks the arbiter for what is due, if no call is open.
func (g *group) decide() {
	c := g.core
	if g.call != 0 || g.broken != nil || c.clock < g.retryAt {
		return
	}
	if old := c.clock-g.heldAt > rereadDeads*c.deadAfter(); !g.loaded || old || g.refresh && c.clock >= g.refreshAt {
		c.ask(g, arbiter.Record{})
		return
	}
	if g.refresh && g.err != nil {
		return
	}
	if next, why := g.next(); next.Number != 0 {
		g.notice("claims view %d {%s, %q}: %s", next.Number, next.Primary, next.Backup, why)
		c.ask(g, next)
	}
}

// next applies the rules: the record to be claimed, or the zero Record; and why.
func (g *group) next() (next arbiter.Record, why string) {
	c := g.core
	if g.rec.Number == 0 {
		return g.found()
	}
	if g.rec.Number == math.MaxUint64 {
		return next, "stopped: there are no more numbers"
	}
	if cannot := g.cannotPromote(); cannot != "" {
		switch s, waits := g.recoverable(); {
		case s != nil && waits:
			return next, fmt.Sprintf("stopped: %s; waits for more files than those of %s, from which the group could come back", cannot, s.name)
		case s != nil:
			// On behalf of this life, which has loaded what it holds: a later one has not.
			return arbiter.Record{Number: g.rec.Number + 1, Primary: s.name, Claimant: s.life}, "nobody holds the state but the files of " + s.name
		}
	}
	p, b := g.server(g.rec.Primary), g.server(g.rec.Backup)
	if !g.acked && !c.faults.ignoreAck {
		if g.dead(p) {
			return next, fmt.Sprintf("waits for %s to acknowledge, which is dead: its backup may claim the next view, or files bring the group back", p.name)
		}
		return next, fmt.Sprintf("waits for %s to acknowledge", p.name)
	}
	view := func(primary, backup, why string) (arbiter.Record, string) {
		return arbiter.Record{Number: g.rec.Number + 1, Primary: primary, Backup: backup, Claimant: c.cfg.ID}, why
	}
	cannot := g.cannotPromote()
	switch {
	case g.dead(p) && cannot == "":
		return view(b.name, g.idle(), p.name+" is dead")
	case g.dead(p):
		if idle := g.idle(); c.faults.promoteIdle && idle != "" {
			return view(idle, "", "on purpose")
		}
		return next, fmt.Sprintf("stopped: primary %s is dead and %s", p.name, cannot)
	case g.handOver():
		return next, fmt.Sprintf("waits for %s to hand over to %s", p.name, b.name)
	case b == nil:
		if idle := g.idle(); idle != "" {
			return view(p.name, idle, "there is no backup")
		}
		return next, "no idle server to be backup"
	case g.dead(b):
		return view(p.name, g.idle(), b.name+" is dead")
	case c.leaving(b):
		return view(p.name, g.idle(), b.name+" is leaving")
	case !g.inSync:
		return next, fmt.Sprintf("waits for %s to be in sync", b.name)
	}
	return next, "protected"
}

// recoverable picks a server to bring the group back from its files, when nobody alive holds the state: one that was
// in the newest view, as its files and the register agree. If both members of that view may come back it waits for the
// second one's files for a while: they may hold more, if the group does not write to disk before it answers.
func (g *group) recoverable() (best *server, waits bool) {
	c := g.core
	p, b := g.server(g.rec.Primary), g.server(g.rec.Backup)
	if !g.dead(p) {
		g.lost = false
		return nil, false
	}
	if !g.lost {
		g.lost, g.lostAt = true, c.clock
	}
	silent := 0 // members whose files are not known
	for _, s := range []*server{p, b} {
		switch {
		case s == nil:
		case g.time()-s.heard <= c.deadAfter() && s.files.View == Number(g.rec.Number) && s.files.Claimant == g.rec.Claimant:
			if !c.leaving(s) && (best == nil || s.files.Last > best.files.Last) {
				best = s
			}
		default:
			silent++
		}
	}
	// A backup that lives and holds the state claims the view itself, well before the patience ends. One that has not, holds none.
	return best, silent > 0 && c.clock-g.lostAt <= recoverDeads*c.deadAfter()
}

// found picks the first primary. A server that knows a view of a group without a register shows that the
// register was lost: numbers would be given out twice.
func (g *group) found() (next arbiter.Record, why string) {
	c := g.core
	for _, s := range g.servers {
		if s.view > 0 {
			return next, fmt.Sprintf("stopped: %s knows view %d, but the register is empty", s.name, s.view)
		}
	}
	for _, s := range g.servers {
		// One that was heard just now: a first primary that died before its view was known cannot be replaced.
		if g.time()-s.heard < maxStepPings*c.cfg.PingInterval && !c.leaving(s) && !s.cannotFound {
			// On behalf of the founder's life: after a restart of the service this tells it from a later one.
			return arbiter.Record{Number: 1, Primary: s.name, Claimant: s.life}, "first server of the group"
		}
	}
	return next, "waits for a first server"
}

// handOver tells whether the primary is asked to make way: only it can stop the machine first, so that nothing is lost
// and nothing has to be copied. It claims the view itself.
func (g *group) handOver() bool {
	c := g.core
	p, b := g.server(g.rec.Primary), g.server(g.rec.Backup)
	return p != nil && !g.dead(p) && (c.leaving(p) || c.clock < g.switchUntil) && g.cannotPromote() == "" && !c.leaving(b)
}

// cannotPromote says why the backup may not become primary now; empty if it may.
func (g *group) cannotPromote() string {
	c := g.core
	b := g.server(g.rec.Backup)
	switch {
	case g.rec.Number == 0:
		return "there is no view"
	case g.rec.Number == math.MaxUint64:
		return "there are no more numbers"
	case !g.acked && !c.faults.ignoreAck:
		return fmt.Sprintf("view %d is not acknowledged by %s", g.rec.Number, g.rec.Primary)
	case b == nil:
		return "there is no backup"
	case b.crashed:
		return fmt.Sprintf("backup %s has restarted without its state", b.name)
	case g.dead(b):
		return fmt.Sprintf("backup %s is dead", b.name)
	case !g.inSync && !c.faults.ignoreSync:
		return fmt.Sprintf("backup %s is not in sync", b.name)
	}
	return ""
}

// idle picks the live server without a role that has been there longest, or "". One that a replica has just claimed
// away is likely to be dead, though its last ping is not old enough to say so.
func (g *group) idle() string {
	for _, s := range g.servers {
		if !viewOf(g.rec).Names(s.name) && !g.dead(s) && !g.core.leaving(s) && !s.doubted {
			return s.name
		}
	}
	return ""
}
