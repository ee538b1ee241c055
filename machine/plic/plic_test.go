package plic

import (
	"bytes"
	"testing"

	"understudy/machine/device"
	"understudy/machine/state"
)

var _ device.Device = (*PLIC)(nil)

type bench struct {
	*PLIC
	seip bool
}

func newBench() *bench {
	b := &bench{}
	b.PLIC = New(func(l bool) { b.seip = l })
	return b
}

func (b *bench) w(off, v uint64)     { b.WriteMMIO(off, 4, v) }
func (b *bench) r(off uint64) uint64 { return b.ReadMMIO(off, 4) }
func (b *bench) claim() uint64       { return b.r(offClaim) }
func (b *bench) complete(n uint64)   { b.w(offClaim, n) }
func (b *bench) want(t *testing.T, seip bool, pending uint64, when string) {
	t.Helper()
	if b.seip != seip || b.r(offPending) != pending {
		t.Errorf("%s: line %v, pending %#x; want %v, %#x", when, b.seip, b.r(offPending), seip, pending)
	}
}

func TestClaimComplete(t *testing.T) {
	b := newBench()
	irq := b.Source(3)
	irq(true)
	b.want(t, false, 8, "neither enabled nor of a priority")
	if b.claim() != 0 {
		t.Error("a source that is not enabled can be claimed")
	}
	b.w(offEnable, 8)
	b.want(t, false, 8, "priority 0")
	if b.claim() != 0 {
		t.Error("a source of priority 0 can be claimed")
	}
	b.w(3*4, 1)
	b.want(t, true, 8, "enabled")
	if b.claim() != 3 {
		t.Error("claim")
	}
	b.want(t, false, 0, "claimed")
	irq(false)
	irq(true)
	b.want(t, false, 0, "again before the completion")
	b.complete(3)
	b.want(t, true, 8, "completed with the line high")
	b.claim()
	irq(false)
	b.complete(3)
	b.want(t, false, 0, "completed with the line low")
	if b.claim() != 0 {
		t.Error("claim of nothing")
	}
}

func TestLatched(t *testing.T) {
	b := newBench()
	b.w(4, 1)
	b.w(offEnable, 2)
	b.Source(1)(true)
	b.Source(1)(false)
	b.want(t, true, 2, "dropped before the claim")
	if b.claim() != 1 {
		t.Error("claim")
	}
	b.complete(1)
	b.want(t, false, 0, "completed")
}

func TestPriorities(t *testing.T) {
	b := newBench()
	b.w(offEnable, 0xffff_ffff)
	for n, p := range map[int]uint64{4: 2, 9: 5, 17: 5, 31: 1} {
		b.w(uint64(4*n), p)
		b.Source(n)(true)
	}
	b.w(offThreshold, 5)
	if b.seip {
		t.Error("interrupt at the threshold")
	}
	b.w(offThreshold, 4)
	if !b.seip {
		t.Error("no interrupt above the threshold")
	}
	for _, want := range []uint64{9, 17, 4, 31, 0} {
		if got := b.claim(); got != want {
			t.Errorf("claim %d, want %d", got, want)
		}
	}
	b.w(offEnable, 0xffff_fffe&^(1<<9))
	b.complete(9) // not enabled: ignored
	b.w(offEnable, 0xffff_fffe)
	if b.seip {
		t.Error("the completion of a disabled source counts")
	}
	b.complete(9)
	if !b.seip || b.claim() != 9 {
		t.Error("completion")
	}
}

func TestOddAccesses(t *testing.T) {
	b := newBench()
	b.w(0, 7)
	b.w(4, 0xff)
	b.w(offEnable, 0xffff_ffff)
	if b.r(0) != 0 || b.r(4) != MaxPriority || b.r(offEnable) != 0xffff_fffe {
		t.Error("registers")
	}
	b.Source(1)(true)
	for _, size := range []int{1, 2, 8} {
		if b.ReadMMIO(offClaim, size) != 0 {
			t.Errorf("claim of %d bytes", size)
		}
	}
	if b.ReadMMIO(offClaim+2, 4) != 0 || b.r(WindowBytes-4) != 0 {
		t.Error("read between registers")
	}
	for _, v := range []uint64{0, 32, 1 << 31, 0xffff_ffff} {
		b.complete(v)
	}
}

func FuzzLoad(f *testing.F) {
	b := newBench()
	b.w(4, 1)
	b.w(offEnable, 2)
	b.Source(1)(true)
	var e state.Encoder
	b.Save(&e)
	f.Add(e.B)
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench()
		d := state.NewDecoder(data)
		b.Load(d)
		if d.Err() == nil {
			var e state.Encoder
			b.Save(&e)
			if !bytes.Equal(e.B, data[:len(e.B)]) {
				t.Fatal("state differs after load")
			}
		}
		for n := 1; n <= Sources; n++ {
			b.Source(n)(n%2 == 0)
			b.complete(b.claim())
		}
	})
}
