package oracle

import "understudy/internal/oracle/asm"

// The tables that steps choose from, by what the operands look like.
var (
	opsR      = pick(asm.Base, asm.FormatR)
	opsI      = append(pick(asm.Base, asm.FormatI), append(pick(asm.Base, asm.FormatShift), pick(asm.Base, asm.FormatShiftW)...)...)
	opsU      = pick(asm.Base, asm.FormatU)
	opsB      = pick(asm.Base, asm.FormatB)
	opsAMO    = pick(asm.Atomics, asm.FormatAMO)
	opsLoad   = append(pick(asm.Base, asm.FormatLoad), pick(asm.Float, asm.FormatLoad)...)
	opsStore  = append(pick(asm.Base, asm.FormatStore), pick(asm.Float, asm.FormatStore)...)
	opsFloat  = floatOps()
	opsFMA    = pick(asm.Float, asm.FormatR4)
	opsCSR    = append(pick(asm.Base, asm.FormatCSR), pick(asm.Base, asm.FormatCSRI)...)
	opsC      = compressedALU()
	opsCLocal = compressedMemory()
)

func pick(table []asm.Op, f asm.Format) (ops []*asm.Op) {
	for i := range table {
		if table[i].Format == f {
			ops = append(ops, &table[i])
		}
	}
	return ops
}

func floatOps() (ops []*asm.Op) {
	for i := range asm.Float {
		if f := asm.Float[i].Format; f != asm.FormatLoad && f != asm.FormatStore {
			ops = append(ops, &asm.Float[i])
		}
	}
	return ops
}

func compressedALU() (ops []*asm.Op) {
	for i := range asm.Compressed {
		switch o := &asm.Compressed[i]; o.Format {
		case asm.FormatCIW, asm.FormatCI, asm.FormatCI16SP, asm.FormatCLUI, asm.FormatCShift, asm.FormatCBShift,
			asm.FormatCBI, asm.FormatCA, asm.FormatCR, asm.FormatCNone:
			ops = append(ops, o)
		}
	}
	return ops
}

func compressedMemory() (ops []*asm.Op) {
	for i := range asm.Compressed {
		switch o := &asm.Compressed[i]; o.Format {
		case asm.FormatCL4, asm.FormatCL8, asm.FormatCS4, asm.FormatCS8, asm.FormatCILSP4, asm.FormatCILSP8,
			asm.FormatCSS4, asm.FormatCSS8:
			ops = append(ops, o)
		}
	}
	return ops
}

func one[T any](g *generator, s []T) T { return s[g.r.IntN(len(s))] }

// step emits one random step, and perhaps a record behind it.
func (g *generator) step() {
	switch n := g.r.IntN(100); {
	case n < 16:
		g.aluR()
	case n < 26:
		g.aluI()
	case n < 36:
		g.compressed()
	case n < 46:
		g.memory()
	case n < 52:
		g.compressedMemory()
	case n < 56:
		g.amo()
	case n < 58:
		g.reserve()
	case n < 80:
		g.floating()
	case n < 82:
		g.cancel()
	case n < 85:
		g.csr()
	case n < 86:
		g.fence()
	case n < 91:
		g.branch()
	case n < 94:
		g.jump()
	case n < 96:
		g.loop()
	case n < 98:
		g.call()
	default:
		g.patch()
	}
	if g.rec.Float64() < g.every {
		g.callRecorder()
	}
}

// src is a register to read: any but those whose value depends on where records are written.
func (g *generator) src() uint8 {
	for {
		if x := uint8(g.r.IntN(32)); x != g.ptr && x != g.link {
			return x
		}
	}
}

// dst is a register to write.
func (g *generator) dst() uint8 {
	for {
		if x := uint8(g.r.IntN(32)); !g.locked[x] {
			return x
		}
	}
}

// dst0 is a register to write other than x0 and those given.
func (g *generator) dst0(not ...uint8) uint8 {
next:
	for {
		x := g.dst()
		for _, n := range append(not, 0) {
			if x == n {
				continue next
			}
		}
		return x
	}
}

// short is one of the registers x8 to x15 to write.
func (g *generator) short() uint8 {
	for {
		if x := uint8(8 + g.r.IntN(8)); !g.locked[x] {
			return x
		}
	}
}

func (g *generator) f() uint8 { return uint8(g.r.IntN(32)) }

// fresh is a register with a fresh constant, or any register.
func (g *generator) fresh() uint8 {
	if g.r.IntN(2) == 0 {
		return g.src()
	}
	x := g.dst()
	g.constant(x)
	return x
}

// constant gives x an interesting value.
func (g *generator) constant(x uint8) {
	switch g.r.IntN(8) {
	case 0:
		g.c.Li(x, int64(g.integer()))
	case 1:
		g.c.I("addi", a{Rd: x, Imm: int64(g.r.IntN(4096)) - 2048})
	default:
		g.c.I("ld", a{Rd: x, Rs1: g.base, Imm: -int64(1+g.r.IntN(poolWords)) * 8})
	}
}

func (g *generator) aluR() {
	o := one(g, opsR)
	g.c.Emit(o, a{Rs1: g.fresh(), Rs2: g.fresh(), Rd: g.dst()})
}

func (g *generator) aluI() {
	if g.r.IntN(6) == 0 {
		g.c.Emit(one(g, opsU), a{Rd: g.dst(), Imm: int64(g.r.IntN(1<<20)) - 1<<19})
		return
	}
	o := one(g, opsI)
	args := a{Rs1: g.fresh(), Rd: g.dst()}
	switch o.Format {
	case asm.FormatI:
		args.Imm = int64(g.r.IntN(4096)) - 2048
	case asm.FormatShift:
		args.Imm = int64(g.r.IntN(64))
	case asm.FormatShiftW:
		args.Imm = int64(g.r.IntN(32))
	}
	g.c.Emit(o, args)
}

// compressed emits a compressed instruction that works on registers alone.
func (g *generator) compressed() {
	o := one(g, opsC)
	var x a
	switch o.Format {
	case asm.FormatCIW:
		x = a{Rd: g.short(), Imm: int64(1+g.r.IntN(255)) * 4}
	case asm.FormatCI:
		x = a{Rd: g.dst0(), Imm: int64(g.r.IntN(64)) - 32}
		if o.Name == "c.addi" && x.Imm == 0 {
			x.Imm = 1
		}
	case asm.FormatCI16SP:
		x = a{Imm: int64(1+g.r.IntN(31)) * 16}
		if g.r.IntN(2) == 0 {
			x.Imm = -x.Imm
		}
	case asm.FormatCLUI:
		x = a{Rd: g.dst0(2), Imm: int64(1 + g.r.IntN(31))}
		if g.r.IntN(2) == 0 {
			x.Imm = -x.Imm
		}
	case asm.FormatCShift:
		x = a{Rd: g.dst0(), Imm: int64(1 + g.r.IntN(63))}
	case asm.FormatCBShift:
		x = a{Rd: g.short(), Imm: int64(1 + g.r.IntN(63))}
	case asm.FormatCBI:
		x = a{Rd: g.short(), Imm: int64(g.r.IntN(64)) - 32}
	case asm.FormatCA:
		x = a{Rd: g.short(), Rs2: g.short()}
	case asm.FormatCR:
		x = a{Rd: g.dst0(), Rs2: g.src()}
		for x.Rs2 == 0 {
			x.Rs2 = g.src()
		}
	}
	if g.r.IntN(2) == 0 {
		if x.Rd != 0 {
			g.constant(x.Rd)
		}
		if x.Rs2 != 0 && !g.locked[x.Rs2] {
			g.constant(x.Rs2)
		}
	}
	g.c.Emit(o, x)
}

func (g *generator) fence() {
	switch g.r.IntN(3) {
	case 0:
		g.c.I("fence", a{Imm: 0xff})
	case 1:
		g.c.I("fence", a{Imm: 0x33})
	default:
		g.c.I("fence.i", a{})
	}
}
