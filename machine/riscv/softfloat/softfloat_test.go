package softfloat_test

import (
	"testing"

	. "understudy/machine/riscv/softfloat"
)

// outcome is a result and the flags that come with it.
type outcome struct {
	z  uint64
	fl Flags
}

// perMode lists an operation's outcome in the order RNE, RTZ, RDN, RUP, RMM.
type perMode [5]outcome

// always is the outcome of an operation that does not depend on the mode.
func always(z uint64, fl Flags) perMode {
	o := outcome{z, fl}
	return perMode{o, o, o, o, o}
}

const (
	one    = 0x3ff0000000000000
	ulp1   = 0x3ca0000000000000 // 2^-53: half an ulp of 1
	max64  = 0x7fefffffffffffff
	inf64  = 0x7ff0000000000000
	min64  = 0x0010000000000000 // least normal
	sub64  = 0x000fffffffffffff // greatest subnormal
	neg    = 1 << 63
	half   = 0x3fe0000000000000
	two    = 0x4000000000000000
	snan64 = 0x7ff0000000000001
	qnan64 = 0x7ff8000000000001
)

type op64 func(rm RoundingMode) (uint64, Flags)

func add(a, b uint64) op64 { return func(rm RoundingMode) (uint64, Flags) { return Add64(a, b, rm) } }

func sub(a, b uint64) op64 { return func(rm RoundingMode) (uint64, Flags) { return Sub64(a, b, rm) } }

func mul(a, b uint64) op64 { return func(rm RoundingMode) (uint64, Flags) { return Mul64(a, b, rm) } }

func div(a, b uint64) op64 { return func(rm RoundingMode) (uint64, Flags) { return Div64(a, b, rm) } }
func sqrt(a uint64) op64   { return func(rm RoundingMode) (uint64, Flags) { return Sqrt64(a, rm) } }
func fma(a, b, c uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) { return Fma64(a, b, c, rm) }
}

func narrow(a uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) {
		z, fl := F64ToF32(a, rm)
		return uint64(z), fl
	}
}

func toI32(a uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) {
		i, fl := F64ToI32(a, rm)
		return uint64(int64(i)), fl
	}
}

func toU32(a uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) {
		i, fl := F64ToU32(a, rm)
		return uint64(i), fl
	}
}

func toI64(a uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) {
		i, fl := F64ToI64(a, rm)
		return uint64(i), fl
	}
}

func toU64(a uint64) op64 {
	return func(rm RoundingMode) (uint64, Flags) { return F64ToU64(a, rm) }
}

func fromI64(i int64) op64 {
	return func(rm RoundingMode) (uint64, Flags) { return I64ToF64(i, rm) }
}

func TestPerMode(t *testing.T) {
	minus := func(v int64) uint64 { return uint64(v) }
	for _, k := range []struct {
		name string
		op   op64
		want perMode
	}{
		// Rounding of sums.
		{"1 + 1", add(one, one), always(two, 0)},
		{
			"tie to even below", add(one, ulp1),
			perMode{{one, NX}, {one, NX}, {one, NX}, {one + 1, NX}, {one + 1, NX}},
		},
		{
			"tie to even above", add(one+1, ulp1),
			perMode{{one + 2, NX}, {one + 1, NX}, {one + 1, NX}, {one + 2, NX}, {one + 2, NX}},
		},
		{
			"negative tie", add(one|neg, ulp1|neg),
			perMode{{one | neg, NX}, {one | neg, NX}, {one + 1 | neg, NX}, {one | neg, NX}, {one + 1 | neg, NX}},
		},
		{"above a tie", add(one, ulp1+1), perMode{{one + 1, NX}, {one, NX}, {one, NX}, {one + 1, NX}, {one + 1, NX}}},
		{"below a tie", add(one, ulp1-1), perMode{{one, NX}, {one, NX}, {one, NX}, {one + 1, NX}, {one, NX}}},
		{"far apart", add(one, 1|neg), perMode{{one, NX}, {one - 1, NX}, {one - 1, NX}, {one, NX}, {one, NX}}},
		{"subnormals", add(1, 2), always(3, 0)},
		{"subnormal to normal", add(sub64, 1), always(min64, 0)},
		// Zeros.
		{"x - x", sub(one, one), perMode{{0, 0}, {0, 0}, {neg, 0}, {0, 0}, {0, 0}}},
		{"+0 + -0", add(0, neg), perMode{{0, 0}, {0, 0}, {neg, 0}, {0, 0}, {0, 0}}},
		{"-0 + -0", add(neg, neg), always(neg, 0)},
		{"1*1 - 1", fma(one, one, one|neg), perMode{{0, 0}, {0, 0}, {neg, 0}, {0, 0}, {0, 0}}},
		{"0*1 - 0", fma(0, one, neg), perMode{{0, 0}, {0, 0}, {neg, 0}, {0, 0}, {0, 0}}},
		{"sqrt(-0)", sqrt(neg), always(neg, 0)},
		{"0 / -1", div(0, one|neg), always(neg, 0)},
		// Overflow.
		{
			"max + max", add(max64, max64),
			perMode{{inf64, OF | NX}, {max64, OF | NX}, {max64, OF | NX}, {inf64, OF | NX}, {inf64, OF | NX}},
		},
		{
			"-max - max", sub(max64|neg, max64),
			perMode{{inf64 | neg, OF | NX}, {max64 | neg, OF | NX}, {inf64 | neg, OF | NX}, {max64 | neg, OF | NX}, {inf64 | neg, OF | NX}},
		},
		{
			"max + half an ulp", add(max64, 0x7c90000000000000),
			perMode{{inf64, OF | NX}, {max64, NX}, {max64, NX}, {inf64, OF | NX}, {inf64, OF | NX}},
		},
		{
			"max * max", mul(max64, max64),
			perMode{{inf64, OF | NX}, {max64, OF | NX}, {max64, OF | NX}, {inf64, OF | NX}, {inf64, OF | NX}},
		},
		{
			"max / least", div(max64, 1),
			perMode{{inf64, OF | NX}, {max64, OF | NX}, {max64, OF | NX}, {inf64, OF | NX}, {inf64, OF | NX}},
		},
		// Underflow: tininess is detected after rounding.
		{
			"least / 2", mul(1, half),
			perMode{{0, UF | NX}, {0, UF | NX}, {0, UF | NX}, {1, UF | NX}, {1, UF | NX}},
		},
		{
			"-least / 2", mul(1|neg, half),
			perMode{{neg, UF | NX}, {neg, UF | NX}, {1 | neg, UF | NX}, {neg, UF | NX}, {1 | neg, UF | NX}},
		},
		{
			"least squared", mul(1, 1),
			perMode{{0, UF | NX}, {0, UF | NX}, {0, UF | NX}, {1, UF | NX}, {0, UF | NX}},
		},
		{"exact subnormal", mul(min64, half), always(min64>>1, 0)},
		// (1 - 2^-53) * 2^-1022 is representable with an unbounded exponent, hence tiny.
		{
			"tiny, rounds to the least normal", mul(min64, one-1),
			perMode{{min64, UF | NX}, {sub64, UF | NX}, {sub64, UF | NX}, {min64, UF | NX}, {min64, UF | NX}},
		},
		// (1 + 2^-52)(1 - 2^-53) 2^-1022 = (1 + 2^-53 - 2^-105) 2^-1022 is above it anyway.
		{
			"not tiny", mul(min64+1, one-1),
			perMode{{min64, NX}, {min64, NX}, {min64, NX}, {min64 + 1, NX}, {min64, NX}},
		},
		// (1 + 2^-52)(1 - 2^-52) 2^-1022 = (1 - 2^-104) 2^-1022 is rounded up to 2^-1022 with an
		// unbounded exponent, too, in RNE, RUP and RMM.
		{
			"tiny before rounding only", mul(one+1, sub64),
			perMode{{min64, NX}, {sub64, UF | NX}, {sub64, UF | NX}, {min64, NX}, {min64, NX}},
		},
		// Infinities and NaNs.
		{"inf - inf", sub(inf64, inf64), always(NaN64, NV)},
		{"inf + inf", add(inf64, inf64), always(inf64, 0)},
		{"inf + max", add(inf64, max64|neg), always(inf64, 0)},
		{"inf * 0", mul(inf64, neg), always(NaN64, NV)},
		{"inf / inf", div(inf64, inf64), always(NaN64, NV)},
		{"0 / 0", div(0, neg), always(NaN64, NV)},
		{"1 / -0", div(one, neg), always(inf64|neg, DZ)},
		{"inf / 0", div(inf64, 0), always(inf64, 0)},
		{"1 / inf", div(one, inf64|neg), always(neg, 0)},
		{"sqrt(-1)", sqrt(one | neg), always(NaN64, NV)},
		{"sqrt(-inf)", sqrt(inf64 | neg), always(NaN64, NV)},
		{"sqrt(inf)", sqrt(inf64), always(inf64, 0)},
		{"quiet NaN", add(qnan64|neg, one), always(NaN64, 0)},
		{"signalling NaN", add(one, snan64), always(NaN64, NV)},
		{"NaN / 0", div(qnan64, 0), always(NaN64, 0)},
		{"inf*0 + quiet NaN", fma(inf64, 0, qnan64), always(NaN64, NV)},
		{"1*1 + quiet NaN", fma(one, one, qnan64), always(NaN64, 0)},
		{"1*1 + signalling NaN", fma(one, one, snan64), always(NaN64, NV)},
		{"inf*1 - inf", fma(inf64, one, inf64|neg), always(NaN64, NV)},
		{"max*max - inf", fma(max64, max64, inf64|neg), always(inf64|neg, 0)},
		// Fused multiply-add: a single rounding.
		{"fused error", fma(one+1, one+1, one+2|neg), always(0x3970000000000000, 0)}, // 2^-104
		{
			"huge cancellation", fma(max64, max64, max64|neg),
			perMode{{inf64, OF | NX}, {max64, OF | NX}, {max64, OF | NX}, {inf64, OF | NX}, {inf64, OF | NX}},
		},
		{"product far below", fma(1, 1, one), perMode{{one, NX}, {one, NX}, {one, NX}, {one + 1, NX}, {one, NX}}},
		{
			"product far below, opposite", fma(1, 1|neg, one),
			perMode{{one, NX}, {one - 1, NX}, {one - 1, NX}, {one, NX}, {one, NX}},
		},
		{
			"addend far below", fma(one, one, 1|neg),
			perMode{{one, NX}, {one - 1, NX}, {one - 1, NX}, {one, NX}, {one, NX}},
		},
		// Square roots.
		{"sqrt(4)", sqrt(0x4010000000000000), always(two, 0)},
		{"sqrt(2)", sqrt(two), perMode{{0x3ff6a09e667f3bcd, NX}, {0x3ff6a09e667f3bcc, NX}, {0x3ff6a09e667f3bcc, NX}, {0x3ff6a09e667f3bcd, NX}, {0x3ff6a09e667f3bcd, NX}}},
		{"sqrt(least)", sqrt(1), always(0x1e60000000000000, 0)}, // 2^-537
		{
			"1 / 3", div(one, 0x4008000000000000),
			perMode{{0x3fd5555555555555, NX}, {0x3fd5555555555555, NX}, {0x3fd5555555555555, NX}, {0x3fd5555555555556, NX}, {0x3fd5555555555555, NX}},
		},
		// Narrowing.
		{
			"narrow a tie", narrow(0x3ff0000010000000),
			perMode{{0x3f800000, NX}, {0x3f800000, NX}, {0x3f800000, NX}, {0x3f800001, NX}, {0x3f800001, NX}},
		},
		{
			"narrow overflow", narrow(0x47effffff0000000),
			perMode{{0x7f800000, OF | NX}, {0x7f7fffff, NX}, {0x7f7fffff, NX}, {0x7f800000, OF | NX}, {0x7f800000, OF | NX}},
		},
		{
			"narrow to the least normal, tiny", narrow(0x380fffffe0000000),
			perMode{{0x00800000, UF | NX}, {0x007fffff, UF | NX}, {0x007fffff, UF | NX}, {0x00800000, UF | NX}, {0x00800000, UF | NX}},
		},
		{
			"narrow, tiny before rounding only", narrow(0x380ffffff0000000),
			perMode{{0x00800000, NX}, {0x007fffff, UF | NX}, {0x007fffff, UF | NX}, {0x00800000, NX}, {0x00800000, NX}},
		},
		{"narrow signalling NaN", narrow(snan64), always(uint64(NaN32), NV)},
		// To integers.
		{"0.5 to int", toI32(half), perMode{{0, NX}, {0, NX}, {0, NX}, {1, NX}, {1, NX}}},
		{"1.5 to int", toI64(0x3ff8000000000000), perMode{{2, NX}, {1, NX}, {1, NX}, {2, NX}, {2, NX}}},
		{
			"-2.5 to int", toI64(0xc004000000000000),
			perMode{{minus(-2), NX}, {minus(-2), NX}, {minus(-3), NX}, {minus(-2), NX}, {minus(-3), NX}},
		},
		{"-0.5 to unsigned", toU32(half | neg), perMode{{0, NX}, {0, NX}, {0, NV}, {0, NX}, {0, NV}}},
		{"-1 to unsigned", toU64(one | neg), always(0, NV)},
		{
			"2^31 - 1/2 to int32", toI32(0x41dfffffffe00000),
			perMode{{1<<31 - 1, NV}, {1<<31 - 1, NX}, {1<<31 - 1, NX}, {1<<31 - 1, NV}, {1<<31 - 1, NV}},
		},
		{"-2^31 to int32", toI32(0xc1e0000000000000), always(minus(-1<<31), 0)},
		{"2^32 - 1 to uint32", toU32(0x41efffffffe00000), always(1<<32-1, 0)},
		{"2^63 to int64", toI64(0x43e0000000000000), always(1<<63-1, NV)},
		{"-2^63 to int64", toI64(0xc3e0000000000000), always(1<<63, 0)},
		{"2^63 to uint64", toU64(0x43e0000000000000), always(1<<63, 0)},
		{"2^64 to uint64", toU64(0x43f0000000000000), always(^uint64(0), NV)},
		{"NaN to int32", toI32(qnan64 | neg), always(1<<31-1, NV)},
		{"NaN to uint64", toU64(snan64), always(^uint64(0), NV)},
		{"-inf to int64", toI64(inf64 | neg), always(1<<63, NV)},
		{"least to int", toI64(1), perMode{{0, NX}, {0, NX}, {0, NX}, {1, NX}, {0, NX}}},
		// From integers.
		{"-2^63 to double", fromI64(-1 << 63), always(0xc3e0000000000000, 0)},
		{
			"2^53 + 1 to double", fromI64(1<<53 + 1),
			perMode{{0x4340000000000000, NX}, {0x4340000000000000, NX}, {0x4340000000000000, NX}, {0x4340000000000001, NX}, {0x4340000000000001, NX}},
		},
		{"0 to double", fromI64(0), always(0, 0)},
	} {
		for rm := RNE; rm <= RMM; rm++ {
			z, fl := k.op(rm)
			if want := k.want[rm]; z != want.z || fl != want.fl {
				t.Errorf("%s, rm %d: got %#x flags %#x, want %#x flags %#x", k.name, rm, z, fl, want.z, want.fl)
			}
		}
	}
}

func TestMinMax(t *testing.T) {
	for _, k := range []struct {
		a, b, min, max uint64
		fl             Flags
	}{
		{one, two, one, two, 0},
		{two | neg, one, two | neg, one, 0},
		{0, neg, neg, 0, 0},
		{neg, 0, neg, 0, 0},
		{inf64, max64, max64, inf64, 0},
		{inf64 | neg, max64 | neg, inf64 | neg, max64 | neg, 0},
		{qnan64, one, one, one, 0},
		{one, snan64, one, one, NV},
		{qnan64 | neg, qnan64, NaN64, NaN64, 0},
		{qnan64, snan64, NaN64, NaN64, NV},
		{1, 1 | neg, 1 | neg, 1, 0},
	} {
		if z, fl := Min64(k.a, k.b); z != k.min || fl != k.fl {
			t.Errorf("min(%#x, %#x) = %#x flags %#x, want %#x %#x", k.a, k.b, z, fl, k.min, k.fl)
		}
		if z, fl := Max64(k.a, k.b); z != k.max || fl != k.fl {
			t.Errorf("max(%#x, %#x) = %#x flags %#x, want %#x %#x", k.a, k.b, z, fl, k.max, k.fl)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, k := range []struct {
		a, b       uint64
		eq, lt, le bool
		quiet, sig Flags // of feq and of flt, fle
	}{
		{one, one, true, false, true, 0, 0},
		{one, two, false, true, true, 0, 0},
		{two, one, false, false, false, 0, 0},
		{neg, 0, true, false, true, 0, 0},
		{0, neg, true, false, true, 0, 0},
		{two | neg, one | neg, false, true, true, 0, 0},
		{inf64 | neg, inf64, false, true, true, 0, 0},
		{1 | neg, 0, false, true, true, 0, 0},
		{qnan64, one, false, false, false, 0, NV},
		{one, snan64, false, false, false, NV, NV},
		{qnan64, qnan64, false, false, false, 0, NV},
	} {
		eq, eqFl := Eq64(k.a, k.b)
		lt, ltFl := Lt64(k.a, k.b)
		le, leFl := Le64(k.a, k.b)
		if eq != k.eq || lt != k.lt || le != k.le || eqFl != k.quiet || ltFl != k.sig || leFl != k.sig {
			t.Errorf("%#x, %#x: eq %v %#x, lt %v %#x, le %v %#x; want %+v", k.a, k.b, eq, eqFl, lt, ltFl, le, leFl, k)
		}
	}
}

func TestClassify(t *testing.T) {
	for bit, v := range []uint64{inf64 | neg, one | neg, 1 | neg, neg, 0, sub64, min64, inf64, snan64, qnan64} {
		if got := Class64(v); got != 1<<bit {
			t.Errorf("class of %#x is %#x, want %#x", v, got, 1<<bit)
		}
	}
	for bit, v := range []uint32{0xff800000, 0xbf800000, 0x80000001, 1 << 31, 0, 0x007fffff, 0x00800000, 0x7f800000, 0x7f800001, 0xffc00000} {
		if got := Class32(v); got != 1<<bit {
			t.Errorf("class of %#x is %#x, want %#x", v, got, 1<<bit)
		}
	}
}
