package riscv

// decode turns a 32-bit instruction into a record. ok is false when nothing needs to be executed: the
// instruction only counts. off, idx and len are left to the caller. Branch targets and auipc are relative
// to the instruction; the caller rebases them.
func decode(raw uint32) (r ins, ok bool) {
	rd := uint8(raw >> 7 & 31)
	rs1 := uint8(raw >> 15 & 31)
	rs2 := uint8(raw >> 20 & 31)
	f3 := raw >> 12 & 7
	immI := int64(int32(raw) >> 20)
	r = ins{op: opIllegal, rd: rd, rs1: rs1, rs2: rs2, imm: int64(raw)}
	if rd == 0 {
		r.rd = dummy
	}
	if raw&3 != 3 {
		return r, true
	}
	switch raw >> 2 & 31 {
	case 0x00: // LOAD
		if f3 == 7 {
			return r, true
		}
		r.op, r.imm = opLB+op(f3), immI
	case 0x01: // LOAD-FP
		r.rd = rd
		switch f3 {
		case 2:
			r.op, r.imm = opFLW, immI
		case 3:
			r.op, r.imm = opFLD, immI
		}
	case 0x03: // MISC-MEM: caches are coherent and there is one hart, so fences only count
		if f3 > 1 {
			return r, true
		}
		return r, false
	case 0x04: // OP-IMM
		return decodeOpImm(r, raw, rd, f3, immI)
	case 0x05: // AUIPC
		if rd == 0 {
			return r, false
		}
		r.op, r.imm = opAUIPC, int64(int32(raw&^0xfff))
	case 0x06: // OP-IMM-32
		return decodeOpImm32(r, raw, rd, f3, immI)
	case 0x08, 0x09: // STORE, STORE-FP
		imm := int64(int32(raw)>>25<<5) | int64(rd)
		if raw>>2&31 == 0x08 {
			if f3 > 3 {
				return r, true
			}
			r.op, r.imm = opSB+op(f3), imm
			break
		}
		switch f3 {
		case 2:
			r.op, r.imm = opFSW, imm
		case 3:
			r.op, r.imm = opFSD, imm
		}
	case 0x0b: // AMO
		if f3 == 2 || f3 == 3 {
			switch raw >> 27 {
			case 2:
				if rs2 == 0 {
					r.op = opAtomic
				}
			case 0, 1, 3, 4, 8, 12, 16, 20, 24, 28:
				r.op = opAtomic
			}
		}
	case 0x0c: // OP
		return decodeOp(r, raw, rd, f3)
	case 0x0d: // LUI
		if rd == 0 {
			return r, false
		}
		r.op, r.imm = opLI, int64(int32(raw&^0xfff))
	case 0x0e: // OP-32
		return decodeOp32(r, raw, rd, f3)
	case 0x10, 0x11, 0x12, 0x13, 0x14: // MADD, MSUB, NMSUB, NMADD, OP-FP
		return decodeFloat(r, raw), true
	case 0x18: // BRANCH
		imm := int64(int32(raw)>>31<<12) | int64(raw>>7&1<<11|raw>>25&63<<5|raw>>8&15<<1)
		ops := [8]op{opBEQ, opBNE, opIllegal, opIllegal, opBLT, opBGE, opBLTU, opBGEU}
		if ops[f3] != opIllegal {
			r.op, r.imm = ops[f3], imm
		}
	case 0x19: // JALR
		if f3 == 0 {
			r.op, r.imm = opJALR, immI
			if rd == 0 {
				r.op = opJR
			}
		}
	case 0x1b: // JAL
		r.op = opJAL
		r.imm = int64(int32(raw)>>31<<20) | int64(raw>>12&0xff<<12|raw>>20&1<<11|raw>>21&0x3ff<<1)
	case 0x1c: // SYSTEM
		r.op = opSystem
	}
	return r, true
}

func decodeOpImm(r ins, raw uint32, rd uint8, f3 uint32, imm int64) (ins, bool) {
	sh := int64(raw >> 20 & 63)
	switch f3 {
	case 0:
		r.op, r.imm = opADDI, imm
		if r.rs1 == 0 {
			r.op = opLI
		} else if imm == 0 {
			r.op = opMV
		}
	case 1:
		if raw>>26 != 0 {
			return r, true
		}
		r.op, r.imm = opSLLI, sh
	case 2:
		r.op, r.imm = opSLTI, imm
	case 3:
		r.op, r.imm = opSLTIU, imm
	case 4:
		r.op, r.imm = opXORI, imm
	case 5:
		switch raw >> 26 {
		case 0:
			r.op, r.imm = opSRLI, sh
		case 16:
			r.op, r.imm = opSRAI, sh
		default:
			return r, true
		}
	case 6:
		r.op, r.imm = opORI, imm
	case 7:
		r.op, r.imm = opANDI, imm
	}
	return r, rd != 0
}

func decodeOpImm32(r ins, raw uint32, rd uint8, f3 uint32, imm int64) (ins, bool) {
	sh := int64(raw >> 20 & 31)
	switch {
	case f3 == 0:
		r.op, r.imm = opADDIW, imm
	case f3 == 1 && raw>>25 == 0:
		r.op, r.imm = opSLLIW, sh
	case f3 == 5 && raw>>25 == 0:
		r.op, r.imm = opSRLIW, sh
	case f3 == 5 && raw>>25 == 32:
		r.op, r.imm = opSRAIW, sh
	default:
		return r, true
	}
	return r, rd != 0
}

func decodeOp(r ins, raw uint32, rd uint8, f3 uint32) (ins, bool) {
	switch raw >> 25 {
	case 0:
		r.op = [8]op{opADD, opSLL, opSLT, opSLTU, opXOR, opSRL, opOR, opAND}[f3]
		if r.op == opADD && r.rs2 == 0 {
			r.op = opMV
		} else if r.op == opADD && r.rs1 == 0 {
			r.op, r.rs1 = opMV, r.rs2
		}
	case 1:
		r.op = [8]op{opMUL, opMULH, opMULHSU, opMULHU, opDIV, opDIVU, opREM, opREMU}[f3]
	case 32:
		switch f3 {
		case 0:
			r.op = opSUB
		case 5:
			r.op = opSRA
		default:
			return r, true
		}
	default:
		return r, true
	}
	return r, rd != 0
}

func decodeOp32(r ins, raw uint32, rd uint8, f3 uint32) (ins, bool) {
	ops := [8]op{opIllegal, opIllegal, opIllegal, opIllegal, opIllegal, opIllegal, opIllegal, opIllegal}
	switch raw >> 25 {
	case 0:
		ops[0], ops[1], ops[5] = opADDW, opSLLW, opSRLW
	case 1:
		ops[0], ops[4], ops[5], ops[6], ops[7] = opMULW, opDIVW, opDIVUW, opREMW, opREMUW
	case 32:
		ops[0], ops[5] = opSUBW, opSRAW
	}
	if ops[f3] == opIllegal {
		return r, true
	}
	r.op = ops[f3]
	return r, rd != 0
}
