// Package asm encodes RV64GC instructions for tests: random programs and small hand-written ones. It knows
// every user-level instruction of I, M, A, F, D, C, Zicsr and Zifencei, and the few privileged ones that a
// test needs to enter user mode.
//
// It is for test programs only: an operand out of range panics, for it is a mistake in the test.
package asm

import "fmt"

// Format says where an instruction's operands go. The names follow the unprivileged manual's formats where
// it has one.
type Format uint8

// The formats of 32-bit instructions.
const (
	FormatNone    Format = iota // no operand: fence.i, ecall
	FormatR                     // rd, rs1, rs2
	FormatRRM                   // rd, rs1, rs2, rounding mode
	FormatR1                    // rd, rs1
	FormatR1RM                  // rd, rs1, rounding mode
	FormatR4                    // rd, rs1, rs2, rs3, rounding mode
	FormatI                     // rd, rs1, 12-bit immediate
	FormatShift                 // rd, rs1, 6-bit amount
	FormatShiftW                // rd, rs1, 5-bit amount
	FormatLoad                  // rd, imm(rs1)
	FormatStore                 // rs2, imm(rs1)
	FormatB                     // rs1, rs2, distance
	FormatU                     // rd, upper 20 bits: Imm is the value before the shift, -2^19 ≤ Imm < 2^19
	FormatJ                     // rd, distance
	FormatJALR                  // rd, imm(rs1)
	FormatAMO                   // rd, rs2, (rs1), aq and rl
	FormatLR                    // rd, (rs1), aq and rl
	FormatCSR                   // rd, csr, rs1
	FormatCSRI                  // rd, csr, 5-bit immediate
	FormatFence                 // predecessor and successor sets in Imm (8 bits)
	formatC                     // all formats from here on are compressed
	FormatCIW                   // c.addi4spn: rd', imm
	FormatCL4                   // c.lw: rd', imm(rs1')
	FormatCL8                   // c.ld, c.fld
	FormatCS4                   // c.sw: rs2', imm(rs1')
	FormatCS8                   // c.sd, c.fsd
	FormatCI                    // rd, 6-bit immediate
	FormatCI16SP                // c.addi16sp: imm
	FormatCLUI                  // c.lui: rd, upper 6 bits
	FormatCShift                // c.slli: rd, 6-bit amount
	FormatCBShift               // c.srli, c.srai: rd', 6-bit amount
	FormatCBI                   // c.andi: rd', 6-bit immediate
	FormatCA                    // rd', rs2'
	FormatCJ                    // distance
	FormatCB                    // rs1', distance
	FormatCILSP4                // c.lwsp: rd, imm(sp)
	FormatCILSP8                // c.ldsp, c.fldsp
	FormatCSS4                  // c.swsp: rs2, imm(sp)
	FormatCSS8                  // c.sdsp, c.fsdsp
	FormatCR                    // rd, rs2
	FormatCJR                   // rs1
	FormatCNone                 // c.nop
)

// Op is one instruction of the tables.
type Op struct {
	Name   string
	Format Format
	Bits   uint32 // the bits that are fixed
	// F tells which registers are floating-point ones: 1 rd, 2 rs1, 4 rs2, 8 rs3.
	F uint8
}

// The bits of Op.F.
const (
	FRd = 1 << iota
	FRs1
	FRs2
	FRs3
)

// Bytes is the length of the encoding: 2 or 4.
func (o *Op) Bytes() int {
	if o.Format > formatC {
		return 2
	}
	return 4
}

// Args are an instruction's operands; a format reads those it has.
type Args struct {
	Rd, Rs1, Rs2, Rs3 uint8
	Imm               int64 // immediate, distance or amount, as the assembly text has it
	RM                uint8 // rounding mode
	AqRl              uint8 // 2 is aq, 1 is rl
	CSR               uint16
}

// Encode gives the instruction's bits; the low half alone counts when o.Bytes() is 2. It panics when an
// operand does not fit.
func (o *Op) Encode(a Args) uint32 {
	if o.Format > formatC {
		return o.encodeC(a)
	}
	rd, rs1, rs2 := uint32(a.Rd)<<7, uint32(a.Rs1)<<15, uint32(a.Rs2)<<20
	if a.Rd|a.Rs1|a.Rs2|a.Rs3 > 31 || a.RM > 7 || a.AqRl > 3 {
		o.bad(a)
	}
	rm := uint32(a.RM) << 12
	imm := uint32(a.Imm)
	switch o.Format {
	case FormatNone:
		return o.Bits
	case FormatR:
		return o.Bits | rd | rs1 | rs2
	case FormatRRM:
		return o.Bits | rd | rs1 | rs2 | rm
	case FormatR1:
		return o.Bits | rd | rs1
	case FormatR1RM:
		return o.Bits | rd | rs1 | rm
	case FormatR4:
		return o.Bits | rd | rs1 | rs2 | rm | uint32(a.Rs3)<<27
	case FormatI, FormatLoad, FormatJALR:
		o.signed(a, 12, 1)
		return o.Bits | rd | rs1 | imm<<20
	case FormatShift:
		o.unsigned(a, 6, 1)
		return o.Bits | rd | rs1 | imm<<20
	case FormatShiftW:
		o.unsigned(a, 5, 1)
		return o.Bits | rd | rs1 | imm<<20
	case FormatStore:
		o.signed(a, 12, 1)
		return o.Bits | rs1 | rs2 | imm>>5&0x7f<<25 | imm&31<<7
	case FormatB:
		o.signed(a, 13, 2)
		return o.Bits | rs1 | rs2 | imm>>12&1<<31 | imm>>5&0x3f<<25 | imm>>1&15<<8 | imm>>11&1<<7
	case FormatU:
		o.signed(a, 20, 1)
		return o.Bits | rd | imm<<12
	case FormatJ:
		o.signed(a, 21, 2)
		return o.Bits | rd | imm>>20&1<<31 | imm>>1&0x3ff<<21 | imm>>11&1<<20 | imm>>12&0xff<<12
	case FormatAMO:
		return o.Bits | rd | rs1 | rs2 | uint32(a.AqRl)<<25
	case FormatLR:
		return o.Bits | rd | rs1 | uint32(a.AqRl)<<25
	case FormatCSR:
		return o.Bits | rd | rs1 | uint32(a.CSR)<<20
	case FormatCSRI:
		o.unsigned(a, 5, 1)
		return o.Bits | rd | imm<<15 | uint32(a.CSR)<<20
	case FormatFence:
		o.unsigned(a, 8, 1)
		return o.Bits | imm<<20
	}
	panic("asm: unknown format of " + o.Name)
}

func (o *Op) bad(a Args) {
	panic(fmt.Sprintf("asm: bad operands for %s: %+v", o.Name, a))
}

// signed checks that Imm is a multiple of unit and fits in a signed number of the width.
func (o *Op) signed(a Args, width uint, unit int64) {
	if a.Imm < -1<<(width-1) || a.Imm >= 1<<(width-1) || a.Imm%unit != 0 {
		o.bad(a)
	}
}

// unsigned checks that Imm is a multiple of unit and fits in an unsigned number of the width.
func (o *Op) unsigned(a Args, width uint, unit int64) {
	if a.Imm < 0 || a.Imm >= 1<<width || a.Imm%unit != 0 {
		o.bad(a)
	}
}
