package softfloat

import "math"

// The fast layer rests on three facts that hold on every host Go runs on: its float64 and float32
// additions, multiplications, divisions and square roots are IEEE 754's, rounded to nearest even,
// with subnormals; an explicit conversion keeps x*y + z from being fused; math.FMA rounds once.
//
// If the host's result is a normal number away from the ends of the exponent range, the operands
// were finite and neither NV, DZ, OF nor UF can be raised: NX is the only question. If NX is
// already raised the answer does not matter; otherwise the rounding error of the operation, itself
// a floating-point number, is computed without error and compared with zero. All else (other
// rounding modes, infinities, NaNs, results near or below the least normal number) goes to the
// reference.
//
// Contract of every Fast function: sticky|flags equals sticky|(flags of the reference), and the
// value equals the reference's.

func nxIf(inexact bool) Flags {
	if inexact {
		return NX
	}
	return 0
}

// FastAdd64 is Add64 given the flags already raised.
func FastAdd64(a, b uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	if z, ok := HostAdd64(a, b); ok && rm == RNE {
		if sticky&NX != 0 {
			return z, 0
		}
		// Knuth's TwoSum. If s is exact, t = y and the error is 0. If not, it is the error or, where
		// the greatest finite numbers make t overflow, a NaN: never 0.
		x, y, s := math.Float64frombits(a), math.Float64frombits(b), math.Float64frombits(z)
		t := s - x
		return z, nxIf((x-(s-t))+(y-t) != 0)
	}
	return Add64(a, b, rm)
}

// FastSub64 is Sub64 given the flags already raised.
func FastSub64(a, b uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	return FastAdd64(a, b^1<<63, rm, sticky)
}

// FastMul64 is Mul64 given the flags already raised.
func FastMul64(a, b uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	if z, ok := HostMul64(a, b); ok && rm == RNE {
		if sticky&NX != 0 {
			return z, 0
		}
		return z, nxIf(math.FMA(math.Float64frombits(a), math.Float64frombits(b), -math.Float64frombits(z)) != 0)
	}
	return Mul64(a, b, rm)
}

// FastDiv64 is Div64 given the flags already raised.
func FastDiv64(a, b uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	if z, ok := HostDiv64(a, b); ok && rm == RNE {
		if sticky&NX != 0 {
			return z, 0
		}
		// The remainder is a multiple of ulp(z)*ulp(b), about 2^-106 of a.
		return z, nxIf(math.FMA(math.Float64frombits(z), math.Float64frombits(b), -math.Float64frombits(a)) != 0)
	}
	return Div64(a, b, rm)
}

// FastSqrt64 is Sqrt64 given the flags already raised.
func FastSqrt64(a uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	if z, ok := HostSqrt64(a); ok && rm == RNE {
		if sticky&NX != 0 {
			return z, 0
		}
		r := math.Float64frombits(z)
		return z, nxIf(math.FMA(r, r, -math.Float64frombits(a)) != 0)
	}
	return Sqrt64(a, rm)
}

// FastFma64 is Fma64 given the flags already raised. The error of a fused multiply-add is not one
// floating-point number, so the first inexact one after NX was cleared is left to the reference.
func FastFma64(a, b, c uint64, rm RoundingMode, sticky Flags) (uint64, Flags) {
	if rm == RNE && sticky&NX != 0 {
		if z, ok := HostFma64(a, b, c); ok {
			return z, 0
		}
	}
	return Fma64(a, b, c, rm)
}

// exactInt64 is the magnitude up to which every integer is a float64.
const exactInt64 = 1 << 53

// FastI64ToF64 is I64ToF64: exact for most integers, whatever the rounding mode.
func FastI64ToF64(i int64, rm RoundingMode) (uint64, Flags) {
	if -exactInt64 <= i && i <= exactInt64 {
		return math.Float64bits(float64(i)), 0
	}
	return I64ToF64(i, rm)
}

// FastU64ToF64 is U64ToF64: exact for most integers, whatever the rounding mode.
func FastU64ToF64(i uint64, rm RoundingMode) (uint64, Flags) {
	if i <= exactInt64 {
		return math.Float64bits(float64(int64(i))), 0
	}
	return U64ToF64(i, rm)
}

// FastF64ToI64 is F64ToI64. RTZ, the mode of a cast in C, is the fast one.
func FastF64ToI64(a uint64, rm RoundingMode) (int64, Flags) {
	if x := math.Float64frombits(a); rm == RTZ && x >= -1<<63 && x < 1<<63 {
		i := int64(x)
		return i, nxIf(float64(i) != x)
	}
	return F64ToI64(a, rm)
}

// FastF64ToU64 is F64ToU64. RTZ is the fast one, below 2^63.
func FastF64ToU64(a uint64, rm RoundingMode) (uint64, Flags) {
	if x := math.Float64frombits(a); rm == RTZ && x > -1 && x < 1<<63 {
		i := int64(x)
		return uint64(i), nxIf(float64(i) != x)
	}
	return F64ToU64(a, rm)
}

// FastF64ToI32 is F64ToI32. RTZ is the fast one.
func FastF64ToI32(a uint64, rm RoundingMode) (int32, Flags) {
	if x := math.Float64frombits(a); rm == RTZ && x > -1<<31-1 && x < 1<<31 {
		i := int64(x)
		return int32(i), nxIf(float64(i) != x)
	}
	return F64ToI32(a, rm)
}

// FastF64ToU32 is F64ToU32. RTZ is the fast one.
func FastF64ToU32(a uint64, rm RoundingMode) (uint32, Flags) {
	if x := math.Float64frombits(a); rm == RTZ && x > -1 && x < 1<<32 {
		i := int64(x)
		return uint32(i), nxIf(float64(i) != x)
	}
	return F64ToU32(a, rm)
}

// FastF64ToF32 is F64ToF32.
func FastF64ToF32(a uint64, rm RoundingMode) (uint32, Flags) {
	if rm == RNE {
		x := math.Float64frombits(a)
		r := float32(x)
		if z := math.Float32bits(r); settled32(z) {
			return z, nxIf(float64(r) != x)
		}
	}
	return F64ToF32(a, rm)
}
