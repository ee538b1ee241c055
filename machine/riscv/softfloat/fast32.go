package softfloat

import "math"

// Single operations have a simpler proof than double ones: a product of two float32 is exact in
// float64, and so is everything their errors are judged by. Only the range of the result is to be
// checked: below exponent 2 tininess is in question, above 254 overflow.

// FastAdd32 is Add32 given the flags already raised.
func FastAdd32(a, b uint32, rm RoundingMode, sticky Flags) (uint32, Flags) {
	if z, ok := HostAdd32(a, b); ok && rm == RNE {
		if sticky&NX != 0 {
			return z, 0
		}
		// TwoSum, as in FastAdd64, but in float64, which cannot overflow.
		x, y, s := float64(math.Float32frombits(a)), float64(math.Float32frombits(b)), float64(math.Float32frombits(z))
		d := x + y
		t := d - x
		return z, nxIf(d != s || (x-(d-t))+(y-t) != 0)
	}
	return Add32(a, b, rm)
}

// FastSub32 is Sub32 given the flags already raised.
func FastSub32(a, b uint32, rm RoundingMode, sticky Flags) (uint32, Flags) {
	return FastAdd32(a, b^1<<31, rm, sticky)
}

// FastMul32 is Mul32 given the flags already raised.
func FastMul32(a, b uint32, rm RoundingMode, _ Flags) (uint32, Flags) {
	if z, ok := HostMul32(a, b); ok && rm == RNE {
		return z, nxIf(float64(math.Float32frombits(a))*float64(math.Float32frombits(b)) != float64(math.Float32frombits(z)))
	}
	return Mul32(a, b, rm)
}

// FastDiv32 is Div32 given the flags already raised.
func FastDiv32(a, b uint32, rm RoundingMode, _ Flags) (uint32, Flags) {
	if z, ok := HostDiv32(a, b); ok && rm == RNE {
		return z, nxIf(float64(math.Float32frombits(z))*float64(math.Float32frombits(b)) != float64(math.Float32frombits(a)))
	}
	return Div32(a, b, rm)
}

// FastSqrt32 is Sqrt32 given the flags already raised.
func FastSqrt32(a uint32, rm RoundingMode, _ Flags) (uint32, Flags) {
	if z, ok := HostSqrt32(a); ok && rm == RNE {
		r := float64(math.Float32frombits(z))
		return z, nxIf(r*r != float64(math.Float32frombits(a)))
	}
	return Sqrt32(a, rm)
}

// FastFma32 is Fma32 given the flags already raised. The product is exact in float64; the sum is
// rounded to odd there (if inexact, to the neighbour whose last bit is one), after which rounding
// to float32 is as if there had been only one rounding.
func FastFma32(a, b, c uint32, rm RoundingMode, sticky Flags) (uint32, Flags) {
	if z, ok := HostFma32(a, b, c); ok && rm == RNE && sticky&NX != 0 {
		return z, 0
	}
	if rm == RNE {
		p := float64(float64(math.Float32frombits(a)) * float64(math.Float32frombits(b))) // exact
		w := float64(math.Float32frombits(c))
		s := p + w
		t := s - p
		e := (p - (s - t)) + (w - t)
		if e != 0 {
			odd := math.Float64bits(s)
			if odd&1 == 0 {
				if (e > 0) == (s > 0) {
					odd++
				} else {
					odd--
				}
			}
			s = math.Float64frombits(odd)
		}
		r := float32(s)
		if z := math.Float32bits(r); settled32(z) {
			return z, nxIf(e != 0 || float64(r) != s)
		}
	}
	return Fma32(a, b, c, rm)
}

// exactInt32 is the magnitude up to which every integer is a float32.
const exactInt32 = 1 << 24

// FastI64ToF32 is I64ToF32: exact for small integers, whatever the rounding mode.
func FastI64ToF32(i int64, rm RoundingMode) (uint32, Flags) {
	if -exactInt32 <= i && i <= exactInt32 {
		return math.Float32bits(float32(int32(i))), 0
	}
	return I64ToF32(i, rm)
}

// FastU64ToF32 is U64ToF32: exact for small integers, whatever the rounding mode.
func FastU64ToF32(i uint64, rm RoundingMode) (uint32, Flags) {
	if i <= exactInt32 {
		return math.Float32bits(float32(int32(i))), 0
	}
	return U64ToF32(i, rm)
}

// FastF32ToF64 is F32ToF64.
func FastF32ToF64(a uint32) (uint64, Flags) {
	if a&exp32 != exp32 {
		return math.Float64bits(float64(math.Float32frombits(a))), 0
	}
	return F32ToF64(a)
}

// FastF32ToI64 is F32ToI64, FastF32ToU64 F32ToU64 and so on: widening first is exact, and the
// double conversions know the fast cases. Widening turns a signalling NaN into a quiet one, which
// makes no difference: both raise NV and give the same integer.
func FastF32ToI64(a uint32, rm RoundingMode) (int64, Flags) { return FastF64ToI64(widen(a), rm) }

// FastF32ToU64 is F32ToU64.
func FastF32ToU64(a uint32, rm RoundingMode) (uint64, Flags) { return FastF64ToU64(widen(a), rm) }

// FastF32ToI32 is F32ToI32.
func FastF32ToI32(a uint32, rm RoundingMode) (int32, Flags) { return FastF64ToI32(widen(a), rm) }

// FastF32ToU32 is F32ToU32.
func FastF32ToU32(a uint32, rm RoundingMode) (uint32, Flags) { return FastF64ToU32(widen(a), rm) }

func widen(a uint32) uint64 { return math.Float64bits(float64(math.Float32frombits(a))) }
