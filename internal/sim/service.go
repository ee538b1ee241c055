package sim

import (
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/view"
)

// service is one copy of the view service: the real core, and what view/httpview is to it.
type service struct {
	w       *World
	index   int
	life    int
	name    string
	core    *view.Core
	clock   clock
	down    bool
	resumes time.Duration // stands still until

	from, to [len(memberNames)]time.Duration // from and to whom it is cut off, until
	arbiter  time.Duration                   // the same of the arbiter
}

func (s *service) start() {
	s.life++
	s.name = fmt.Sprintf("view service %d", s.index+1)
	if s.life > 1 {
		s.name += fmt.Sprintf(" (life %d)", s.life)
	}
	s.core, _ = view.New(view.Config{
		ID: fmt.Sprintf("service-%d-%d-%x", s.index, s.life, s.w.rng.next()&0xffff), PingInterval: s.w.s.ping,
	})
	s.clock.base, s.clock.since = s.w.rng.between(0, time.Hour), s.w.now
	s.down = false
}

func (s *service) heal() {
	clear(s.from[:])
	clear(s.to[:])
	s.arbiter, s.resumes = 0, 0
	if s.down {
		s.start()
	}
}

func (s *service) kill() {
	if s.down {
		return
	}
	s.down = true
	s.w.tell(nil, "%s dies", s.name)
	life := s.life
	s.w.plan(s.w.rng.between(5*ms, 400*ms), nil, func() {
		if s.down && s.life == life {
			s.start()
			s.w.tell(nil, "%s starts, with nothing", s.name)
		}
	})
}

// then does something when the service runs, if this life still does.
func (s *service) then(after time.Duration, f func()) {
	core := s.core
	s.w.plan(after, nil, func() {
		switch {
		case s.down || s.core != core:
		case s.w.now < s.resumes:
			s.then(s.resumes-s.w.now, f)
		default:
			f()
		}
	})
}

func (s *service) now() time.Duration { return s.clock.at(s.w.now) }

func (s *service) tick() {
	if !s.down && s.w.now >= s.resumes {
		s.core.Tick(s.now())
		s.ready()
	}
	s.w.plan(s.w.s.ping*500/time.Duration(s.clock.rate), nil, s.tick)
}

// send is a ping on its way, and the answer on its way back.
func (s *service) send(p *process, m view.Ping) {
	w := s.w
	if s.down || w.now < s.from[p.slot] || w.rng.permille(w.s.clientLoss) {
		return
	}
	s.then(w.clientDelay(), func() {
		a, err := s.core.Ping(s.now(), w.mutation.pinged(s, p, m))
		s.ready()
		if err != nil || w.now < s.to[p.slot] || w.rng.permille(w.s.clientLoss) {
			return
		}
		w.plan(w.clientDelay(), p, func() { p.answered(a) })
	})
}

// ready carries out what the core asks for.
func (s *service) ready() {
	r := s.core.Ready()
	for i := range r.Notices {
		s.w.tell(nil, "%s: %s", s.name, r.Notices[i].Text)
	}
	for _, c := range r.Calls {
		s.call(c)
	}
}

// call carries a call to the arbiter and its result back: exactly one.
func (s *service) call(c view.Call) {
	w := s.w
	answered := false
	reply := func(current arbiter.Record, err error) {
		if !answered {
			answered = true
			s.core.Result(s.now(), view.Result{Call: c.ID, Group: c.Group, Current: current, Err: err})
			s.ready()
		}
	}
	s.then(arbiterTimeout, func() { reply(arbiter.Record{}, errTimeout) })
	if w.now < s.arbiter && !w.rng.chance(8) { // a few get through: the cut is of the answers
		return
	}
	w.plan(w.arbiterDelay(), nil, func() {
		if w.now < w.reg.down {
			return
		}
		current := w.reg.record
		if c.Next.Number != 0 {
			current, _ = w.decide(s.name, c.Next)
		}
		if w.now < s.arbiter || w.now < w.reg.mute && !w.rng.chance(4) || w.rng.permille(w.s.claimLoss) {
			return
		}
		s.then(w.arbiterDelay(), func() { reply(current, nil) })
	})
}
