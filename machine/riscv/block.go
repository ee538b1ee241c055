package riscv

import (
	"encoding/binary"
	"math"
	"unsafe"

	"understudy/machine/mem"
)

const (
	// blockMax is the largest number of instructions in a block, blockBranchMax in one that may be left
	// before its end.
	blockMax       = 64
	blockBranchMax = 32
	// blockLinks is the largest number of direct jumps in a block, conditional or not.
	blockLinks = 4
	// recordsMax bounds what is kept, in records, dead ones included; at the bound all code is dropped.
	// blockRecords and pageRecords are what a block and a page of code take beside their records.
	recordsMax   = 1 << 23
	blockRecords = 9
	pageRecords  = 280
	// slabRecords is how many records are allocated at a time.
	slabRecords = 2048
	// codeStoresMax is how many stores to a page with code make it a page without.
	codeStoresMax = 128

	insBytes = unsafe.Sizeof(ins{})
)

// block is a straight run of predecoded instructions within one page, or one instruction that crosses
// into the next page. It is entered at its start only, and left at its end or by a branch that is taken.
type block struct {
	// n is the number of instructions, or deadLen once the code has changed: no budget covers that, so
	// whoever reaches a dead block through a stale pointer leaves the interpreter.
	n     int64
	ins   *ins // the records; the last one ends the block
	size  uint64
	links [blockLinks]*block // the blocks at the targets of the direct jumps, once known
	next  *block             // the block that follows, once known
	// linkable has bit i set when links[i] may be set, linkNext when next may: the successor is in the same
	// page, so the translation of this block serves it too.
	linkable uint8
	linkNext bool

	count int64 // n of the living block
	page  uint64
	first uint64 // offset in the page
	last  bool   // of the scratch block: the instruction ends a run of steps
}

const deadLen = math.MaxInt64

func (b *block) dead() bool { return b.n == deadLen }

func (b *block) kill() { b.n, b.links, b.next = deadLen, [blockLinks]*block{}, nil }

// codePage holds the blocks of one physical page.
type codePage struct {
	index   [mem.PageBytes / 2]uint16 // by halfword: 1 + place in blocks, 0: none
	blocks  []*block                  // those that start and end here
	cross   *block                    // the one that crosses into another page
	second  uint64                    // that page
	foreign []*block                  // those that cross into here
	mask    uint64                    // 64-byte pieces with code
	stores  int                       // since the page became one with code
}

// codeCache holds all blocks, by physical page.
type codeCache struct {
	pages   []*codePage
	slab    []ins
	records int
	scratch scratch
}

// scratch is a block for one instruction.
type scratch struct {
	block block
	ins   [2]ins
}

func (c *codeCache) init(ram *mem.RAM) { c.pages = make([]*codePage, ram.Pages()) }

// find gives the block that starts at byte off of the page.
func (c *codeCache) find(page, off uint64) *block {
	p := c.pages[page]
	if p == nil || p.index[off>>1] == 0 {
		return nil
	}
	return p.blocks[p.index[off>>1]-1]
}

// dropCode drops all blocks.
func (h *Hart) dropCode() {
	for i, p := range h.code.pages {
		if p != nil {
			h.dropCodePage(uint64(i))
		}
	}
	h.code.slab, h.code.records = nil, 0
}

func (h *Hart) dropCodePage(page uint64) {
	p := h.code.pages[page]
	for _, b := range p.blocks {
		b.kill()
	}
	for _, b := range p.foreign {
		b.kill()
	}
	if p.cross != nil {
		p.cross.kill()
	}
	h.code.pages[page] = nil
	h.mmu.flags[page] &^= mem.Code
	h.changed = true
}

// codeStore is called before [addr, addr+n), part of a page with flag Code, changes.
func (h *Hart) codeStore(addr uint64, n int) {
	page := (addr - mem.Base) >> pageShift
	p := h.code.pages[page]
	p.stores++
	if p.stores > codeStoresMax {
		h.dropCodePage(page)
		return
	}
	from := addr & pageMask
	to := from + uint64(n)
	if p.mask&pieceMask(from, to) == 0 {
		return
	}
	mask := uint64(0)
	for _, b := range p.blocks {
		switch end := b.first + b.size; {
		case b.dead():
		case b.first < to && from < end:
			b.kill()
			p.index[b.first>>1] = 0
			h.changed = true
		default:
			mask |= pieceMask(b.first, end)
		}
	}
	if b := p.cross; b != nil && !b.dead() {
		if to > b.first {
			b.kill()
			h.changed = true
		} else {
			mask |= pieceMask(b.first, mem.PageBytes)
		}
	}
	for _, b := range p.foreign {
		switch {
		case b.dead():
		case from < 2:
			b.kill()
			h.changed = true
		default:
			mask |= 1
		}
	}
	if p.mask = mask; mask == 0 {
		h.dropCodePage(page)
	}
}

// pieceMask gives the 64-byte pieces that [first, end) touches.
func pieceMask(first, end uint64) uint64 {
	return ^uint64(0) << (first >> 6) & (^uint64(0) >> (63 - (end-1)>>6))
}

// codePageOf gives the page's record, making it a page with code.
func (h *Hart) codePageOf(page uint64) *codePage {
	p := h.code.pages[page]
	if p == nil {
		p = &codePage{}
		h.code.pages[page] = p
		h.code.records += pageRecords
		h.mmu.flags[page] |= mem.Code
		h.mmu.dropWriters(page)
	}
	return p
}

// sweep forgets the dead blocks.
func (p *codePage) sweep() {
	p.blocks = living(p.blocks)
	for i, b := range p.blocks {
		p.index[b.first>>1] = uint16(i + 1)
	}
}

func living(s []*block) []*block {
	live := s[:0]
	for _, b := range s {
		if !b.dead() {
			live = append(live, b)
		}
	}
	clear(s[len(live):])
	return live
}

func (b *block) crosses() bool { return b.first+b.size > mem.PageBytes }

// build decodes the block at pa, which is in RAM and is not a block's start yet. It gives nil when the
// first instruction crosses into the next page.
func (h *Hart) build(pa uint64) *block {
	off := pa - mem.Base
	page, first := off>>pageShift, off&pageMask
	code := h.ram.Bytes()[off&^pageMask:][:mem.PageBytes]
	var recs [blockMax + 1]ins
	b := &block{page: page, first: first}
	at, n, links, count, limit := first, 0, 0, int64(0), int64(blockMax)
	var jumps [blockLinks]int // their records
	ended := false
	for count < limit && at < mem.PageBytes && !ended {
		raw := uint32(binary.LittleEndian.Uint16(code[at:]))
		size := uint64(2)
		if raw&3 == 3 {
			if at+4 > mem.PageBytes {
				break
			}
			raw, size = binary.LittleEndian.Uint32(code[at:]), 4
		}
		if r, ok := decodeAt(raw, size, at-first); ok {
			r.idx = uint8(count)
			ended = r.op.ends()
			if r.op.branches() {
				// What follows a branch backwards is rarely executed.
				ended = int64((*pair)(unsafe.Pointer(&r)).a) < int64(at-first) || links == blockLinks-1
				limit = blockBranchMax
			}
			if n > 0 && fuse(&recs[n-1], &r) {
				n--
			} else {
				recs[n] = r
			}
			if o := recs[n].op; o >= opADDIBEQ && o <= opJAL {
				q := (*pair)(unsafe.Pointer(&recs[n]))
				if uint64(int64(first)+int64(q.a)) < mem.PageBytes {
					b.linkable |= 1 << links
				}
				q.off, q.len = uint8(links), uint8(count)
				jumps[links] = n
				links++
			}
			n++
		}
		at += size
		count++
	}
	if count == 0 {
		return nil
	}
	for i := range links {
		q := (*pair)(unsafe.Pointer(&recs[jumps[i]]))
		q.len = uint8(count) - 1 - q.len
	}
	b.n, b.count, b.size = count, count, at-first
	b.linkNext = at < mem.PageBytes
	if n == 0 || !recs[n-1].op.ends() {
		recs[n] = ins{op: opEnd, off: uint8((at - first) / 2), idx: uint8(count)}
		n++
	}
	b.ins = h.keep(recs[:n])
	p := h.codePageOf(page)
	if len(p.blocks) == cap(p.blocks) {
		p.sweep()
	}
	p.blocks = append(p.blocks, b)
	p.mask |= pieceMask(first, at)
	p.index[first>>1] = uint16(len(p.blocks))
	return b
}

// decodeAt decodes the instruction raw of size bytes, which is off bytes into its block.
func decodeAt(raw uint32, size, off uint64) (ins, bool) {
	full := raw
	if size == 2 {
		full = expand(raw)
	}
	r, ok := decode(full)
	r.off, r.len = uint8(off/2), uint8(size)
	switch {
	case r.op == opIllegal:
		r.imm = int64(raw)
	case r.op == opAUIPC:
		r.imm += int64(off)
	case r.op >= opBEQ && r.op <= opJAL:
		r = pairOf(pair{op: r.op, rd: r.rd, rs1: r.rs1, rs2: r.rs2, a: int32(r.imm + int64(off))})
	}
	return r, ok
}

// keep stores records where they live as long as a block points to them. A record more is allocated
// behind them, so that a pointer past the last one stays within.
func (h *Hart) keep(recs []ins) *ins {
	c := &h.code
	need := len(recs) + 1
	if c.records += need + blockRecords; c.records > recordsMax {
		h.dropCode()
	}
	if len(c.slab) < need {
		c.slab = make([]ins, slabRecords)
	}
	copy(c.slab, recs)
	p := &c.slab[0]
	c.slab = c.slab[need:]
	return p
}

// buildCross makes the block of the one 4-byte instruction whose halves are at pa, the end of a page, and
// at pa2, the start of another. Only the jump cache of the current context may hold it. It gives nil when
// both pages are the same.
func (h *Hart) buildCross(pa, pa2 uint64) *block {
	page, second := (pa-mem.Base)>>pageShift, (pa2-mem.Base)>>pageShift
	if page == second {
		return nil
	}
	if p := h.code.pages[page]; p != nil && p.cross != nil && !p.cross.dead() {
		if p.second == second {
			return p.cross
		}
		p.cross.kill()
	}
	r, ok := decodeAt(h.halves(pa, pa2), 4, 0)
	b := &block{n: 1, count: 1, size: 4, page: page, first: pa & pageMask}
	recs := [2]ins{r, {op: opEnd, off: 2, idx: 1}}
	if ok {
		b.ins = h.keep(recs[:])
	} else {
		b.ins = h.keep(recs[1:])
	}
	p := h.codePageOf(page)
	p.cross, p.second = b, second
	p.mask |= pieceMask(b.first, mem.PageBytes)
	p = h.codePageOf(second)
	if len(p.foreign) == cap(p.foreign) {
		p.foreign = living(p.foreign)
	}
	p.foreign = append(p.foreign, b)
	p.mask |= 1
	return b
}

// halves reads the instruction whose halves are at pa and pa2.
func (h *Hart) halves(pa, pa2 uint64) uint32 {
	ram := h.ram.Bytes()
	return uint32(binary.LittleEndian.Uint16(ram[pa-mem.Base:])) |
		uint32(binary.LittleEndian.Uint16(ram[pa2-mem.Base:]))<<16
}

// single puts the instruction raw of size bytes into the scratch block.
func (c *codeCache) single(raw uint32, size uint64) *block {
	s := &c.scratch
	r, ok := decodeAt(raw, size, 0)
	s.ins = [2]ins{r, {op: opEnd, off: uint8(size / 2), idx: 1}}
	s.block = block{n: 1, count: 1, size: size, ins: &s.ins[0], last: ok && (r.op.ends() || r.op.branches())}
	if !ok {
		s.block.ins = &s.ins[1]
	}
	return &s.block
}
