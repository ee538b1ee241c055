package asm

// Compressed instructions: chapter "C" of the unprivileged manual. Each immediate's bits are placed as its
// tables list them.

func (o *Op) encodeC(a Args) uint32 {
	imm := uint32(a.Imm)
	rd, rs2 := uint32(a.Rd)<<7, uint32(a.Rs2)<<2
	imm6 := imm>>5&1<<12 | imm&31<<2
	switch o.Format {
	case FormatCNone:
		return o.Bits
	case FormatCIW:
		o.unsigned(a, 10, 4)
		return o.Bits | imm>>4&3<<11 | imm>>6&15<<7 | imm>>2&1<<6 | imm>>3&1<<5 | o.short(a, a.Rd)<<2
	case FormatCL4:
		return o.Bits | o.imm4(a) | o.short(a, a.Rs1)<<7 | o.short(a, a.Rd)<<2
	case FormatCL8:
		return o.Bits | o.imm8(a) | o.short(a, a.Rs1)<<7 | o.short(a, a.Rd)<<2
	case FormatCS4:
		return o.Bits | o.imm4(a) | o.short(a, a.Rs1)<<7 | o.short(a, a.Rs2)<<2
	case FormatCS8:
		return o.Bits | o.imm8(a) | o.short(a, a.Rs1)<<7 | o.short(a, a.Rs2)<<2
	case FormatCI:
		o.signed(a, 6, 1)
		return o.Bits | rd | imm6
	case FormatCI16SP:
		o.signed(a, 10, 16)
		return o.Bits | imm>>9&1<<12 | imm>>4&1<<6 | imm>>6&1<<5 | imm>>7&3<<3 | imm>>5&1<<2
	case FormatCLUI:
		o.signed(a, 6, 1)
		if a.Rd == 2 || a.Imm == 0 {
			o.bad(a)
		}
		return o.Bits | rd | imm6
	case FormatCShift:
		o.unsigned(a, 6, 1)
		return o.Bits | rd | imm6
	case FormatCBShift:
		o.unsigned(a, 6, 1)
		return o.Bits | o.short(a, a.Rd)<<7 | imm6
	case FormatCBI:
		o.signed(a, 6, 1)
		return o.Bits | o.short(a, a.Rd)<<7 | imm6
	case FormatCA:
		return o.Bits | o.short(a, a.Rd)<<7 | o.short(a, a.Rs2)<<2
	case FormatCJ:
		o.signed(a, 12, 2)
		return o.Bits | imm>>11&1<<12 | imm>>4&1<<11 | imm>>8&3<<9 | imm>>10&1<<8 | imm>>6&1<<7 |
			imm>>7&1<<6 | imm>>1&7<<3 | imm>>5&1<<2
	case FormatCB:
		o.signed(a, 9, 2)
		return o.Bits | imm>>8&1<<12 | imm>>3&3<<10 | o.short(a, a.Rs1)<<7 | imm>>6&3<<5 | imm>>1&3<<3 | imm>>5&1<<2
	case FormatCILSP4:
		o.unsigned(a, 8, 4)
		return o.Bits | rd | imm>>5&1<<12 | imm>>2&7<<4 | imm>>6&3<<2
	case FormatCILSP8:
		o.unsigned(a, 9, 8)
		return o.Bits | rd | imm>>5&1<<12 | imm>>3&3<<5 | imm>>6&7<<2
	case FormatCSS4:
		o.unsigned(a, 8, 4)
		return o.Bits | imm>>2&15<<9 | imm>>6&3<<7 | rs2
	case FormatCSS8:
		o.unsigned(a, 9, 8)
		return o.Bits | imm>>3&7<<10 | imm>>6&7<<7 | rs2
	case FormatCR:
		if a.Rs2 == 0 {
			o.bad(a)
		}
		return o.Bits | rd | rs2
	case FormatCJR:
		if a.Rs1 == 0 {
			o.bad(a)
		}
		return o.Bits | uint32(a.Rs1)<<7
	}
	panic("asm: unknown format of " + o.Name)
}

// short gives the three-bit number of a register x8 to x15 or f8 to f15.
func (o *Op) short(a Args, r uint8) uint32 {
	if r < 8 || r > 15 {
		o.bad(a)
	}
	return uint32(r - 8)
}

func (o *Op) imm4(a Args) uint32 {
	o.unsigned(a, 7, 4)
	imm := uint32(a.Imm)
	return imm>>3&7<<10 | imm>>2&1<<6 | imm>>6&1<<5
}

func (o *Op) imm8(a Args) uint32 {
	o.unsigned(a, 8, 8)
	imm := uint32(a.Imm)
	return imm>>3&7<<10 | imm>>6&3<<5
}
