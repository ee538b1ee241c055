package riscv

import "understudy/machine/riscv/softfloat"

// The single-precision instructions that round.

func faddS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastAdd32(h.s1(raw), h.s2(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fsubS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastSub32(h.s1(raw), h.s2(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fmulS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastMul32(h.s1(raw), h.s2(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fdivS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastDiv32(h.s1(raw), h.s2(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fsqrtS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastSqrt32(h.s1(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fmaddS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma32(h.s1(raw), h.s2(raw), h.s3(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fmsubS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma32(h.s1(raw), h.s2(raw), h.s3(raw)^sign32, rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fnmsubS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma32(h.s1(raw)^sign32, h.s2(raw), h.s3(raw), rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fnmaddS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastFma32(h.s1(raw)^sign32, h.s2(raw), h.s3(raw)^sign32, rm, h.fpSticky())
	h.fpS(raw, z, fl)
	return true
}

func fcvtWS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF32ToI32(h.s1(raw), rm)
	h.fpX(raw, uint64(i), fl)
	return true
}

// fcvtWUS sign-extends its 32-bit result, as all instructions for words do.
func fcvtWUS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF32ToU32(h.s1(raw), rm)
	h.fpX(raw, uint64(int32(i)), fl)
	return true
}

func fcvtLS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF32ToI64(h.s1(raw), rm)
	h.fpX(raw, uint64(i), fl)
	return true
}

func fcvtLUS(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	i, fl := softfloat.FastF32ToU64(h.s1(raw), rm)
	h.fpX(raw, i, fl)
	return true
}

func fcvtSW(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastI64ToF32(int64(int32(h.x1(raw))), rm)
	h.fpS(raw, z, fl)
	return true
}

func fcvtSWU(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastU64ToF32(uint64(uint32(h.x1(raw))), rm)
	h.fpS(raw, z, fl)
	return true
}

func fcvtSL(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastI64ToF32(int64(h.x1(raw)), rm)
	h.fpS(raw, z, fl)
	return true
}

func fcvtSLU(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastU64ToF32(h.x1(raw), rm)
	h.fpS(raw, z, fl)
	return true
}

func fcvtSD(h *Hart, raw uint32) bool {
	rm := h.fpRM(raw)
	if rm > softfloat.RMM {
		return false
	}
	z, fl := softfloat.FastF64ToF32(h.d1(raw), rm)
	h.fpS(raw, z, fl)
	return true
}
