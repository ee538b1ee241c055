package softfloat

import "math/bits"

// add returns x + y.
func (f *format) add(x, y uint64, rm RoundingMode) (uint64, Flags) {
	a, b := f.unpack(x), f.unpack(y)
	switch {
	case a.isNaN() || b.isNaN():
		return f.anyNaN(a, b)
	case a.kind == infinite:
		if b.kind == infinite && a.sign != b.sign {
			return f.nan, NV
		}
		return f.inf(a.sign), 0
	case b.kind == infinite:
		return f.inf(b.sign), 0
	case a.kind == zero && b.kind == zero:
		if a.sign == b.sign {
			return f.zero(a.sign), 0
		}
		return f.cancelled(rm), 0
	case a.kind == zero:
		return f.round(b.sign, b.exp, b.sig, rm)
	case b.kind == zero:
		return f.round(a.sign, a.exp, a.sig, rm)
	}
	if a.exp < b.exp || a.exp == b.exp && a.sig < b.sig {
		a, b = b, a // |a| >= |b|
	}
	// One bit of headroom for the carry. At most 53 bits of a significand are in use, so 10 bits
	// remain below: more than the two and a sticky one that correct rounding needs.
	exp, big, small := a.exp+1, a.sig>>1, shiftRightJam(b.sig>>1, uint(a.exp-b.exp))
	sum := big + small
	if a.sign != b.sign {
		sum = big - small
		if sum == 0 {
			return f.cancelled(rm), 0
		}
	}
	lead := bits.LeadingZeros64(sum)
	return f.round(a.sign, exp-lead, sum<<lead, rm)
}

// cancelled returns the zero that is the exact sum of two opposite numbers: -0 when rounding down,
// +0 otherwise.
func (f *format) cancelled(rm RoundingMode) uint64 {
	if rm == RDN {
		return f.zero(1)
	}
	return f.zero(0)
}

// mul returns x * y.
func (f *format) mul(x, y uint64, rm RoundingMode) (uint64, Flags) {
	a, b := f.unpack(x), f.unpack(y)
	sign := a.sign ^ b.sign
	switch {
	case a.isNaN() || b.isNaN():
		return f.anyNaN(a, b)
	case a.kind == infinite || b.kind == infinite:
		if a.kind == zero || b.kind == zero {
			return f.nan, NV
		}
		return f.inf(sign), 0
	case a.kind == zero || b.kind == zero:
		return f.zero(sign), 0
	}
	exp, hi, lo := product(a, b)
	if lo != 0 {
		hi |= 1
	}
	return f.round(sign, exp, hi, rm)
}

// product returns the exact product of two finite magnitudes as hi:lo/2^127 * 2^exp, with bit 63
// of hi set. The 22 lowest bits of lo are clear.
func product(a, b number) (exp int, hi, lo uint64) {
	exp = a.exp + b.exp + 1
	hi, lo = bits.Mul64(a.sig, b.sig)
	if hi>>63 == 0 {
		exp--
		hi, lo = hi<<1|lo>>63, lo<<1
	}
	return exp, hi, lo
}

// div returns x / y.
func (f *format) div(x, y uint64, rm RoundingMode) (uint64, Flags) {
	a, b := f.unpack(x), f.unpack(y)
	sign := a.sign ^ b.sign
	switch {
	case a.isNaN() || b.isNaN():
		return f.anyNaN(a, b)
	case a.kind == infinite && b.kind == infinite, a.kind == zero && b.kind == zero:
		return f.nan, NV
	case a.kind == infinite:
		return f.inf(sign), 0
	case b.kind == zero:
		return f.inf(sign), DZ
	case a.kind == zero || b.kind == infinite:
		return f.zero(sign), 0
	}
	// Scale the dividend so that the quotient has exactly 64 bits.
	exp, hi, lo := a.exp-b.exp, a.sig>>1, a.sig<<63
	if a.sig < b.sig {
		exp, hi, lo = exp-1, a.sig, 0
	}
	quo, rem := bits.Div64(hi, lo, b.sig)
	if rem != 0 {
		quo |= 1
	}
	return f.round(sign, exp, quo, rm)
}

// sqrt returns the square root of x.
func (f *format) sqrt(x uint64, rm RoundingMode) (uint64, Flags) {
	a := f.unpack(x)
	switch {
	case a.isNaN():
		return f.anyNaN(a, a)
	case a.kind == zero:
		return x, 0 // -0 stays -0
	case a.sign != 0:
		return f.nan, NV
	case a.kind == infinite:
		return x, 0
	}
	// The radicand hi:lo carries an even power of two and lies in [2^126, 2^128), so its root has
	// exactly 64 bits.
	hi, lo := a.sig>>1, a.sig<<63
	if a.exp&1 != 0 {
		hi, lo = a.sig, 0
	}
	root := sqrt128(hi, lo)
	if h, l := bits.Mul64(root, root); h != hi || l != lo {
		root |= 1
	}
	return f.round(0, a.exp>>1, root, rm)
}

// sqrt128 returns the integer square root of hi:lo, which must be at least 2^126. Newton's
// iteration from above decreases until it reaches the floor of the root; a 64-bit root takes at
// most eight steps.
func sqrt128(hi, lo uint64) uint64 {
	r := ^uint64(0)
	for hi < r { // else the quotient exceeds 64 bits, thus r is the root
		q, _ := bits.Div64(hi, lo, r)
		sum, carry := bits.Add64(r, q, 0)
		next := carry<<63 | sum>>1
		if next >= r {
			break
		}
		r = next
	}
	return r
}

// fma returns x*y + w with a single rounding.
func (f *format) fma(x, y, w uint64, rm RoundingMode) (uint64, Flags) {
	a, b, c := f.unpack(x), f.unpack(y), f.unpack(w)
	sign := a.sign ^ b.sign
	switch {
	case a.kind == infinite && b.kind == zero, a.kind == zero && b.kind == infinite:
		return f.nan, NV // even when c is a quiet NaN
	case a.kind == snan || b.kind == snan || c.kind == snan:
		return f.nan, NV
	case a.isNaN() || b.isNaN() || c.isNaN():
		return f.nan, 0
	case a.kind == infinite || b.kind == infinite:
		if c.kind == infinite && c.sign != sign {
			return f.nan, NV
		}
		return f.inf(sign), 0
	case c.kind == infinite:
		return f.inf(c.sign), 0
	case a.kind == zero || b.kind == zero:
		if c.kind != zero {
			return f.round(c.sign, c.exp, c.sig, rm)
		}
		if c.sign == sign {
			return f.zero(sign), 0
		}
		return f.cancelled(rm), 0
	}
	exp, hi, lo := product(a, b)
	if c.kind == zero {
		if lo != 0 {
			hi |= 1
		}
		return f.round(sign, exp, hi, rm)
	}
	// Both addends as 128-bit significands with one bit of headroom, which costs nothing: the
	// product uses 106 bits and c 53. Bits are jammed only when the exponents are more than 20
	// apart, so a large cancellation is always exact.
	exp++
	lo, hi = lo>>1|hi<<63, hi>>1
	cexp, chi, clo := c.exp+1, c.sig>>1, uint64(0)
	if d := exp - cexp; d >= 0 {
		chi, clo = shiftRightJam128(chi, clo, uint(d))
	} else {
		hi, lo = shiftRightJam128(hi, lo, uint(-d))
		exp = cexp
	}
	var carry uint64
	if c.sign == sign {
		lo, carry = bits.Add64(lo, clo, 0)
		hi += chi + carry
	} else {
		if hi < chi || hi == chi && lo < clo {
			hi, lo, chi, clo = chi, clo, hi, lo
			sign = c.sign
		}
		lo, carry = bits.Sub64(lo, clo, 0)
		hi -= chi + carry
		if hi|lo == 0 {
			return f.cancelled(rm), 0
		}
	}
	if hi == 0 {
		exp, hi, lo = exp-64, lo, 0
	}
	lead := uint(bits.LeadingZeros64(hi))
	sig := hi<<lead | lo>>(64-lead)
	if lo<<lead != 0 {
		sig |= 1
	}
	return f.round(sign, exp-int(lead), sig, rm)
}
