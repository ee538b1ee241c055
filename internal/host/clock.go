package host

import (
	"time"

	"understudy/event"
	"understudy/machine"
)

// How guest time is kept near real time.
const (
	// clockEvery is how often a busy primary writes a clock entry. A backup can follow no further than the
	// last entry, so this also bounds how far it is behind.
	clockEvery = 10 * time.Millisecond
	// slewOver is the time over which a difference between guest time and real time is made good by
	// running guest time faster or slower.
	slewOver = 100 * time.Millisecond
	// jumpAfter is the difference beyond which guest time jumps forward instead.
	jumpAfter = time.Second
	// maxRateNs bounds the rate: more guest time per instruction would leave the guest in its own timer
	// interrupts.
	maxRateNs = 64
)

// clock decides on the primary's clock entries. Target time is the guest time that real time asks for; it
// runs with the local monotonic clock and never against guest time.
type clock struct {
	zero    time.Time // real time at guest time 0
	last    time.Time // of the last clock entry
	speed   float64   // instructions per ns while running, smoothed
	runNs   float64   // since the last entry
	ranInst float64
	now     bool // the next stop must write an entry
}

// begin starts to lead at the machine's present guest time. Target time follows the wall clock; where that
// is behind guest time (another host's clock was ahead) it starts at guest time.
func (c *clock) begin(now time.Time, m *machine.Machine, wallClockNs uint64) {
	guest := time.Duration(m.TimeNs())
	target := time.Duration(now.UnixNano() - int64(wallClockNs))
	c.zero = now.Add(-max(guest, target))
	c.last = now
	c.speed = 1 / rateNs(m.Rate())
	c.now = true
}

func rateNs(rate uint32) float64 { return float64(rate) / (1 << event.RateShift) }

func (c *clock) target(now time.Time) int64 { return int64(now.Sub(c.zero)) }

// until is the real time from now until target time reaches guest time ns.
func (c *clock) until(now time.Time, ns uint64) time.Duration {
	if ns > 1<<62 {
		return time.Hour
	}
	return min(time.Duration(int64(ns)-c.target(now)), time.Hour)
}

// ran notes a slice.
func (c *clock) ran(d time.Duration, instructions uint64) {
	c.runNs += float64(d)
	c.ranInst += float64(instructions)
}

// wake asks for an entry at the next stop.
func (c *clock) wake() { c.now = true }

// due gives the clock entry to write at this stop, if one is due or forced.
func (c *clock) due(now time.Time, m *machine.Machine, force bool) (event.Clock, bool) {
	if !c.now && !force && now.Sub(c.last) < clockEvery {
		return event.Clock{}, false
	}
	idle := m.Idle()
	if idle && !c.now && !force {
		return event.Clock{}, false // nothing would come of it: the guest sleeps until its alarm
	}
	c.now = false
	if c.runNs > 1e6 {
		v := c.ranInst / c.runNs
		c.speed += (v - c.speed) / 2
		c.runNs, c.ranInst = 0, 0
	}
	guest, target := int64(m.TimeNs()), c.target(now)
	behind := target - guest
	next := event.Clock{NowNs: uint64(guest)}
	if behind > 0 && (idle || behind > int64(jumpAfter)) {
		next.NowNs = uint64(target)
		behind = 0
	}
	ns := 1 / c.speed * (1 + max(-0.9, min(1, float64(behind)/float64(slewOver))))
	ns = max(1.0/16, min(maxRateNs, ns))
	next.Rate = uint32(ns * (1 << event.RateShift))
	c.last = now
	return next, true
}
