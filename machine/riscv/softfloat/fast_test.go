package softfloat_test

import (
	"testing"

	. "understudy/machine/riscv/softfloat"
	"understudy/machine/riscv/softfloat/softfloattest"
)

// stickies are the accumulated flags the fast layer is tried with.
var stickies = [...]Flags{0, NX, NV | DZ | OF | UF, NV | DZ | OF | UF | NX}

// differ reports whether the fast result (z, fl) violates the contract of the fast layer.
func differ[T comparable](z T, fl Flags, refZ T, refFl, sticky Flags) bool {
	return z != refZ || sticky|fl != sticky|refFl
}

// check64 compares every double operation of the fast layer with the reference.
func check64(t *testing.T, a, b, c uint64, rm RoundingMode, sticky Flags) {
	t.Helper()
	report := func(op string, z uint64, fl Flags, refZ uint64, refFl Flags) {
		t.Helper()
		t.Errorf("%s(%#x, %#x, %#x) rm %d after %#x: fast %#x %#x, reference %#x %#x", op, a, b, c, rm, sticky, z, fl, refZ, refFl)
	}
	compare := func(op string, z uint64, fl Flags, refZ uint64, refFl Flags) {
		t.Helper()
		if differ(z, fl, refZ, refFl, sticky) {
			report(op, z, fl, refZ, refFl)
		}
	}
	z, fl := FastAdd64(a, b, rm, sticky)
	r, rfl := Add64(a, b, rm)
	compare("add", z, fl, r, rfl)
	z, fl = FastSub64(a, b, rm, sticky)
	r, rfl = Sub64(a, b, rm)
	compare("sub", z, fl, r, rfl)
	z, fl = FastMul64(a, b, rm, sticky)
	r, rfl = Mul64(a, b, rm)
	compare("mul", z, fl, r, rfl)
	z, fl = FastDiv64(a, b, rm, sticky)
	r, rfl = Div64(a, b, rm)
	compare("div", z, fl, r, rfl)
	z, fl = FastSqrt64(a, rm, sticky)
	r, rfl = Sqrt64(a, rm)
	compare("sqrt", z, fl, r, rfl)
	z, fl = FastFma64(a, b, c, rm, sticky)
	r, rfl = Fma64(a, b, c, rm)
	compare("fma", z, fl, r, rfl)
	z32, fl := FastF64ToF32(a, rm)
	r32, rfl := F64ToF32(a, rm)
	compare("f64 to f32", uint64(z32), fl, uint64(r32), rfl)
	i32, fl := FastF64ToI32(a, rm)
	ri32, rfl := F64ToI32(a, rm)
	compare("f64 to i32", uint64(i32), fl, uint64(ri32), rfl)
	z32, fl = FastF64ToU32(a, rm)
	r32, rfl = F64ToU32(a, rm)
	compare("f64 to u32", uint64(z32), fl, uint64(r32), rfl)
	i64, fl := FastF64ToI64(a, rm)
	ri64, rfl := F64ToI64(a, rm)
	compare("f64 to i64", uint64(i64), fl, uint64(ri64), rfl)
	z, fl = FastF64ToU64(a, rm)
	r, rfl = F64ToU64(a, rm)
	compare("f64 to u64", z, fl, r, rfl)
}

// check32 compares every single operation of the fast layer with the reference.
func check32(t *testing.T, a, b, c uint32, rm RoundingMode, sticky Flags) {
	t.Helper()
	compare := func(op string, z uint32, fl Flags, refZ uint32, refFl Flags) {
		t.Helper()
		if differ(z, fl, refZ, refFl, sticky) {
			t.Errorf("%s(%#x, %#x, %#x) rm %d after %#x: fast %#x %#x, reference %#x %#x", op, a, b, c, rm, sticky, z, fl, refZ, refFl)
		}
	}
	compare64 := func(op string, z uint64, fl Flags, refZ uint64, refFl Flags) {
		t.Helper()
		if differ(z, fl, refZ, refFl, sticky) {
			t.Errorf("%s(%#x) rm %d after %#x: fast %#x %#x, reference %#x %#x", op, a, rm, sticky, z, fl, refZ, refFl)
		}
	}
	z, fl := FastAdd32(a, b, rm, sticky)
	r, rfl := Add32(a, b, rm)
	compare("add", z, fl, r, rfl)
	z, fl = FastSub32(a, b, rm, sticky)
	r, rfl = Sub32(a, b, rm)
	compare("sub", z, fl, r, rfl)
	z, fl = FastMul32(a, b, rm, sticky)
	r, rfl = Mul32(a, b, rm)
	compare("mul", z, fl, r, rfl)
	z, fl = FastDiv32(a, b, rm, sticky)
	r, rfl = Div32(a, b, rm)
	compare("div", z, fl, r, rfl)
	z, fl = FastSqrt32(a, rm, sticky)
	r, rfl = Sqrt32(a, rm)
	compare("sqrt", z, fl, r, rfl)
	z, fl = FastFma32(a, b, c, rm, sticky)
	r, rfl = Fma32(a, b, c, rm)
	compare("fma", z, fl, r, rfl)
	z64, fl := FastF32ToF64(a)
	r64, rfl := F32ToF64(a)
	compare64("f32 to f64", z64, fl, r64, rfl)
	i32, fl := FastF32ToI32(a, rm)
	ri32, rfl := F32ToI32(a, rm)
	compare("f32 to i32", uint32(i32), fl, uint32(ri32), rfl)
	z, fl = FastF32ToU32(a, rm)
	r, rfl = F32ToU32(a, rm)
	compare("f32 to u32", z, fl, r, rfl)
	i64, fl := FastF32ToI64(a, rm)
	ri64, rfl := F32ToI64(a, rm)
	compare64("f32 to i64", uint64(i64), fl, uint64(ri64), rfl)
	z64, fl = FastF32ToU64(a, rm)
	r64, rfl = F32ToU64(a, rm)
	compare64("f32 to u64", z64, fl, r64, rfl)
}

// checkInt compares the conversions from integers.
func checkInt(t *testing.T, i uint64, rm RoundingMode) {
	t.Helper()
	compare := func(op string, z uint64, fl Flags, refZ uint64, refFl Flags) {
		t.Helper()
		if differ(z, fl, refZ, refFl, 0) {
			t.Errorf("%s(%#x) rm %d: fast %#x %#x, reference %#x %#x", op, i, rm, z, fl, refZ, refFl)
		}
	}
	z, fl := FastI64ToF64(int64(i), rm)
	r, rfl := I64ToF64(int64(i), rm)
	compare("i64 to f64", z, fl, r, rfl)
	z, fl = FastU64ToF64(i, rm)
	r, rfl = U64ToF64(i, rm)
	compare("u64 to f64", z, fl, r, rfl)
	z32, fl := FastI64ToF32(int64(i), rm)
	r32, rfl := I64ToF32(int64(i), rm)
	compare("i64 to f32", uint64(z32), fl, uint64(r32), rfl)
	z32, fl = FastU64ToF32(i, rm)
	r32, rfl = U64ToF32(i, rm)
	compare("u64 to f32", uint64(z32), fl, uint64(r32), rfl)
}

func TestFastEqualsReferenceAtBoundaries(t *testing.T) {
	v64, v32 := softfloattest.Boundary64, softfloattest.Boundary32
	for _, sticky := range stickies[:2] {
		for i, a := range v64 {
			for j, b := range v64 {
				check64(t, a, b, v64[(i*7+j*3)%len(v64)], RNE, sticky)
				if t.Failed() {
					return
				}
			}
			check64(t, a, a, a, RTZ, sticky)
		}
		for i, a := range v32 {
			for j, b := range v32 {
				check32(t, a, b, v32[(i*7+j*3)%len(v32)], RNE, sticky)
			}
			check32(t, a, a, a, RTZ, sticky)
		}
	}
}

func TestFastEqualsReferenceAtRandom(t *testing.T) {
	n := 80_000
	if testing.Short() {
		n = 20_000
	}
	r := softfloattest.Rand(1)
	for i := 0; i < n && !t.Failed(); i++ {
		sticky := stickies[i%len(stickies)]
		rm := RNE
		if i%8 == 7 {
			rm = RoundingMode(r.Intn(5))
		}
		a, b, c := r.Triple64()
		check64(t, a, b, c, rm, sticky)
		d, e, f := r.Triple32()
		check32(t, d, e, f, rm, sticky)
		checkInt(t, r.Int64(), RoundingMode(r.Intn(5)))
	}
}
