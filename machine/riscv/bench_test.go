package riscv

import (
	"syscall"
	"testing"
	"time"

	"understudy/machine/mem"
)

// loops are programs that run for ever.
var loops = []struct {
	name string
	make func() *prog
}{
	{"count", func() *prog {
		p := newProg(mem.Base)
		return p.label("l").raw(addi(a0, a0, 1)).bne(a0, zero, "l").jal(zero, "l")
	}},
	{"sum", func() *prog { // array of 8 KiB, 64-bit words
		p := newProg(mem.Base).la(s0, mem.Base+0x10000)
		p.label("top").raw(addi(a1, s0, 0)).li(a2, 1024)
		p.label("l").raw(ld(a3, 0, a1), add(a0, a0, a3), addi(a1, a1, 8), addi(a2, a2, -1)).bne(a2, zero, "l")
		return p.jal(zero, "top")
	}},
	{"copy", func() *prog {
		p := newProg(mem.Base).la(s0, mem.Base+0x10000).la(s1, mem.Base+0x20000)
		p.label("top").raw(addi(a1, s0, 0), addi(a4, s1, 0)).li(a2, 512)
		p.label("l").raw(ld(a3, 0, a1), sd(a3, 0, a4), ld(a5, 8, a1), sd(a5, 8, a4))
		p.raw(addi(a1, a1, 16), addi(a4, a4, 16), addi(a2, a2, -1)).bne(a2, zero, "l")
		return p.jal(zero, "top")
	}},
	{"fib", func() *prog {
		p := newProg(mem.Base).la(sp, mem.Base+0x40000)
		p.label("top").li(a0, 20).jal(ra, "fib").jal(zero, "top")
		p.label("fib").li(t0, 2).blt(a0, t0, "base")
		p.raw(addi(sp, sp, -32), sd(ra, 24, sp), sd(s0, 16, sp), sd(s1, 8, sp))
		p.raw(addi(s0, a0, 0), addi(a0, a0, -1)).jal(ra, "fib")
		p.raw(addi(s1, a0, 0), addi(a0, s0, -2)).jal(ra, "fib")
		p.raw(add(a0, a0, s1), ld(ra, 24, sp), ld(s0, 16, sp), ld(s1, 8, sp), addi(sp, sp, 32), ret)
		return p.label("base").raw(ret)
	}},
	{"crc32", func() *prog { // bitwise, branch-free
		p := newProg(mem.Base).la(s0, mem.Base+0x10000).li(s1, -306674912).li(a0, -1)
		p.label("top").raw(addi(a1, s0, 0)).li(a2, 4096)
		p.label("byte").raw(lbu(a3, 0, a1), xor(a0, a0, a3)).li(a4, 8)
		p.label("bit").raw(andi(a5, a0, 1), sub(a5, zero, a5), rType(0x33, 7, 0, a5, a5, s1), iType(0x1b, 5, a0, a0, 1), xor(a0, a0, a5))
		p.raw(addi(a4, a4, -1)).bne(a4, zero, "bit")
		p.raw(addi(a1, a1, 1), addi(a2, a2, -1)).bne(a2, zero, "byte")
		return p.jal(zero, "top")
	}},
}

func BenchmarkLoops(b *testing.B) {
	for _, l := range loops {
		b.Run(l.name, func(b *testing.B) {
			h, _ := newTestHart(b, testRAM, l.make())
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

// cpuTime is what the process has used: the benchmarks run beside other work.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
