package view

import (
	"fmt"
	"slices"
	"time"

	"understudy/arbiter"
)

// server is what one copy of the service knows of one server of a group.
type server struct {
	name    string
	life    string        // incarnation of the newest ping; empty before the first
	former  [4]string     // lives before that, newest first: their late pings are not taken
	seq     uint64        // of the newest ping of life
	view    Number        // in the newest ping
	heard   time.Duration // on group.time
	tracked bool          // pings were heard all along since a view named it. Else the next counts as the first.
	crashed bool          // has lost its state. Invariant: only while the view names it
	leaving bool
	doubted bool // a view made by others left it out, and it was not heard since

	cannotFound bool
	addr        string
	client      string
	files       Files
}

// group is what one copy of the service knows of one group. Times are on Core.clock unless said otherwise.
type group struct {
	core    *Core
	name    string
	servers []*server // in the order of their first ping. Invariant: those that rec names are in it

	loaded  bool           // rec was read
	rec     arbiter.Record // newest record seen
	namedAt time.Duration  // when rec was first seen; on group.time
	acked   bool           // the primary of rec has pinged its number
	inSync  bool           // and said that the backup holds all the state
	broken  error          // see ErrConflict

	lost   bool          // nobody alive holds the state, as far as we know
	lostAt time.Duration // since when

	switchUntil time.Duration // a switch is wanted until then
	touched     time.Duration // newest ping or Get
	pinged      time.Duration // newest ping of any server
	listened    time.Duration // group.time then

	call      uint64         // open call; 0 is none
	claim     arbiter.Record // what it claims; zero: it reads
	refresh   bool           // the register is to be read again
	refreshAt time.Duration  // and no earlier than this
	heldAt    time.Duration  // when the register last answered
	retryAt   time.Duration  // after an error no call is made before
	err       error          // of the newest call
	doubted   Number         // highest number pinged that the register did not bear out
}

func (g *group) notice(format string, args ...any) {
	g.core.ready.Notices = append(g.core.ready.Notices,
		Notice{Group: g.name, View: Number(g.rec.Number), Text: fmt.Sprintf(format, args...)})
}

func (g *group) server(name string) *server {
	for _, s := range g.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

// time is the time for which somebody of the group could be heard. If nobody is for two PingIntervals it
// stands still: then the service itself, or its link, is the likely culprit, and the first whose ping comes
// through again must not find the others dead.
func (g *group) time() time.Duration {
	return g.listened + min(g.core.clock-g.pinged, maxStepPings*g.core.cfg.PingInterval)
}

// dead tells whether a server may be replaced: it was silent while others were heard, or lost its state.
func (g *group) dead(s *server) bool { return s.crashed || g.time()-s.heard > g.core.deadAfter() }

// add makes an entry, or returns nil if there is no room.
func (g *group) add(name string) *server {
	room := g.core.cfg.MaxServers
	if len(g.servers) >= room {
		if g.prune(); len(g.servers) >= room {
			return nil
		}
	}
	s := &server{name: name, heard: g.time()}
	g.servers = append(g.servers, s)
	return s
}

// prune forgets dead servers that the view does not name.
func (g *group) prune() {
	g.servers = slices.DeleteFunc(g.servers, func(s *server) bool {
		return g.dead(s) && !viewOf(g.rec).Names(s.name)
	})
}

// take takes a ping and tells whether it was news: not late, not repeated.
func (g *group) take(s *server, p Ping) bool {
	switch {
	case p.Incarnation == s.life && p.Seq <= s.seq, slices.Contains(s.former[:], p.Incarnation):
		return false
	case !viewOf(g.rec).Names(s.name):
	case p.Incarnation == g.rec.Claimant && p.Server == g.rec.Primary && (!s.tracked || s.life != p.Incarnation):
		// The life that this very view was granted to, heard for the first time.
		s.crashed = false
	case p.Server == g.rec.Primary && p.Files.View == Number(g.rec.Number) && p.Files.Claimant == g.rec.Claimant:
		// Who offers files of the view that makes it primary has no part in it, whatever view it pings: as a spare it may have
		// heard of an old one from another copy of the service first.
		g.crash(s, p)
	case !s.tracked && p.View == 0,
		s.tracked && p.Incarnation != s.life,
		s.tracked && p.View == 0 && s.view > 0:
		g.crash(s, p)
	case p.View == 0 && p.Incarnation != g.rec.Claimant && g.time()-g.namedAt > g.core.deadAfter():
		// It is new in the view, but does not take part: perhaps the answer that told it so was lost and it
		// believes that it has restarted. Left out, it can be named anew.
		g.crash(s, p)
	}
	if s.life != "" && s.life != p.Incarnation {
		copy(s.former[1:], s.former[:])
		s.former[0] = s.life
	}
	s.life, s.seq, s.view, s.leaving = p.Incarnation, p.Seq, p.View, p.Leaving
	s.cannotFound, s.addr, s.client, s.files, s.doubted = p.CannotFound, p.Addr, p.Client, p.Files, false
	g.listened, g.pinged = g.time(), g.core.clock
	s.heard, s.tracked = g.listened, true

	switch n := Number(g.rec.Number); {
	case !g.loaded:
	case p.View > n:
		g.refresh = true // a view that we did not make, or a lie: the register knows
	case p.View == n && n > 0 && s.name == g.rec.Primary && !s.crashed:
		if !g.acked {
			g.notice("acknowledged by %s", s.name)
		}
		if p.InSync && !g.inSync && g.rec.Backup != "" {
			g.notice("backup %s is in sync", g.rec.Backup)
		}
		g.acked = true
		g.inSync = p.InSync && g.rec.Backup != ""
	}
	return true
}

func (g *group) crash(s *server, p Ping) {
	if !s.crashed {
		s.crashed = true
		g.notice("%s has restarted without its state (incarnation %s pings %d)", s.name, p.Incarnation, p.View)
	}
}

func (g *group) answer() (Answer, error) {
	switch {
	case g.broken != nil:
		return Answer{}, g.core.refused(g.broken)
	case !g.loaded && g.err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrUnknown, g.err)
	case !g.loaded:
		return Answer{}, ErrUnknown
	}
	return g.known(), nil
}

func (g *group) known() Answer {
	a := Answer{View: viewOf(g.rec), Claimant: g.rec.Claimant, Stale: g.err != nil, Acked: g.acked, InSync: g.inSync, HandOver: g.handOver()}
	if p := g.server(g.rec.Primary); p != nil {
		a.PrimaryAddr, a.PrimaryClient = p.addr, p.client
	}
	if b := g.server(g.rec.Backup); b != nil {
		a.BackupAddr, a.BackupClient = b.addr, b.client
	}
	return a
}

// result takes what the arbiter said.
func (g *group) result(r Result) {
	c := g.core
	read := g.claim.Number == 0
	claim := g.claim
	g.call, g.claim = 0, arbiter.Record{}
	if r.Err == nil && r.Current != (arbiter.Record{}) {
		r.Err = r.Current.Validate()
	}
	if r.Err != nil {
		c.counts.CallErrors++
		if g.err == nil {
			g.notice("cannot reach the arbiter: %v", r.Err)
		}
		// A claim may have been granted or may be under way still. It was right for the view that it
		// follows, and it or another will win: read what came of it, then decide anew.
		g.err, g.refresh, g.refreshAt = r.Err, true, c.clock
		g.retryAt = c.clock + c.cfg.RetryEvery
		return
	}
	g.err, g.heldAt = nil, c.clock
	if read {
		g.refresh, g.refreshAt = false, c.clock+c.cfg.PingInterval
	} else if r.Current != claim {
		c.counts.ClaimsLost++
	}
	g.adopt(r.Current)
	if read {
		for _, s := range g.servers {
			if s.view > Number(g.rec.Number) && s.view > g.doubted {
				g.doubted = s.view
				g.notice("%s pings view %d, the register holds %d", s.name, s.view, g.rec.Number)
			}
		}
	}
}

// adopt takes a record that the register held.
func (g *group) adopt(rec arbiter.Record) {
	old := g.rec
	if !g.loaded && rec.Number == 0 {
		g.loaded, g.namedAt = true, g.time()
		return
	}
	switch {
	case g.loaded && rec.Number == old.Number && rec != old:
		g.broken = fmt.Errorf("%w: number %d was %+v and is %+v", ErrConflict, rec.Number, old, rec)
		g.notice("stopped: %v", g.broken)
		return
	case g.loaded && rec.Number < old.Number:
		g.notice("register fell back to view %d; ignored", rec.Number)
		return
	case g.loaded && rec.Number == old.Number:
		return
	}
	follows := g.loaded && rec.Number == old.Number+1
	g.loaded, g.rec, g.namedAt = true, rec, g.time()
	g.acked, g.inSync, g.lost, g.switchUntil = false, false, false, 0
	for _, s := range g.servers {
		switch {
		case !viewOf(rec).Names(s.name):
			s.crashed = false
			s.doubted = rec.Claimant != g.core.cfg.ID && viewOf(old).Names(s.name)
		case s.name == rec.Primary && s.life == rec.Claimant:
			s.crashed = false // granted to this very life, whatever it was before: see recoverable
		case follows && (rec.Claimant == g.core.cfg.ID || viewOf(old).Names(s.name)):
			// We saw it all along.
		default:
			// Whether the life that pings here is the one that the view named, its next ping will show.
			s.tracked, s.crashed, s.heard = false, false, g.time()
		}
	}
	for _, name := range []string{rec.Primary, rec.Backup} {
		if name != "" && g.server(name) == nil {
			// Without regard to the bound: the rules need an entry for both.
			g.servers = append(g.servers, &server{name: name, heard: g.time()})
		}
	}
	g.notice("primary %s, backup %q, by %s", rec.Primary, rec.Backup, rec.Claimant)
	if follows && old.Number > 0 && !viewOf(old).Names(rec.Primary) {
		g.notice("%s was not in view %d, and yet it is primary", rec.Primary, old.Number)
	}
}
