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
	if !g.acked && !c.faults.ignoreAck {
		return next, fmt.Sprintf("waits for %s to acknowledge", g.rec.Primary)
	}
	p, b := g.server(g.rec.Primary), g.server(g.rec.Backup)
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
