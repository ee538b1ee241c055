package softfloat

import "math/bits"

// Shift counts are masked with 63 where they are known to be below 64: the compiler then knows it too.

// kind sorts the values of a format. The order matters: kinds from qnan on are NaNs.
type kind uint8

const (
	zero kind = iota
	finite
	infinite
	qnan
	snan
)

// number is an unpacked value. For a finite one (subnormals included) the value is
// (-1)^sign * sig/2^63 * 2^exp with bit 63 of sig set; exp and sig mean nothing for other kinds.
type number struct {
	kind kind
	sign uint64 // 0 or 1
	exp  int
	sig  uint64
}

func (n number) isNaN() bool { return n.kind >= qnan }

// unpack splits the value v of format f. Bits above the sign are ignored.
func (f *format) unpack(v uint64) number {
	n := number{sign: v >> (f.sign & 63) & 1}
	e := v >> (f.frac & 63) & f.expMax
	m := v & (1<<(f.frac&63) - 1)
	switch {
	case e == f.expMax && m == 0:
		n.kind = infinite
	case e == f.expMax && m>>((f.frac-1)&63) != 0:
		n.kind = qnan
	case e == f.expMax:
		n.kind = snan
	case e != 0:
		n.kind = finite
		n.exp = int(e) - f.bias
		n.sig = 1<<63 | m<<((63-f.frac)&63)
	case m != 0:
		lead := bits.LeadingZeros64(m)
		n.kind = finite
		n.exp = 1 - f.bias + (63 - int(f.frac)) - lead
		n.sig = m << (lead & 63)
	}
	return n
}

// roundsUp reports whether a magnitude whose kept part ends in bit lsb and whose discarded part is
// rest, with half the weight of lsb being half, is rounded away from zero.
func roundsUp(rm RoundingMode, sign, lsb, rest, half uint64) bool {
	switch rm {
	case RNE:
		return rest > half || rest == half && lsb&1 != 0
	case RDN:
		return rest != 0 && sign != 0
	case RUP:
		return rest != 0 && sign == 0
	case RMM:
		return rest >= half
	}
	return false
}

// round packs (-1)^sign * sig/2^63 * 2^exp into format f. Bit 63 of sig must be set; bit 0 is
// sticky: it stands for everything that lies below it.
func (f *format) round(sign uint64, exp int, sig uint64, rm RoundingMode) (uint64, Flags) {
	drop := (63 - f.frac) & 63 // bits of sig that the format has no room for
	mask := uint64(1)<<drop - 1
	half := mask>>1 + 1
	e := exp + f.bias
	tiny := false
	if e < 1 {
		// Tiny after rounding: the value, rounded as if the exponent had no lower bound, is below
		// the least normal number. Only the binade just below can be rounded out of it.
		carries := sig|mask == ^uint64(0) && roundsUp(rm, sign, 1, sig&mask, half)
		tiny = e < 0 || !carries
		sig = shiftRightJam(sig, uint(1-e))
		e = 1
	}
	rest := sig & mask
	// The leading bit of sig adds one to the exponent field; a subnormal lacks it. A carry out of
	// the significand does the right thing by itself.
	z := uint64(e-1)<<(f.frac&63) + sig>>drop
	if roundsUp(rm, sign, z, rest, half) {
		z++
	}
	if z>>(f.frac&63) >= f.expMax {
		z = f.inf(0)
		if rm == RTZ || rm == RDN && sign == 0 || rm == RUP && sign != 0 {
			z-- // the greatest finite number
		}
		return f.zero(sign) | z, OF | NX
	}
	z |= f.zero(sign)
	switch {
	case rest == 0:
		return z, 0
	case tiny:
		return z, UF | NX
	}
	return z, NX
}

// shiftRightJam shifts v right by n, or-ing whatever falls off into bit 0.
func shiftRightJam(v uint64, n uint) uint64 {
	if n == 0 {
		return v
	}
	if n >= 64 {
		if v != 0 {
			return 1
		}
		return 0
	}
	z := v >> n
	if v<<(64-n) != 0 {
		z |= 1
	}
	return z
}

// shiftRightJam128 shifts hi:lo right by n, or-ing whatever falls off into bit 0.
func shiftRightJam128(hi, lo uint64, n uint) (uint64, uint64) {
	switch {
	case n == 0:
		return hi, lo
	case n < 64:
		z := hi<<(64-n) | lo>>n
		if lo<<(64-n) != 0 {
			z |= 1
		}
		return hi >> n, z
	}
	if lo != 0 {
		hi |= 1 // far below anything kept: n >= 64 moves bit 0 of hi to bit 0 of lo or below
	}
	return 0, shiftRightJam(hi, n-64)
}

// anyNaN returns the canonical NaN for operands of which at least one is a NaN: a signalling one
// raises NV.
func (f *format) anyNaN(a, b number) (uint64, Flags) {
	if a.kind == snan || b.kind == snan {
		return f.nan, NV
	}
	return f.nan, 0
}
