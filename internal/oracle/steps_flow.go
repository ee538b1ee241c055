package oracle

import "understudy/internal/oracle/asm"

// nest emits a few steps inside another one.
func (g *generator) nest(steps int) {
	g.depth++
	for range steps {
		g.step()
	}
	g.depth--
}

// branch emits a conditional branch over a few steps.
func (g *generator) branch() {
	end := g.c.NewLabel()
	if g.depth >= 2 || g.r.IntN(3) == 0 {
		x := g.short()
		if g.r.IntN(2) == 0 {
			g.c.I("c.li", a{Rd: x, Imm: int64(g.r.IntN(2))})
		}
		g.c.To(asm.Get([]string{"c.beqz", "c.bnez"}[g.r.IntN(2)]), a{Rs1: x}, end)
		g.aluI()
		g.aluR()
		g.c.Place(end)
		return
	}
	x, y := g.fresh(), g.fresh()
	if g.r.IntN(4) == 0 {
		y = x
	}
	g.c.To(one(g, opsB), a{Rs1: x, Rs2: y}, end)
	g.nest(1 + g.r.IntN(3))
	g.c.Place(end)
}

// jump emits an unconditional jump over what is never executed.
func (g *generator) jump() {
	end := g.c.NewLabel()
	switch g.r.IntN(4) {
	case 0:
		g.c.To(asm.Get("jal"), a{Rd: g.dst()}, end)
	case 1:
		g.c.To(asm.Get("c.j"), a{}, end)
	case 2:
		x, imm := g.dst0(), g.r.Int64N(4000)-2000
		g.c.La(x, end)
		g.c.I("addi", a{Rd: x, Rs1: x, Imm: -imm + g.r.Int64N(2)}) // bit 0 of the target is ignored
		rd := g.dst()
		if g.r.IntN(4) == 0 {
			rd = x
		}
		g.c.I("jalr", a{Rd: rd, Rs1: x, Imm: imm})
	default:
		x := g.dst0()
		g.c.La(x, end)
		if g.r.IntN(2) == 0 && !g.locked[1] {
			g.c.I("c.jalr", a{Rs1: x})
		} else {
			g.c.I("c.jr", a{Rs1: x})
		}
	}
	for range g.r.IntN(3) {
		g.aluI()
	}
	g.c.Place(end)
}

// loop emits a bounded loop of a few steps.
func (g *generator) loop() {
	if g.depth >= 2 {
		return
	}
	n := 2 + g.r.IntN(6)
	if g.r.IntN(8) == 0 {
		n = 50 + g.r.IntN(200)
	}
	count := g.counters[g.depth]
	if g.owner >= 0 {
		count = g.counters[2+g.owner]
	}
	g.c.Li(count, int64(n))
	top := g.c.NewLabel()
	g.c.Place(top)
	times := g.times
	g.times *= n
	g.nest(1 + g.r.IntN(3))
	g.times = times
	g.c.I("addi", a{Rd: count, Rs1: count, Imm: -1})
	if g.r.IntN(2) == 0 {
		g.c.To(asm.Get("bne"), a{Rs1: count}, top)
	} else {
		g.c.To(asm.Get("blt"), a{Rs2: count}, top)
	}
}

// call emits a call of one of the subroutines.
func (g *generator) call() {
	if len(g.calls) == 0 {
		return
	}
	f := one(g, g.calls)
	if g.owner >= 0 && (g.owner < subroutines-1 || f.link != 5) || g.records+g.times*f.records > g.recLimit {
		return
	}
	g.records += g.times * f.records
	if g.r.IntN(2) == 0 {
		g.c.To(asm.Get("jal"), a{Rd: f.link}, f.label)
		return
	}
	x := g.dst0()
	g.c.La(x, f.label)
	g.c.I("jalr", a{Rd: f.link, Rs1: x})
}

// patch emits an instruction, and code before it that replaces it.
func (g *generator) patch() {
	slot := g.c.NewLabel()
	x := g.dst0()
	word := g.dst0(x)
	rd := g.dst0()
	replacement := asm.Get("addi").Encode(a{Rd: rd, Imm: int64(g.r.IntN(2048))})
	if g.r.IntN(3) == 0 {
		li := asm.Get("c.li")
		replacement = li.Encode(a{Rd: rd, Imm: int64(g.r.IntN(32))})
		replacement |= asm.Get("c.addi").Encode(a{Rd: rd, Imm: int64(1 + g.r.IntN(31))}) << 16
	}
	g.c.La(x, slot)
	g.c.Li(word, int64(int32(replacement)))
	if g.r.IntN(2) == 0 {
		g.c.I("sw", a{Rs1: x, Rs2: word})
	} else {
		g.c.I("sh", a{Rs1: x, Rs2: word})
		g.c.I("srli", a{Rd: word, Rs1: word, Imm: 16})
		g.c.I("sh", a{Rs1: x, Rs2: word, Imm: 2})
	}
	g.c.I("fence.i", a{})
	g.c.Place(slot)
	g.c.I("xori", a{Rd: rd, Imm: -1})
}
