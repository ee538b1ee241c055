package riscv

import (
	"math"
	"testing"

	"understudy/machine/mem"
)

// TestArithmetic holds the operations whose result surprises: overflow, division by zero, shifts by more
// than the width, sign extension of words.
func TestArithmetic(t *testing.T) {
	const minInt, m1 = 1 << 63, ^uint64(0)
	const min32 = uint64(0xffffffff_80000000)
	r := func(f3, f7 uint32) uint32 { return rType(0x33, f3, f7, a0, a1, a2) }
	w := func(f3, f7 uint32) uint32 { return rType(0x3b, f3, f7, a0, a1, a2) }
	i := func(f3, imm uint32) uint32 { return iType(0x13, f3, a0, a1, imm) }
	iw := func(f3, imm uint32) uint32 { return iType(0x1b, f3, a0, a1, imm) }
	tests := []struct {
		name       string
		raw        uint32
		x, y, want uint64
	}{
		{"add", r(0, 0), m1, 2, 1},
		{"sub", r(0, 32), 1, 2, m1},
		{"sll", r(1, 0), 3, 65, 6},
		{"slt", r(2, 0), m1, 0, 1},
		{"sltu", r(3, 0), m1, 0, 0},
		{"xor", r(4, 0), 6, 3, 5},
		{"srl", r(5, 0), minInt, 127, 1},
		{"sra", r(5, 32), minInt, 127, m1},
		{"or", r(6, 0), 6, 3, 7},
		{"and", r(7, 0), 6, 3, 2},
		{"mul", r(0, 1), 1 << 63, 3, 1 << 63},
		{"mulh", r(1, 1), m1, m1, 0},
		{"mulh min", r(1, 1), minInt, minInt, 1 << 62},
		{"mulhsu", r(2, 1), m1, m1, m1},
		{"mulhu", r(3, 1), m1, m1, m1 - 1},
		{"div", r(4, 1), ^uint64(6), 2, ^uint64(2)},
		{"div overflow", r(4, 1), minInt, m1, minInt},
		{"div zero", r(4, 1), 5, 0, m1},
		{"divu", r(5, 1), m1, 2, math.MaxInt64},
		{"divu zero", r(5, 1), 5, 0, m1},
		{"rem", r(6, 1), ^uint64(6), 2, m1},
		{"rem overflow", r(6, 1), minInt, m1, 0},
		{"rem zero", r(6, 1), 5, 0, 5},
		{"remu", r(7, 1), m1, 10, 5},
		{"remu zero", r(7, 1), 5, 0, 5},
		{"addw", w(0, 0), math.MaxInt32, 1, min32},
		{"subw", w(0, 32), min32, 1, math.MaxInt32},
		{"sllw", w(1, 0), 1, 63, min32},
		{"srlw", w(5, 0), min32, 31, 1},
		{"sraw", w(5, 32), min32, 31, m1},
		{"mulw", w(0, 1), 0x10000, 0x8000, min32},
		{"divw overflow", w(4, 1), min32, m1, min32},
		{"divw zero", w(4, 1), 7, 1 << 32, m1},
		{"divuw", w(5, 1), min32, 1, min32},
		{"divuw zero", w(5, 1), 7, 1 << 32, m1},
		{"remw overflow", w(6, 1), min32, m1, 0},
		{"remw zero", w(6, 1), 1<<32 | 1<<31, 0, min32},
		{"remuw", w(7, 1), min32, 7, 2},
		{"remuw zero", w(7, 1), 1<<32 | 1<<31, 0, min32},
		{"addi", i(0, 0xfff), 0, 0, m1},
		{"slti", i(2, 0xfff), ^uint64(1), 0, 1},
		{"sltiu", i(3, 0xfff), 5, 0, 1},
		{"xori", i(4, 0xfff), 5, 0, ^uint64(5)},
		{"ori", i(6, 0x800), 5, 0, 5 | ^uint64(0x7ff)},
		{"andi", i(7, 0x800), m1, 0, ^uint64(0x7ff)},
		{"slli", i(1, 63), 1, 0, minInt},
		{"srli", i(5, 63), minInt, 0, 1},
		{"srai", i(5, 0x400|63), minInt, 0, m1},
		{"addiw", iw(0, 1), math.MaxInt32, 0, min32},
		{"slliw", iw(1, 31), 1, 0, min32},
		{"srliw", iw(5, 31), min32, 0, 1},
		{"sraiw", iw(5, 0x400|31), min32, 0, m1},
		{"lui", lui(a0, 0x80000000), 0, 0, min32},
	}
	for _, tt := range tests {
		h, _ := newTestHart(t, testRAM, newProg(mem.Base).raw(tt.raw, insEcall))
		h.SetX(a1, tt.x)
		h.SetX(a2, tt.y)
		finish(t, h)
		if got := h.X(a0); got != tt.want {
			t.Errorf("%s(%#x, %#x) = %#x, want %#x", tt.name, tt.x, tt.y, got, tt.want)
		}
		if h.Position() != 2 {
			t.Errorf("%s: position %d", tt.name, h.Position())
		}
	}
}

// TestZeroRegister: no instruction changes x0.
func TestZeroRegister(t *testing.T) {
	p := newProg(mem.Base).la(a1, mem.Base+0x1000)
	p.raw(addi(zero, a1, 1), add(zero, a1, a1), lui(zero, 0x1000), auipc(zero, 0), ld(zero, 0, a1), mul(zero, a1, a1),
		rType(0x2f, 3, 4, zero, a1, a1), csrrs(zero, csrTime, zero), jalr(zero, a1, 8))
	h, _ := newTestHart(t, testRAM, p)
	h.ram.Write(mem.Base+0x1008, newProg(0).raw(addi(a0, zero, 7), insEcall).bytes())
	finish(t, h)
	if h.X(0) != 0 || h.X(a0) != 7 {
		t.Errorf("x0 = %#x, a0 = %#x", h.X(0), h.X(a0))
	}
}

// TestUnaligned: loads and stores at any address, across pages too.
func TestUnaligned(t *testing.T) {
	for _, at := range []uint64{mem.Base + 0x1001, mem.Base + 0x1ffd, mem.Base + 0x2fff} {
		p := newProg(mem.Base).la(a1, at).li(a2, -0x12345678).raw(slli(a3, a2, 24), xor(a2, a2, a3))
		p.raw(sd(a2, 0, a1), ld(a3, 0, a1), lw(a4, 0, a1), iType(3, 1, a5, a1, 0), iType(3, 5, a6, a1, 1), insEcall)
		h, _ := newTestHart(t, testRAM, p)
		finish(t, h)
		v := h.X(a2)
		if h.X(a3) != v || h.X(a4) != uint64(int32(v)) || h.X(a5) != uint64(int16(v)) || h.X(a6) != uint64(uint16(v>>8)) {
			t.Errorf("at %#x: %#x %#x %#x %#x of %#x", at, h.X(a3), h.X(a4), h.X(a5), h.X(a6), v)
		}
	}
}

// TestAtomics holds LR, SC and the AMOs, words and doublewords.
func TestAtomics(t *testing.T) {
	const at = mem.Base + 0x1000
	amoIns := func(f5, f3 uint32) uint32 { return rType(0x2f, f3, f5<<2, a0, a1, a2) }
	tests := []struct {
		f5, f3         uint32
		old, src, want uint64
	}{
		{0, 3, 5, 7, 12},
		{1, 3, 5, 7, 7},
		{4, 3, 5, 7, 2},
		{8, 3, 5, 2, 7},
		{12, 3, 5, 4, 4},
		{16, 3, ^uint64(0), 1, ^uint64(0)},
		{20, 3, ^uint64(0), 1, 1},
		{24, 3, ^uint64(0), 1, 1},
		{28, 3, ^uint64(0), 1, ^uint64(0)},
		{0, 2, 0x1_ffffffff, 1, 0x1_00000000},
		{16, 2, 0xffffffff, 1, 0xffffffff},
		{24, 2, 0xffffffff, 1, 1},
		{20, 2, 0x80000000, 0x1_00000001, 1},
		{28, 2, 0x80000000, 1, 0x80000000},
	}
	for _, tt := range tests {
		h, _ := newTestHart(t, testRAM, newProg(mem.Base).la(a1, at).raw(sd(a3, 0, a1), amoIns(tt.f5, tt.f3), ld(a4, 0, a1), insEcall))
		h.SetX(a3, tt.old)
		h.SetX(a2, tt.src)
		finish(t, h)
		old := tt.old
		if tt.f3 == 2 {
			old = uint64(int32(old))
		}
		if h.X(a0) != old || h.X(a4) != tt.want {
			t.Errorf("amo %d/%d (%#x, %#x): rd %#x memory %#x, want %#x", tt.f5, tt.f3, tt.old, tt.src, h.X(a0), h.X(a4), tt.want)
		}
	}
	lr, sc := rType(0x2f, 3, 2<<2, a0, a1, 0), rType(0x2f, 3, 3<<2, a4, a1, a2)
	p := newProg(mem.Base).la(a1, at).li(a2, 9).raw(sc, addi(s0, a4, 0), lr, sc, addi(s1, a4, 0), sc, addi(s2, a4, 0), lr,
		addi(a1, a1, 8), sc, ld(a3, -8, a1), insEcall)
	h, _ := newTestHart(t, testRAM, p)
	finish(t, h)
	if h.X(s0) != 1 || h.X(s1) != 0 || h.X(s2) != 1 || h.X(a4) != 1 || h.X(a3) != 9 {
		t.Errorf("sc without lr %d, after lr %d, twice %d, elsewhere %d; stored %d", h.X(s0), h.X(s1), h.X(s2), h.X(a4), h.X(a3))
	}
}
