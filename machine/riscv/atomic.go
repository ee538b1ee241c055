package riscv

import (
	"encoding/binary"

	"understudy/machine/mem"
)

// atomic executes an LR, SC or AMO instruction at h.pc.
func (h *Hart) atomic(raw uint32, length uint64) {
	const lr, sc = 2, 3
	va := h.x[raw>>15&31]
	src := h.x[raw>>20&31]
	rd := int(raw >> 7 & 31)
	size := uint64(4)
	if raw>>12&7 == 3 {
		size = 8
	}
	kind := raw >> 27
	acc, misaligned := accStore, uint64(causeStoreAlign)
	if kind == lr {
		acc, misaligned = accLoad, causeLoadAlign
	}
	if va&(size-1) != 0 {
		h.exception(misaligned, va)
		return
	}
	pa, fault := h.translate(va, acc)
	if fault == causeNone && !h.ram.Contains(pa, size) {
		fault = accessFault[acc]
	}
	if fault != causeNone {
		h.exception(fault, va)
		return
	}
	p := h.ram.Bytes()[pa-mem.Base:][:8:8]
	if size == 4 {
		p = p[:4]
	}
	old := loadSigned(p)
	result := old
	switch kind {
	case lr:
		h.resAddr, h.resValid = pa, true
	case sc:
		result = 1
		if h.resValid && h.resAddr == pa {
			h.storeRAM(pa, p, src)
			result = 0
		}
		h.resValid = false
	default:
		h.storeRAM(pa, p, amo(kind, old, src, size))
	}
	h.SetX(rd, result)
	h.pc += length
	h.pos++
}

func loadSigned(p []byte) uint64 {
	if len(p) == 4 {
		return uint64(int32(binary.LittleEndian.Uint32(p)))
	}
	return binary.LittleEndian.Uint64(p)
}

// storeRAM writes v to p, which is RAM at pa.
func (h *Hart) storeRAM(pa uint64, p []byte, v uint64) {
	h.ram.Touch(pa, uint64(len(p)))
	if len(p) == 4 {
		binary.LittleEndian.PutUint32(p, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(p, v)
	}
}

// amo gives what an AMO stores.
func amo(kind uint32, old, src, size uint64) uint64 {
	if size == 4 {
		src = uint64(int32(src))
	}
	switch kind {
	case 0:
		return old + src
	case 1:
		return src
	case 4:
		return old ^ src
	case 8:
		return old | src
	case 12:
		return old & src
	case 16:
		return uint64(min(int64(old), int64(src)))
	case 20:
		return uint64(max(int64(old), int64(src)))
	case 24: // sign extension keeps the unsigned order
		return min(old, src)
	}
	return max(old, src)
}
