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
// rare leaves it, and a single call left over from a function that was not inlined costs every operation.
// Every frequent case goes on to the next record by itself: a common place for that would have to move the
// registers to where a division, say, has left them. It is one switch with one case for each operation,
// hence its length.
func (h *Hart) exec(b *block, p *ins, pc uint64, n int64) (exit, *block, *ins, uint64, int64) {
	// Register fields are bytes: with 256 elements no index is out of bounds. See Hart.x.
	x := (*[256]uint64)(unsafe.Pointer(h))
	f := &h.f
	tlb, jumps := unsafe.Pointer(&h.mmu.ctx.tlb), &h.mmu.ctx.jc
	ram := h.host
	var (
		q   *pair
		nb  *block
		e   *tlbEntry
		j   *jcEntry
		va  uint64
		a   uint64
		c   uint64
		ok  bool
		c32 uint32
	)
dispatch:
	switch p.op {
	case opLI:
		x[p.rd] = uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opMV:
		x[p.rd] = x[p.rs1]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opAUIPC:
		x[p.rd] = pc + uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDI:
		x[p.rd] = x[p.rs1] + uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLTI:
		a = 0
		if int64(x[p.rs1]) < p.imm {
			a = 1
		}
		x[p.rd] = a
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLTIU:
		a = 0
		if x[p.rs1] < uint64(p.imm) {
			a = 1
		}
		x[p.rd] = a
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opXORI:
		x[p.rd] = x[p.rs1] ^ uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opORI:
		x[p.rd] = x[p.rs1] | uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opANDI:
		x[p.rd] = x[p.rs1] & uint64(p.imm)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLLI:
		x[p.rd] = x[p.rs1] << (uint64(p.imm) & 63)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRLI:
		x[p.rd] = x[p.rs1] >> (uint64(p.imm) & 63)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRAI:
		x[p.rd] = uint64(int64(x[p.rs1]) >> (uint64(p.imm) & 63))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIW:
		x[p.rd] = uint64(int32(x[p.rs1]) + int32(p.imm))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLLIW:
		x[p.rd] = uint64(int32(x[p.rs1]) << (uint64(p.imm) & 31))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRLIW:
		x[p.rd] = uint64(int32(uint32(x[p.rs1]) >> (uint64(p.imm) & 31)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRAIW:
		x[p.rd] = uint64(int32(x[p.rs1]) >> (uint64(p.imm) & 31))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADD:
		x[p.rd] = x[p.rs1] + x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSUB:
		x[p.rd] = x[p.rs1] - x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opXOR:
		x[p.rd] = x[p.rs1] ^ x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opOR:
		x[p.rd] = x[p.rs1] | x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opAND:
		x[p.rd] = x[p.rs1] & x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opMUL:
		x[p.rd] = x[p.rs1] * x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLL:
		x[p.rd] = x[p.rs1] << (x[p.rs2] & 63)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRL:
		x[p.rd] = x[p.rs1] >> (x[p.rs2] & 63)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRA:
		x[p.rd] = uint64(int64(x[p.rs1]) >> (x[p.rs2] & 63))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLT:
		a = 0
		if int64(x[p.rs1]) < int64(x[p.rs2]) {
			a = 1
		}
		x[p.rd] = a
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLTU:
		a = 0
		if x[p.rs1] < x[p.rs2] {
			a = 1
		}
		x[p.rd] = a
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDW:
		x[p.rd] = uint64(int32(x[p.rs1]) + int32(x[p.rs2]))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSUBW:
		x[p.rd] = uint64(int32(x[p.rs1]) - int32(x[p.rs2]))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opMULW:
		x[p.rd] = uint64(int32(x[p.rs1]) * int32(x[p.rs2]))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLLW:
		x[p.rd] = uint64(int32(x[p.rs1]) << (x[p.rs2] & 31))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRLW:
		x[p.rd] = uint64(int32(uint32(x[p.rs1]) >> (x[p.rs2] & 31)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSRAW:
		x[p.rd] = uint64(int32(x[p.rs1]) >> (x[p.rs2] & 31))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opMULHU:
		a, _ = bits.Mul64(x[p.rs1], x[p.rs2])
		x[p.rd] = a
		goto divided
	case opMULH:
		a, _ = bits.Mul64(x[p.rs1], x[p.rs2])
		a -= uint64(int64(x[p.rs1])>>63) & x[p.rs2]
		a -= uint64(int64(x[p.rs2])>>63) & x[p.rs1]
		x[p.rd] = a
		goto divided
	case opMULHSU:
		a, _ = bits.Mul64(x[p.rs1], x[p.rs2])
		a -= uint64(int64(x[p.rs1])>>63) & x[p.rs2]
		x[p.rd] = a
		goto divided
	case opDIV:
		a, c = x[p.rs1], x[p.rs2]
		if c == 0 {
			x[p.rd] = ^uint64(0)
			goto divided
		}
		x[p.rd] = uint64(int64(a) / int64(c))
		goto divided
	case opDIVU:
		a, c = x[p.rs1], x[p.rs2]
		if c == 0 {
			x[p.rd] = ^uint64(0)
			goto divided
		}
		x[p.rd] = a / c
		goto divided
	case opREM:
		a, c = x[p.rs1], x[p.rs2]
		if c == 0 {
			x[p.rd] = a
			goto divided
		}
		x[p.rd] = uint64(int64(a) % int64(c))
		goto divided
	case opREMU:
		a, c = x[p.rs1], x[p.rs2]
		if c == 0 {
			x[p.rd] = a
			goto divided
		}
		x[p.rd] = a % c
		goto divided
	case opDIVW:
		a, c = uint64(int32(x[p.rs1])), uint64(int32(x[p.rs2]))
		if c == 0 {
			x[p.rd] = ^uint64(0)
			goto divided
		}
		x[p.rd] = uint64(int32(a) / int32(c))
		goto divided
	case opREMW:
		a, c = uint64(int32(x[p.rs1])), uint64(int32(x[p.rs2]))
		if c == 0 {
			x[p.rd] = a
			goto divided
		}
		x[p.rd] = uint64(int32(a) % int32(c))
		goto divided
	case opDIVUW:
		a, c = uint64(uint32(x[p.rs1])), uint64(uint32(x[p.rs2]))
		if c == 0 {
			x[p.rd] = ^uint64(0)
			goto divided
		}
		x[p.rd] = uint64(int32(uint32(a) / uint32(c)))
		goto divided
	case opREMUW:
		a, c = uint64(uint32(x[p.rs1])), uint64(uint32(x[p.rs2]))
		if c == 0 {
			x[p.rd] = uint64(int32(a))
			goto divided
		}
		x[p.rd] = uint64(int32(uint32(a) % uint32(c)))
		goto divided
	case opLB:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^pageMask {
			goto memory
		}
		x[p.rd] = uint64(*(*int8)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLH:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^1) {
			goto memory
		}
		x[p.rd] = uint64(*(*int16)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLW:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^3) {
			goto memory
		}
		x[p.rd] = uint64(*(*int32)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLD:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^7) {
			goto memory
		}
		x[p.rd] = *(*uint64)(unsafe.Add(ram, va+e.add))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLBU:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^pageMask {
			goto memory
		}
		x[p.rd] = uint64(*(*uint8)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLHU:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^1) {
			goto memory
		}
		x[p.rd] = uint64(*(*uint16)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLWU:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^3) {
			goto memory
		}
		x[p.rd] = uint64(*(*uint32)(unsafe.Add(ram, va+e.add)))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSB:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^pageMask {
			goto memory
		}
		*(*uint8)(unsafe.Add(ram, va+e.add)) = uint8(x[p.rs2])
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSH:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^1) {
			goto memory
		}
		*(*uint16)(unsafe.Add(ram, va+e.add)) = uint16(x[p.rs2])
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSW:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^3) {
			goto memory
		}
		*(*uint32)(unsafe.Add(ram, va+e.add)) = uint32(x[p.rs2])
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSD:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^7) {
			goto memory
		}
		*(*uint64)(unsafe.Add(ram, va+e.add)) = x[p.rs2]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opFLW:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^3) || h.fs != 3 {
			goto memory
		}
		f[p.rd&31] = uint64(*(*uint32)(unsafe.Add(ram, va+e.add))) | 0xffffffff<<32
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opFLD:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^7) || h.fs != 3 {
			goto memory
		}
		f[p.rd&31] = *(*uint64)(unsafe.Add(ram, va+e.add))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opFSW:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^3) || h.fs == 0 {
			goto memory
		}
		*(*uint32)(unsafe.Add(ram, va+e.add)) = uint32(f[p.rs2&31])
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opFSD:
		va = x[p.rs1] + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^7) || h.fs == 0 {
			goto memory
		}
		*(*uint64)(unsafe.Add(ram, va+e.add)) = f[p.rs2&31]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBEQ:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if x[q.rs1] == x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBEQ:
		if x[p.rs1] == x[p.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBNE:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if x[q.rs1] != x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBNE:
		if x[p.rs1] != x[p.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBLT:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if int64(x[q.rs1]) < int64(x[q.rs2]) {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBLT:
		if int64(x[p.rs1]) < int64(x[p.rs2]) {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBGE:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if int64(x[q.rs1]) >= int64(x[q.rs2]) {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBGE:
		if int64(x[p.rs1]) >= int64(x[p.rs2]) {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBLTU:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if x[q.rs1] < x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBLTU:
		if x[p.rs1] < x[p.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIBGEU:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] + uint64(q.b)
		if x[q.rs1] >= x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opBGEU:
		if x[p.rs1] >= x[p.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLDPC:
		va = pc + uint64(p.imm)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^7) {
			goto memory
		}
		x[p.rd] = *(*uint64)(unsafe.Add(ram, va+e.add))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opLDLD:
		q = (*pair)(unsafe.Pointer(p))
		va = x[q.rs1] + uint64(q.a)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^7) {
			goto memory
		}
		x[q.rd] = *(*uint64)(unsafe.Add(ram, va+e.add))
		va = x[q.c] + uint64(q.b)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.r != va&^(pageMask^7) {
			goto memory
		}
		x[q.rs2] = *(*uint64)(unsafe.Add(ram, va+e.add))
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSDSD:
		q = (*pair)(unsafe.Pointer(p))
		va = x[q.rs1] + uint64(q.a)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^7) {
			goto memory
		}
		*(*uint64)(unsafe.Add(ram, va+e.add)) = x[q.rs2]
		va = x[q.c] + uint64(q.b)
		e = (*tlbEntry)(unsafe.Add(tlb, (va>>7^va>>17)&tlbBytesMask))
		if e.w != va&^(pageMask^7) {
			goto memory
		}
		*(*uint64)(unsafe.Add(ram, va+e.add)) = x[q.rd]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDI2:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.rs1] + uint64(q.a)
		x[q.rs2] = x[q.c] + uint64(q.b)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLLSRL:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.rs1] << (uint64(q.a) & 63) >> (uint64(q.b) & 63)
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opSLLADD:
		q = (*pair)(unsafe.Pointer(p))
		a = x[q.rs1] << (uint64(q.a) & 63)
		x[q.rd] = a
		x[q.rs2] = a + x[q.c]
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIWBNE:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = uint64(int32(x[q.rd]) + int32(q.b))
		if x[q.rs1] != x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDBNE:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] += x[q.c]
		if x[q.rs1] != x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDBLTU:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] += x[q.c]
		if x[q.rs1] < x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opTAIL:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = pc + uint64(q.a)
		pc = (x[q.rd] + uint64(q.b)) &^ 1
		goto jump
	case opANDIBEQ:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] & uint64(q.b)
		if x[q.rs1] == x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opANDIBNE:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.c] & uint64(q.b)
		if x[q.rs1] != x[q.rs2] {
			goto taken
		}
		p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
		goto dispatch
	case opADDIJAL:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rs2] = x[q.c] + uint64(q.b)
		x[q.rd] = pc + b.size
		goto taken
	case opADDIJR:
		q = (*pair)(unsafe.Pointer(p))
		x[q.rd] = x[q.rs1] + uint64(q.a)
		pc = (x[q.rs2] + uint64(q.b)) &^ 1
		goto jump
	case opJAL:
		x[p.rd] = pc + b.size
		goto taken
	case opJALR:
		va = (x[p.rs1] + uint64(p.imm)) &^ 1
		x[p.rd] = pc + b.size
		pc = va
		goto jump
	case opJR:
		pc = (x[p.rs1] + uint64(p.imm)) &^ 1
		goto jump
	case opEnd:
		goto next
	case opFADDD:
		if a, ok = softfloat.HostAdd64(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFSUBD:
		if a, ok = softfloat.HostAdd64(f[p.rs1&31], f[p.rs2&31]^sign64); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFMULD:
		if a, ok = softfloat.HostMul64(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFDIVD:
		if a, ok = softfloat.HostDiv64(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFSQRTD:
		if a, ok = softfloat.HostSqrt64(f[p.rs1&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFMADDD:
		if !hostFMA {
			goto float
		}
		if a, ok = softfloat.HostFma64(f[p.rs1&31], f[p.rs2&31], f[p.imm>>27&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFMSUBD:
		if !hostFMA {
			goto float
		}
		if a, ok = softfloat.HostFma64(f[p.rs1&31], f[p.rs2&31], f[p.imm>>27&31]^sign64); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFNMSUBD:
		if !hostFMA {
			goto float
		}
		if a, ok = softfloat.HostFma64(f[p.rs1&31]^sign64, f[p.rs2&31], f[p.imm>>27&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFNMADDD:
		if !hostFMA {
			goto float
		}
		if a, ok = softfloat.HostFma64(f[p.rs1&31]^sign64, f[p.rs2&31], f[p.imm>>27&31]^sign64); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFADDS:
		if a, ok = hotAddS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFSUBS:
		if a, ok = hotAddS(f[p.rs1&31], f[p.rs2&31]^sign32); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFMULS:
		if a, ok = hotMulS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFDIVS:
		if a, ok = hotDivS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFMADDS:
		if f[p.rs1&31]&f[p.rs2&31]&f[p.imm>>27&31] < boxBits || !h.fpHot() {
			goto float
		}
		if c32, ok = softfloat.HostFma32(uint32(f[p.rs1&31]), uint32(f[p.rs2&31]), uint32(f[p.imm>>27&31])); !ok {
			goto float
		}
		f[p.rd&31] = box(c32)
		goto step
	case opFSGNJD:
		if !h.fpExact() {
			goto float
		}
		f[p.rd&31] = softfloat.SignInject64(f[p.rs1&31], f[p.rs2&31])
		goto step
	case opFSGNJND:
		if !h.fpExact() {
			goto float
		}
		f[p.rd&31] = softfloat.SignInject64(f[p.rs1&31], ^f[p.rs2&31])
		goto step
	case opFSGNJXD:
		if !h.fpExact() {
			goto float
		}
		f[p.rd&31] = softfloat.SignInject64(f[p.rs1&31], f[p.rs1&31]^f[p.rs2&31])
		goto step
	case opFSGNJS:
		if !h.fpExact() || !boxed2(f[p.rs1&31], f[p.rs2&31]) {
			goto float
		}
		f[p.rd&31] = box(softfloat.SignInject32(uint32(f[p.rs1&31]), uint32(f[p.rs2&31])))
		goto step
	case opFEQD:
		if a, ok = hotEqD(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFLTD:
		if a, ok = hotLtD(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFLED:
		if a, ok = hotLeD(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFEQS:
		if a, ok = hotEqS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFLTS:
		if a, ok = hotLtS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFLES:
		if a, ok = hotLeS(f[p.rs1&31], f[p.rs2&31]); !ok || !h.fpExact() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFMVXD:
		if !h.fpExact() {
			goto float
		}
		x[p.rd] = f[p.rs1&31]
		goto step
	case opFMVXW:
		if !h.fpExact() {
			goto float
		}
		x[p.rd] = uint64(int32(f[p.rs1&31]))
		goto step
	case opFMVDX:
		if !h.fpExact() {
			goto float
		}
		f[p.rd&31] = x[p.rs1]
		goto step
	case opFMVWX:
		if !h.fpExact() {
			goto float
		}
		f[p.rd&31] = box(uint32(x[p.rs1]))
		goto step
	case opFCVTWD:
		if a, ok = hotToW(f[p.rs1&31]); !ok || !h.fpNX() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFCVTLD:
		if a, ok = hotToL(f[p.rs1&31]); !ok || !h.fpNX() {
			goto float
		}
		x[p.rd] = a
		goto step
	case opFCVTDW:
		if !h.fpExact() || h.frm != 0 {
			goto float
		}
		f[p.rd&31] = math.Float64bits(float64(int32(x[p.rs1])))
		goto step
	case opFCVTDL:
		if !h.fpHot() {
			goto float
		}
		f[p.rd&31] = math.Float64bits(float64(int64(x[p.rs1])))
		goto step
	case opFCVTSD:
		if a, ok = hotNarrow(f[p.rs1&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opFCVTDS:
		if a, ok = hotWiden(f[p.rs1&31]); !ok || !h.fpHot() {
			goto float
		}
		f[p.rd&31] = a
		goto step
	case opSystem:
		return exitSystem, b, p, pc, n
	case opFloat:
		goto float
	case opAtomic:
		return exitAtomic, b, p, pc, n
	case opIllegal:
		return exitIllegal, b, p, pc, n
	}

	return exitIllegal, b, p, pc, n // not reached

divided: // for operations that need certain registers of the host; see above
	p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
	goto dispatch

step: // for other operations that are not frequent: it keeps the function small enough to inline into
	p = (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes))
	goto dispatch

taken:
	q = (*pair)(unsafe.Pointer(p))
	n += int64(q.len)
	pc += uint64(q.a)
	nb = b.links[q.off%blockLinks]
	if nb != nil {
		goto enter
	}
	if b.linkable>>(q.off%blockLinks)&1 != 0 {
		return exitTaken, b, p, pc, n
	}
	goto jump

next:
	pc += b.size
	nb = b.next
	if nb != nil {
		goto enter
	}
	if b.linkNext {
		return exitNext, b, p, pc, n
	}

jump:
	j = &jumps[pc>>1&jcMask]
	if j.pc != pc {
		return exitJump, b, p, pc, n
	}
	nb = j.b

enter:
	if nb.n > n {
		return exitJump, b, p, pc, n
	}
	n -= nb.n
	b = nb
	p = b.ins
	goto dispatch

float:
	return exitFloat, b, p, pc, n

memory:
	h.va = va
	return exitMemory, b, p, pc, n
}
