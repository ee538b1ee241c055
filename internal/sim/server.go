package sim

import (
	"time"

	"understudy/event"
	"understudy/kv"
	"understudy/replica"
)

// server is what package rsm is to the core and to the state, without threads: a batch of commands is logged and
// shipped, then executed, and its replies wait at the core's gate. Between the two steps anything may happen.
type server struct {
	p       *process
	st      *store
	queue   []call
	flight  []*batch // at the gate, oldest first
	busy    bool     // the executor waits
	staged  bool     // a batch is logged and not executed yet: nobody else may use the state
	rec     record
	planned bool // there is a next step
	ticked  time.Duration
	former  bool // a mutation: it has forgotten the clients
	out     *sending
	in      *receiving
	early   *sending // a mutation
}

// call is an operation on its way through a server.
type call struct {
	*ask
	reply []byte
	at    uint64 // commands that had been executed when it was
}

// batch is what is carried out in one go.
type batch struct {
	calls []call
	need  event.Seq // the newest entry that its replies may depend on
}

// maxBatchCalls bounds a batch.
const maxBatchCalls = 64

func (w *World) newServer(p *process) *server { return &server{p: p, st: newStore(w.limits())} }

func (w *World) limits() kv.Limits {
	if w.mutation.onceForgets {
		return kv.Limits{Clients: 1}
	}
	return kv.Limits{}
}

// wall is the time of day at this host, in nanoseconds.
func (p *process) wall() int64 {
	w := p.w
	return int64(1_700_000_000*time.Second + w.s.walls[p.slot] + w.now*time.Duration(p.clock.rate)/1000)
}

// hear takes an operation of a client.
func (s *server) hear(a *ask) {
	w, p := s.p.w, s.p
	switch {
	case a.read && w.mutation.answersAlone(p):
		c := call{ask: a}
		s.look(&c)
		p.release(&batch{calls: []call{c}, need: s.st.seq})
	case p.role != replica.Primary:
		w.respond(p, &call{ask: a}, refused)
	default:
		s.queue = append(s.queue, call{ask: a})
		s.wake()
	}
}

// wake plans the next step, if there is something to do.
func (s *server) wake() {
	p, w := s.p, s.p.w
	if s.planned || s.busy || p.dead || !s.hasWork() {
		return
	}
	s.planned = true
	w.plan(s.takes(w.s.pace), p, func() {
		s.planned = false
		if s.busy || s.mark() {
			s.wake()
			return
		}
		switch p.role {
		case replica.Primary:
			s.lead()
		case replica.Backup, replica.Joining:
			s.follow()
		}
		s.wake()
	})
}

// takes is how long a step of the executor takes.
func (s *server) takes(most time.Duration) time.Duration {
	w := s.p.w
	d := w.rng.between(5*time.Microsecond, most)
	if w.now < s.p.sluggish {
		d *= 8
	}
	return d
}

func (s *server) hasWork() bool {
	c := s.p.core
	if s.rec.marking {
		return true
	}
	switch s.p.role {
	case replica.Primary:
		if f := s.files(); f != nil && !f.begun {
			return false // the first mark is due
		}
		frozen, _ := c.Frozen()
		wait := frozen || c.Full() && !s.p.w.mutation.mayRun(s.p)
		return c.Stopping() || !wait && (s.ticks() || len(s.queue) > 0 && len(s.flight) < s.p.w.s.flight)
	case replica.Backup, replica.Joining:
		_, ok := c.Next()
		return ok || s.files() != nil && len(c.Unstored()) > 0
	}
	return false
}

// ticks tells whether an entry that tells the time is due.
func (s *server) ticks() bool {
	p := s.p
	return p.core.WantsEntry() && !p.w.mutation.syncEarly || p.clock.at(p.w.now)-s.ticked >= p.w.s.clockEvery
}

// lead does a primary's next step.
func (s *server) lead() {
	if s.busy || !s.hasWork() {
		return
	}
	if s.p.core.Stopping() {
		s.step(true, nil, true)
		return
	}
	tick := s.ticks()
	var calls []call
	if tick || len(s.flight) < s.p.w.s.flight {
		n := min(len(s.queue), maxBatchCalls)
		calls = append(calls, s.queue[:n]...)
		s.queue = append(s.queue[:0], s.queue[n:]...)
	}
	s.step(tick, calls, false)
}

// step logs and ships the calls, and executes them somewhat later.
func (s *server) step(tick bool, calls []call, stops bool) {
	p, w, m := s.p, s.p.w, &s.p.w.mutation
	now := max(s.st.clock, p.wall())
	entries, reads := s.encode(tick, now, calls)
	var need event.Seq
	var asked time.Duration
	view := p.core.View() // there may be another when they are executed
	var err error
	p.do(func(at time.Duration) {
		if len(entries) > 0 {
			if err = p.core.Append(at, entries); err == nil {
				w.watch.logged(p, entries[0].Seq)
			}
		}
		if reads && !m.readUnasked {
			asked = p.core.Ask(at)
			if m.oldAnswer {
				asked = max(asked-30*ms, 1)
			}
		}
		need = p.core.Last()
		if err == nil && p.core.Role() != replica.Primary {
			err = replica.ErrNotPrimary
		}
		if tick {
			s.ticked = at
		}
	})
	if p.dead {
		return
	}
	if err != nil {
		s.refuse(calls, refused)
		return
	}
	s.busy, s.staged = true, true
	w.plan(s.takes(w.s.work), p, func() {
		s.busy, s.staged = false, false
		s.apply(calls, entries, tick, now, view)
		if f := s.files(); f != nil {
			f.append(entries)
		}
		s.sync(stops || len(calls) > 0 && len(entries) > 0 && !m.replyUnsynced, func() {
			if s.files() != nil {
				p.stores(need)
			}
			if len(calls) > 0 {
				s.reply(&batch{calls: calls, need: need}, asked)
			}
			if stops && !p.dead {
				p.do(p.core.Stopped)
			}
		})
		s.wake()
	})
}

// reply gives a batch to the core's gate.
func (s *server) reply(b *batch, asked time.Duration) {
	p, m := s.p, &s.p.w.mutation
	p.do(func(at time.Duration) {
		outs := m.holds(p, []any{b})
		if len(outs) == 0 {
			return
		}
		s.flight = append(s.flight, b)
		// Should the part be lost by now, settled fails all that is in flight.
		_ = p.core.Reply(at, m.need(b, b.need), asked, outs)
	})
}

// encode makes entries of commands, and tells whether there are reads.
func (s *server) encode(tick bool, now int64, calls []call) (entries []event.Entry, reads bool) {
	w := s.p.w
	var data []byte
	begin := func(tick bool) { data = appendHead(nil, tick, now, w.rng.next()) }
	finish := func() {
		if data != nil {
			entries = append(entries, event.Entry{Kind: kindCommands, Data: data})
		}
		data = nil
	}
	if tick {
		begin(true)
	}
	for i := range calls {
		if calls[i].read {
			reads = true
			continue
		}
		cmd := s.command(calls[i].ask)
		if data != nil && len(data)+len(cmd) > w.s.entryBytes {
			finish()
		}
		if data == nil {
			begin(false)
		}
		data = appendCommand(data, cmd)
	}
	finish()
	return entries, reads
}

// command encodes what a client asked for.
func (s *server) command(a *ask) []byte {
	q := kv.Request{Proto: 2, Client: a.u.name, Number: a.number, Cmds: [][][]byte{a.args}}
	if s.former {
		q.Client += string(rune('A'+s.p.slot)) + string(rune('a'+s.p.life%26)) // known to nobody
	}
	return q.Encode(nil)
}

// apply executes the calls of a batch, whose commands encode has cut into entries.
func (s *server) apply(calls []call, entries []event.Entry, tick bool, now int64, view replica.ViewNumber) {
	p, w := s.p, s.p.w
	entry, place := -1, 0
	var rest []byte
	var seed uint64
	end := func() {
		if entry >= 0 {
			s.st.finish(entries[entry])
			w.watch.reached(p, view)
		}
	}
	next := func() {
		end()
		entry, place = entry+1, 0
		s.st.begin(tick && entry == 0, now)
		rest = entries[entry].Data[headBytes:]
		seed = seedOf(entries[entry])
	}
	if tick {
		next()
	}
	for i := range calls {
		c := &calls[i]
		if c.read {
			s.look(c)
			continue
		}
		if len(rest) == 0 {
			next()
		}
		var cmd []byte
		cmd, rest = firstCommand(rest)
		var err error
		if c.reply, err = s.st.apply(seed, place, cmd); err != nil {
			panic(err) // encoded here
		}
		place++
		c.at = s.st.commands
	}
	end()
}

// look carries out a read on what is executed.
func (s *server) look(c *call) {
	c.reply = s.st.look(c.args, max(s.st.clock, s.p.wall()), s.p.w.rng.next())
	c.at = s.st.commands
}

// follow executes some of what a backup holds.
func (s *server) follow() {
	p, w := s.p, s.p.w
	if s.store() {
		return
	}
	n := w.s.follow
	if w.now < p.sluggish {
		n = 1
	}
	for range n {
		e, ok := p.core.Next()
		if !ok || p.role != replica.Backup && p.role != replica.Joining || p.dead {
			return
		}
		for range w.mutation.times(p) {
			err := s.st.replay(e, func(now int64) int64 {
				if w.mutation.ownClock {
					return max(s.st.clock, p.wall())
				}
				return now
			})
			if err != nil {
				w.fail(ruleDigests, "%s cannot execute entry %d: %v", p.title, e.Seq, err)
				return
			}
		}
		w.mutation.executed(p)
		w.watch.follows(p, e.Seq)
		p.do(func(now time.Duration) { p.core.ExecutedTo(now, e.Seq, uint64(s.st.clock)) })
	}
}

// release answers the callers of a batch.
func (s *server) release(b *batch) {
	p, w := s.p, s.p.w
	if len(s.flight) > 0 && s.flight[0] == b {
		s.flight = s.flight[1:]
	} else if w.mutation == (mutation{}) {
		panic("a batch left out of turn")
	}
	w.watch.replied(p, b)
	for i := range b.calls {
		w.respond(p, &b.calls[i], answered)
	}
}

// settled is called after each step of the core: who is not primary fails what is in flight, and refuses what waits.
func (s *server) settled() {
	s.noteMark()
	if s.p.role != replica.Primary {
		how := unknown
		if s.p.w.mutation.refuseLogged {
			how = refused
		}
		for _, b := range s.flight {
			s.refuse(b.calls, how)
		}
		s.flight = nil
		s.refuse(s.queue, refused)
		s.queue = nil
	}
	s.wake()
}

func (s *server) refuse(calls []call, how manner) {
	for i := range calls {
		s.p.w.respond(s.p, &calls[i], how)
	}
}

// promoted is called when a backup has become primary.
func (s *server) promoted() {
	if s.p.w.mutation.onceLost {
		s.former = true
	}
}

// forget is called when one that was joining is a spare again.
func (s *server) forget() {
	s.st, s.in = newStore(s.p.w.limits()), nil
}
