// Package softfloattest makes operands for tests of floating point: the boundary values of both
// formats, and random ones that meet ties, cancellation, overflow and underflow far more often than
// uniform bits would. It is used by tests only.
package softfloattest

// Rand is a splitmix64 generator: the same seed gives the same operands on every host and release.
type Rand uint64

// Uint64 returns 64 uniform bits.
func (r *Rand) Uint64() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Intn returns a number in [0, n).
func (r *Rand) Intn(n int) int { return int(r.Uint64() >> 1 % uint64(n)) }

// Boundary64 holds the values at the edges of binary64, of the integer types and of binary32, each
// with both signs.
var Boundary64 = boundary(52, 11, []uint64{
	0x7ca8000000000000, // 1.5 ulp of the greatest binary64
	0x3690000000000000, // 2^-150: half the least binary32
	0x3690000000000001,
	0x36a0000000000000, // 2^-149: the least binary32
	0x380fffffd0000000, // just below the least normal binary32, a tie away from it
	0x380fffffe0000000,
	0x380ffffff0000000,
	0x380fffffffffffff,
	0x3810000000000000, // 2^-126: the least normal binary32
	0x47efffffe0000000, // the greatest binary32
	0x47efffffefffffff,
	0x47effffff0000000, // half an ulp above it
	0x41dfffffffc00000, // 2^31 - 1
	0x41dfffffffe00000, // 2^31 - 1/2
	0x41e0000000000000, // 2^31
	0x41e0000000100000, // 2^31 + 1/2
	0x41e0000000200000, // 2^31 + 1
	0x41efffffffe00000, // 2^32 - 1
	0x41effffffff00000, // 2^32 - 1/2
	0x41f0000000000000, // 2^32
	0x43dfffffffffffff, // just below 2^63
	0x43e0000000000000, // 2^63
	0x43efffffffffffff, // just below 2^64
	0x43f0000000000000, // 2^64
	0x4330000000000001, // 2^52 + 1
	0x432fffffffffffff, // 2^52 - 1/2
})

// Boundary32 holds the values at the edges of binary32 and of the integer types, each with both
// signs.
var Boundary32 = narrow(boundary(23, 8, []uint64{
	0x4effffff, // just below 2^31
	0x4f000000, // 2^31
	0x4f000001,
	0x4f7fffff, // just below 2^32
	0x4f800000, // 2^32
	0x5effffff, // just below 2^63
	0x5f000000, // 2^63
	0x5f7fffff, // just below 2^64
	0x5f800000, // 2^64
	0x4affffff, // 2^23 - 1/2
}))

// boundary lists what every format has, followed by more, then all of it negated.
func boundary(frac, exp uint, more []uint64) []uint64 {
	one := (uint64(1)<<(exp-1) - 1) << frac
	inf := (uint64(1)<<exp - 1) << frac
	normal := uint64(1) << frac
	quiet := normal >> 1
	v := []uint64{
		0, 1, 2, 3, quiet, normal - 2, normal - 1, // zero and subnormals
		normal, normal + 1, normal<<1 - 1, normal << 1, // least normals
		one - 2*normal, one - normal, one - normal + 1, one - 1, one, one + 1, one + 2, // 1/4 to 1
		one + quiet, one + normal, one + normal + quiet, // 1.5, 2, 3
		inf - normal, inf - 2, inf - 1, inf, // greatest and infinity
		inf | quiet, inf | normal - 1, inf | quiet | 1, // quiet NaNs
		inf | 1, inf | quiet - 1, // signalling NaNs
	}
	v = append(v, more...)
	for _, x := range v {
		v = append(v, x|1<<(frac+exp))
	}
	return v
}

func narrow(v []uint64) []uint32 {
	n := make([]uint32, len(v))
	for i, x := range v {
		n[i] = uint32(x)
	}
	return n
}

// Triple64 returns three related operands: exponents that lie close together or add up to the ends
// of the range, significands of few bits or with long runs, now and then a boundary value.
func (r *Rand) Triple64() (a, b, c uint64) {
	a, b, c = r.triple(52, 11)
	if r.Intn(16) == 0 {
		a = Boundary64[r.Intn(len(Boundary64))]
	}
	if r.Intn(16) == 0 {
		b = Boundary64[r.Intn(len(Boundary64))]
	}
	if r.Intn(16) == 0 {
		c = Boundary64[r.Intn(len(Boundary64))]
	}
	return a, b, c
}

// Triple32 is Triple64 for binary32.
func (r *Rand) Triple32() (a, b, c uint32) {
	x, y, z := r.triple(23, 8)
	a, b, c = uint32(x), uint32(y), uint32(z)
	if r.Intn(16) == 0 {
		a = Boundary32[r.Intn(len(Boundary32))]
	}
	if r.Intn(16) == 0 {
		b = Boundary32[r.Intn(len(Boundary32))]
	}
	if r.Intn(16) == 0 {
		c = Boundary32[r.Intn(len(Boundary32))]
	}
	return a, b, c
}

func (r *Rand) triple(frac, exp uint) (a, b, c uint64) {
	expMax := 1<<exp - 1
	bias := expMax >> 1
	near := func(e, spread int) int { return e - spread + r.Intn(2*spread+1) }
	ea := r.Intn(expMax)
	var eb, ec int
	switch r.Intn(8) {
	case 0: // anything
		eb, ec = r.Intn(expMax), r.Intn(expMax)
	case 1: // everyday numbers
		ea, eb, ec = near(bias, 8), near(bias, 8), near(bias, 8)
	case 2: // sums that cancel or round
		eb, ec = near(ea, 3), near(ea, int(frac)+3)
	case 3: // sums whose smaller part is at the rounding position
		eb, ec = near(ea, int(frac)+3), near(ea, 3)
	case 4: // products around the least normal number
		eb, ec = near(bias-ea, 4), near(1, 3)
	case 5: // products around the least subnormal number
		eb, ec = near(bias-int(frac)-ea, 4), near(0, 2)
	case 6: // products around overflow, quotients around underflow
		eb, ec = near(expMax+bias-ea, 3), near(expMax-2, 3)
	case 7: // quotients at either end, sums c that cancel a product
		if r.Intn(2) == 0 {
			eb = near(ea+bias, 4)
		} else {
			eb = near(bias, 20)
		}
		ec = near(ea+eb-bias, int(frac)+3)
	}
	a, b, c = r.value(frac, exp, ea), r.value(frac, exp, eb), r.value(frac, exp, ec)
	if r.Intn(32) == 0 {
		b = a ^ uint64(r.Intn(4)) ^ uint64(r.Intn(2))<<(frac+exp) // equal or nearly, either sign
	}
	return a, b, c
}

// value returns a finite number with about the exponent e, clamped to the range, and a random sign.
func (r *Rand) value(frac, exp uint, e int) uint64 {
	e = max(0, min(e, 1<<exp-2))
	mask := uint64(1)<<frac - 1
	m := r.Uint64() & mask
	switch r.Intn(6) {
	case 0: // few leading bits
		m = m >> (frac - 4) << (frac - 4)
	case 1: // a short significand: exact products and quotients
		m &= ^uint64(0) << uint(r.Intn(int(frac)))
	case 2: // a run of ones at the top: carries
		m |= mask &^ (1<<uint(r.Intn(int(frac))) - 1)
	case 3: // one bit
		m = 1 << uint(r.Intn(int(frac)))
	}
	return uint64(r.Intn(2))<<(frac+exp) | uint64(e)<<frac | m&mask
}

// Int64 returns an integer of a random length, near a power of two half of the time.
func (r *Rand) Int64() uint64 {
	v := r.Uint64() >> uint(r.Intn(64))
	if r.Intn(2) == 0 {
		v = 1<<uint(r.Intn(64)) + uint64(r.Intn(5)) - 2
	}
	if r.Intn(2) == 0 {
		v = -v
	}
	return v
}
