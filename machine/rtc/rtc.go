// Package rtc is the board's real-time clock: a goldfish RTC, which Linux drives as "google,goldfish-rtc".
// It reads guest wall time, in nanoseconds since 1970, which the board computes from the log.
package rtc

import (
	"understudy/machine/device"
	"understudy/machine/state"
)

// WindowBytes is the size of the register window.
const WindowBytes = 0x1000

// Register offsets (the goldfish virtual hardware specification, "Goldfish RTC"), each of 4 bytes.
const (
	regTimeLow        = 0x00
	regTimeHigh       = 0x04
	regAlarmLow       = 0x08
	regAlarmHigh      = 0x0c
	regIRQEnabled     = 0x10
	regClearAlarm     = 0x14
	regAlarmStatus    = 0x18
	regClearInterrupt = 0x1c
)

// RTC is the clock.
type RTC struct {
	irq device.Line
	now func() uint64

	offsetNs    uint64 // what the guest added by setting the clock, modulo 2^64
	timeHigh    uint32 // latched by a read of TIME_LOW
	alarmHigh   uint32 // written before ALARM_LOW, which takes effect
	alarmNs     uint64 // guest's wall time of the alarm
	alarmSet    bool
	irqEnabled  bool
	irqAsserted bool
}

// New makes a clock. now gives wall time in nanoseconds since 1970; it must be a pure function of the log
// and of the position of the machine.
func New(irq device.Line, now func() uint64) *RTC { return &RTC{irq: irq, now: now} }

func (r *RTC) time() uint64 { return r.now() + r.offsetNs }

func (r *RTC) update() { r.irq(r.irqEnabled && r.irqAsserted) }

// Tick raises the alarm if it is due. The board calls it at every stop, or when Alarm says.
func (r *RTC) Tick() {
	if r.alarmSet && r.time() >= r.alarmNs {
		r.alarmSet = false
		r.irqAsserted = true
		r.update()
	}
}

// Alarm gives the value of now, in nanoseconds, from which on Tick raises the alarm. ok is false when none
// is set.
func (r *RTC) Alarm() (ns uint64, ok bool) {
	if !r.alarmSet {
		return 0, false
	}
	now, t := r.now(), r.time()
	if t >= r.alarmNs {
		return now, true
	}
	if wait := r.alarmNs - t; now+wait >= now {
		return now + wait, true
	}
	return 0, false // later than now can ever tell
}

// ReadMMIO implements device.Device. Registers are 4 bytes wide.
func (r *RTC) ReadMMIO(off uint64, size int) uint64 {
	if size != 4 {
		return 0
	}
	switch off {
	case regTimeLow:
		t := r.time()
		r.timeHigh = uint32(t >> 32)
		return t & 0xffff_ffff
	case regTimeHigh:
		return uint64(r.timeHigh)
	case regAlarmLow:
		return r.alarmNs & 0xffff_ffff
	case regAlarmHigh:
		return r.alarmNs >> 32
	case regIRQEnabled:
		if r.irqEnabled {
			return 1
		}
	case regAlarmStatus:
		if r.alarmSet {
			return 1
		}
	}
	return 0
}

// WriteMMIO implements device.Device. Registers are 4 bytes wide. Setting the time shifts what the guest
// reads and nothing else.
func (r *RTC) WriteMMIO(off uint64, size int, v uint64) {
	if size != 4 {
		return
	}
	v &= 0xffff_ffff
	switch off {
	case regTimeLow:
		t := r.time()
		r.offsetNs += (t&^0xffff_ffff | v) - t
	case regTimeHigh:
		t := r.time()
		r.offsetNs += (t&0xffff_ffff | v<<32) - t
	case regAlarmLow:
		r.alarmNs = uint64(r.alarmHigh)<<32 | v
		r.alarmSet = true
		r.Tick()
	case regAlarmHigh:
		r.alarmHigh = uint32(v)
	case regIRQEnabled:
		r.irqEnabled = v&1 != 0
		r.update()
	case regClearAlarm:
		r.alarmSet = false
	case regClearInterrupt:
		r.irqAsserted = false
		r.update()
	}
}

// Save implements device.Device.
func (r *RTC) Save(e *state.Encoder) {
	e.U64(r.offsetNs)
	e.U32(r.timeHigh)
	e.U32(r.alarmHigh)
	e.U64(r.alarmNs)
	e.Bool(r.alarmSet)
	e.Bool(r.irqEnabled)
	e.Bool(r.irqAsserted)
}

// Load implements device.Device. It does not drive the interrupt line: the controller's state holds its
// level.
func (r *RTC) Load(d *state.Decoder) {
	n := RTC{irq: r.irq, now: r.now}
	n.offsetNs = d.U64()
	n.timeHigh = d.U32()
	n.alarmHigh = d.U32()
	n.alarmNs = d.U64()
	n.alarmSet = d.Bool()
	n.irqEnabled = d.Bool()
	n.irqAsserted = d.Bool()
	if d.Err() == nil {
		*r = n
	}
}
