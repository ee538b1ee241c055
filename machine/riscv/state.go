package riscv

import (
	"understudy/event"
	"understudy/machine/mem"
	"understudy/machine/state"
)

// Save appends the hart's whole state; RAM is not part of it.
func (h *Hart) Save(e *state.Encoder) {
	for _, v := range h.x[1:32] {
		e.U64(v)
	}
	for _, v := range h.f {
		e.U64(v)
	}
	e.U8(h.fflags)
	e.U8(h.frm)
	e.U8(h.fs)
	e.U8(h.priv)
	e.U64(h.pc)
	e.U64(uint64(h.pos))
	for _, v := range []uint64{
		h.sstatus, h.sie, h.stvec, h.scounteren, h.senvcfg, h.sscratch, h.sepc,
		h.scause, h.stval, h.satp, h.stimecmp,
	} {
		e.U64(v)
	}
	e.Bool(h.ssip)
	e.Bool(h.seip)
	e.Bool(h.idle)
	e.Bool(h.resValid)
	e.U64(h.resAddr)
	e.U64(uint64(h.clock.at))
	e.U64(h.clock.now)
	e.U32(uint32(h.clock.rate))
}

// Load replaces the hart's state by what Save wrote. RAM may have been replaced before by any means:
// nothing that was cached of it is kept. Values that no hart can hold are reported with d.Fail.
func (h *Hart) Load(d *state.Decoder) {
	for i := range h.x[1:32] {
		h.x[i+1] = d.U64()
	}
	for i := range h.f {
		h.f[i] = d.U64()
	}
	h.fflags = d.U8() & 31
	h.frm = d.U8() & 7
	h.fs = d.U8() & 3
	h.priv = d.U8()
	if h.priv > privS {
		d.Fail("privilege mode %d", h.priv)
		h.priv = privS
	}
	h.pc = d.U64() &^ 1
	h.pos = event.Position(d.U64())
	for _, n := range []int{
		csrSstatus, csrSie, csrStvec, csrScounteren, csrSenvcfg, csrSscratch, csrSepc,
		csrScause, csrStval, csrSatp,
	} {
		fs := h.fs
		h.setCSR(n, d.U64())
		h.fs = fs
	}
	h.stimecmp = d.U64()
	h.ssip, h.seip, h.idle, h.resValid = d.Bool(), d.Bool(), d.Bool(), d.Bool()
	h.resAddr = d.U64()
	h.clock = clock{at: event.Position(d.U64()), now: d.U64(), rate: uint64(d.U32())}
	if h.clock.at > h.pos {
		d.Fail("clock starts after the position")
		h.clock.at = h.pos
	}
	h.mid, h.asked = 0, false
	h.setDeadline()
	h.mmu.flushAll()
	h.dropCode()
	for i := range h.mmu.flags {
		h.mmu.flags[i] &^= mem.Table
	}
	clear(h.mmu.tables)
}
