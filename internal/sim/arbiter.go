package sim

import (
	"errors"
	"time"

	"understudy/arbiter"
	"understudy/replica"
)

var (
	errTimeout = errors.New("no answer in time")
	errRefused = errors.New("connection refused")
)

// arbiterTimeout is how long a shell waits for the arbiter's answer.
const arbiterTimeout = 150 * time.Millisecond

// register is the arbiter: the real rule, in a place that cannot always be reached.
type register struct {
	record arbiter.Record
	grants []arbiter.Record
	down   time.Duration   // until
	cut    []time.Duration // per member, until
	mute   time.Duration   // claims are carried out, their answers lost, until
	slow   time.Duration   // claims and answers take long, until
}

// claim carries a claim to the arbiter and its answer back: exactly one, late or "unknown" at worst.
func (w *World) claim(p *process, c replica.Claim) {
	w.tell(p, "asks the arbiter for view %d", c.Number)
	w.watch.asked(p, c)
	answered := false
	reply := func(current arbiter.Record, won bool, err error) {
		if !answered && (err == nil || !w.mutation.askOnce) {
			answered = true
			p.claimed(c, current, won, err)
		}
	}
	if w.mutation.noClaim(p, c) {
		w.plan(0, p, func() { reply(c, true, nil) })
		return
	}
	out := w.arbiterDelay()
	if w.now < w.reg.down && w.rng.chance(2) {
		w.plan(out, p, func() { reply(arbiter.Record{}, false, errRefused) })
		return
	}
	w.plan(arbiterTimeout, p, func() { reply(arbiter.Record{}, false, errTimeout) })
	if w.now < w.reg.cut[p.slot] && !w.rng.chance(8) { // a few get through: the cut is of the answers
		return
	}
	w.plan(out, nil, func() {
		if w.now < w.reg.down {
			return
		}
		current, won := w.decide(p.title, c)
		if w.now < w.reg.cut[p.slot] || w.now < w.reg.mute && !w.rng.chance(4) || w.rng.permille(w.s.claimLoss) {
			w.tell(nil, "the answer to %s is lost", p.title)
			return
		}
		w.plan(w.arbiterDelay(), p, func() { reply(current, won, nil) })
	})
}

// decide is the arbiter's decision on a claim.
func (w *World) decide(who string, c arbiter.Record) (current arbiter.Record, won bool) {
	current, won, _ = arbiter.Decide(w.reg.record, c)
	if w.mutation.everyClaimWins {
		current, won = c, true
	}
	if won && current != w.reg.record {
		w.tell(nil, "the arbiter grants view %d {%s, %q} to %s", c.Number, c.Primary, c.Backup, who)
		w.reg.grants = append(w.reg.grants, current)
		w.watch.granted(current)
	} else {
		w.tell(nil, "the arbiter answers %s about view %d: %s", who, c.Number, map[bool]string{true: "it is yours", false: "no"}[won])
	}
	w.reg.record = current
	return current, won
}

func (w *World) arbiterDelay() time.Duration {
	if w.now < w.reg.slow {
		return w.rng.between(time.Millisecond, 400*time.Millisecond)
	}
	return w.rng.between(100*time.Microsecond, 3*time.Millisecond)
}
