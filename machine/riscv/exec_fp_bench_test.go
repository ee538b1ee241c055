package riscv

import (
	"math"
	"testing"

	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
)

// floatLoops are programs that run for ever, most of whose instructions are floating point.
var floatLoops = []struct {
	name string
	body []string // executed again and again, by name; f0 to f3 hold everyday numbers, f4 to f7 results
	args []asm.Args
}{
	{
		"double-sum",
		[]string{"fadd.d", "fsub.d", "fadd.d", "fsub.d"},
		[]asm.Args{{Rd: 4, Rs1: 0, Rs2: 1, RM: 7}, {Rd: 5, Rs1: 4, Rs2: 2, RM: 7}, {Rd: 6, Rs1: 5, Rs2: 3, RM: 7}, {Rd: 7, Rs1: 6, Rs2: 4, RM: 7}},
	},
	{
		"double-product",
		[]string{"fmul.d", "fdiv.d", "fmul.d", "fsqrt.d"},
		[]asm.Args{{Rd: 4, Rs1: 0, Rs2: 1, RM: 7}, {Rd: 5, Rs1: 4, Rs2: 2, RM: 7}, {Rd: 6, Rs1: 5, Rs2: 3, RM: 7}, {Rd: 7, Rs1: 6, RM: 7}},
	},
	{
		"double-fused",
		[]string{"fmadd.d", "fmsub.d", "fnmsub.d", "fnmadd.d"},
		[]asm.Args{{Rd: 4, Rs1: 0, Rs2: 1, Rs3: 2, RM: 7}, {Rd: 5, Rs1: 1, Rs2: 2, Rs3: 3, RM: 7}, {Rd: 6, Rs1: 2, Rs2: 3, Rs3: 0, RM: 7}, {Rd: 7, Rs1: 3, Rs2: 0, Rs3: 1, RM: 7}},
	},
	{
		"double-move",
		[]string{"fsgnj.d", "fmv.x.d", "flt.d", "fcvt.l.d", "fcvt.d.l", "fmv.d.x"},
		[]asm.Args{{Rd: 4, Rs1: 0, Rs2: 0}, {Rd: a0, Rs1: 4}, {Rd: a1, Rs1: 0, Rs2: 1}, {Rd: a2, Rs1: 3, RM: 1}, {Rd: 5, Rs1: a2, RM: 7}, {Rd: 6, Rs1: a0}},
	},
	{
		"single",
		[]string{"fadd.s", "fmul.s", "fmadd.s", "fdiv.s"},
		[]asm.Args{{Rd: 4, Rs1: 8, Rs2: 9, RM: 7}, {Rd: 5, Rs1: 4, Rs2: 10, RM: 7}, {Rd: 6, Rs1: 8, Rs2: 9, Rs3: 10, RM: 7}, {Rd: 7, Rs1: 6, Rs2: 8, RM: 7}},
	},
}

func BenchmarkFloatLoops(b *testing.B) {
	for _, l := range floatLoops {
		b.Run(l.name, func(b *testing.B) {
			p := newProg(mem.Base).label("l")
			for range 8 {
				for i, name := range l.body {
					p.raw(asm.Get(name).Encode(l.args[i]))
				}
			}
			h, _ := newTestHart(b, testRAM, p.jal(zero, "l"))
			h.fs = 3
			for i, v := range []float64{1.1, 2.3, -0.7, 1e3 / 7} {
				h.f[i], h.f[8+i] = math.Float64bits(v), box(math.Float32bits(float32(v)))
			}
			const chunk = 1_000_000
			b.ResetTimer()
			start := cpuTime()
			for range b.N {
				h.Run(h.Position() + chunk)
			}
			b.ReportMetric(float64(b.N)*chunk/1e6/(cpuTime()-start).Seconds(), "Minstr/cpu-s")
		})
	}
}
