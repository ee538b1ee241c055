package asm

import "sort"

// i32 builds the fixed bits of a 32-bit instruction.
func i32(opcode, funct3, funct7 uint32) uint32 { return opcode | funct3<<12 | funct7<<25 }

// fp builds the fixed bits of an OP-FP instruction: funct7 is funct5 and format, rs2 a fixed second source.
func fp(funct7, funct3, rs2 uint32) uint32 { return i32(0x53, funct3, funct7) | rs2<<20 }

const (
	f2  = FRd | FRs1        // rd and rs1 are floating-point
	f3  = FRd | FRs1 | FRs2 // rd, rs1 and rs2
	f4  = f3 | FRs3         // all four
	fs  = FRs1 | FRs2       // the sources only
	fs1 = FRs1
	fd  = FRd
)

// Base holds the 32-bit instructions without floating point.
var Base = []Op{
	{"lui", FormatU, 0x37, 0},
	{"auipc", FormatU, 0x17, 0},
	{"jal", FormatJ, 0x6f, 0},
	{"jalr", FormatJALR, 0x67, 0},
	{"beq", FormatB, i32(0x63, 0, 0), 0},
	{"bne", FormatB, i32(0x63, 1, 0), 0},
	{"blt", FormatB, i32(0x63, 4, 0), 0},
	{"bge", FormatB, i32(0x63, 5, 0), 0},
	{"bltu", FormatB, i32(0x63, 6, 0), 0},
	{"bgeu", FormatB, i32(0x63, 7, 0), 0},
	{"lb", FormatLoad, i32(0x03, 0, 0), 0},
	{"lh", FormatLoad, i32(0x03, 1, 0), 0},
	{"lw", FormatLoad, i32(0x03, 2, 0), 0},
	{"ld", FormatLoad, i32(0x03, 3, 0), 0},
	{"lbu", FormatLoad, i32(0x03, 4, 0), 0},
	{"lhu", FormatLoad, i32(0x03, 5, 0), 0},
	{"lwu", FormatLoad, i32(0x03, 6, 0), 0},
	{"sb", FormatStore, i32(0x23, 0, 0), 0},
	{"sh", FormatStore, i32(0x23, 1, 0), 0},
	{"sw", FormatStore, i32(0x23, 2, 0), 0},
	{"sd", FormatStore, i32(0x23, 3, 0), 0},
	{"addi", FormatI, i32(0x13, 0, 0), 0},
	{"slti", FormatI, i32(0x13, 2, 0), 0},
	{"sltiu", FormatI, i32(0x13, 3, 0), 0},
	{"xori", FormatI, i32(0x13, 4, 0), 0},
	{"ori", FormatI, i32(0x13, 6, 0), 0},
	{"andi", FormatI, i32(0x13, 7, 0), 0},
	{"slli", FormatShift, i32(0x13, 1, 0), 0},
	{"srli", FormatShift, i32(0x13, 5, 0), 0},
	{"srai", FormatShift, i32(0x13, 5, 0x20), 0},
	{"addiw", FormatI, i32(0x1b, 0, 0), 0},
	{"slliw", FormatShiftW, i32(0x1b, 1, 0), 0},
	{"srliw", FormatShiftW, i32(0x1b, 5, 0), 0},
	{"sraiw", FormatShiftW, i32(0x1b, 5, 0x20), 0},
	{"add", FormatR, i32(0x33, 0, 0), 0},
	{"sub", FormatR, i32(0x33, 0, 0x20), 0},
	{"sll", FormatR, i32(0x33, 1, 0), 0},
	{"slt", FormatR, i32(0x33, 2, 0), 0},
	{"sltu", FormatR, i32(0x33, 3, 0), 0},
	{"xor", FormatR, i32(0x33, 4, 0), 0},
	{"srl", FormatR, i32(0x33, 5, 0), 0},
	{"sra", FormatR, i32(0x33, 5, 0x20), 0},
	{"or", FormatR, i32(0x33, 6, 0), 0},
	{"and", FormatR, i32(0x33, 7, 0), 0},
	{"addw", FormatR, i32(0x3b, 0, 0), 0},
	{"subw", FormatR, i32(0x3b, 0, 0x20), 0},
	{"sllw", FormatR, i32(0x3b, 1, 0), 0},
	{"srlw", FormatR, i32(0x3b, 5, 0), 0},
	{"sraw", FormatR, i32(0x3b, 5, 0x20), 0},
	{"mul", FormatR, i32(0x33, 0, 1), 0},
	{"mulh", FormatR, i32(0x33, 1, 1), 0},
	{"mulhsu", FormatR, i32(0x33, 2, 1), 0},
	{"mulhu", FormatR, i32(0x33, 3, 1), 0},
	{"div", FormatR, i32(0x33, 4, 1), 0},
	{"divu", FormatR, i32(0x33, 5, 1), 0},
	{"rem", FormatR, i32(0x33, 6, 1), 0},
	{"remu", FormatR, i32(0x33, 7, 1), 0},
	{"mulw", FormatR, i32(0x3b, 0, 1), 0},
	{"divw", FormatR, i32(0x3b, 4, 1), 0},
	{"divuw", FormatR, i32(0x3b, 5, 1), 0},
	{"remw", FormatR, i32(0x3b, 6, 1), 0},
	{"remuw", FormatR, i32(0x3b, 7, 1), 0},
	{"fence", FormatFence, i32(0x0f, 0, 0), 0},
	{"fence.i", FormatNone, i32(0x0f, 1, 0), 0},
	{"ecall", FormatNone, 0x73, 0},
	{"ebreak", FormatNone, 0x00100073, 0},
	{"csrrw", FormatCSR, i32(0x73, 1, 0), 0},
	{"csrrs", FormatCSR, i32(0x73, 2, 0), 0},
	{"csrrc", FormatCSR, i32(0x73, 3, 0), 0},
	{"csrrwi", FormatCSRI, i32(0x73, 5, 0), 0},
	{"csrrsi", FormatCSRI, i32(0x73, 6, 0), 0},
	{"csrrci", FormatCSRI, i32(0x73, 7, 0), 0},
	{"sret", FormatNone, 0x10200073, 0},
	{"wfi", FormatNone, 0x10500073, 0},
	{"sfence.vma", FormatNone, 0x12000073, 0},
}

// Atomics holds the A extension.
var Atomics = atomics()

func atomics() (ops []Op) {
	for _, w := range []struct {
		name string
		f3   uint32
	}{{".w", 2}, {".d", 3}} {
		ops = append(ops,
			Op{"lr" + w.name, FormatLR, i32(0x2f, w.f3, 2<<2), 0},
			Op{"sc" + w.name, FormatAMO, i32(0x2f, w.f3, 3<<2), 0})
		for _, k := range []struct {
			name string
			f5   uint32
		}{
			{"amoadd", 0},
			{"amoswap", 1},
			{"amoxor", 4},
			{"amoor", 8},
			{"amoand", 12},
			{"amomin", 16},
			{"amomax", 20},
			{"amominu", 24},
			{"amomaxu", 28},
		} {
			ops = append(ops, Op{k.name + w.name, FormatAMO, i32(0x2f, w.f3, k.f5<<2), 0})
		}
	}
	return ops
}

// Float holds F and D.
var Float = float()

func float() []Op {
	ops := []Op{
		{"flw", FormatLoad, i32(0x07, 2, 0), fd},
		{"fld", FormatLoad, i32(0x07, 3, 0), fd},
		{"fsw", FormatStore, i32(0x27, 2, 0), FRs2},
		{"fsd", FormatStore, i32(0x27, 3, 0), FRs2},
		{"fcvt.s.d", FormatR1RM, fp(0x20, 0, 1), f2},
		{"fcvt.d.s", FormatR1RM, fp(0x21, 0, 0), f2},
		{"fmv.x.w", FormatR1, fp(0x70, 0, 0), fs1},
		{"fmv.x.d", FormatR1, fp(0x71, 0, 0), fs1},
		{"fmv.w.x", FormatR1, fp(0x78, 0, 0), fd},
		{"fmv.d.x", FormatR1, fp(0x79, 0, 0), fd},
	}
	for d, p := range []string{".s", ".d"} {
		d := uint32(d)
		ops = append(ops,
			Op{"fmadd" + p, FormatR4, 0x43 | d<<25, f4}, Op{"fmsub" + p, FormatR4, 0x47 | d<<25, f4},
			Op{"fnmsub" + p, FormatR4, 0x4b | d<<25, f4}, Op{"fnmadd" + p, FormatR4, 0x4f | d<<25, f4},
			Op{"fadd" + p, FormatRRM, fp(0x00|d, 0, 0), f3}, Op{"fsub" + p, FormatRRM, fp(0x04|d, 0, 0), f3},
			Op{"fmul" + p, FormatRRM, fp(0x08|d, 0, 0), f3}, Op{"fdiv" + p, FormatRRM, fp(0x0c|d, 0, 0), f3},
			Op{"fsqrt" + p, FormatR1RM, fp(0x2c|d, 0, 0), f2},
			Op{"fsgnj" + p, FormatR, fp(0x10|d, 0, 0), f3}, Op{"fsgnjn" + p, FormatR, fp(0x10|d, 1, 0), f3},
			Op{"fsgnjx" + p, FormatR, fp(0x10|d, 2, 0), f3},
			Op{"fmin" + p, FormatR, fp(0x14|d, 0, 0), f3}, Op{"fmax" + p, FormatR, fp(0x14|d, 1, 0), f3},
			Op{"fle" + p, FormatR, fp(0x50|d, 0, 0), fs}, Op{"flt" + p, FormatR, fp(0x50|d, 1, 0), fs},
			Op{"feq" + p, FormatR, fp(0x50|d, 2, 0), fs},
			Op{"fclass" + p, FormatR1, fp(0x70|d, 1, 0), fs1})
		for n, i := range []string{".w", ".wu", ".l", ".lu"} {
			ops = append(ops,
				Op{"fcvt" + i + p, FormatR1RM, fp(0x60|d, 0, uint32(n)), fs1},
				Op{"fcvt" + p + i, FormatR1RM, fp(0x68|d, 0, uint32(n)), fd})
		}
	}
	return ops
}

// c16 builds the fixed bits of a compressed instruction from its quadrant and its upper three bits.
func c16(quadrant, funct3 uint32) uint32 { return quadrant | funct3<<13 }

// Compressed holds the C extension for RV64 with F and D.
var Compressed = []Op{
	{"c.addi4spn", FormatCIW, c16(0, 0), 0},
	{"c.fld", FormatCL8, c16(0, 1), fd},
	{"c.lw", FormatCL4, c16(0, 2), 0},
	{"c.ld", FormatCL8, c16(0, 3), 0},
	{"c.fsd", FormatCS8, c16(0, 5), FRs2},
	{"c.sw", FormatCS4, c16(0, 6), 0},
	{"c.sd", FormatCS8, c16(0, 7), 0},
	{"c.nop", FormatCNone, c16(1, 0), 0},
	{"c.addi", FormatCI, c16(1, 0), 0},
	{"c.addiw", FormatCI, c16(1, 1), 0},
	{"c.li", FormatCI, c16(1, 2), 0},
	{"c.addi16sp", FormatCI16SP, c16(1, 3) | 2<<7, 0},
	{"c.lui", FormatCLUI, c16(1, 3), 0},
	{"c.srli", FormatCBShift, c16(1, 4), 0},
	{"c.srai", FormatCBShift, c16(1, 4) | 1<<10, 0},
	{"c.andi", FormatCBI, c16(1, 4) | 2<<10, 0},
	{"c.sub", FormatCA, c16(1, 4) | 3<<10 | 0<<5, 0},
	{"c.xor", FormatCA, c16(1, 4) | 3<<10 | 1<<5, 0},
	{"c.or", FormatCA, c16(1, 4) | 3<<10 | 2<<5, 0},
	{"c.and", FormatCA, c16(1, 4) | 3<<10 | 3<<5, 0},
	{"c.subw", FormatCA, c16(1, 4) | 7<<10 | 0<<5, 0},
	{"c.addw", FormatCA, c16(1, 4) | 7<<10 | 1<<5, 0},
	{"c.j", FormatCJ, c16(1, 5), 0},
	{"c.beqz", FormatCB, c16(1, 6), 0},
	{"c.bnez", FormatCB, c16(1, 7), 0},
	{"c.slli", FormatCShift, c16(2, 0), 0},
	{"c.fldsp", FormatCILSP8, c16(2, 1), fd},
	{"c.lwsp", FormatCILSP4, c16(2, 2), 0},
	{"c.ldsp", FormatCILSP8, c16(2, 3), 0},
	{"c.jr", FormatCJR, c16(2, 4), 0},
	{"c.mv", FormatCR, c16(2, 4), 0},
	{"c.jalr", FormatCJR, c16(2, 4) | 1<<12, 0},
	{"c.add", FormatCR, c16(2, 4) | 1<<12, 0},
	{"c.fsdsp", FormatCSS8, c16(2, 5), FRs2},
	{"c.swsp", FormatCSS4, c16(2, 6), 0},
	{"c.sdsp", FormatCSS8, c16(2, 7), 0},
}

var byName = index()

func index() map[string]*Op {
	m := map[string]*Op{}
	for _, t := range [][]Op{Base, Atomics, Float, Compressed} {
		for i := range t {
			m[t[i].Name] = &t[i]
		}
	}
	return m
}

// Get finds an instruction by the name that the manual gives it, such as "fcvt.w.d". It panics when there is
// none.
func Get(name string) *Op {
	o := byName[name]
	if o == nil {
		panic("asm: no instruction " + name)
	}
	return o
}

// Names lists every instruction known, sorted.
func Names() []string {
	var n []string
	for s := range byName {
		n = append(n, s)
	}
	sort.Strings(n)
	return n
}
