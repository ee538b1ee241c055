package riscv

import (
	"testing"

	"understudy/event"
	"understudy/machine/mem"
)

const trapVec = mem.Base + 0x8000

// trapHart runs p with a handler that stops at once, so that the test sees the trap's registers.
func trapHart(t *testing.T, p *prog) *Hart {
	h, _ := newTestHart(t, testRAM, p)
	h.ram.Write(trapVec, newProg(trapVec).raw(insEcall).bytes())
	h.setCSR(csrStvec, trapVec)
	return h
}

func wantTrap(t *testing.T, h *Hart, cause, tval, epc uint64) {
	t.Helper()
	if h.scause != cause || h.stval != tval || h.sepc != epc || h.pc&^0xff != trapVec {
		t.Errorf("cause %#x tval %#x epc %#x pc %#x, want cause %#x tval %#x epc %#x", h.scause, h.stval, h.sepc, h.pc, cause, tval, epc)
	}
}

func TestExceptions(t *testing.T) {
	tests := []struct {
		name  string
		raw   uint32
		a1    uint64
		cause uint64
		tval  uint64
	}{
		{"illegal", 0xffffffff, 0, causeIllegal, 0xffffffff},
		{"illegal zero", 0, 0, causeIllegal, 0},
		{"illegal compressed", 0x8002, 0, causeIllegal, 0x8002}, // c.jr x0
		{"float while off", 0x02a5f553, 0, causeIllegal, 0x02a5f553},
		{"compressed float load while off", 0x2188, 0, causeIllegal, 0x2188},
		{"unknown csr", csrrs(a0, 0x300, zero), 0, causeIllegal, uint64(csrrs(a0, 0x300, zero))},
		{"write to read-only csr", csrrw(a0, csrTime, a1), 0, causeIllegal, uint64(csrrw(a0, csrTime, a1))},
		{"mret", 0x30200073, 0, causeIllegal, 0x30200073},
		{"ebreak", insEbreak, 0, causeBreakpoint, mem.Base},
		{"c.ebreak", 0x9002, 0, causeBreakpoint, mem.Base},
		{"load outside", ld(a0, 8, a1), 0x1000, causeLoadAccess, 0x1008},
		{"store outside", sd(a0, 8, a1), 0x1000, causeStoreAccess, 0x1008},
		{"load at the end of RAM", ld(a0, 0, a1), mem.Base + testRAM - 4, causeLoadAccess, mem.Base + testRAM - 4},
		{"misaligned device", lw(a0, 2, a1), testMMIO, causeLoadAccess, testMMIO + 2},
		{"misaligned amo", rType(0x2f, 3, 0, a0, a1, a2), mem.Base + 4, causeStoreAlign, mem.Base + 4},
		{"misaligned lr", rType(0x2f, 3, 8, a0, a1, 0), mem.Base + 4, causeLoadAlign, mem.Base + 4},
		{"amo on a device", rType(0x2f, 2, 0, a0, a1, a2), testMMIO, causeStoreAccess, testMMIO},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := trapHart(t, newProg(mem.Base).raw(tt.raw))
			h.SetX(a1, tt.a1)
			finish(t, h)
			wantTrap(t, h, tt.cause, tt.tval, mem.Base)
			if h.Position() != 2 {
				t.Errorf("position %d", h.Position())
			}
		})
	}
	t.Run("fetch outside", func(t *testing.T) {
		h := trapHart(t, newProg(mem.Base).raw(jalr(ra, a1, 0)))
		h.SetX(a1, 0x1001)
		finish(t, h)
		wantTrap(t, h, causeFetchAccess, 0x1000, 0x1000)
	})
	t.Run("fetch over the end of RAM", func(t *testing.T) {
		h := trapHart(t, newProg(mem.Base+testRAM-2).raw(0x0001))
		h.ram.Write(mem.Base+testRAM-2, []byte{0x13, 0})
		finish(t, h)
		wantTrap(t, h, causeFetchAccess, mem.Base+testRAM, mem.Base+testRAM-2)
	})
}

// TestUserMode: sret to U, what U may not do, and the way back.
func TestUserMode(t *testing.T) {
	for _, tt := range []struct {
		raw   uint32
		cause uint64
	}{
		{insEcall, causeEcallU},
		{insSret, causeIllegal},
		{insWfi, causeIllegal},
		{insSfence, causeIllegal},
		{csrrs(a0, csrSscratch, zero), causeIllegal},
		{csrrs(a0, csrTime, zero), causeIllegal},
	} {
		h := trapHart(t, newProg(mem.Base).raw(csrrw(zero, csrSepc, a1), insSret))
		h.ram.Write(mem.Base+0x100, newProg(0).raw(tt.raw).bytes())
		h.SetX(a1, mem.Base+0x100)
		h.setCSR(csrSstatus, statusSPIE)
		h.setCSR(csrScounteren, 0)
		finish(t, h)
		tval := uint64(0)
		if tt.cause == causeIllegal {
			tval = uint64(tt.raw)
		}
		wantTrap(t, h, tt.cause, tval, mem.Base+0x100)
		if h.sstatus&(statusSPP|statusSIE|statusSPIE) != statusSPIE {
			t.Errorf("sstatus %#x", h.sstatus)
		}
	}
	h := trapHart(t, newProg(mem.Base).raw(csrrw(zero, csrSepc, a1), insSret))
	h.ram.Write(mem.Base+0x100, newProg(0).raw(csrrs(a0, csrInstret, zero), insEcall).bytes())
	h.SetX(a1, mem.Base+0x100)
	h.setCSR(csrScounteren, 4)
	finish(t, h)
	if h.X(a0) != 2 {
		t.Errorf("instret %d", h.X(a0))
	}
}

// TestTimer: the interrupt comes before exactly the instruction at which time reaches stimecmp.
func TestTimer(t *testing.T) {
	for _, rate := range []uint32{1 << event.RateShift, 1 << (event.RateShift - 3), 7 << event.RateShift, 3 << (event.RateShift - 1)} {
		for _, at := range []uint64{0, 1, 20, 21, 1000} {
			for _, vectored := range []uint64{0, 1} {
				h := trapHart(t, newProg(mem.Base).label("l").raw(addi(a0, a0, 1), addi(a0, a0, 1), addi(a0, a0, 1)).jal(zero, "l"))
				h.ram.Write(trapVec+20, newProg(0).raw(insEcall).bytes())
				h.SetClock(0, event.Clock{NowNs: 5, Rate: rate})
				h.setCSR(csrStvec, trapVec+vectored)
				h.setCSR(csrSie, 1<<irqTimer)
				h.setCSR(csrSstatus, statusSIE)
				h.SetTimer(at)
				finish(t, h)
				pos := h.Position() - 1 // without the handler's ecall
				c := h.clock
				if c.ns(pos) < at || pos > 0 && c.ns(pos-1) >= at {
					t.Errorf("rate %d stimecmp %d: interrupt at position %d, time %d", rate, at, pos, c.ns(pos))
				}
				wantTrap(t, h, 1<<63|irqTimer, 0, mem.Base+uint64(pos)%4*4)
				if want := trapVec + vectored*20 + 4; h.pc != want {
					t.Errorf("pc %#x, want %#x", h.pc, want)
				}
			}
		}
	}
}

// TestClockReach holds reach against ns, at the edges.
func TestClockReach(t *testing.T) {
	max := ^uint64(0)
	for _, c := range []clock{{0, 0, 1}, {10, 100, 1 << 20}, {10, 100, 1<<32 - 1}, {0, max - 5, 1 << 20}, {1 << 62, 1 << 63, 3}} {
		for _, ns := range []uint64{0, 1, 99, 100, 101, 1 << 40, 1 << 63, max - 1, max} {
			p := c.reach(ns)
			if p != ^event.Position(0) && c.ns(p) < ns {
				t.Errorf("%v: time at reach(%d) = %d is %d", c, ns, p, c.ns(p))
			}
			if p > c.at && p != ^event.Position(0) && c.ns(p-1) >= ns {
				t.Errorf("%v: reach(%d) = %d is late", c, ns, p)
			}
		}
	}
}

// TestIdle: WFI waits with the position standing still, whether or not interrupts are enabled, and goes
// on when one is pending.
func TestIdle(t *testing.T) {
	p := newProg(mem.Base).raw(insWfi, addi(a0, a0, 1), insEcall)
	h, _ := newTestHart(t, testRAM, p)
	h.setCSR(csrSie, 1<<irqExternal|1<<irqTimer)
	h.SetTimer(1000)
	for range 3 {
		if s := h.Run(100); s != StopIdle || h.Position() != 1 || !h.Idle() || h.PC() != mem.Base+4 {
			t.Fatalf("stop %v position %d", s, h.Position())
		}
	}
	if ns, armed := h.Timer(); ns != 1000 || !armed {
		t.Errorf("timer %d %v", ns, armed)
	}
	h.SetClock(1, event.Clock{NowNs: 999, Rate: 1 << event.RateShift})
	if h.Run(100) != StopIdle {
		t.Error("woke too early")
	}
	h.SetClock(1, event.Clock{NowNs: 1000, Rate: 1 << event.RateShift})
	if h.Idle() {
		t.Error("still idle")
	}
	finish(t, h)
	if h.X(a0) != 1 {
		t.Errorf("a0 = %d", h.X(a0))
	}
}

// TestDeviceInterrupt: an interrupt raised by a store to a device is taken before the next instruction.
func TestDeviceInterrupt(t *testing.T) {
	h, bus := newTestHart(t, testRAM, newProg(mem.Base).li(a1, testMMIO).raw(sw(a0, 0, a1), addi(a0, a0, 1), addi(a0, a0, 1), insEcall))
	h.ram.Write(trapVec, newProg(trapVec).raw(insEcall).bytes())
	h.setCSR(csrStvec, trapVec)
	h.setCSR(csrSie, 1<<irqExternal)
	h.setCSR(csrSstatus, statusSIE)
	bus.onWrite = func(uint64) { h.SetExternal(true) }
	finish(t, h)
	if h.X(a0) != 0 || h.scause != 1<<63|irqExternal {
		t.Errorf("a0 %d cause %#x", h.X(a0), h.scause)
	}
}

// TestAskInMidBlock: a device can stop the run right after the store that reached it.
func TestAskInMidBlock(t *testing.T) {
	h, bus := newTestHart(t, testRAM, newProg(mem.Base).li(a1, testMMIO).raw(addi(a0, a0, 1), sw(a0, 0, a1), addi(a0, a0, 1), insEcall))
	var at event.Position
	var now uint64
	bus.onWrite = func(uint64) { at, now = h.Position(), h.TimeNs(); h.Ask() }
	if s := h.Run(1000); s != StopAsked || h.X(a0) != 1 {
		t.Fatalf("stop %v a0 %d", s, h.X(a0))
	}
	if n := h.Position(); at != n-1 || now != uint64(at) || h.PC() != mem.Base+4*uint64(n) {
		t.Errorf("position %d, in the device %d, time %d, pc %#x", n, at, now, h.PC())
	}
}
