package riscv

import (
	"unsafe"
)

// pair is how a record of two fused instructions is laid out, and one of a conditional or direct jump.
// What its fields mean is said with each operation.
type pair struct {
	op  op
	rd  uint8
	rs1 uint8
	rs2 uint8
	off uint8 // for jumps: the block's link to use
	idx uint8
	len uint8 // for jumps: instructions of the block that follow
	a   int32
	b   int16
	c   uint8
	_   uint8
}

// The two layouts have the same size.
var _ [0]struct{} = [insBytes - unsafe.Sizeof(pair{})]struct{}{}

// fits16 and fits32 tell whether v can be stored in b or a of a pair.
func fits16(v int64) bool { return v == int64(int16(v)) }
func fits32(v int64) bool { return v == int64(int32(v)) }

// pairOf makes a record in pair's layout.
func pairOf(q pair) ins { return *(*ins)(unsafe.Pointer(&q)) }

// moves gives p as rd = rs1 + imm with a short immediate, when it is that.
func moves(p *ins) (rs1 uint8, imm int64, ok bool) {
	switch p.op {
	case opADDI:
		return p.rs1, p.imm, true
	case opMV:
		return p.rs1, 0, true
	case opLI:
		return 0, p.imm, fits16(p.imm)
	}
	return 0, 0, false
}

// fuse puts r, which follows p in a block, into the record of p, when there is an operation that does
// both. The block counts both instructions. A fused operation that accesses memory can be executed again
// from its start after the access failed: nothing that it reads has changed.
func fuse(p *ins, r *ins) bool {
	same := r.rs1 == p.rd && r.rd == p.rd // r continues on p's result and replaces it
	switch {
	case p.op == opLI && same:
		return fuseConstant(p, r)
	case p.op == opAUIPC && r.rs1 == p.rd:
		return fuseAddress(p, r)
	case p.op == opSLLI && r.op == opSRLI && same:
		*p = pairOf(pair{op: opSLLSRL, rd: p.rd, rs1: p.rs1, off: p.off, idx: p.idx, a: int32(p.imm), b: int16(r.imm)})
		return true
	case p.op == opSLLI && r.op == opADD && (r.rs1 == p.rd || r.rs2 == p.rd):
		other := r.rs1
		if other == p.rd {
			other = r.rs2
		}
		*p = pairOf(pair{op: opSLLADD, rd: p.rd, rs1: p.rs1, rs2: r.rd, off: p.off, idx: p.idx, a: int32(p.imm), c: other})
		return true
	case p.op == opLD && r.op == opLD && p.rd != p.rs1:
		*p = pairOf(pair{op: opLDLD, rd: p.rd, rs1: p.rs1, rs2: r.rd, off: p.off, idx: p.idx, a: int32(p.imm), b: int16(r.imm), c: r.rs1})
		return true
	case p.op == opSD && r.op == opSD:
		*p = pairOf(pair{op: opSDSD, rd: r.rs2, rs1: p.rs1, rs2: p.rs2, off: p.off, idx: p.idx, a: int32(p.imm), b: int16(r.imm), c: r.rs1})
		return true
	case r.op >= opBEQ:
		return fuseJump(p, r)
	}
	rs1, imm, ok := moves(p)
	rs3, imm2, ok2 := moves(r)
	if ok && ok2 {
		*p = pairOf(pair{op: opADDI2, rd: p.rd, rs1: rs1, rs2: r.rd, off: p.off, idx: p.idx, a: int32(imm), b: int16(imm2), c: rs3})
	}
	return ok && ok2
}

// fuseConstant computes on a constant.
func fuseConstant(p, r *ins) bool {
	switch r.op {
	case opADDI:
		p.imm += r.imm
	case opADDIW:
		p.imm = int64(int32(p.imm + r.imm))
	case opSLLI:
		p.imm <<= uint(r.imm)
	default:
		return false
	}
	return true
}

// fuseAddress fuses auipc with what uses its result.
func fuseAddress(p, r *ins) bool {
	sum := p.imm + r.imm
	switch {
	case r.op == opADDI && r.rd == p.rd:
		p.imm = sum
	case r.op == opLD && r.rd == p.rd:
		p.op, p.imm = opLDPC, sum
	case r.op == opJALR && r.rd == p.rd && fits32(sum):
		*p = pairOf(pair{op: opJAL, rd: p.rd, off: p.off, idx: p.idx, a: int32(sum &^ 1)})
	case r.op == opJR && fits32(p.imm):
		*p = pairOf(pair{op: opTAIL, rd: p.rd, off: p.off, idx: p.idx, a: int32(p.imm), b: int16(r.imm)})
	default:
		return false
	}
	return true
}

// fuseJump fuses an operation on a register with the conditional or direct jump r, or with a return.
func fuseJump(p, r *ins) bool {
	f := *(*pair)(unsafe.Pointer(r))
	f.off, f.idx = p.off, p.idx
	rs, imm, moves := moves(p)
	switch {
	case r.op == opJR && moves:
		*p = pairOf(pair{op: opADDIJR, rd: p.rd, rs1: rs, rs2: r.rs1, off: p.off, idx: p.idx, a: int32(imm), b: int16(r.imm)})
		return true
	case r.op == opJAL && moves:
		f.op, f.rs2, f.c, f.b = opADDIJAL, p.rd, rs, int16(imm)
	case !r.op.branches():
		return false
	case moves:
		f.op, f.rd, f.c, f.b = opADDIBEQ+r.op-opBEQ, p.rd, rs, int16(imm)
	case p.op == opANDI && r.op <= opBNE:
		f.op, f.rd, f.c, f.b = opANDIBEQ+r.op-opBEQ, p.rd, p.rs1, int16(p.imm)
	case p.op == opADDIW && r.op == opBNE && p.rd == p.rs1:
		f.op, f.rd, f.b = opADDIWBNE, p.rd, int16(p.imm)
	case p.op == opADD && r.op == opBNE && p.rd == p.rs1:
		f.op, f.rd, f.c = opADDBNE, p.rd, p.rs2
	case p.op == opADD && r.op == opBLTU && p.rd == p.rs1:
		f.op, f.rd, f.c = opADDBLTU, p.rd, p.rs2
	default:
		return false
	}
	*p = pairOf(f)
	return true
}

// slowPair makes the failed access of a fused operation possible for exec. Where that cannot be, or does
// not help, the first of the two instructions is executed by itself.
func (h *Hart) slowPair(in *ins) {
	acc := accLoad
	if in.op == opSDSD {
		acc = accStore
	}
	if h.pairAt != h.pos {
		h.pairAt, h.pairTries = h.pos, 0
	}
	h.pairTries++
	if h.va&7 == 0 && h.pairTries < 4 {
		// The access is bound to happen, or to fault: exec tries the second only when the first succeeded.
		pa, fault := h.translate(h.va, acc)
		if fault == causeNone && h.ram.Contains(pa, 8) &&
			(acc == accLoad || h.mmu.ctx.tlb[tlbIndex(h.va)].w == h.va&^pageMask) {
			return
		}
	}
	h.apart, h.changed = true, true
}
