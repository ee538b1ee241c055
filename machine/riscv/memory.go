package riscv

import (
	"encoding/binary"

	"understudy/machine/mem"
)

// slow executes the record in, at h.pc, which exec could not. It reports true when the instruction is done
// (pc and position are past it, be it by a trap), false when exec is to try again.
func (h *Hart) slow(in *ins, why exit) bool {
	switch why {
	case exitMemory:
		if memKinds[in.op].size == 0 {
			h.slowPair(in)
			return false
		}
		return h.slowMemory(in)
	case exitFloat:
		h.float(uint32(in.imm), uint64(in.len))
	case exitAtomic:
		h.atomic(uint32(in.imm), uint64(in.len))
	case exitSystem:
		h.system(uint32(in.imm), uint64(in.len))
	default:
		h.illegal()
	}
	return true
}

// float executes a floating-point instruction that is neither load nor store.
func (h *Hart) float(raw uint32, size uint64) {
	if h.fs == 0 || !h.execFP(raw) {
		h.illegal()
		return
	}
	h.fs = 3
	h.x[0] = 0
	h.pc += size
	h.pos++
}

// slowMemory makes the access of a load or store to h.va possible for exec, or does it itself.
func (h *Hart) slowMemory(in *ins) bool {
	k := &memKinds[in.op]
	if k.float {
		if h.fs == 0 {
			h.illegal()
			return true
		}
		if !k.store {
			h.fs = 3
		}
	}
	va, size := h.va, uint64(k.size)
	if k.store {
		v := h.x[in.rs2]
		if k.float {
			v = h.f[in.rs2]
		}
		return h.slowStore(va, size, v, uint64(in.len))
	}
	v, st := h.slowLoad(va, size)
	if st == memRetry {
		return false
	}
	if st == memTrap {
		return true
	}
	switch {
	case k.float:
		if size == 4 {
			v |= 0xffffffff << 32
		}
		h.f[in.rd] = v
	case k.signed:
		sh := 64 - 8*size
		h.x[in.rd] = uint64(int64(v<<sh) >> sh)
	default:
		h.x[in.rd] = v
	}
	h.pc += uint64(in.len)
	h.pos++
	return true
}

// memState says how a slow access ended.
type memState int

const (
	memDone  memState = iota
	memTrap           // an exception was raised
	memRetry          // the TLB can serve it now
)

func (h *Hart) slowLoad(va, size uint64) (v uint64, st memState) {
	pa, pa2, ok := h.locate(va, size, accLoad)
	if !ok {
		return 0, memTrap
	}
	if h.ram.Contains(pa, 1) {
		if va&(size-1) == 0 {
			return 0, memRetry
		}
		return h.gather(pa, pa2, va, size), memDone
	}
	v, ok = h.bus.Read(pa, int(size))
	if !ok {
		h.exception(causeLoadAccess, va)
		return 0, memTrap
	}
	h.changed = true
	if size < 8 {
		v &= 1<<(8*size) - 1
	}
	return v, memDone
}

func (h *Hart) slowStore(va, size, v, length uint64) bool {
	pa, pa2, ok := h.locate(va, size, accStore)
	if !ok {
		return true
	}
	switch {
	case !h.ram.Contains(pa, 1):
		if size < 8 {
			v &= 1<<(8*size) - 1
		}
		if !h.bus.Write(pa, int(size), v) {
			h.exception(causeStoreAccess, va)
			return true
		}
		h.changed = true
		h.resValid = false // the device may have written to RAM
	case va&(size-1) == 0 && h.mmu.ctx.tlb[tlbIndex(va)].w == va&^pageMask:
		return false
	default:
		h.scatter(pa, pa2, va, size, v)
	}
	h.pc += length
	h.pos++
	return true
}

// locate translates the size bytes at va: pa is where they start, pa2 where they go on in the next page
// when they cross into it. It reports false when that raised an exception. Only aligned accesses may
// leave RAM.
func (h *Hart) locate(va, size uint64, acc access) (pa, pa2 uint64, ok bool) {
	pa, fault := h.translate(va, acc)
	if fault != causeNone {
		h.exception(fault, va)
		return 0, 0, false
	}
	if va&(size-1) == 0 {
		return pa, pa, true
	}
	if va&pageMask+size > mem.PageBytes {
		next := (va | pageMask) + 1
		if pa2, fault = h.translate(next, acc); fault != causeNone {
			h.exception(fault, next)
			return 0, 0, false
		}
	}
	if !h.ram.Contains(pa, 1) || pa2 != 0 && !h.ram.Contains(pa2, 1) {
		h.exception(accessFault[acc], va)
		return 0, 0, false
	}
	return pa, pa2, true
}

// gather reads a misaligned value that locate has found in RAM.
func (h *Hart) gather(pa, pa2, va, size uint64) uint64 {
	var b [8]byte
	ram := h.ram.Bytes()
	if in := mem.PageBytes - va&pageMask; in < size {
		copy(b[:in], ram[pa-mem.Base:])
		copy(b[in:size], ram[pa2-mem.Base:])
	} else {
		copy(b[:size], ram[pa-mem.Base:])
	}
	return binary.LittleEndian.Uint64(b[:])
}

// scatter writes a value that locate has found in RAM.
func (h *Hart) scatter(pa, pa2, va, size, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if in := mem.PageBytes - va&pageMask; in < size {
		h.ram.Write(pa, b[:in])
		h.ram.Write(pa2, b[in:size])
	} else {
		h.ram.Write(pa, b[:size])
	}
}
