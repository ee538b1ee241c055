package riscv

// expand turns a compressed instruction (RISC-V unprivileged manual, "C" extension, RV64DC) into the
// 32-bit instruction that it abbreviates. It gives 0, which is illegal, when there is none.
func expand(c uint32) uint32 {
	rd := c >> 7 & 31
	rs2 := c >> 2 & 31
	rdq := c>>2&7 + 8 // rd' or rs2'
	rsq := c>>7&7 + 8 // rs1'
	imm6 := uint32(int32(c<<19)>>31)&^31 | c>>2&31
	switch c>>13<<2&28 | c&3 {
	case 0 << 2: // c.addi4spn
		imm := c>>7&15<<6 | c>>11&3<<4 | c>>5&1<<3 | c>>6&1<<2
		if imm == 0 {
			return 0
		}
		return encI(0x13, 0, rdq, 2, imm)
	case 1 << 2: // c.fld
		return encI(0x07, 3, rdq, rsq, c>>10&7<<3|c>>5&3<<6)
	case 2 << 2: // c.lw
		return encI(0x03, 2, rdq, rsq, c>>10&7<<3|c>>6&1<<2|c>>5&1<<6)
	case 3 << 2: // c.ld
		return encI(0x03, 3, rdq, rsq, c>>10&7<<3|c>>5&3<<6)
	case 5 << 2: // c.fsd
		return encS(0x27, 3, rsq, rdq, c>>10&7<<3|c>>5&3<<6)
	case 6 << 2: // c.sw
		return encS(0x23, 2, rsq, rdq, c>>10&7<<3|c>>6&1<<2|c>>5&1<<6)
	case 7 << 2: // c.sd
		return encS(0x23, 3, rsq, rdq, c>>10&7<<3|c>>5&3<<6)

	case 0<<2 | 1: // c.nop, c.addi
		return encI(0x13, 0, rd, rd, imm6)
	case 1<<2 | 1: // c.addiw
		if rd == 0 {
			return 0
		}
		return encI(0x1b, 0, rd, rd, imm6)
	case 2<<2 | 1: // c.li
		return encI(0x13, 0, rd, 0, imm6)
	case 3<<2 | 1: // c.lui, c.addi16sp
		if rd == 2 {
			imm := uint32(int32(c<<19)>>31)&^511 | c>>3&3<<7 | c>>5&1<<6 | c>>2&1<<5 | c>>6&1<<4
			if imm == 0 {
				return 0
			}
			return encI(0x13, 0, 2, 2, imm)
		}
		if imm6 == 0 {
			return 0
		}
		return imm6<<12 | rd<<7 | 0x37
	case 4<<2 | 1:
		return expandALU(c, rsq, rdq, imm6)
	case 5<<2 | 1: // c.j
		imm := uint32(int32(c<<19)>>31)&^2047 | c>>8&1<<10 | c>>9&3<<8 | c>>6&1<<7 | c>>7&1<<6 | c>>2&1<<5 | c>>11&1<<4 | c>>3&7<<1
		return imm>>20&1<<31 | imm>>1&0x3ff<<21 | imm>>11&1<<20 | imm>>12&0xff<<12 | 0x6f
	case 6<<2 | 1, 7<<2 | 1: // c.beqz, c.bnez
		imm := uint32(int32(c<<19)>>31)&^255 | c>>5&3<<6 | c>>2&1<<5 | c>>10&3<<3 | c>>3&3<<1
		return imm>>12&1<<31 | imm>>5&63<<25 | rsq<<15 | c>>13&1<<12 | imm>>1&15<<8 | imm>>11&1<<7 | 0x63

	case 0<<2 | 2: // c.slli
		return encI(0x13, 1, rd, rd, imm6&63)
	case 1<<2 | 2: // c.fldsp
		return encI(0x07, 3, rd, 2, c>>12&1<<5|c>>5&3<<3|c>>2&7<<6)
	case 2<<2 | 2: // c.lwsp
		if rd == 0 {
			return 0
		}
		return encI(0x03, 2, rd, 2, c>>12&1<<5|c>>4&7<<2|c>>2&3<<6)
	case 3<<2 | 2: // c.ldsp
		if rd == 0 {
			return 0
		}
		return encI(0x03, 3, rd, 2, c>>12&1<<5|c>>5&3<<3|c>>2&7<<6)
	case 4<<2 | 2:
		switch {
		case c>>12&1 == 0 && rs2 == 0: // c.jr
			if rd == 0 {
				return 0
			}
			return encI(0x67, 0, 0, rd, 0)
		case c>>12&1 == 0: // c.mv
			return rs2<<20 | rd<<7 | 0x33
		case rd == 0 && rs2 == 0: // c.ebreak
			return 0x00100073
		case rs2 == 0: // c.jalr
			return encI(0x67, 0, 1, rd, 0)
		default: // c.add
			return rs2<<20 | rd<<15 | rd<<7 | 0x33
		}
	case 5<<2 | 2: // c.fsdsp
		return encS(0x27, 3, 2, rs2, c>>10&7<<3|c>>7&7<<6)
	case 6<<2 | 2: // c.swsp
		return encS(0x23, 2, 2, rs2, c>>9&15<<2|c>>7&3<<6)
	case 7<<2 | 2: // c.sdsp
		return encS(0x23, 3, 2, rs2, c>>10&7<<3|c>>7&7<<6)
	}
	return 0
}

// expandALU expands the compressed arithmetic on rd'.
func expandALU(c, rd, rs2, imm6 uint32) uint32 {
	switch c >> 10 & 3 {
	case 0: // c.srli
		return encI(0x13, 5, rd, rd, imm6&63)
	case 1: // c.srai
		return encI(0x13, 5, rd, rd, imm6&63|0x400)
	case 2: // c.andi
		return encI(0x13, 7, rd, rd, imm6)
	}
	r := rs2<<20 | rd<<15 | rd<<7
	switch c>>10&4 | c>>5&3 {
	case 0: // c.sub
		return r | 32<<25 | 0x33
	case 1: // c.xor
		return r | 4<<12 | 0x33
	case 2: // c.or
		return r | 6<<12 | 0x33
	case 3: // c.and
		return r | 7<<12 | 0x33
	case 4: // c.subw
		return r | 32<<25 | 0x3b
	case 5: // c.addw
		return r | 0x3b
	}
	return 0
}

func encI(opcode, f3, rd, rs1, imm uint32) uint32 {
	return imm<<20 | rs1<<15 | f3<<12 | rd<<7 | opcode
}

func encS(opcode, f3, rs1, rs2, imm uint32) uint32 {
	return imm>>5<<25 | rs2<<20 | rs1<<15 | f3<<12 | imm&31<<7 | opcode
}
