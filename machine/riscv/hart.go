// Package riscv is one RISC-V hart, RV64IMAFDC with Zicsr, Zifencei, Zicntr and Sstc, S and U mode, Sv39,
// as a pure deterministic value: what it does depends on its state, on RAM and on what the Bus and the
// Monitor answer, never on how a run was cut into calls, on what is cached, or on the host.
//
// There is no M mode. The monitor is the firmware: an ecall from S mode is a call of Monitor.SBI, and all
// traps go to S mode.
//
// The hart owns the hooks and the Code and Table flags of the RAM that it is given. Whoever else changes
// RAM calls RAM.Touch first.
package riscv

import (
	"unsafe"

	"understudy/event"
	"understudy/machine/mem"
)

// Bus answers accesses to guest-physical addresses outside RAM. Size is 1, 2, 4 or 8 and addr is a
// multiple of it.
type Bus interface {
	// Read gives the value, zero-extended. ok = false is a load access fault.
	Read(addr uint64, size int) (v uint64, ok bool)
	// Write writes the low size bytes of v. ok = false is a store access fault.
	Write(addr uint64, size int, v uint64) (ok bool)
}

// Monitor is the hart's firmware.
type Monitor interface {
	// SBI answers an ecall from S mode. PC is already past the ecall; arguments and results are read and
	// written with X and SetX.
	SBI(h *Hart)
}

// Stop says why a run ended.
type Stop int

// The reasons.
const (
	// StopPosition: the position asked for is reached.
	StopPosition Stop = iota
	// StopIdle: the hart waits in WFI and nothing that could wake it is pending.
	StopIdle
	// StopAsked: Ask was called.
	StopAsked
)

// Privilege modes.
const (
	privU uint8 = 0
	privS uint8 = 1
)

// Hart is one hardware thread. Make it with New.
type Hart struct {
	// x is first: the interpreter addresses it by the hart's own address. x[0] is always 0; x[dummy] takes
	// writes to x0.
	x      [64]uint64
	f      [32]uint64 // singles are NaN-boxed
	fflags uint8
	frm    uint8
	fs     uint8 // sstatus.FS: 0 off, 1 initial, 2 clean, 3 dirty

	priv uint8
	pc   uint64
	pos  event.Position // exact whenever exec is not running

	// CSRs, as the guest reads them unless said otherwise.
	sstatus    uint64 // SIE, SPIE, SPP, SUM, MXR only
	sie        uint64
	ssip       bool // sip.SSIP
	seip       bool // the PLIC's line
	stvec      uint64
	scounteren uint64
	senvcfg    uint64
	sscratch   uint64
	sepc       uint64
	scause     uint64
	stval      uint64
	satp       uint64
	stimecmp   uint64

	clock    clock
	deadline event.Position // the first position with time >= stimecmp

	resAddr  uint64 // LR reservation: guest-physical address
	resValid bool
	idle     bool // in WFI

	asked bool // Ask was called during this run
	// changed is set by whatever makes the rest of the running block doubtful: an interrupt may be pending,
	// a translation or code was dropped, the mode changed, the timer moved.
	changed bool
	// mid counts the instructions executed one by one since the last that ends a block. While it is not 0
	// the pc is probably within a block, and no new block is made there.
	mid int

	// apart says that the next instruction is to be executed by itself; see slowPair, which counts its
	// attempts at one position.
	apart     bool
	pairAt    event.Position
	pairTries int

	ram  *mem.RAM
	host unsafe.Pointer
	bus  Bus
	mon  Monitor

	va   uint64 // operand of exitMemory
	mmu  mmu
	code codeCache

	_ [1024]byte // see below
}

// exec sees the hart as an array of 256 registers, of which it uses the first 64; all of it must be there.
var _ [unsafe.Sizeof(Hart{}) - unsafe.Sizeof([256]uint64{})]struct{}

// New makes a hart that executes from ram and reaches everything else through bus and mon. It installs
// the hooks of ram. The hart starts as after Reset(0, 0, 0).
func New(ram *mem.RAM, bus Bus, mon Monitor) *Hart {
	h := &Hart{ram: ram, host: ram.Host(), bus: bus, mon: mon}
	h.mmu.init(ram)
	h.code.init(ram)
	ram.Invalidate = h.invalidate
	ram.DropWriteTags = h.dropWriteTags
	h.Reset(0, 0, 0)
	return h
}

// Reset puts the hart at pc in S mode, translation and interrupts off, with a0 and a1 as given and all
// other registers zero, but for scounteren: like other firmware it lets user programs read cycle, time and
// instret, since Linux does not turn them on without a PMU. Position and clock stay.
func (h *Hart) Reset(pc, a0, a1 uint64) {
	h.x, h.f = [64]uint64{}, [32]uint64{}
	h.fflags, h.frm, h.fs = 0, 0, 0
	h.pc, h.priv = pc&^1, privS
	h.x[10], h.x[11] = a0, a1
	h.sstatus, h.sie, h.ssip = 0, 0, false
	h.stvec, h.scounteren, h.senvcfg = 0, 7, 0
	h.sscratch, h.sepc, h.scause, h.stval = 0, 0, 0, 0
	h.satp, h.stimecmp = 0, ^uint64(0)
	h.resValid, h.idle, h.mid = false, false, 0
	h.setDeadline()
	h.setContext()
}

// X reads integer register r, 0 to 31.
func (h *Hart) X(r int) uint64 { return h.x[r&31] }

// SetX writes integer register r, 0 to 31; writes to x0 are ignored.
func (h *Hart) SetX(r int, v uint64) {
	if r &= 31; r != 0 {
		h.x[r] = v
	}
}

// F reads floating-point register r, 0 to 31; singles are NaN-boxed.
func (h *Hart) F(r int) uint64 { return h.f[r&31] }

// SetF writes floating-point register r, 0 to 31.
func (h *Hart) SetF(r int, v uint64) { h.f[r&31] = v }

// PC is the address of the next instruction.
func (h *Hart) PC() uint64 { return h.pc }

// SetPC sets the address of the next instruction.
func (h *Hart) SetPC(v uint64) {
	h.pc = v &^ 1
	h.mid, h.changed = 0, true
}

// Position is the number of instructions executed, one that trapped included. Called from Bus or Monitor
// it does not count the instruction in progress.
func (h *Hart) Position() event.Position { return h.pos }

// Ask stops the run in progress after the current instruction. It is for Bus and Monitor.
func (h *Hart) Ask() { h.asked, h.changed = true, true }

// SetExternal sets the level of the external interrupt, from the PLIC.
func (h *Hart) SetExternal(level bool) { h.seip, h.changed = level, true }

// RaiseSoftware makes the software interrupt pending (SBI IPI to self).
func (h *Hart) RaiseSoftware() { h.ssip, h.changed = true, true }

// ClearSoftware withdraws the software interrupt (legacy SBI clear_ipi).
func (h *Hart) ClearSoftware() { h.ssip, h.changed = false, true }

// DropReservation ends the reservation of an LR: somebody else may have written to RAM (unprivileged
// manual, "Load-Reserved/Store-Conditional Instructions").
func (h *Hart) DropReservation() { h.resValid = false }

// Idle tells whether the hart waits in WFI with nothing pending that would wake it.
func (h *Hart) Idle() bool { return h.idle && h.pending() == 0 }
