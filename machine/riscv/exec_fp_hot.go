package riscv

import (
	"math"

	"understudy/machine/riscv/softfloat"
)

// The interpreter executes the frequent floating-point operations itself as long as nothing about
// them is unusual: FS is already dirty, the rounding mode is to nearest even, NX is already raised
// (a program's first inexact result raises it and hardly any program clears it), and the host's
// result raises nothing else. Otherwise it leaves as for any opFloat. The functions here are small
// enough to be inlined into it.

// hotFloat maps operations to those of the interpreter. rm is the static rounding mode for which
// the interpreter's form is made, besides the dynamic one; anyRM if there is no rounding mode.
var hotFloat = [fpCount]struct {
	op op
	rm uint8
}{
	fpAddS: {op: opFADDS}, fpAddD: {op: opFADDD},
	fpSubS: {op: opFSUBS}, fpSubD: {op: opFSUBD},
	fpMulS: {op: opFMULS}, fpMulD: {op: opFMULD},
	fpDivS: {op: opFDIVS}, fpDivD: {op: opFDIVD},
	fpSqrtD:  {op: opFSQRTD},
	fpMaddS:  {op: opFMADDS},
	fpMaddD:  {op: opFMADDD},
	fpMsubD:  {op: opFMSUBD},
	fpNmsubD: {op: opFNMSUBD},
	fpNmaddD: {op: opFNMADDD},
	fpSgnjS:  {opFSGNJS, anyRM}, fpSgnjD: {opFSGNJD, anyRM},
	fpSgnjnD: {opFSGNJND, anyRM}, fpSgnjxD: {opFSGNJXD, anyRM},
	fpLeD: {opFLED, anyRM}, fpLtD: {opFLTD, anyRM}, fpEqD: {opFEQD, anyRM},
	fpLeS: {opFLES, anyRM}, fpLtS: {opFLTS, anyRM}, fpEqS: {opFEQS, anyRM},
	fpToXD: {opFMVXD, anyRM}, fpFromXD: {opFMVDX, anyRM},
	fpToXS: {opFMVXW, anyRM}, fpFromXS: {opFMVWX, anyRM},
	fpToWD: {opFCVTWD, 1}, fpToLD: {opFCVTLD, 1},
	fpFromWD: {op: opFCVTDW}, fpFromLD: {op: opFCVTDL},
	fpFromSD: {op: opFCVTDS}, fpFromDS: {op: opFCVTSD},
}

const anyRM = 0xff

// decodeFloat picks the interpreter's form of a floating-point instruction, which r describes as
// opFloat.
func decodeFloat(r ins, raw uint32) ins {
	op, _ := fpPredecode(raw)
	r.op, r.imm = opFloat, int64(op)<<32|int64(raw)
	h := hotFloat[op]
	rm := uint8(raw >> 12 & 7)
	if h.op == 0 || h.rm != anyRM && h.rm != rm && (h.rm != 0 || rm != 7) {
		return r
	}
	r.op = h.op
	switch op {
	case fpLeD, fpLtD, fpEqD, fpLeS, fpLtS, fpEqS, fpToXD, fpToXS, fpToWD, fpToLD:
	default:
		r.rd = uint8(raw >> 7 & 31) // not x0, hence no dummy
	}
	return r
}

// floatRecord executes a record of opFloat or of a hot operation the interpreter left at. It reports
// false, with nothing changed, if the instruction is illegal or FS must be looked at: then h.float
// does the rest.
func (h *Hart) floatRecord(r *ins) bool {
	return h.fs == 3 && fpExec[fpOp(r.imm>>32)](h, uint32(r.imm))
}

// fpExact says that an operation that raises nothing and does not round may go ahead.
func (h *Hart) fpExact() bool { return h.fs == 3 }

// fpHot says that an operation that may only raise NX and rounds to nearest even may go ahead.
func (h *Hart) fpHot() bool { return h.fs == 3 && h.frm == 0 && h.fflags&1 != 0 }

func boxed2(a, b uint64) bool { return a&b >= boxBits }

func hotAddS(a, b uint64) (uint64, bool) {
	z, ok := softfloat.HostAdd32(uint32(a), uint32(b))
	return box(z), ok && boxed2(a, b)
}

func hotMulS(a, b uint64) (uint64, bool) {
	z, ok := softfloat.HostMul32(uint32(a), uint32(b))
	return box(z), ok && boxed2(a, b)
}

func hotDivS(a, b uint64) (uint64, bool) {
	z, ok := softfloat.HostDiv32(uint32(a), uint32(b))
	return box(z), ok && boxed2(a, b)
}

// fpNX says that an operation with a static rounding mode that may only raise NX may go ahead.
func (h *Hart) fpNX() bool { return h.fs == 3 && h.fflags&1 != 0 }

func hotEqD(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	return boolX(x == y), x == x && y == y
}

func hotLtD(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	return boolX(x < y), x == x && y == y
}

func hotLeD(a, b uint64) (uint64, bool) {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	return boolX(x <= y), x == x && y == y
}

func hotEqS(a, b uint64) (uint64, bool) {
	x, y := math.Float32frombits(uint32(a)), math.Float32frombits(uint32(b))
	return boolX(x == y), x == x && y == y && boxed2(a, b)
}

func hotLtS(a, b uint64) (uint64, bool) {
	x, y := math.Float32frombits(uint32(a)), math.Float32frombits(uint32(b))
	return boolX(x < y), x == x && y == y && boxed2(a, b)
}

func hotLeS(a, b uint64) (uint64, bool) {
	x, y := math.Float32frombits(uint32(a)), math.Float32frombits(uint32(b))
	return boolX(x <= y), x == x && y == y && boxed2(a, b)
}

// hotToW and hotToL round towards zero.
func hotToW(a uint64) (uint64, bool) {
	x := math.Float64frombits(a)
	if x > -1<<31-1 && x < 1<<31 {
		return uint64(int64(x)), true
	}
	return 0, false
}

func hotToL(a uint64) (uint64, bool) {
	x := math.Float64frombits(a)
	if x >= -1<<63 && x < 1<<63 {
		return uint64(int64(x)), true
	}
	return 0, false
}

func hotNarrow(a uint64) (uint64, bool) {
	z, ok := softfloat.HostF64ToF32(a)
	return box(z), ok
}

func hotWiden(a uint64) (uint64, bool) {
	x := float64(math.Float32frombits(uint32(a)))
	return math.Float64bits(x), x == x && a >= boxBits
}
