// Package softfloat is IEEE 754 binary32 and binary64 arithmetic as the RISC-V F and D extensions
// define it: five rounding modes, exact exception flags, canonical NaNs, tininess detected after
// rounding. Values are raw bit patterns in uint32 and uint64.
//
// Two layers give the same bits and the same accumulated flags:
//
//   - the reference (Add64, Mul32, Fma64, ...) uses integers only and returns the flags of that one
//     operation;
//   - the fast layer (FastAdd64, FastMul32, ...) takes the flags already raised as well, uses the
//     host's floating point where the outcome is provably the same on every host, and hands
//     everything else to the reference.
//
// The caller resolves the dynamic rounding mode, rejects reserved ones, checks NaN boxing and
// accumulates the flags. Every function accepts every bit pattern. A rounding mode above RMM is
// the caller's mistake and rounds like RTZ.
//
// Sources: the RISC-V Instruction Set Manual, volume I, chapters "F" and "D" Standard Extension;
// IEEE 754-2019.
package softfloat

// RoundingMode is the value of the frm CSR and of a resolved rm field: 0 to 4.
type RoundingMode uint8

// Rounding modes, numbered as in the manual (F extension, "Floating-Point Control and Status
// Register"). 5 and 6 are reserved; 7 in an instruction means "use frm" and never reaches this
// package.
const (
	RNE RoundingMode = 0 // to nearest, ties to even
	RTZ RoundingMode = 1 // towards zero
	RDN RoundingMode = 2 // towards minus infinity
	RUP RoundingMode = 3 // towards plus infinity
	RMM RoundingMode = 4 // to nearest, ties to maximum magnitude
)

// Flags is a set of accrued exceptions with the bits of the fflags CSR.
type Flags uint8

// Exception flags, bit for bit those of fflags.
const (
	NX Flags = 1 << iota // inexact
	UF                   // underflow: tiny after rounding, and inexact
	OF                   // overflow
	DZ                   // divide by zero
	NV                   // invalid operation
)

// Canonical NaNs: every operation that produces a NaN produces these. Nothing propagates payloads.
const (
	NaN32 uint32 = 0x7fc00000
	NaN64 uint64 = 0x7ff8000000000000
)

// format describes a binary interchange format of at most 64 bits.
type format struct {
	frac   uint   // bits of the trailing significand
	bias   int    // exponent bias
	expMax uint64 // the exponent field of infinities and NaNs
	sign   uint   // index of the sign bit
	nan    uint64 // canonical NaN
}

var (
	binary32 = format{frac: 23, bias: 127, expMax: 0xff, sign: 31, nan: uint64(NaN32)}
	binary64 = format{frac: 52, bias: 1023, expMax: 0x7ff, sign: 63, nan: NaN64}
)

// inf returns the infinity of the sign (0 or 1).
func (f *format) inf(sign uint64) uint64 { return sign<<(f.sign&63) | f.expMax<<(f.frac&63) }

// zero returns the zero of the sign (0 or 1).
func (f *format) zero(sign uint64) uint64 { return sign << (f.sign & 63) }

// Add32 returns a + b rounded by rm, and the exceptions raised.
func Add32(a, b uint32, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.add(uint64(a), uint64(b), rm)
	return uint32(z), fl
}

// Sub32 returns a - b rounded by rm, and the exceptions raised.
func Sub32(a, b uint32, rm RoundingMode) (uint32, Flags) { return Add32(a, b^1<<31, rm) }

// Mul32 returns a * b rounded by rm, and the exceptions raised.
func Mul32(a, b uint32, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.mul(uint64(a), uint64(b), rm)
	return uint32(z), fl
}

// Div32 returns a / b rounded by rm, and the exceptions raised.
func Div32(a, b uint32, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.div(uint64(a), uint64(b), rm)
	return uint32(z), fl
}

// Sqrt32 returns the square root of a rounded by rm, and the exceptions raised.
func Sqrt32(a uint32, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.sqrt(uint64(a), rm)
	return uint32(z), fl
}

// Fma32 returns a*b + c rounded once by rm, and the exceptions raised. The subtracting and negating
// instructions are FMSUB = Fma(a, b, -c), FNMSUB = Fma(-a, b, c) and FNMADD =
// Fma(-a, b, -c), with the sign bits flipped by the caller: negation is exact and NaN signs do not
// matter.
func Fma32(a, b, c uint32, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.fma(uint64(a), uint64(b), uint64(c), rm)
	return uint32(z), fl
}

// Add64 returns a + b rounded by rm, and the exceptions raised.
func Add64(a, b uint64, rm RoundingMode) (uint64, Flags) { return binary64.add(a, b, rm) }

// Sub64 returns a - b rounded by rm, and the exceptions raised.
func Sub64(a, b uint64, rm RoundingMode) (uint64, Flags) { return binary64.add(a, b^1<<63, rm) }

// Mul64 returns a * b rounded by rm, and the exceptions raised.
func Mul64(a, b uint64, rm RoundingMode) (uint64, Flags) { return binary64.mul(a, b, rm) }

// Div64 returns a / b rounded by rm, and the exceptions raised.
func Div64(a, b uint64, rm RoundingMode) (uint64, Flags) { return binary64.div(a, b, rm) }

// Sqrt64 returns the square root of a rounded by rm, and the exceptions raised.
func Sqrt64(a uint64, rm RoundingMode) (uint64, Flags) { return binary64.sqrt(a, rm) }

// Fma64 returns a*b + c rounded once by rm, and the exceptions raised. See Fma32 for the variants.
func Fma64(a, b, c uint64, rm RoundingMode) (uint64, Flags) { return binary64.fma(a, b, c, rm) }
