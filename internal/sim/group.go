package sim

import (
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/replica"
	"understudy/view"
)

const groupName = "g"

// beginGroup makes a group of hosts that know nothing, and the view service.
func (w *World) beginGroup() {
	for i := range 1 + w.rng.intn(2) {
		s := &service{w: w, index: i, clock: clock{rate: 900 + w.rng.intn(201)}}
		w.services = append(w.services, s)
		s.start()
		w.plan(w.rng.between(0, w.s.ping), nil, s.tick)
	}
	for slot := range w.members {
		w.plan(w.rng.between(0, 20*ms), nil, func() { w.birth(slot) })
	}
}

// birth starts the next life of a host's server.
func (w *World) birth(slot int) {
	life := 1
	if former := w.members[slot]; former != nil {
		life = former.life + 1
	}
	p := w.newProcess(slot, life, false)
	w.tell(p, "starts, with nothing")
}

// rebirth is planned for a host whose server has died: not all come again.
func (w *World) rebirth(former *process) {
	if former.left || former.gone {
		return
	}
	after := w.rng.between(5*ms, 150*ms)
	if former.killed() {
		if w.rng.chance(6) {
			w.tell(nil, "%s will not come again", former.title)
			return
		}
		if w.rng.chance(3) {
			after += w.rng.between(0, 400*ms)
		}
	}
	w.births++
	former.comes = true
	w.plan(after, nil, func() {
		w.births--
		w.birth(former.slot)
	})
}

// ping is told to every copy of the view service.
func (p *process) ping() {
	w := p.w
	p.takePart()
	m := p.member.Ping()
	for _, s := range w.services {
		s.send(p, m)
	}
	w.plan(w.s.ping*1000/time.Duration(p.clock.rate), p, p.ping)
}

// takePart tells the member what this life does.
func (p *process) takePart() {
	switch n := view.Number(p.core.View()); {
	case p.role == replica.Primary:
		if p.w.s.filing != filesNone && p.kv.rec.marked != uint64(n) {
			return // it is in the files first: no later view can follow before
		}
		p.member.Take(n)
		if p.w.mutation.inSync(p) {
			p.member.InSync(n)
		}
	case !p.member.MayJoin():
	case p.role == replica.Spare, p.isFollowing() && n == p.member.View().Number:
		p.member.Take(p.member.View().Number) // ready for the state, or in possession of it
	}
}

// answered takes an answer of the view service.
func (p *process) answered(a view.Answer) {
	if p.member.Observe(a) {
		p.w.tell(p, "learns of view %d {%s, %q}", a.View.Number, a.View.Primary, a.View.Backup)
	}
	rec := arbiter.Record{
		Number: uint64(a.View.Number), Primary: a.View.Primary, Backup: a.View.Backup, Claimant: a.Claimant,
	}
	if p.kv != nil {
		p.kv.learn(rec)
	}
	p.do(func(now time.Duration) { p.core.Adopt(now, rec) })
	if a.HandOver && p.core.View() == replica.ViewNumber(a.View.Number) {
		p.handOver()
	}
}

// handOver is a wish that the backup lead.
func (p *process) handOver() {
	if p.role == replica.Primary && !p.dead {
		p.do(func(now time.Duration) { _ = p.core.HandOver(now) })
	}
}

// present is the life that a record's primary, or backup, has now; nil if none.
func (w *World) present(name string) *process {
	for _, p := range w.members {
		if p != nil && p.name == name && !p.dead {
			return p
		}
	}
	return nil
}

// groupEnded tells whether the run has shown what it can: every client was served after the faults and the machine is
// protected again, if there are two hosts for it; or nobody is left to serve; or time is up.
func (w *World) groupEnded() bool {
	served := true
	for _, c := range w.clients {
		served = served && c.after > 0
	}
	for _, u := range w.users {
		served = served && u.after > 0
	}
	protected := w.protected()
	if served && protected {
		w.watch.counts.Slowest = w.now - w.healed
		return true
	}
	if w.now < w.healed+groupRecovery/10 {
		return false
	}
	if why, ok := w.rightlyDead(); ok {
		w.tell(nil, "the group is dead, and rightly so: %s", why)
		return true
	}
	if w.now >= w.healed+groupRecovery {
		what := "not every client is served"
		if served {
			what = "there is no backup in sync"
		}
		w.fail(ruleComesBack, "%v after the last fault %s: %s", w.now-w.healed, what, w.census())
		return true
	}
	return false
}

// protected tells whether the newest view has a backup that holds all the state, or there is but one host.
func (w *World) protected() bool {
	live := 0
	for _, p := range w.members {
		if p != nil && !p.dead {
			live++
		}
	}
	if live+w.births < 2 {
		return true
	}
	n := w.reg.record.Number
	if n == 0 {
		return false
	}
	b := w.watch.view(replica.ViewNumber(n)).inSync()
	return b != nil && !b.dead && b.role == replica.Backup
}

// groupRightlyDead tells whether the rules leave nobody who may lead. Those who may are, of the newest view that was
// granted: the life that it makes primary, which is one that led the view before or was its backup in sync; and the
// backup, once it was in sync in this view. All others lack something that the world has seen. So the group is
// rightly dead when these were killed. One that halted by itself does not count as killed: no rule lets it.
func (w *World) groupRightlyDead() (string, bool) {
	r := w.reg.record
	if r.Number == 0 {
		for _, p := range w.members {
			if p == nil || !p.dead {
				return "", false
			}
		}
		return "all hosts are gone", w.births == 0
	}
	for _, p := range w.members {
		if p != nil && p.ended() && !p.dead && p.core.Applied() == p.core.Last() {
			return "its machine has shut down, and " + p.title + " has executed that", true
		}
	}
	v := w.watch.view(replica.ViewNumber(r.Number))
	for _, p := range []*process{v.primary, v.inSync()} {
		if p != nil && !p.killed() {
			return "", false
		}
	}
	for slot := range w.members {
		if p := w.members[slot]; w.files[slot].mayRecover(memberNames[slot], r) && (p == nil || !p.dead || p.comes) {
			return "", false
		}
	}
	return fmt.Sprintf("all who may lead view %d, or follow it, were killed", r.Number), true
}
