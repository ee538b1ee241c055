package virtio

import (
	"testing"

	"understudy/machine/mem"
)

const allFeatures = ^uint64(0)

func testNet(d *driver) Backend     { return NewNet([6]byte{2, 0, 0, 0, 0, 1}, 3, d.sink) }
func testConsole(d *driver) Backend { return NewConsole(3, d.sink) }
func testEntropy(d *driver) Backend { return NewEntropy(3, d.sink) }
func testBlock(d *driver) Backend   { return NewBlock(1<<20, false, 3, "serial-number", d.sink) }

var backends = []func(*driver) Backend{testNet, testBlock, testConsole, testEntropy}

func TestNegotiation(t *testing.T) {
	d := newDriver(t, testNet)
	try := func(features uint64) bool {
		d.write(regStatus, 0)
		d.write(regStatus, statusAcknowledge|statusDriver)
		for i := uint32(0); i < 2; i++ {
			d.write(regDriverFeaturesSel, i)
			d.write(regDriverFeatures, uint32(features>>(32*i)))
		}
		d.write(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK)
		return d.read(regStatus)&statusFeaturesOK != 0
	}
	for _, c := range []struct {
		features uint64
		ok       bool
	}{
		{featVersion1, true},
		{featVersion1 | netMAC | featEventIdx | featIndirect, true},
		{netMAC, false},               // a legacy driver
		{featVersion1 | 1, false},     // checksum offload is not offered
		{featVersion1 | 1<<40, false}, // nor is this
		{featVersion1 | 1<<63, false}, //
		{featVersion1 | netStatus, true},
	} {
		if got := try(c.features); got != c.ok {
			t.Errorf("features %#x: accepted %v", c.features, got)
		}
	}
	// Accepted features do not change any more.
	d.write(regDriverFeaturesSel, 0)
	d.write(regDriverFeatures, 0xffff_ffff)
	if d.m.driverFeatures != featVersion1|netStatus {
		t.Errorf("features became %#x", d.m.driverFeatures)
	}
}

func TestRegisters(t *testing.T) {
	d := newDriver(t, testNet)
	if got := d.m.ReadMMIO(regConfig, 8); got>>48 != 1 || got&0xffff_ffff_ffff != 0x0100_0000_0002 {
		t.Errorf("MAC and status %#x", got)
	}
	if got := d.m.ReadMMIO(regConfig+10, 2); got != MTU {
		t.Errorf("MTU %d", got)
	}
	if got := d.m.ReadMMIO(regConfig+11, 8); got != MTU>>8 {
		t.Errorf("across the end: %#x", got)
	}
	for _, size := range []int{1, 2, 4, 8} {
		for _, off := range []uint64{regConfig + 12, WindowBytes - 1, 1 << 40, ^uint64(0)} {
			if got := d.m.ReadMMIO(off, size); got != 0 {
				t.Errorf("offset %#x: %#x", off, got)
			}
		}
	}
	if d.m.ReadMMIO(regMagic, 1) != 0 || d.m.ReadMMIO(regMagic+1, 4) != 0 || d.m.ReadMMIO(regMagic, 8) != 0 {
		t.Error("register of another width or place reads")
	}
	if d.read(regSHMLenLow) != 0xffff_ffff {
		t.Error("there is a shared memory region")
	}
	d.write(regQueueSel, 2)
	if d.read(regQueueNumMax) != 0 {
		t.Error("there is a third queue")
	}
}

// TestQueueSetup has queues that cannot be: the device must need a reset, not use them.
func TestQueueSetup(t *testing.T) {
	end := uint64(mem.Base + testPages*mem.PageBytes)
	good := virtqueue{num: 16, desc: mem.Base, driver: mem.Base + 0x1000, device: mem.Base + 0x2000}
	cases := map[string]func(q *virtqueue){
		"good":             func(q *virtqueue) {},
		"touches the end":  func(q *virtqueue) { q.desc = end - 16*16 },
		"!no size":         func(q *virtqueue) { q.num = 0 },
		"!not a power":     func(q *virtqueue) { q.num = 12 },
		"!too large":       func(q *virtqueue) { q.num = 512 },
		"!far too large":   func(q *virtqueue) { q.num = 1 << 31 },
		"!desc beyond":     func(q *virtqueue) { q.desc = end - 16*16 + 16 },
		"!driver beyond":   func(q *virtqueue) { q.driver = end - 36 },
		"!device beyond":   func(q *virtqueue) { q.device = end - 132 },
		"!desc unaligned":  func(q *virtqueue) { q.desc += 8 },
		"!driver odd":      func(q *virtqueue) { q.driver++ },
		"!device odd":      func(q *virtqueue) { q.device += 2 },
		"!desc wraps":      func(q *virtqueue) { q.desc = ^uint64(15) },
		"!device below":    func(q *virtqueue) { q.device = mem.Base - 4 },
		"!desc at nothing": func(q *virtqueue) { q.desc = 0 },
	}
	for name, change := range cases {
		d := newDriver(t, testNet)
		q := good
		change(&q)
		d.write(regStatus, statusAcknowledge|statusDriver)
		d.write(regQueueNum, q.num)
		for off, a := range map[uint64]uint64{regQueueDescLow: q.desc, regQueueDriverLow: q.driver, regQueueDeviceLow: q.device} {
			d.write(off, uint32(a))
			d.write(off+4, uint32(a>>32))
		}
		d.write(regQueueReady, 1)
		ready, broken := d.read(regQueueReady) == 1, d.read(regStatus)&statusNeedsReset != 0
		if want := name[0] != '!'; ready != want || broken == want {
			t.Errorf("%s: ready %v, needs reset %v", name, ready, broken)
		}
	}
}

// TestReadyQueueIsFixed has a driver move a queue that is ready: it does not move.
func TestReadyQueueIsFixed(t *testing.T) {
	d := newDriver(t, testConsole)
	d.init(allFeatures)
	before := d.save()
	for _, off := range []uint64{
		regQueueNum, regQueueDescLow, regQueueDescHigh, regQueueDriverLow,
		regQueueDriverHigh, regQueueDeviceLow, regQueueDeviceHigh,
	} {
		d.write(off, 0xffff_fff1)
	}
	d.write(regQueueSel, 1)
	d.write(regQueueDescHigh, 7)
	d.write(regQueueSel, 2)
	if string(before) != string(d.save()) {
		t.Error("a ready queue changed")
	}
	// Taken down and up again it starts from the beginning.
	d.write(regQueueSel, 1)
	d.add(1, false, out([]byte("x")))
	d.kick(1)
	d.write(regQueueReady, 0)
	d.take()
	d.write(regQueueNotify, 1)
	if len(d.outputs) != 0 {
		t.Error("a queue that is not ready works")
	}
	d.write(regQueueReady, 1)
	d.write(regQueueNotify, 1)
	if len(d.outputs) != 1 {
		t.Error("the queue does not start at index 0")
	}
}

// TestReset has a device forget everything.
func TestReset(t *testing.T) {
	for _, b := range backends {
		d := newDriver(t, b)
		before := d.save()
		d.init(allFeatures)
		d.write(regStatus, 0)
		if d.read(regStatus) != 0 || d.level || string(before) != string(d.save()) {
			t.Errorf("device %d remembers after a reset", d.read(regDeviceID))
		}
		d.init(0)
	}
}

// TestNotRunning has requests in the ring before DRIVER_OK: they wait for it.
func TestNotRunning(t *testing.T) {
	d := newDriver(t, testConsole)
	d.init(allFeatures)
	const ok = statusAcknowledge | statusDriver | statusFeaturesOK
	d.m.status = ok
	d.add(1, false, out([]byte("early")))
	d.write(regQueueNotify, 1)
	if len(d.outputs) != 0 {
		t.Fatal("the device works before DRIVER_OK")
	}
	d.write(regStatus, ok|statusDriverOK)
	if o := d.take(); len(o) != 1 || string(o[0].Data) != "early" {
		t.Fatalf("outputs %v", o)
	}
	d.write(regStatus, statusFailed)
	d.add(1, false, out([]byte("late")))
	d.write(regQueueNotify, 1)
	if len(d.outputs) != 0 {
		t.Fatal("the device works after FAILED")
	}
}
