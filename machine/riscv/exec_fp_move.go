package riscv

import "understudy/machine/riscv/softfloat"

// The instructions that do not round: sign injection, minimum and maximum, comparison,
// classification and moves. None can be illegal.

func fsgnjS(h *Hart, raw uint32) bool {
	h.fpS(raw, softfloat.SignInject32(h.s1(raw), h.s2(raw)), 0)
	return true
}

func fsgnjnS(h *Hart, raw uint32) bool {
	h.fpS(raw, softfloat.SignInject32(h.s1(raw), ^h.s2(raw)), 0)
	return true
}

func fsgnjxS(h *Hart, raw uint32) bool {
	h.fpS(raw, softfloat.SignInject32(h.s1(raw), h.s1(raw)^h.s2(raw)), 0)
	return true
}

func fminS(h *Hart, raw uint32) bool {
	z, fl := softfloat.Min32(h.s1(raw), h.s2(raw))
	h.fpS(raw, z, fl)
	return true
}

func fmaxS(h *Hart, raw uint32) bool {
	z, fl := softfloat.Max32(h.s1(raw), h.s2(raw))
	h.fpS(raw, z, fl)
	return true
}

func fleS(h *Hart, raw uint32) bool {
	z, fl := softfloat.Le32(h.s1(raw), h.s2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func fltS(h *Hart, raw uint32) bool {
	z, fl := softfloat.Lt32(h.s1(raw), h.s2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func feqS(h *Hart, raw uint32) bool {
	z, fl := softfloat.Eq32(h.s1(raw), h.s2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func fclassS(h *Hart, raw uint32) bool {
	h.fpX(raw, softfloat.Class32(h.s1(raw)), 0)
	return true
}

func fsgnjD(h *Hart, raw uint32) bool {
	h.fpD(raw, softfloat.SignInject64(h.d1(raw), h.d2(raw)), 0)
	return true
}

func fsgnjnD(h *Hart, raw uint32) bool {
	h.fpD(raw, softfloat.SignInject64(h.d1(raw), ^h.d2(raw)), 0)
	return true
}

func fsgnjxD(h *Hart, raw uint32) bool {
	h.fpD(raw, softfloat.SignInject64(h.d1(raw), h.d1(raw)^h.d2(raw)), 0)
	return true
}

func fminD(h *Hart, raw uint32) bool {
	z, fl := softfloat.Min64(h.d1(raw), h.d2(raw))
	h.fpD(raw, z, fl)
	return true
}

func fmaxD(h *Hart, raw uint32) bool {
	z, fl := softfloat.Max64(h.d1(raw), h.d2(raw))
	h.fpD(raw, z, fl)
	return true
}

func fleD(h *Hart, raw uint32) bool {
	z, fl := softfloat.Le64(h.d1(raw), h.d2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func fltD(h *Hart, raw uint32) bool {
	z, fl := softfloat.Lt64(h.d1(raw), h.d2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func feqD(h *Hart, raw uint32) bool {
	z, fl := softfloat.Eq64(h.d1(raw), h.d2(raw))
	h.fpX(raw, boolX(z), fl)
	return true
}

func fclassD(h *Hart, raw uint32) bool {
	h.fpX(raw, softfloat.Class64(h.d1(raw)), 0)
	return true
}

// The moves copy bits: FMV.X.W does not care whether the register holds a proper single.

func fmvXW(h *Hart, raw uint32) bool {
	h.fpX(raw, uint64(int32(h.d1(raw))), 0)
	return true
}

func fmvXD(h *Hart, raw uint32) bool {
	h.fpX(raw, h.d1(raw), 0)
	return true
}

func fmvWX(h *Hart, raw uint32) bool {
	h.fpS(raw, uint32(h.x1(raw)), 0)
	return true
}

func fmvDX(h *Hart, raw uint32) bool {
	h.fpD(raw, h.x1(raw), 0)
	return true
}
