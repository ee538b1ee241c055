package oracle

import (
	"strings"

	"understudy/internal/oracle/asm"
)

// freshF is a floating-point register, often with a fresh constant of the width.
func (g *generator) freshF(double bool) uint8 {
	x := g.f()
	if g.r.IntN(5) < 3 {
		off := -int64(1+g.r.IntN(poolWords*2/3)) * 8
		if !double && g.r.IntN(2) == 0 {
			g.c.I("flw", a{Rd: x, Rs1: g.base, Imm: off})
		} else {
			g.c.I("fld", a{Rd: x, Rs1: g.base, Imm: off})
		}
	}
	return x
}

// rm is a rounding mode: 7 takes the one in frm, which is always a valid one.
func (g *generator) rm() uint8 {
	if g.r.IntN(3) == 0 {
		return 7
	}
	return uint8(g.r.IntN(5))
}

func (g *generator) clearFlags() {
	if g.r.IntN(2) == 0 {
		g.c.I("csrrwi", a{CSR: 1})
	}
}

// floating emits any instruction of F and D but loads and stores.
func (g *generator) floating() {
	o := one(g, opsFloat)
	from := o.Name
	if strings.HasPrefix(from, "fcvt.") || strings.HasPrefix(from, "fmv.") {
		from = from[strings.LastIndexByte(from, '.'):]
	}
	double := strings.HasSuffix(from, ".d")
	args := a{Rd: g.dst(), Rs1: 0, RM: g.rm()}
	if o.F&asm.FRd != 0 {
		args.Rd = g.f()
	}
	if o.F&asm.FRs1 != 0 {
		args.Rs1 = g.freshF(double)
	} else {
		args.Rs1 = g.fresh()
	}
	if o.F&asm.FRs2 != 0 {
		args.Rs2 = g.freshF(double)
	}
	if o.F&asm.FRs3 != 0 {
		args.Rs3 = g.freshF(double)
	}
	switch o.Format {
	case asm.FormatR, asm.FormatR1:
		args.RM = 0
	}
	g.clearFlags()
	g.c.Emit(o, args)
}

// cancel emits a fused multiply-add whose product nearly meets its addend: what remains is the rounding error.
func (g *generator) cancel() {
	w := []string{".s", ".d"}[g.r.IntN(2)]
	x, y := g.freshF(w == ".d"), g.freshF(w == ".d")
	z := g.f()
	g.c.I("fmul"+w, a{Rd: z, Rs1: x, Rs2: y, RM: g.rm()})
	o := one(g, opsFMA)
	for !strings.HasSuffix(o.Name, w) {
		o = one(g, opsFMA)
	}
	g.clearFlags()
	g.c.Emit(o, a{Rd: g.f(), Rs1: x, Rs2: y, Rs3: z, RM: g.rm()})
}

// csr emits an access to fflags, frm or fcsr, reads back what it left, and leaves a valid rounding mode.
func (g *generator) csr() {
	o := one(g, opsCSR)
	args := a{Rd: g.dst(), CSR: uint16(1 + g.r.IntN(3)), Imm: int64(g.r.IntN(32))}
	if o.Format == asm.FormatCSR {
		args.Imm = 0
		args.Rs1 = g.fresh()
	}
	g.c.Emit(o, args)
	g.c.I("csrrs", a{Rd: g.dst(), CSR: 3})
	g.c.I("csrrwi", a{CSR: 2, Imm: int64(g.r.IntN(5))})
}
