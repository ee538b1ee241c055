package riscv

import (
	"encoding/binary"

	"understudy/machine/mem"
)

// system executes the SYSTEM instruction at h.pc: environment calls, returns, WFI, fences of the address
// space and CSR access. It advances pc and position.
func (h *Hart) system(raw uint32, size uint64) {
	switch {
	case raw>>12&7 == 0:
		h.privileged(raw, size)
	case raw>>12&7 != 4 && h.csrOp(raw):
		h.pc += size
		h.pos++
	default:
		h.illegal()
	}
}

// illegal raises the exception for the illegal instruction at h.pc; stval gets its bits.
func (h *Hart) illegal() {
	bits := uint64(0)
	if pa, ok := h.fetch(h.pc, h.pc); ok {
		bits = uint64(binary.LittleEndian.Uint16(h.ram.Bytes()[pa-mem.Base:]))
		if bits&3 == 3 {
			if pa2, ok := h.fetch(h.pc, h.pc+2); ok {
				bits = uint64(h.halves(pa, pa2))
			}
		}
	}
	h.exception(causeIllegal, bits)
}

func (h *Hart) privileged(raw uint32, size uint64) {
	switch {
	case raw == 0x00000073: // ecall
		if h.priv == privU {
			h.exception(causeEcallU, 0)
			return
		}
		h.pc += size
		h.changed = true
		h.mon.SBI(h)
		h.pos++
	case raw == 0x00100073: // ebreak
		h.exception(causeBreakpoint, h.pc)
	case raw == 0x10200073 && h.priv == privS: // sret
		h.sret()
		h.pos++
	case raw == 0x10500073 && h.priv == privS: // wfi
		h.pc += size
		h.pos++
		h.idle = h.pending() == 0
		h.changed = true
	case raw>>25 == 9 && raw>>7&31 == 0 && h.priv == privS: // sfence.vma: the TLB is coherent
		h.pc += size
		h.pos++
	default:
		h.illegal()
	}
}
