package softfloat

// isNaN reports whether v is a NaN, snan whether it is a signalling one.
func (f *format) isNaN(v uint64) bool { return v&(1<<f.sign-1) > f.inf(0) }

func (f *format) isSNaN(v uint64) bool { return f.isNaN(v) && v>>(f.frac-1)&1 == 0 }

// order maps the numbers of the format to integers in the same order, with -0 just below +0.
func (f *format) order(v uint64) int64 {
	if v>>f.sign&1 != 0 {
		return ^int64(v & (1<<f.sign - 1))
	}
	return int64(v)
}

// eq is the quiet comparison: only a signalling NaN raises NV.
func (f *format) eq(a, b uint64) (bool, Flags) {
	if f.isNaN(a) || f.isNaN(b) {
		if f.isSNaN(a) || f.isSNaN(b) {
			return false, NV
		}
		return false, 0
	}
	return a == b || f.bothZero(a, b), 0
}

// lt is the signalling comparison: any NaN raises NV.
func (f *format) lt(a, b uint64) (bool, Flags) {
	if f.isNaN(a) || f.isNaN(b) {
		return false, NV
	}
	return f.order(a) < f.order(b) && !f.bothZero(a, b), 0
}

// le is the signalling comparison: any NaN raises NV.
func (f *format) le(a, b uint64) (bool, Flags) {
	if f.isNaN(a) || f.isNaN(b) {
		return false, NV
	}
	return f.order(a) <= f.order(b) || f.bothZero(a, b), 0
}

func (f *format) bothZero(a, b uint64) bool { return (a|b)&(1<<f.sign-1) == 0 }

// pick returns the smaller of a and b, or the greater one if max. A number wins over a NaN, even a
// signalling one, which raises NV nevertheless; two NaNs give the canonical one. -0 < +0.
func (f *format) pick(a, b uint64, max bool) (uint64, Flags) {
	var fl Flags
	aNaN, bNaN := f.isNaN(a), f.isNaN(b)
	if aNaN || bNaN {
		if f.isSNaN(a) || f.isSNaN(b) {
			fl = NV
		}
		switch {
		case aNaN && bNaN:
			return f.nan, fl
		case aNaN:
			return b, fl
		}
		return a, fl
	}
	if (f.order(a) < f.order(b)) != max {
		return a, 0
	}
	return b, 0
}

// classify returns the ten-bit mask of FCLASS, one bit set.
func (f *format) classify(v uint64) uint64 {
	n := f.unpack(v)
	subnormal := v>>f.frac&f.expMax == 0
	var bit uint
	switch {
	case n.kind == snan:
		return 1 << 8
	case n.kind == qnan:
		return 1 << 9
	case n.kind == infinite:
		bit = 0
	case n.kind == zero:
		bit = 3
	case subnormal:
		bit = 2
	default:
		bit = 1
	}
	if n.sign == 0 {
		bit = 7 - bit
	}
	return 1 << bit
}

// Eq32 reports a == b; a signalling NaN raises NV.
func Eq32(a, b uint32) (bool, Flags) { return binary32.eq(uint64(a), uint64(b)) }

// Lt32 reports a < b; any NaN raises NV.
func Lt32(a, b uint32) (bool, Flags) { return binary32.lt(uint64(a), uint64(b)) }

// Le32 reports a <= b; any NaN raises NV.
func Le32(a, b uint32) (bool, Flags) { return binary32.le(uint64(a), uint64(b)) }

// Min32 is IEEE 754-2019 minimumNumber: -0 is below +0, a number wins over a NaN, two NaNs give
// the canonical NaN, a signalling NaN raises NV.
func Min32(a, b uint32) (uint32, Flags) {
	z, fl := binary32.pick(uint64(a), uint64(b), false)
	return uint32(z), fl
}

// Max32 is IEEE 754-2019 maximumNumber, with the rules of Min32.
func Max32(a, b uint32) (uint32, Flags) {
	z, fl := binary32.pick(uint64(a), uint64(b), true)
	return uint32(z), fl
}

// Class32 returns the mask of FCLASS.S: from bit 0 on -inf, negative normal, negative subnormal,
// -0, +0, positive subnormal, positive normal, +inf, signalling NaN, quiet NaN.
func Class32(a uint32) uint64 { return binary32.classify(uint64(a)) }

// SignInject32 returns a with the sign of b (FSGNJ.S). For FSGNJN pass ^b, for FSGNJX a^b.
func SignInject32(a, b uint32) uint32 { return a&(1<<31-1) | b&(1<<31) }

// Eq64 reports a == b; a signalling NaN raises NV.
func Eq64(a, b uint64) (bool, Flags) { return binary64.eq(a, b) }

// Lt64 reports a < b; any NaN raises NV.
func Lt64(a, b uint64) (bool, Flags) { return binary64.lt(a, b) }

// Le64 reports a <= b; any NaN raises NV.
func Le64(a, b uint64) (bool, Flags) { return binary64.le(a, b) }

// Min64 is minimumNumber, with the rules of Min32.
func Min64(a, b uint64) (uint64, Flags) { return binary64.pick(a, b, false) }

// Max64 is maximumNumber, with the rules of Min32.
func Max64(a, b uint64) (uint64, Flags) { return binary64.pick(a, b, true) }

// Class64 returns the mask of FCLASS.D, laid out as by Class32.
func Class64(a uint64) uint64 { return binary64.classify(a) }

// SignInject64 returns a with the sign of b (FSGNJ.D). For FSGNJN pass ^b, for FSGNJX a^b.
func SignInject64(a, b uint64) uint64 { return a&(1<<63-1) | b&(1<<63) }
