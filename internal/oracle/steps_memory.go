package oracle

import "understudy/internal/oracle/asm"

// offset picks a place in the scratch area: mostly aligned, sometimes not, sometimes across the page border
// that lies in its middle.
func (g *generator) offset(size int) int64 {
	const border = 4096 - scratchOffset%4096
	switch g.r.IntN(8) {
	case 0, 1:
		return g.r.Int64N(scratchBytes - 8)
	case 2:
		return border - 8 + g.r.Int64N(9)
	}
	return g.r.Int64N(scratchBytes/int64(size)-1) * int64(size)
}

// point makes x such that x+imm is the place in the scratch area.
func (g *generator) point(x uint8, place, imm int64) {
	d := place - imm
	first := min(max(d, -2048), 2047)
	g.c.I("addi", a{Rd: x, Rs1: g.base, Imm: first})
	if d != first {
		g.c.I("addi", a{Rd: x, Rs1: x, Imm: d - first})
	}
}

func sizeOf(o *asm.Op) int {
	switch o.Name[len(o.Name)-1] {
	case 'b':
		return 1
	case 'h':
		return 2
	case 'w':
		return 4
	case 'd':
		return 8
	}
	switch o.Name {
	case "lbu":
		return 1
	case "lhu":
		return 2
	case "lwu":
		return 4
	}
	return 8
}

func (g *generator) memory() {
	o := one(g, opsLoad)
	if g.r.IntN(2) == 0 {
		o = one(g, opsStore)
	}
	place, imm, x := g.offset(sizeOf(o)), g.r.Int64N(4096)-2048, g.base
	value := g.src()
	if o.F == 0 && g.r.IntN(2) == 0 {
		value = g.dst0()
		g.constant(value)
	}
	if g.r.IntN(4) == 0 {
		imm = place // off the base register itself
	} else {
		x = g.dst0(value)
		g.point(x, place, imm)
	}
	if o.F != 0 {
		value = g.f()
	}
	if o.Format == asm.FormatStore {
		g.c.Emit(o, a{Rs1: x, Rs2: value, Imm: imm})
		if g.r.IntN(2) == 0 {
			g.c.I("ld", a{Rd: g.dst(), Rs1: g.base, Imm: place &^ 7})
		}
		return
	}
	rd := g.dst()
	if o.F != 0 {
		rd = g.f()
	} else if x != g.base && g.r.IntN(8) == 0 {
		rd = x
	}
	g.c.Emit(o, a{Rd: rd, Rs1: x, Imm: imm})
}

func (g *generator) compressedMemory() {
	o := one(g, opsCLocal)
	size := int64(8)
	switch o.Format {
	case asm.FormatCL4, asm.FormatCS4, asm.FormatCILSP4, asm.FormatCSS4:
		size = 4
	}
	place := g.offset(int(size))
	switch o.Format {
	case asm.FormatCL4, asm.FormatCL8, asm.FormatCS4, asm.FormatCS8:
		imm := g.r.Int64N(32) * size
		x := g.short()
		g.point(x, place, imm)
		args := a{Rd: g.short(), Rs2: uint8(8 + g.r.IntN(8)), Rs1: x, Imm: imm}
		if o.F != 0 {
			args.Rd = uint8(8 + g.r.IntN(8))
		}
		g.c.Emit(o, args)
	default: // relative to sp
		if g.locked[2] {
			return
		}
		imm := g.r.Int64N(64) * size
		g.point(2, place, imm)
		args := a{Rd: g.dst0(), Rs2: g.src(), Imm: imm}
		if o.F != 0 {
			args.Rd = g.f()
		}
		g.c.Emit(o, args)
	}
}

// atomicPlace is an aligned place.
func (g *generator) atomicPlace(o *asm.Op) int64 {
	size := int64(sizeOf(o))
	return g.r.Int64N(scratchBytes/size-1) * size
}

func (g *generator) amo() {
	o := one(g, opsAMO)
	if o.Name == "sc.w" || o.Name == "sc.d" {
		g.reserve()
		return
	}
	value := g.fresh()
	x := g.dst0(value)
	g.point(x, g.atomicPlace(o), 0)
	g.c.Emit(o, a{Rd: g.dst(), Rs1: x, Rs2: value, AqRl: uint8(g.r.IntN(4))})
}

// reserve emits lr and sc on one address, perhaps with an sc elsewhere or a second sc, both of which fail.
func (g *generator) reserve() {
	w := []string{".w", ".d"}[g.r.IntN(2)]
	lr, sc := asm.Get("lr"+w), asm.Get("sc"+w)
	x := g.dst0()
	place := g.atomicPlace(sc)
	g.point(x, place, 0)
	other := g.dst0(x)
	g.point(other, (place+1024)%scratchBytes, 0)
	loaded := g.dst0(x, other)
	done := g.dst0(x, other)
	g.c.Emit(lr, a{Rd: loaded, Rs1: x, AqRl: uint8(g.r.IntN(2) * 2)})
	for range g.r.IntN(3) {
		rd := g.dst0(x, other)
		g.c.Emit(one(g, opsR), a{Rd: rd, Rs1: g.src(), Rs2: g.src()})
	}
	if g.r.IntN(4) == 0 {
		g.c.Emit(sc, a{Rd: done, Rs1: other, Rs2: g.src()})
	}
	g.c.Emit(sc, a{Rd: done, Rs1: x, Rs2: g.src(), AqRl: uint8(g.r.IntN(2))})
	if g.r.IntN(3) == 0 {
		g.c.Emit(sc, a{Rd: g.dst(), Rs1: x, Rs2: g.src()})
	}
	g.c.I("ld", a{Rd: g.dst(), Rs1: g.base, Imm: place &^ 7})
}
