package rtc

import (
	"bytes"
	"testing"

	"understudy/machine/device"
	"understudy/machine/state"
)

var _ device.Device = (*RTC)(nil)

type bench struct {
	*RTC
	ns  uint64
	irq bool
}

func newBench() *bench {
	b := &bench{ns: 1_700_000_000_123_456_789}
	b.RTC = New(func(l bool) { b.irq = l }, func() uint64 { return b.ns })
	return b
}

func (b *bench) w(off, v uint64)     { b.WriteMMIO(off, 4, v) }
func (b *bench) r(off uint64) uint64 { return b.ReadMMIO(off, 4) }

func (b *bench) read() uint64 {
	low := b.r(regTimeLow)
	return low | b.r(regTimeHigh)<<32
}

func TestTime(t *testing.T) {
	b := newBench()
	if b.read() != b.ns {
		t.Errorf("time %d", b.read())
	}
	b.ns = 7<<32 - 1
	low := b.r(regTimeLow)
	b.ns++
	if got := low | b.r(regTimeHigh)<<32; got != 7<<32-1 {
		t.Errorf("time %#x across a carry", got)
	}
	// The guest sets its clock; ours goes on.
	want := uint64(1_600_000_000_000_000_000)
	b.w(regTimeHigh, want>>32)
	b.w(regTimeLow, want)
	if b.read() != want {
		t.Errorf("time %d after it was set", b.read())
	}
	b.ns += 5
	if b.read() != want+5 {
		t.Error("the clock that was set stands still")
	}
	if b.ReadMMIO(regTimeLow, 8) != 0 || b.ReadMMIO(regTimeLow+1, 4) != 0 || b.r(WindowBytes-4) != 0 {
		t.Error("odd reads")
	}
}

func TestAlarm(t *testing.T) {
	b := newBench()
	if _, ok := b.Alarm(); ok {
		t.Error("an alarm is set")
	}
	at := b.ns + 1000
	b.w(regTimeHigh, b.ns>>32+100) // the guest's clock differs from ours
	guest := at + 100<<32
	b.w(regIRQEnabled, 1)
	b.w(regAlarmHigh, guest>>32)
	b.w(regAlarmLow, guest)
	if ns, ok := b.Alarm(); !ok || ns != at || b.r(regAlarmStatus) != 1 {
		t.Errorf("alarm at %d, want %d", ns, at)
	}
	b.ns = at - 1
	b.Tick()
	if b.irq {
		t.Error("early")
	}
	b.ns = at
	b.Tick()
	if _, ok := b.Alarm(); ok || !b.irq || b.r(regAlarmStatus) != 0 {
		t.Error("no alarm")
	}
	b.w(regIRQEnabled, 0)
	if b.irq {
		t.Error("interrupt while disabled")
	}
	b.w(regIRQEnabled, 1)
	b.w(regClearInterrupt, 1)
	if b.irq {
		t.Error("interrupt after it was cleared")
	}
	b.w(regAlarmLow, guest) // in the past
	if !b.irq {
		t.Error("no alarm for a time past")
	}
	b.w(regClearInterrupt, 1)
	b.w(regAlarmHigh, 0xffff_ffff)
	b.w(regAlarmLow, 0)
	b.w(regClearAlarm, 1)
	b.ns = ^uint64(0)
	b.Tick()
	if b.irq {
		t.Error("alarm after it was cleared")
	}
}

func FuzzLoad(f *testing.F) {
	b := newBench()
	b.w(regAlarmLow, 5)
	var e state.Encoder
	b.Save(&e)
	f.Add(e.B, uint64(9))
	f.Fuzz(func(t *testing.T, data []byte, now uint64) {
		b := newBench()
		b.Load(state.NewDecoder(data))
		b.ns = now
		if at, ok := b.Alarm(); ok {
			if at < now {
				t.Fatal("alarm before now")
			}
			b.ns = at
			b.Tick()
			if b.alarmSet {
				t.Fatal("the alarm does not go off when it should")
			}
		}
		var e, again state.Encoder
		b.Save(&e)
		b.Load(state.NewDecoder(e.B))
		b.Save(&again)
		if !bytes.Equal(e.B, again.B) {
			t.Fatal("state differs after load")
		}
	})
}
