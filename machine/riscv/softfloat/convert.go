package softfloat

import "math/bits"

// toInt rounds v to an integer by rm and returns it in two's complement. The integer type has
// width bits (32 or 64). Out of range, infinite or NaN operands raise NV alone and give the nearest
// end of the range, a NaN the upper one (F extension, table "Domains of float-to-integer
// conversions").
func (f *format) toInt(v uint64, rm RoundingMode, width uint, signed bool) (uint64, Flags) {
	// Greatest magnitudes of a positive and of a negative result.
	maxPos, maxNeg := ^uint64(0)>>(64-width), uint64(0)
	if signed {
		maxPos >>= 1
		maxNeg = maxPos + 1
	}
	n := f.unpack(v)
	switch {
	case n.isNaN():
		return maxPos, NV
	case n.kind == zero:
		return 0, 0
	case n.kind == infinite || n.exp > 63:
		if n.sign != 0 {
			return -maxNeg, NV
		}
		return maxPos, NV
	}
	// Split into whole and fraction, the latter in units of 2^-64.
	var whole, frac uint64
	if n.exp >= 0 {
		whole, frac = n.sig>>(63-n.exp), n.sig<<(n.exp+1)
	} else {
		frac = shiftRightJam(n.sig, uint(-1-n.exp))
	}
	// No overflow: with exp = 63 there is no fraction.
	if roundsUp(rm, n.sign, whole, frac, 1<<63) {
		whole++
	}
	var fl Flags
	if frac != 0 {
		fl = NX
	}
	if n.sign != 0 {
		if whole > maxNeg {
			return -maxNeg, NV
		}
		return -whole, fl
	}
	if whole > maxPos {
		return maxPos, NV
	}
	return whole, fl
}

// fromInt converts the integer (-1)^sign * mag.
func (f *format) fromInt(sign, mag uint64, rm RoundingMode) (uint64, Flags) {
	if mag == 0 {
		return 0, 0
	}
	lead := bits.LeadingZeros64(mag)
	return f.round(sign, 63-lead, mag<<lead, rm)
}

// to converts v to format g.
func (f *format) to(g *format, v uint64, rm RoundingMode) (uint64, Flags) {
	n := f.unpack(v)
	switch n.kind {
	case snan, qnan:
		return g.anyNaN(n, n)
	case infinite:
		return g.inf(n.sign), 0
	case zero:
		return g.zero(n.sign), 0
	}
	return g.round(n.sign, n.exp, n.sig, rm)
}

// signMag splits a two's complement integer into sign and magnitude.
func signMag(i int64) (sign, mag uint64) {
	if i < 0 {
		return 1, -uint64(i)
	}
	return 0, uint64(i)
}

// F32ToI32 is FCVT.W.S: a rounded to an int32 by rm. A value out of range, an infinity or a NaN
// raises NV alone and saturates; a NaN counts as plus infinity. The other float-to-integer
// conversions follow the same rules within their range.
func F32ToI32(a uint32, rm RoundingMode) (int32, Flags) {
	i, fl := binary32.toInt(uint64(a), rm, 32, true)
	return int32(i), fl
}

// F32ToU32 is FCVT.WU.S.
func F32ToU32(a uint32, rm RoundingMode) (uint32, Flags) {
	i, fl := binary32.toInt(uint64(a), rm, 32, false)
	return uint32(i), fl
}

// F32ToI64 is FCVT.L.S.
func F32ToI64(a uint32, rm RoundingMode) (int64, Flags) {
	i, fl := binary32.toInt(uint64(a), rm, 64, true)
	return int64(i), fl
}

// F32ToU64 is FCVT.LU.S.
func F32ToU64(a uint32, rm RoundingMode) (uint64, Flags) {
	return binary32.toInt(uint64(a), rm, 64, false)
}

// F64ToI32 is FCVT.W.D.
func F64ToI32(a uint64, rm RoundingMode) (int32, Flags) {
	i, fl := binary64.toInt(a, rm, 32, true)
	return int32(i), fl
}

// F64ToU32 is FCVT.WU.D.
func F64ToU32(a uint64, rm RoundingMode) (uint32, Flags) {
	i, fl := binary64.toInt(a, rm, 32, false)
	return uint32(i), fl
}

// F64ToI64 is FCVT.L.D.
func F64ToI64(a uint64, rm RoundingMode) (int64, Flags) {
	i, fl := binary64.toInt(a, rm, 64, true)
	return int64(i), fl
}

// F64ToU64 is FCVT.LU.D.
func F64ToU64(a uint64, rm RoundingMode) (uint64, Flags) { return binary64.toInt(a, rm, 64, false) }

// I64ToF32 is FCVT.S.L and, of a sign-extended int32, FCVT.S.W.
func I64ToF32(i int64, rm RoundingMode) (uint32, Flags) {
	sign, mag := signMag(i)
	z, fl := binary32.fromInt(sign, mag, rm)
	return uint32(z), fl
}

// U64ToF32 is FCVT.S.LU and, of a zero-extended uint32, FCVT.S.WU.
func U64ToF32(i uint64, rm RoundingMode) (uint32, Flags) {
	z, fl := binary32.fromInt(0, i, rm)
	return uint32(z), fl
}

// I64ToF64 is FCVT.D.L and, of a sign-extended int32, FCVT.D.W.
func I64ToF64(i int64, rm RoundingMode) (uint64, Flags) {
	sign, mag := signMag(i)
	return binary64.fromInt(sign, mag, rm)
}

// U64ToF64 is FCVT.D.LU and, of a zero-extended uint32, FCVT.D.WU.
func U64ToF64(i uint64, rm RoundingMode) (uint64, Flags) { return binary64.fromInt(0, i, rm) }

// F64ToF32 is FCVT.S.D: a narrowed by rm.
func F64ToF32(a uint64, rm RoundingMode) (uint32, Flags) {
	z, fl := binary64.to(&binary32, a, rm)
	return uint32(z), fl
}

// F32ToF64 is FCVT.D.S: exact, but a signalling NaN raises NV.
func F32ToF64(a uint32) (uint64, Flags) { return binary32.to(&binary64, uint64(a), RNE) }
