package riscv

import "understudy/machine/riscv/softfloat"

// Floating point, all but loads and stores. An instruction is found once (fpPredecode gives a dense
// fpOp) and executed often (fpExec[op]); the registers and the rounding mode are fields of the raw
// instruction at fixed places, cheaper to extract again than to carry along.
//
// sstatus.FS is not looked at here: the caller refuses while it is off and marks it dirty after.

// fpOp numbers the floating-point instructions densely. Of each pair the form for singles comes
// first, that for doubles is the next number.
type fpOp uint8

const (
	fpIllegal fpOp = iota
	_
	fpAddS
	fpAddD
	fpSubS
	fpSubD
	fpMulS
	fpMulD
	fpDivS
	fpDivD
	fpSqrtS
	fpSqrtD
	fpMaddS
	fpMaddD
	fpMsubS
	fpMsubD
	fpNmsubS
	fpNmsubD
	fpNmaddS
	fpNmaddD
	fpSgnjS
	fpSgnjD
	fpSgnjnS
	fpSgnjnD
	fpSgnjxS
	fpSgnjxD
	fpMinS
	fpMinD
	fpMaxS
	fpMaxD
	fpLeS
	fpLeD
	fpLtS
	fpLtD
	fpEqS
	fpEqD
	fpToWS // FCVT.W.S and so on: from a float to an integer
	fpToWD
	fpToWUS
	fpToWUD
	fpToLS
	fpToLD
	fpToLUS
	fpToLUD
	fpFromWS // FCVT.S.W and so on: from an integer to a float
	fpFromWD
	fpFromWUS
	fpFromWUD
	fpFromLS
	fpFromLD
	fpFromLUS
	fpFromLUD
	fpFromDS // FCVT.S.D
	fpFromSD // FCVT.D.S
	fpToXS   // FMV.X.W
	fpToXD
	fpClassS
	fpClassD
	fpFromXS // FMV.W.X
	fpFromXD

	fpCount // number of operations
)

// fpFunc executes one instruction. false: the rounding mode is reserved, the instruction is illegal
// and nothing has changed.
type fpFunc func(h *Hart, raw uint32) bool

// fpExec holds the function of every operation; fpPredecode's result is always a valid index.
var fpExec = [fpCount]fpFunc{
	fpIllegal: fpExecIllegal, 1: fpExecIllegal,
	fpAddS: faddS, fpAddD: faddD,
	fpSubS: fsubS, fpSubD: fsubD,
	fpMulS: fmulS, fpMulD: fmulD,
	fpDivS: fdivS, fpDivD: fdivD,
	fpSqrtS: fsqrtS, fpSqrtD: fsqrtD,
	fpMaddS: fmaddS, fpMaddD: fmaddD,
	fpMsubS: fmsubS, fpMsubD: fmsubD,
	fpNmsubS: fnmsubS, fpNmsubD: fnmsubD,
	fpNmaddS: fnmaddS, fpNmaddD: fnmaddD,
	fpSgnjS: fsgnjS, fpSgnjD: fsgnjD,
	fpSgnjnS: fsgnjnS, fpSgnjnD: fsgnjnD,
	fpSgnjxS: fsgnjxS, fpSgnjxD: fsgnjxD,
	fpMinS: fminS, fpMinD: fminD,
	fpMaxS: fmaxS, fpMaxD: fmaxD,
	fpLeS: fleS, fpLeD: fleD,
	fpLtS: fltS, fpLtD: fltD,
	fpEqS: feqS, fpEqD: feqD,
	fpToWS: fcvtWS, fpToWD: fcvtWD,
	fpToWUS: fcvtWUS, fpToWUD: fcvtWUD,
	fpToLS: fcvtLS, fpToLD: fcvtLD,
	fpToLUS: fcvtLUS, fpToLUD: fcvtLUD,
	fpFromWS: fcvtSW, fpFromWD: fcvtDW,
	fpFromWUS: fcvtSWU, fpFromWUD: fcvtDWU,
	fpFromLS: fcvtSL, fpFromLD: fcvtDL,
	fpFromLUS: fcvtSLU, fpFromLUD: fcvtDLU,
	fpFromDS: fcvtSD, fpFromSD: fcvtDS,
	fpToXS: fmvXW, fpToXD: fmvXD,
	fpClassS: fclassS, fpClassD: fclassD,
	fpFromXS: fmvWX, fpFromXD: fmvDX,
}

func fpExecIllegal(*Hart, uint32) bool { return false }

// execFP executes the OP-FP, FMADD, FMSUB, FNMSUB or FNMADD instruction raw. false: raw is illegal,
// or the rounding mode it asks for is; nothing has changed then.
func (h *Hart) execFP(raw uint32) bool {
	op, _ := fpPredecode(raw)
	return fpExec[op](h, raw)
}

// fpPredecode finds the operation of the 32-bit instruction raw. ok is false, and op fpIllegal, if
// raw is not an instruction of F or D, or is a load or store, or its rounding mode is reserved. An
// instruction with a dynamic rounding mode may still turn out to be illegal when it is executed.
func fpPredecode(raw uint32) (op fpOp, ok bool) {
	single := raw>>25&3 == 0
	if !single && raw>>25&3 != 1 {
		return fpIllegal, false // half and quad
	}
	f3, rs2 := raw>>12&7, raw>>20&31
	rounded := true // f3 is a rounding mode
	switch raw & 0x7f {
	case 0x43:
		op = fpMaddS
	case 0x47:
		op = fpMsubS
	case 0x4b:
		op = fpNmsubS
	case 0x4f:
		op = fpNmaddS
	case 0x53:
		switch raw >> 27 {
		case 0:
			op = fpAddS
		case 1:
			op = fpSubS
		case 2:
			op = fpMulS
		case 3:
			op = fpDivS
		case 4:
			op, rounded = fpPick(f3, fpSgnjS, fpSgnjnS, fpSgnjxS), false
		case 5:
			op, rounded = fpPick(f3, fpMinS, fpMaxS), false
		case 0x08:
			if single && rs2 == 1 || !single && rs2 == 0 {
				op = fpFromDS
			}
		case 0x0b:
			op = fpPick(rs2, fpSqrtS)
		case 0x14:
			op, rounded = fpPick(f3, fpLeS, fpLtS, fpEqS), false
		case 0x18:
			op = fpPick(rs2, fpToWS, fpToWUS, fpToLS, fpToLUS)
		case 0x1a:
			op = fpPick(rs2, fpFromWS, fpFromWUS, fpFromLS, fpFromLUS)
		case 0x1c:
			if rs2 == 0 {
				op, rounded = fpPick(f3, fpToXS, fpClassS), false
			}
		case 0x1e:
			if rs2 == 0 {
				op, rounded = fpPick(f3, fpFromXS), false
			}
		}
	}
	if op == fpIllegal || rounded && (f3 == 5 || f3 == 6) {
		return fpIllegal, false
	}
	if !single {
		op++
	}
	return op, true
}

// fpPick returns the i-th operation, fpIllegal if there is none.
func fpPick(i uint32, ops ...fpOp) fpOp {
	if i < uint32(len(ops)) {
		return ops[i]
	}
	return fpIllegal
}

// fpRM resolves the rounding mode of raw; a result above RMM is reserved.
func (h *Hart) fpRM(raw uint32) softfloat.RoundingMode {
	rm := raw >> 12 & 7
	if rm == 7 {
		rm = uint32(h.frm)
	}
	return softfloat.RoundingMode(rm)
}

// fpSticky returns the exceptions raised so far.
func (h *Hart) fpSticky() softfloat.Flags { return softfloat.Flags(h.fflags) }

// fpX writes an integer result.
func (h *Hart) fpX(raw uint32, v uint64, fl softfloat.Flags) {
	if rd := raw >> 7 & 31; rd != 0 {
		h.x[rd] = v
	}
	h.fflags |= uint8(fl)
}

// fpD writes a double result.
func (h *Hart) fpD(raw uint32, v uint64, fl softfloat.Flags) {
	h.f[raw>>7&31] = v
	h.fflags |= uint8(fl)
}

// fpS writes a single result, boxed.
func (h *Hart) fpS(raw, v uint32, fl softfloat.Flags) {
	h.f[raw>>7&31] = box(v)
	h.fflags |= uint8(fl)
}

// d1, d2 and d3 read the operands of an instruction for doubles, s1, s2 and s3 those of one for
// singles, x1 the integer operand.
func (h *Hart) d1(raw uint32) uint64 { return h.f[raw>>15&31] }
func (h *Hart) d2(raw uint32) uint64 { return h.f[raw>>20&31] }
func (h *Hart) d3(raw uint32) uint64 { return h.f[raw>>27&31] }
func (h *Hart) s1(raw uint32) uint32 { return unbox(h.f[raw>>15&31]) }
func (h *Hart) s2(raw uint32) uint32 { return unbox(h.f[raw>>20&31]) }
func (h *Hart) s3(raw uint32) uint32 { return unbox(h.f[raw>>27&31]) }
func (h *Hart) x1(raw uint32) uint64 { return h.x[raw>>15&31] }

const (
	boxBits = 0xffffffff << 32
	sign32  = 1 << 31
	sign64  = 1 << 63
)

// box makes a register value of a single (D extension, "NaN Boxing of Narrower Values").
func box(v uint32) uint64 { return boxBits | uint64(v) }

// unbox reads a single from a register value: one that is not properly boxed counts as the
// canonical NaN.
func unbox(v uint64) uint32 {
	if v >= boxBits {
		return uint32(v)
	}
	return softfloat.NaN32
}

// boolX is the integer result of a comparison.
func boolX(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
