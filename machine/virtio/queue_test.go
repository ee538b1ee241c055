package virtio

import (
	"testing"

	"understudy/machine/mem"
)

// TestBrokenRings has rings that break the rules: the device must need a reset and say so, and work again
// after it.
func TestBrokenRings(t *testing.T) {
	const tx = 1
	desc := func(d *driver, at uint64, addr uint64, n uint32, flags, next uint16) {
		d.poke(d.q[tx].desc+16*at, appendDesc(nil, addr, n, flags, next))
	}
	end := uint64(mem.Base + testPages*mem.PageBytes)
	cases := map[string]func(d *driver){
		"ends at the end of RAM": func(d *driver) { desc(d, 0, end-8, 8, 0, 0) },
		"empty":                  func(d *driver) { desc(d, 0, mem.Base, 0, 0, 0) },
		"!outside of RAM":        func(d *driver) { desc(d, 0, 0x1000, 8, 0, 0) },
		"!across the end":        func(d *driver) { desc(d, 0, end-8, 9, 0, 0) },
		"!wraps around":          func(d *driver) { desc(d, 0, ^uint64(0), 8, 0, 0) },
		"!longest":               func(d *driver) { desc(d, 0, mem.Base, 0xffff_ffff, 0, 0) },
		"!loop of one":           func(d *driver) { desc(d, 0, mem.Base, 8, descNext, 0) },
		"!loop of two": func(d *driver) {
			desc(d, 0, mem.Base, 8, descNext, 1)
			desc(d, 1, mem.Base, 8, descNext, 0)
		},
		"!next beyond the table": func(d *driver) { desc(d, 0, mem.Base, 8, descNext, MaxQueue) },
		"!read after write": func(d *driver) {
			desc(d, 0, mem.Base, 8, descNext|descWrite, 1)
			desc(d, 1, mem.Base, 8, 0, 0)
		},
		"!writable for a transmitter": func(d *driver) { desc(d, 0, mem.Base, 8, descWrite, 0) },
		"!indirect and next":          func(d *driver) { desc(d, 0, mem.Base+0x100000, 16, descIndirect|descNext, 1) },
		"!indirect of no length":      func(d *driver) { desc(d, 0, mem.Base+0x100000, 0, descIndirect, 0) },
		"!indirect of odd length":     func(d *driver) { desc(d, 0, mem.Base+0x100000, 24, descIndirect, 0) },
		"!indirect too long":          func(d *driver) { desc(d, 0, mem.Base+0x100000, 16*(MaxQueue+1), descIndirect, 0) },
		"!indirect outside":           func(d *driver) { desc(d, 0, end-16, 32, descIndirect, 0) },
		"!indirect in indirect": func(d *driver) {
			desc(d, 0, mem.Base+0x100000, 16, descIndirect, 0)
			d.poke(mem.Base+0x100000, appendDesc(nil, mem.Base, 16, descIndirect, 0))
		},
		"!loop in indirect": func(d *driver) {
			desc(d, 0, mem.Base+0x100000, 32, descIndirect, 0)
			d.poke(mem.Base+0x100000, appendDesc(nil, mem.Base, 16, descNext, 0))
		},
		"!next beyond indirect": func(d *driver) {
			desc(d, 0, mem.Base+0x100000, 32, descIndirect, 0)
			d.poke(mem.Base+0x100000, appendDesc(nil, mem.Base, 16, descNext, 2)) // which is there, outside
		},
		"!head beyond a small table": func(d *driver) {
			d.m.queues[tx].num = 16 // entry 16 is there and right, but not the ring's
			d.poke16(d.q[tx].driver+4, 16)
		},
		"!next beyond a small table": func(d *driver) {
			d.m.queues[tx].num = 16
			desc(d, 0, mem.Base, 8, descNext, 16)
		},
		"!head beyond the table": func(d *driver) { d.poke16(d.q[tx].driver+4, MaxQueue) },
		"!more than fit":         func(d *driver) { d.poke16(d.q[tx].driver+2, MaxQueue+1) },
		"!index goes back":       func(d *driver) { d.poke16(d.q[tx].driver+2, 0xffff) },
		"!too much at once": func(d *driver) {
			for i := uint64(0); i < 4; i++ {
				desc(d, i, mem.Base, MaxConsoleWrite/4+1, descNext, uint16(i+1))
			}
			desc(d, 4, mem.Base, 1, 0, 0)
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, testConsole)
			d.init(allFeatures)
			// Wherever a rule is not held, there is something to find that looks right.
			for i := uint64(0); i < MaxQueue+1; i++ {
				desc(d, i, mem.Base, 8, 0, 0)
				d.poke(mem.Base+0x100000+16*i, appendDesc(nil, mem.Base, 8, 0, 0))
			}
			d.poke(d.q[tx].driver, make([]byte, 6+2*MaxQueue))
			d.post(tx, 0)
			change(d)
			d.write(regQueueNotify, tx)
			broken := d.read(regStatus)&statusNeedsReset != 0
			if want := name[0] == '!'; broken != want {
				t.Fatalf("needs reset: %v", broken)
			}
			if !broken {
				return
			}
			if d.interrupted()&isrConfig == 0 {
				t.Error("no configuration interrupt")
			}
			if len(d.take()) != 0 {
				t.Error("a broken request made output")
			}
			d.write(regQueueNotify, tx)
			d.write(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK|statusDriverOK)
			if d.read(regStatus)&statusNeedsReset == 0 {
				t.Error("the driver cleared DEVICE_NEEDS_RESET")
			}
			d.init(allFeatures)
			d.add(tx, true, out([]byte("ok")))
			d.kick(tx)
			if o := d.take(); len(o) != 1 || string(o[0].Data) != "ok" {
				t.Errorf("after the reset: %v", o)
			}
		})
	}
}

// TestIndirectNeedsFeature has an indirect descriptor from a driver that did not ask for them.
func TestIndirectNeedsFeature(t *testing.T) {
	d := newDriver(t, testConsole)
	d.init(featEventIdx)
	d.add(1, true, out([]byte("x")))
	d.kick(1)
	if d.read(regStatus)&statusNeedsReset == 0 {
		t.Error("taken")
	}
}

// TestWrap runs more requests through a queue than its indices can count.
func TestWrap(t *testing.T) {
	for _, features := range []uint64{0, featEventIdx} {
		d := newDriver(t, testConsole)
		d.init(features)
		start := d.free
		for i := 0; i < 1<<16+300; i++ {
			d.free = start
			head, _ := d.add(1, false, out([]byte{byte(i)}), out([]byte{byte(i >> 8)}))
			if !d.kick(1) {
				t.Fatalf("request %d: no kick wanted", i)
			}
			if o := d.take(); len(o) != 1 || o[0].Data[0] != byte(i) || o[0].Data[1] != byte(i>>8) {
				t.Fatalf("request %d: %v", i, o)
			}
			if d.interrupted() != isrUsed {
				t.Fatalf("request %d: no interrupt", i)
			}
			d.one(1, head)
		}
	}
}

// TestInterruptSuppression has a driver that wants no interrupt, or one later.
func TestInterruptSuppression(t *testing.T) {
	d := newDriver(t, testConsole)
	d.init(0)
	d.poke16(d.q[1].driver, 1)
	d.add(1, false, out([]byte("x")))
	d.kick(1)
	if d.level {
		t.Error("interrupt in spite of NO_INTERRUPT")
	}
	d = newDriver(t, testConsole)
	d.init(featEventIdx)
	d.poke16(d.q[1].driver+4+2*d.q[1].num, 2) // used_event: when the third comes back
	for i := 0; i < 3; i++ {
		if d.level {
			t.Errorf("interrupt after %d requests", i)
		}
		d.add(1, false, out([]byte("x")))
		d.kick(1)
	}
	if !d.level {
		t.Error("no interrupt after the third request")
	}
}
