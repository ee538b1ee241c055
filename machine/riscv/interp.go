package riscv

import (
	"math"
	"math/bits"
	"unsafe"

	"understudy/machine/riscv/softfloat"
)

// exec executes records from p on, in block b, whose first instruction is at pc. n is what the budget
// leaves after all of b; a block that does not fit is not entered. It returns why it stopped, and where: b,
// the record that was not executed (or pc alone, between two blocks), and n.
//
// The function calls nothing, so that the compiler keeps its variables in registers: whatever is slow or
// rare leaves it, and a single call left over from a function that was not inlined costs every operation. It is one switch with one case for each operation, hence its length.
func (h *Hart) exec(b *block, p *ins, pc uint64, n int64) (exit, *block, *ins, uint64, int64) {
	// Register fields are bytes: with 256 elements no index is out of bounds. See Hart.x.
	x := (*[256]uint64)(unsafe.Pointer(h))
	f := &h.f
	ctx := h.mmu.ctx
	ram := h.host
	var (
		in  *ins
		nb  *block
		e   *tlbEntry
		j   *jcEntry
		va  uint64
		a   uint64
		c   uint64
		ok  bool
		c32 uint32
	)
	for {
		in = p
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		switch in.op {
		case opLI:
			x[in.rd] = uint64(in.imm)
		case opMV:
			x[in.rd] = x[in.rs1]
		case opAUIPC:
			x[in.rd] = pc + uint64(in.imm)
		case opADDI:
			x[in.rd] = x[in.rs1] + uint64(in.imm)
		case opSLTI:
			a = 0
			if int64(x[in.rs1]) < in.imm {
				a = 1
			}
			x[in.rd] = a
		case opSLTIU:
			a = 0
			if x[in.rs1] < uint64(in.imm) {
				a = 1
			}
			x[in.rd] = a
		case opXORI:
			x[in.rd] = x[in.rs1] ^ uint64(in.imm)
		case opORI:
			x[in.rd] = x[in.rs1] | uint64(in.imm)
		case opANDI:
			x[in.rd] = x[in.rs1] & uint64(in.imm)
		case opSLLI:
			x[in.rd] = x[in.rs1] << (uint64(in.imm) & 63)
		case opSRLI:
			x[in.rd] = x[in.rs1] >> (uint64(in.imm) & 63)
		case opSRAI:
			x[in.rd] = uint64(int64(x[in.rs1]) >> (uint64(in.imm) & 63))
		case opADDIW:
			x[in.rd] = uint64(int32(x[in.rs1]) + int32(in.imm))
		case opSLLIW:
			x[in.rd] = uint64(int32(x[in.rs1]) << (uint64(in.imm) & 31))
		case opSRLIW:
			x[in.rd] = uint64(int32(uint32(x[in.rs1]) >> (uint64(in.imm) & 31)))
		case opSRAIW:
			x[in.rd] = uint64(int32(x[in.rs1]) >> (uint64(in.imm) & 31))
		case opADD:
			x[in.rd] = x[in.rs1] + x[in.rs2]
		case opSUB:
			x[in.rd] = x[in.rs1] - x[in.rs2]
		case opXOR:
			x[in.rd] = x[in.rs1] ^ x[in.rs2]
		case opOR:
			x[in.rd] = x[in.rs1] | x[in.rs2]
		case opAND:
			x[in.rd] = x[in.rs1] & x[in.rs2]
		case opMUL:
			x[in.rd] = x[in.rs1] * x[in.rs2]
		case opSLL:
			x[in.rd] = x[in.rs1] << (x[in.rs2] & 63)
		case opSRL:
			x[in.rd] = x[in.rs1] >> (x[in.rs2] & 63)
		case opSRA:
			x[in.rd] = uint64(int64(x[in.rs1]) >> (x[in.rs2] & 63))
		case opSLT:
			a = 0
			if int64(x[in.rs1]) < int64(x[in.rs2]) {
				a = 1
			}
			x[in.rd] = a
		case opSLTU:
			a = 0
			if x[in.rs1] < x[in.rs2] {
				a = 1
			}
			x[in.rd] = a
		case opADDW:
			x[in.rd] = uint64(int32(x[in.rs1]) + int32(x[in.rs2]))
		case opSUBW:
			x[in.rd] = uint64(int32(x[in.rs1]) - int32(x[in.rs2]))
		case opMULW:
			x[in.rd] = uint64(int32(x[in.rs1]) * int32(x[in.rs2]))
		case opSLLW:
			x[in.rd] = uint64(int32(x[in.rs1]) << (x[in.rs2] & 31))
		case opSRLW:
			x[in.rd] = uint64(int32(uint32(x[in.rs1]) >> (x[in.rs2] & 31)))
		case opSRAW:
			x[in.rd] = uint64(int32(x[in.rs1]) >> (x[in.rs2] & 31))
		case opMULHU:
			a, _ = bits.Mul64(x[in.rs1], x[in.rs2])
			x[in.rd] = a
		case opMULH:
			a, _ = bits.Mul64(x[in.rs1], x[in.rs2])
			a -= uint64(int64(x[in.rs1])>>63) & x[in.rs2]
			a -= uint64(int64(x[in.rs2])>>63) & x[in.rs1]
			x[in.rd] = a
		case opMULHSU:
			a, _ = bits.Mul64(x[in.rs1], x[in.rs2])
			a -= uint64(int64(x[in.rs1])>>63) & x[in.rs2]
			x[in.rd] = a
		case opDIV:
			a, c = x[in.rs1], x[in.rs2]
			if c == 0 {
				x[in.rd] = ^uint64(0)
				continue
			}
			x[in.rd] = uint64(int64(a) / int64(c))
		case opDIVU:
			a, c = x[in.rs1], x[in.rs2]
			if c == 0 {
				x[in.rd] = ^uint64(0)
				continue
			}
			x[in.rd] = a / c
		case opREM:
			a, c = x[in.rs1], x[in.rs2]
			if c == 0 {
				x[in.rd] = a
				continue
			}
			x[in.rd] = uint64(int64(a) % int64(c))
		case opREMU:
			a, c = x[in.rs1], x[in.rs2]
			if c == 0 {
				x[in.rd] = a
				continue
			}
			x[in.rd] = a % c
		case opDIVW:
			a, c = uint64(int32(x[in.rs1])), uint64(int32(x[in.rs2]))
			if c == 0 {
				x[in.rd] = ^uint64(0)
				continue
			}
			x[in.rd] = uint64(int32(a) / int32(c))
		case opREMW:
			a, c = uint64(int32(x[in.rs1])), uint64(int32(x[in.rs2]))
			if c == 0 {
				x[in.rd] = a
				continue
			}
			x[in.rd] = uint64(int32(a) % int32(c))
		case opDIVUW:
			a, c = uint64(uint32(x[in.rs1])), uint64(uint32(x[in.rs2]))
			if c == 0 {
				x[in.rd] = ^uint64(0)
				continue
			}
			x[in.rd] = uint64(int32(uint32(a) / uint32(c)))
		case opREMUW:
			a, c = uint64(uint32(x[in.rs1])), uint64(uint32(x[in.rs2]))
			if c == 0 {
				x[in.rd] = uint64(int32(a))
				continue
			}
			x[in.rd] = uint64(int32(uint32(a) % uint32(c)))
		case opLB:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^pageMask {
				goto memory
			}
			x[in.rd] = uint64(*(*int8)(unsafe.Add(ram, va+e.add)))
		case opLH:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^1) {
				goto memory
			}
			x[in.rd] = uint64(*(*int16)(unsafe.Add(ram, va+e.add)))
		case opLW:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^3) {
				goto memory
			}
			x[in.rd] = uint64(*(*int32)(unsafe.Add(ram, va+e.add)))
		case opLD:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^7) {
				goto memory
			}
			x[in.rd] = *(*uint64)(unsafe.Add(ram, va+e.add))
		case opLBU:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^pageMask {
				goto memory
			}
			x[in.rd] = uint64(*(*uint8)(unsafe.Add(ram, va+e.add)))
		case opLHU:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^1) {
				goto memory
			}
			x[in.rd] = uint64(*(*uint16)(unsafe.Add(ram, va+e.add)))
		case opLWU:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^3) {
				goto memory
			}
			x[in.rd] = uint64(*(*uint32)(unsafe.Add(ram, va+e.add)))
		case opSB:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^pageMask {
				goto memory
			}
			*(*uint8)(unsafe.Add(ram, va+e.add)) = uint8(x[in.rs2])
		case opSH:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^(pageMask^1) {
				goto memory
			}
			*(*uint16)(unsafe.Add(ram, va+e.add)) = uint16(x[in.rs2])
		case opSW:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^(pageMask^3) {
				goto memory
			}
			*(*uint32)(unsafe.Add(ram, va+e.add)) = uint32(x[in.rs2])
		case opSD:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^(pageMask^7) {
				goto memory
			}
			*(*uint64)(unsafe.Add(ram, va+e.add)) = x[in.rs2]
		case opFLW:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^3) || h.fs != 3 {
				goto memory
			}
			f[in.rd&31] = uint64(*(*uint32)(unsafe.Add(ram, va+e.add))) | 0xffffffff<<32
		case opFLD:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.r != va&^(pageMask^7) || h.fs != 3 {
				goto memory
			}
			f[in.rd&31] = *(*uint64)(unsafe.Add(ram, va+e.add))
		case opFSW:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^(pageMask^3) || h.fs == 0 {
				goto memory
			}
			*(*uint32)(unsafe.Add(ram, va+e.add)) = uint32(f[in.rs2&31])
		case opFSD:
			va = x[in.rs1] + uint64(in.imm)
			e = &ctx.tlb[(va>>12^va>>22)&tlbMask]
			if e.w != va&^(pageMask^7) || h.fs == 0 {
				goto memory
			}
			*(*uint64)(unsafe.Add(ram, va+e.add)) = f[in.rs2&31]
		case opBEQ:
			if x[in.rs1] == x[in.rs2] {
				goto taken
			}
			goto next
		case opBNE:
			if x[in.rs1] != x[in.rs2] {
				goto taken
			}
			goto next
		case opBLT:
			if int64(x[in.rs1]) < int64(x[in.rs2]) {
				goto taken
			}
			goto next
		case opBGE:
			if int64(x[in.rs1]) >= int64(x[in.rs2]) {
				goto taken
			}
			goto next
		case opBLTU:
			if x[in.rs1] < x[in.rs2] {
				goto taken
			}
			goto next
		case opBGEU:
			if x[in.rs1] >= x[in.rs2] {
				goto taken
			}
			goto next
		case opJ:
			goto taken
		case opJAL:
			x[in.rd] = pc + b.size
			goto taken
		case opJALR:
			va = (x[in.rs1] + uint64(in.imm)) &^ 1
			x[in.rd] = pc + b.size
			pc = va
			goto jump
		case opJR:
			pc = (x[in.rs1] + uint64(in.imm)) &^ 1
			goto jump
		case opEnd:
			goto next
		case opFADDD:
			if a, ok = softfloat.HostAdd64(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFSUBD:
			if a, ok = softfloat.HostAdd64(f[in.rs1&31], f[in.rs2&31]^sign64); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFMULD:
			if a, ok = softfloat.HostMul64(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFDIVD:
			if a, ok = softfloat.HostDiv64(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFSQRTD:
			if a, ok = softfloat.HostSqrt64(f[in.rs1&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFMADDD:
			if !hostFMA {
				goto float
			}
			if a, ok = softfloat.HostFma64(f[in.rs1&31], f[in.rs2&31], f[in.imm>>27&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFMSUBD:
			if !hostFMA {
				goto float
			}
			if a, ok = softfloat.HostFma64(f[in.rs1&31], f[in.rs2&31], f[in.imm>>27&31]^sign64); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFNMSUBD:
			if !hostFMA {
				goto float
			}
			if a, ok = softfloat.HostFma64(f[in.rs1&31]^sign64, f[in.rs2&31], f[in.imm>>27&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFNMADDD:
			if !hostFMA {
				goto float
			}
			if a, ok = softfloat.HostFma64(f[in.rs1&31]^sign64, f[in.rs2&31], f[in.imm>>27&31]^sign64); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFADDS:
			if a, ok = hotAddS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFSUBS:
			if a, ok = hotAddS(f[in.rs1&31], f[in.rs2&31]^sign32); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFMULS:
			if a, ok = hotMulS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFDIVS:
			if a, ok = hotDivS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFMADDS:
			if f[in.rs1&31]&f[in.rs2&31]&f[in.imm>>27&31] < boxBits || !h.fpHot() {
				goto float
			}
			if c32, ok = softfloat.HostFma32(uint32(f[in.rs1&31]), uint32(f[in.rs2&31]), uint32(f[in.imm>>27&31])); !ok {
				goto float
			}
			f[in.rd&31] = box(c32)
		case opFSGNJD:
			if !h.fpExact() {
				goto float
			}
			f[in.rd&31] = softfloat.SignInject64(f[in.rs1&31], f[in.rs2&31])
		case opFSGNJND:
			if !h.fpExact() {
				goto float
			}
			f[in.rd&31] = softfloat.SignInject64(f[in.rs1&31], ^f[in.rs2&31])
		case opFSGNJXD:
			if !h.fpExact() {
				goto float
			}
			f[in.rd&31] = softfloat.SignInject64(f[in.rs1&31], f[in.rs1&31]^f[in.rs2&31])
		case opFSGNJS:
			if !h.fpExact() || !boxed2(f[in.rs1&31], f[in.rs2&31]) {
				goto float
			}
			f[in.rd&31] = box(softfloat.SignInject32(uint32(f[in.rs1&31]), uint32(f[in.rs2&31])))
		case opFEQD:
			if a, ok = hotEqD(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFLTD:
			if a, ok = hotLtD(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFLED:
			if a, ok = hotLeD(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFEQS:
			if a, ok = hotEqS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFLTS:
			if a, ok = hotLtS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFLES:
			if a, ok = hotLeS(f[in.rs1&31], f[in.rs2&31]); !ok || !h.fpExact() {
				goto float
			}
			x[in.rd] = a
		case opFMVXD:
			if !h.fpExact() {
				goto float
			}
			x[in.rd] = f[in.rs1&31]
		case opFMVXW:
			if !h.fpExact() {
				goto float
			}
			x[in.rd] = uint64(int32(f[in.rs1&31]))
		case opFMVDX:
			if !h.fpExact() {
				goto float
			}
			f[in.rd&31] = x[in.rs1]
		case opFMVWX:
			if !h.fpExact() {
				goto float
			}
			f[in.rd&31] = box(uint32(x[in.rs1]))
		case opFCVTWD:
			if a, ok = hotToW(f[in.rs1&31]); !ok || !h.fpNX() {
				goto float
			}
			x[in.rd] = a
		case opFCVTLD:
			if a, ok = hotToL(f[in.rs1&31]); !ok || !h.fpNX() {
				goto float
			}
			x[in.rd] = a
		case opFCVTDW:
			if !h.fpExact() || h.frm != 0 {
				goto float
			}
			f[in.rd&31] = math.Float64bits(float64(int32(x[in.rs1])))
		case opFCVTDL:
			if !h.fpHot() {
				goto float
			}
			f[in.rd&31] = math.Float64bits(float64(int64(x[in.rs1])))
		case opFCVTSD:
			if a, ok = hotNarrow(f[in.rs1&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opFCVTDS:
			if a, ok = hotWiden(f[in.rs1&31]); !ok || !h.fpHot() {
				goto float
			}
			f[in.rd&31] = a
		case opSystem:
			return exitSystem, b, in, pc, n
		case opFloat:
			goto float
		case opAtomic:
			return exitAtomic, b, in, pc, n
		case opIllegal:
			return exitIllegal, b, in, pc, n
		}
		continue

	taken:
		pc += uint64(in.imm)
		nb = b.taken
		if nb != nil {
			goto enter
		}
		if b.linkTaken {
			return exitTaken, b, in, pc, n
		}
		goto jump

	next:
		pc += b.size
		nb = b.next
		if nb != nil {
			goto enter
		}
		if b.linkNext {
			return exitNext, b, in, pc, n
		}

	jump:
		j = &ctx.jc[pc>>1&jcMask]
		if j.pc != pc {
			return exitJump, b, in, pc, n
		}
		nb = j.b

	enter:
		if nb.n > n {
			return exitJump, b, in, pc, n
		}
		n -= nb.n
		b = nb
		p = b.ins
	}

float:
	return exitFloat, b, in, pc, n

memory:
	h.va = va
	return exitMemory, b, in, pc, n
}
