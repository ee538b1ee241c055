package riscv

import (
	"math/bits"

	"understudy/event"
)

// clock is guest time as a function of the position: now at position at, and rate from there on.
type clock struct {
	at   event.Position
	now  uint64 // ns
	rate uint64 // ns per instruction, in units of 2^-event.RateShift
}

// ns gives guest time at p >= c.at, saturating.
func (c clock) ns(p event.Position) uint64 {
	if p < c.at {
		return c.now
	}
	hi, lo := bits.Mul64(uint64(p-c.at), c.rate)
	if hi>>event.RateShift != 0 {
		return ^uint64(0)
	}
	t, carry := bits.Add64(c.now, hi<<(64-event.RateShift)|lo>>event.RateShift, 0)
	if carry != 0 {
		return ^uint64(0)
	}
	return t
}

// reach gives the first position at which guest time is at least ns; the largest position when there is
// none.
func (c clock) reach(ns uint64) event.Position {
	if ns <= c.now {
		return c.at
	}
	d := ns - c.now
	hi, lo := d>>(64-event.RateShift), d<<event.RateShift
	if hi >= c.rate {
		return ^event.Position(0)
	}
	q, rem := bits.Div64(hi, lo, c.rate)
	if rem != 0 {
		q++ // cannot overflow: a remainder means that q*rate < 2^128
	}
	p, carry := bits.Add64(uint64(c.at), q, 0)
	if carry != 0 || q == 0 {
		return ^event.Position(0)
	}
	return event.Position(p)
}

// SetClock sets guest time and its rate from position at on. The caller owes that at is not beyond the
// current position and that time does not step back.
func (h *Hart) SetClock(at event.Position, c event.Clock) {
	h.clock = clock{at: at, now: c.NowNs, rate: max(uint64(c.Rate), 1)}
	h.setDeadline()
}

// TimeNs is guest time at the current position, in ns.
func (h *Hart) TimeNs() uint64 { return h.clock.ns(h.pos) }

// SetTimer sets stimecmp: the timer interrupt is pending while guest time is at least ns.
func (h *Hart) SetTimer(ns uint64) {
	h.stimecmp = ns
	h.setDeadline()
}

// Timer gives stimecmp, and whether the timer interrupt is enabled in sie, so that it would end a WFI.
func (h *Hart) Timer() (ns uint64, armed bool) { return h.stimecmp, h.sie&(1<<irqTimer) != 0 }

func (h *Hart) setDeadline() {
	h.deadline = h.clock.reach(h.stimecmp)
	h.changed = true
}
