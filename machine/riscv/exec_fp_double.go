package riscv

import "understudy/machine/riscv/softfloat"

// The double-precision instructions that round.

func faddD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastAdd64(h.d1(raw), h.d2(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fsubD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastSub64(h.d1(raw), h.d2(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fmulD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastMul64(h.d1(raw), h.d2(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fdivD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastDiv64(h.d1(raw), h.d2(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fsqrtD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastSqrt64(h.d1(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fmaddD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma64(h.d1(raw), h.d2(raw), h.d3(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fmsubD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma64(h.d1(raw), h.d2(raw), h.d3(raw)^sign64, rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fnmsubD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma64(h.d1(raw)^sign64, h.d2(raw), h.d3(raw), rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fnmaddD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma64(h.d1(raw)^sign64, h.d2(raw), h.d3(raw)^sign64, rm, h.fpSticky())
	h.fpD(raw, z, fl)
	return true
}

func fcvtWD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF64ToI32(h.d1(raw), rm)
	h.fpX(raw, uint64(i), fl)
	return true
}

// fcvtWUD sign-extends its 32-bit result, as all instructions for words do.
func fcvtWUD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF64ToU32(h.d1(raw), rm)
	h.fpX(raw, uint64(int32(i)), fl)
	return true
}

func fcvtLD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF64ToI64(h.d1(raw), rm)
	h.fpX(raw, uint64(i), fl)
	return true
}

func fcvtLUD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF64ToU64(h.d1(raw), rm)
	h.fpX(raw, i, fl)
	return true
}

func fcvtDW(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastI64ToF64(int64(int32(h.x1(raw))), rm)
	h.fpD(raw, z, fl)
	return true
}

func fcvtDWU(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastU64ToF64(uint64(uint32(h.x1(raw))), rm)
	h.fpD(raw, z, fl)
	return true
}

func fcvtDL(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastI64ToF64(int64(h.x1(raw)), rm)
	h.fpD(raw, z, fl)
	return true
}

func fcvtDLU(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastU64ToF64(h.x1(raw), rm)
	h.fpD(raw, z, fl)
	return true
}

// fcvtDS is exact, but a reserved rounding mode is illegal all the same, as in QEMU and Spike.
func fcvtDS(h *Hart, raw uint32) bool {
	if h.fpRM(raw) > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastF32ToF64(h.s1(raw))
	h.fpD(raw, z, fl)
	return true
}
