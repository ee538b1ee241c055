package softfloat

import "math"

// The Host functions compute with the host's floating point, rounding to nearest even. ok says that
// the result is final: finite, and no exception but possibly NX is raised. They are small enough to
// be inlined. See the comment at the top of the fast layer for why this holds on every host.

const (
	exp64 = 0x7ff << 52
	exp32 = 0xff << 23

	// safeExp is the least biased exponent of a product, dividend or radicand for which the error
	// term of a double operation, at least 2^-106 of it, is certainly representable.
	safeExp = 128
)

// settled64 reports whether z has a biased exponent in [safeExp, 2046].
func settled64(z uint64) bool { return z>>52&0x7ff-safeExp < 0x7ff-safeExp }

// settled32 reports whether z has a biased exponent in [2, 254]: an exponent of 1 may be that of a
// tiny number that was rounded up.
func settled32(z uint32) bool { return z>>23&0xff-2 < 0xff-2 }

// HostAdd64 returns a + b. A finite sum is never both tiny and inexact, so subnormals and zeros are
// final too.
func HostAdd64(a, b uint64) (z uint64, ok bool) {
	z = math.Float64bits(math.Float64frombits(a) + math.Float64frombits(b))
	return z, z&exp64 != exp64
}

// HostMul64 returns a * b.
func HostMul64(a, b uint64) (z uint64, ok bool) {
	z = math.Float64bits(math.Float64frombits(a) * math.Float64frombits(b))
	return z, settled64(z)
}

// HostDiv64 returns a / b.
func HostDiv64(a, b uint64) (z uint64, ok bool) {
	z = math.Float64bits(math.Float64frombits(a) / math.Float64frombits(b))
	return z, settled64(z) && settled64(a)
}

// HostSqrt64 returns the square root of a.
func HostSqrt64(a uint64) (z uint64, ok bool) {
	return math.Float64bits(math.Sqrt(math.Float64frombits(a))), settled64(a) && a>>63 == 0
}

// HostFma64 returns a*b + c.
func HostFma64(a, b, c uint64) (z uint64, ok bool) {
	z = math.Float64bits(math.FMA(math.Float64frombits(a), math.Float64frombits(b), math.Float64frombits(c)))
	return z, settled64(z)
}

// HostAdd32 returns a + b; see HostAdd64.
func HostAdd32(a, b uint32) (z uint32, ok bool) {
	z = math.Float32bits(math.Float32frombits(a) + math.Float32frombits(b))
	return z, z&exp32 != exp32
}

// HostMul32 returns a * b.
func HostMul32(a, b uint32) (z uint32, ok bool) {
	z = math.Float32bits(math.Float32frombits(a) * math.Float32frombits(b))
	return z, settled32(z)
}

// HostDiv32 returns a / b.
func HostDiv32(a, b uint32) (z uint32, ok bool) {
	z = math.Float32bits(math.Float32frombits(a) / math.Float32frombits(b))
	return z, settled32(z)
}

// HostSqrt32 returns the square root of a. The double root is never so close to a tie that rounding
// it again errs: 53 >= 2*24 + 2.
func HostSqrt32(a uint32) (z uint32, ok bool) {
	z = math.Float32bits(float32(math.Sqrt(float64(math.Float32frombits(a)))))
	return z, settled32(z)
}

// HostFma32 returns a*b + c. The product is exact in float64 and the sum is rounded there. Ties of
// float32 are float64 numbers, so the first rounding crosses none of them; rounding again errs only
// if it ended on one, which is left to the caller.
func HostFma32(a, b, c uint32) (z uint32, ok bool) {
	p := float64(float64(math.Float32frombits(a)) * float64(math.Float32frombits(b)))
	s := p + float64(math.Float32frombits(c))
	z = math.Float32bits(float32(s))
	return z, settled32(z) && math.Float64bits(s)&(1<<29-1) != 1<<28
}

// HostF64ToF32 returns a narrowed.
func HostF64ToF32(a uint64) (z uint32, ok bool) {
	z = math.Float32bits(float32(math.Float64frombits(a)))
	return z, settled32(z)
}
