package softfloat_test

import (
	"math"
	"testing"

	. "understudy/machine/riscv/softfloat"
)

// Everyday operands: results normal and inexact.
var (
	bench64 = [4]uint64{math.Float64bits(1.1), math.Float64bits(2.3), math.Float64bits(-0.7), math.Float64bits(1e3 / 7)}
	bench32 = [4]uint32{math.Float32bits(1.1), math.Float32bits(2.3), math.Float32bits(-0.7), math.Float32bits(1e3 / 7)}
	sink    uint64
)

func BenchmarkDouble(b *testing.B) {
	type binary func(a, b uint64, rm RoundingMode) (uint64, Flags)
	type fast func(a, b uint64, rm RoundingMode, sticky Flags) (uint64, Flags)
	for _, op := range []struct {
		name string
		ref  binary
		fast fast
	}{
		{"add", Add64, FastAdd64},
		{"mul", Mul64, FastMul64},
		{"div", Div64, FastDiv64},
		{
			"sqrt",
			func(a, _ uint64, rm RoundingMode) (uint64, Flags) { return Sqrt64(a&^(1<<63), rm) },
			func(a, _ uint64, rm RoundingMode, s Flags) (uint64, Flags) { return FastSqrt64(a&^(1<<63), rm, s) },
		},
		{
			"fma",
			func(a, b uint64, rm RoundingMode) (uint64, Flags) { return Fma64(a, b, bench64[3], rm) },
			func(a, b uint64, rm RoundingMode, s Flags) (uint64, Flags) { return FastFma64(a, b, bench64[3], rm, s) },
		},
		{
			"to-i64-rtz",
			func(a, _ uint64, _ RoundingMode) (uint64, Flags) { i, fl := F64ToI64(a, RTZ); return uint64(i), fl },
			func(a, _ uint64, _ RoundingMode, _ Flags) (uint64, Flags) {
				i, fl := FastF64ToI64(a, RTZ)
				return uint64(i), fl
			},
		},
	} {
		b.Run(op.name+"/reference", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.ref(bench64[i&3], bench64[(i+1)&3], RNE)
				sink += z
			}
		})
		b.Run(op.name+"/fast-clear", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.fast(bench64[i&3], bench64[(i+1)&3], RNE, 0)
				sink += z
			}
		})
		b.Run(op.name+"/fast-sticky", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.fast(bench64[i&3], bench64[(i+1)&3], RNE, NX)
				sink += z
			}
		})
	}
}

func BenchmarkSingle(b *testing.B) {
	type binary func(a, b uint32, rm RoundingMode) (uint32, Flags)
	type fast func(a, b uint32, rm RoundingMode, sticky Flags) (uint32, Flags)
	for _, op := range []struct {
		name string
		ref  binary
		fast fast
	}{
		{"add", Add32, FastAdd32},
		{"mul", Mul32, FastMul32},
		{"div", Div32, FastDiv32},
		{
			"sqrt",
			func(a, _ uint32, rm RoundingMode) (uint32, Flags) { return Sqrt32(a&^(1<<31), rm) },
			func(a, _ uint32, rm RoundingMode, s Flags) (uint32, Flags) { return FastSqrt32(a&^(1<<31), rm, s) },
		},
		{
			"fma",
			func(a, b uint32, rm RoundingMode) (uint32, Flags) { return Fma32(a, b, bench32[3], rm) },
			func(a, b uint32, rm RoundingMode, s Flags) (uint32, Flags) { return FastFma32(a, b, bench32[3], rm, s) },
		},
	} {
		b.Run(op.name+"/reference", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.ref(bench32[i&3], bench32[(i+1)&3], RNE)
				sink += uint64(z)
			}
		})
		b.Run(op.name+"/fast-clear", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.fast(bench32[i&3], bench32[(i+1)&3], RNE, 0)
				sink += uint64(z)
			}
		})
		b.Run(op.name+"/fast-sticky", func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				z, _ := op.fast(bench32[i&3], bench32[(i+1)&3], RNE, NX)
				sink += uint64(z)
			}
		})
	}
}
