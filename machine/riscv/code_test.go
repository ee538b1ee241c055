package riscv

import (
	"testing"

	"understudy/event"
	"understudy/machine/mem"
)

// TestSelfModifying: a store to the instruction that follows it is seen by that instruction.
func TestSelfModifying(t *testing.T) {
	p := newProg(mem.Base).la(s0, mem.Base).li(s1, 20)
	p.label("l").raw(addi(a1, a1, 1), slli(a3, a1, 20), add(a3, a3, a4))
	at := len(p.code)
	p.raw(sw(a3, int32(at)+4, s0))
	p.raw(addi(a2, zero, 0)) // becomes addi a2, zero, a1
	p.raw(add(a0, a0, a2), addi(s1, s1, -1)).bne(s1, zero, "l").raw(insEcall)
	h, _ := newTestHart(t, testRAM, p)
	h.SetX(a4, uint64(addi(a2, zero, 0)))
	finish(t, h)
	if h.X(a2) != 20 || h.X(a0) != 210 {
		t.Errorf("a2 = %d, a0 = %d", h.X(a2), h.X(a0))
	}
}

// TestCodeWrittenThroughWarmTLB: a page that has a write tag becomes code; stores to it must be seen.
func TestCodeWrittenThroughWarmTLB(t *testing.T) {
	const at = mem.Base + 0x3000
	p := newProg(mem.Base).la(s0, at).li(s1, 4)
	p.label("l").raw(sw(a1, 0, s0), sw(a2, 4, s0), jalr(ra, s0, 0), lui(a3, 0x100000), add(a1, a1, a3))
	p.raw(addi(s1, s1, -1)).bne(s1, zero, "l").raw(insEcall)
	h, _ := newTestHart(t, testRAM, p)
	h.SetX(a1, uint64(addi(a0, a0, 1)))
	h.SetX(a2, ret)
	finish(t, h)
	if h.X(a0) != 1+2+3+4 {
		t.Errorf("a0 = %d", h.X(a0))
	}
}

// TestDeviceWritesCode: so is what a device writes between two runs.
func TestDeviceWritesCode(t *testing.T) {
	p := newProg(mem.Base).label("l").raw(addi(a0, a0, 1)).jal(zero, "l")
	h, _ := newTestHart(t, testRAM, p)
	h.Run(10)
	h.ram.Write(mem.Base, newProg(0).raw(addi(a0, a0, 0x100)).bytes())
	h.Run(20)
	if h.X(a0) != 5+5*0x100 {
		t.Errorf("a0 = %#x", h.X(a0))
	}
}

// TestCrossingInstruction: an instruction over the end of a page, whose halves are then written.
func TestCrossingInstruction(t *testing.T) {
	const at = mem.Base + 0x1ffe
	p := newProg(at).label("l").raw(addi(a0, a0, 1)).raw(insEcall)
	h, _ := newTestHart(t, testRAM, p)
	run := func(want uint64) {
		t.Helper()
		h.SetPC(at)
		finish(t, h)
		if h.X(a0) != want {
			t.Errorf("a0 = %d, want %d", h.X(a0), want)
		}
	}
	run(1)
	run(2)
	second := newProg(0).raw(addi(a0, a0, 16)).bytes()
	h.ram.Write(at+2, second[2:])
	run(18)
	h.ram.Write(at, newProg(0).raw(addi(a0, zero, 16)).bytes()[:2])
	h.ram.Write(at+2, newProg(0).raw(addi(a0, zero, 16)).bytes()[2:])
	run(16)
	for range 1000 { // a page that is stored to a lot is no page of code
		h.ram.Write(mem.Base+0x2800, []byte{1})
	}
	run(16)
}

// TestExactStops: every position can be stopped at, and the sum of what was executed is right.
func TestExactStops(t *testing.T) {
	for _, l := range loops {
		a, _ := newTestHart(t, testRAM, l.make())
		b, _ := newTestHart(t, testRAM, l.make())
		for n := event.Position(1); n < 3000; n += n/7 + 1 {
			a.Run(n)
			for b.Position() < n {
				b.Run(b.Position() + 1)
			}
			if a.Position() != n || b.Position() != n || a.x != b.x || a.pc != b.pc {
				t.Fatalf("%s: at %d: %d %#x, %d %#x", l.name, n, a.Position(), a.pc, b.Position(), b.pc)
			}
		}
		c, _ := newTestHart(t, testRAM, l.make())
		c.SetTimer(2500)
		c.setCSR(csrSie, 1<<irqTimer)
		for c.Position() < 2400 {
			want := c.Position() + 100
			c.RunSlice(want)
			if c.Position() < want || c.Position() >= want+blockMax {
				t.Fatalf("%s: slice to %d stopped at %d", l.name, want, c.Position())
			}
		}
		c.RunSlice(2499)
		if c.Position() > 2500 {
			t.Errorf("%s: slice ran past the timer, to %d", l.name, c.Position())
		}
	}
}
