package oracle

import "math"

// Values that are likely to be handled wrongly, and random ones between them.

var edgeIntegers = []uint64{
	0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001,
	0xfffffffe, 0xffffffff, 0x100000000, 0x100000001, 0x7fffffffffffffff, 0x8000000000000000,
	0x8000000000000001, 0xffffffff80000000, 0xffffffff7fffffff, 0xffffffff00000000,
	0xfffffffffffffffe, 0xffffffffffffffff, 63, 64, 31, 32, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa,
}

func (g *generator) integer() uint64 {
	switch g.r.IntN(4) {
	case 0:
		return edgeIntegers[g.r.IntN(len(edgeIntegers))]
	case 1:
		return edgeIntegers[g.r.IntN(len(edgeIntegers))] + uint64(g.r.IntN(5)) - 2
	case 2:
		return uint64(int64(g.r.Uint64()) >> g.r.IntN(64))
	}
	return g.r.Uint64()
}

var edgeDoubles = []uint64{
	0, 1 << 63, 1, 2, 0x000fffffffffffff, 0x0010000000000000, 0x0010000000000001, 0x001fffffffffffff,
	0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
	0x7ff0000000000001, 0x7ff4000000000000, 0xfff7ffffffffffff, 0x7fffffffffffffff,
	math.Float64bits(1), math.Float64bits(-1), math.Float64bits(0.5), math.Float64bits(1.5), math.Float64bits(2.5),
	0x3fefffffffffffff, 0x3ff0000000000001, 0x3cb0000000000000, 0x3ca0000000000000,
	math.Float64bits(1 << 31), math.Float64bits(1<<31 - 0.5), math.Float64bits(-1<<31 - 0.5), math.Float64bits(-1<<31 - 1),
	math.Float64bits(1 << 32), math.Float64bits(1<<32 - 0.5), math.Float64bits(1 << 63), math.Float64bits(-1 << 63),
	math.Float64bits(1 << 64), 0x43dfffffffffffff, 0x43efffffffffffff, 0xc3e0000000000001, math.Float64bits(-0.5), math.Float64bits(-0.75),
	0x36a0000000000000, 0x3690000000000000, 0x36a0000000000001, 0x380fffffffffffff, 0x3810000000000000, 0x380fffffe0000000, // about the least singles
	0x47efffffe0000000, 0x47effffff0000000, 0x47efffffefffffff, // about the largest single
}

var edgeSingles = []uint32{
	0, 1 << 31, 1, 2, 0x007fffff, 0x00800000, 0x00800001, 0x00ffffff, 0x7f7fffff, 0x7f800000, 0xff800000,
	0x7fc00000, 0xffc00000, 0x7f800001, 0x7fa00000, 0xffbfffff, 0x7fffffff, 0x3f800000, 0xbf800000, 0x3f000000,
	0x3fc00000, 0x40200000, 0x3f7fffff, 0x3f800001, 0x34000000, 0x33800000, 0x4f000000, 0x4effffff, 0xcf000000,
	0xcf000001, 0x4f800000, 0x4f7fffff, 0x5f000000, 0xdf000000, 0x5f800000, 0x5effffff, 0x5f7fffff, 0xdf000001, 0xbf400000,
}

// float gives the bits of a double, or of a single in its box (now and then in a broken one).
func (g *generator) float() uint64 {
	if g.r.IntN(5) < 3 {
		return g.double()
	}
	v := uint64(g.single())
	if g.r.IntN(16) == 0 {
		return v | g.r.Uint64()<<32
	}
	return v | 0xffffffff<<32
}

func (g *generator) double() uint64 {
	e := edgeDoubles[g.r.IntN(len(edgeDoubles))]
	switch g.r.IntN(6) {
	case 0, 1:
		return e
	case 2:
		return e ^ g.r.Uint64()>>g.r.IntN(64)&0x800fffffffffffff
	case 3: // few bits, near one another: exact results, ties
		return g.r.Uint64N(2)<<63 | (1023-8+g.r.Uint64N(16))<<52 | g.r.Uint64N(16)<<48 | g.r.Uint64N(4)
	case 4: // near one another: cancellation
		return g.r.Uint64()&^(0x7ff<<52) | (1023-30+g.r.Uint64N(60))<<52
	}
	return g.r.Uint64()
}

func (g *generator) single() uint32 {
	e := edgeSingles[g.r.IntN(len(edgeSingles))]
	switch g.r.IntN(6) {
	case 0, 1:
		return e
	case 2:
		return e ^ g.r.Uint32()>>g.r.IntN(32)&0x807fffff
	case 3:
		return g.r.Uint32N(2)<<31 | (127-8+g.r.Uint32N(16))<<23 | g.r.Uint32N(16)<<19 | g.r.Uint32N(4)
	case 4:
		return g.r.Uint32()&^(0xff<<23) | (127-16+g.r.Uint32N(32))<<23
	}
	return g.r.Uint32()
}
