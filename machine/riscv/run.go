package riscv

import (
	"encoding/binary"
	"math"
	"unsafe"

	"understudy/event"
	"understudy/machine/mem"
)

// Run executes until the position is exactly until, or earlier when the hart goes idle or somebody asks.
//
// Interrupts are recognised before an instruction, never after the last one: at a stop the hart has not
// yet taken an interrupt that is pending there. So a run has one result however it is cut.
func (h *Hart) Run(until event.Position) Stop { return h.run(until, false) }

// RunSlice is Run that may overshoot until, by less than one basic block, when that is cheaper. It never
// runs past the timer's position.
func (h *Hart) RunSlice(until event.Position) Stop { return h.run(until, true) }

func (h *Hart) run(until event.Position, slice bool) Stop {
	h.asked, h.apart = false, false
	if h.idle {
		if h.pending() == 0 {
			return StopIdle
		}
		if h.pos >= until {
			return StopPosition
		}
		h.idle = false
	}
	for {
		switch {
		case h.asked:
			return StopAsked
		case h.idle:
			return StopIdle
		case h.pos >= until:
			return StopPosition
		}
		h.takeInterrupt()
		h.changed = false
		limit := until
		if h.pos < h.deadline && h.deadline < limit {
			limit = h.deadline
		}
		if limit-h.pos > math.MaxInt64/2 {
			limit = h.pos + math.MaxInt64/2
		}
		for !h.changed && h.pos < limit {
			h.enter(limit, slice && limit != h.deadline)
		}
	}
}

// exit says why exec returned.
type exit int

const (
	exitTaken   exit = iota // after a direct jump, at pc; its target is not known
	exitNext                // after a block that fell through, at pc
	exitJump                // at pc, otherwise
	exitMemory              // at a record whose memory access to h.va needs the slow path
	exitSystem              // at an opSystem
	exitFloat               // at an opFloat
	exitAtomic              // at an opAtomic
	exitIllegal             // at an opIllegal
)

// enter executes from h.pc to limit at most, or until something needs a look from run. With over it may
// run one block past limit, but not past the deadline.
func (h *Hart) enter(limit event.Position, over bool) {
	var b *block
	if h.apart {
		h.apart = false
		b = h.step(h.pc)
	} else {
		b = h.lookup(h.pc)
	}
	if b == nil {
		return
	}
	left := int64(limit - h.pos)
	if b.n > left {
		if over && (h.deadline <= h.pos || event.Position(b.n) <= h.deadline-h.pos) {
			left = b.n
			limit = h.pos + event.Position(left)
		} else if b = h.step(h.pc); b == nil {
			return
		}
	}
	p, pc, n := b.ins, h.pc, left-b.n
	for {
		var why exit
		why, b, p, pc, n = h.exec(b, p, pc, n)
		if why == exitFloat && h.floatRecord(p) {
			p = nextIns(p)
			continue
		}
		if why > exitJump {
			h.pc = pc + uint64(p.off)*2
			h.pos = limit - event.Position(n+b.count-int64(p.idx))
			done := h.slow(p, why)
			if h.changed || why == exitSystem || why == exitIllegal {
				return
			}
			if done {
				p = nextIns(p)
			}
			continue
		}
		h.pc = pc
		h.pos = limit - event.Position(n)
		if n <= 0 {
			return
		}
		nb := h.lookup(pc)
		if nb == nil || h.changed {
			return
		}
		h.link(b, nb, why, p)
		if nb.n > n {
			return // run decides how to go on
		}
		b, p, n = nb, nb.ins, n-nb.n
	}
}

// link remembers that nb follows b, after the record p if that is a jump, so that exec goes there by itself.
func (h *Hart) link(b, nb *block, why exit, p *ins) {
	switch {
	case b.dead() || nb == &h.code.scratch.block:
	case why == exitTaken:
		if i := p.off % blockLinks; nb.crosses() {
			b.linkable &^= 1 << i
		} else {
			b.links[i] = nb
		}
	case why == exitNext:
		if b.linkNext = !nb.crosses(); b.linkNext {
			b.next = nb
		}
	default:
		for i, l := range b.links {
			if l != nil && l.dead() {
				b.links[i] = nil
			}
		}
		if b.next != nil && b.next.dead() {
			b.next = nil
		}
	}
}

// lookup gives the block to execute at pc, which may be one of a single instruction. It gives nil when
// fetching raised an exception.
func (h *Hart) lookup(pc uint64) *block {
	c := h.mmu.ctx
	if e := &c.jc[pc>>1&jcMask]; e.pc == pc && !e.b.dead() {
		h.mid = 0
		return e.b
	}
	pa, ok := h.fetch(pc, pc)
	if !ok {
		return nil
	}
	b := h.code.find((pa-mem.Base)>>pageShift, pa&pageMask)
	if b == nil {
		if h.mid > 0 && h.mid < blockMax {
			return h.stepAt(pc, pa)
		}
		if b = h.build(pa); b == nil {
			pa2, ok := h.fetch(pc, pc+2)
			if !ok {
				return nil
			}
			if b = h.buildCross(pa, pa2); b == nil {
				return h.stepAt(pc, pa)
			}
		}
	}
	h.mid = 0
	c.addJump(pc, b)
	if b.crosses() {
		c.addJumpPage(pc + 2)
	}
	return b
}

// fetch translates va, part of the instruction at pc, for fetching. It reports false when that raised an
// exception.
func (h *Hart) fetch(pc, va uint64) (pa uint64, ok bool) {
	pa, fault := h.translate(va, accFetch)
	if fault == causeNone && !h.ram.Contains(pa, 2) {
		fault = causeFetchAccess
	}
	if fault != causeNone {
		h.pc = pc
		h.exception(fault, va)
		return 0, false
	}
	return pa, true
}

// step gives a block of the one instruction at pc, or nil when fetching it raised an exception.
func (h *Hart) step(pc uint64) *block {
	pa, ok := h.fetch(pc, pc)
	if !ok {
		return nil
	}
	return h.stepAt(pc, pa)
}

func (h *Hart) stepAt(pc, pa uint64) *block {
	raw, size := uint32(binary.LittleEndian.Uint16(h.ram.Bytes()[pa-mem.Base:])), uint64(2)
	if raw&3 == 3 {
		pa2 := pa + 2
		if pa2&pageMask == 0 {
			var ok bool
			if pa2, ok = h.fetch(pc, pc+2); !ok {
				return nil
			}
		}
		raw, size = h.halves(pa, pa2), 4
	}
	b := h.code.single(raw, size)
	if h.mid++; b.last {
		h.mid = 0
	}
	return b
}

// nextIns gives the record behind p, which is not the last of its block.
func nextIns(p *ins) *ins { return (*ins)(unsafe.Add(unsafe.Pointer(p), insBytes)) }
