package oracle

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"understudy/event"
	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
	"understudy/machine/riscv"
)

// Probes ask which instruction words are legal: a program executes each word once, with a handler that notes
// the exception and goes on behind it. Only words whose effect, if they are legal, does no harm are asked about.

// Where the probing program keeps its things, from DataBase.
const (
	actionOffset = 0      // struct sigaction, for Linux
	besideOffset = 0x8000 // what loads and stores reach; a signal's frame lies below it
	notesOffset  = 0x10000
)

// The registers that probes must not write: the address that loads and stores use, and the note of the
// current probe.
const (
	probeAddr = 26
	probeNote = 27
)

// Probes is a program that executes each of the words. What it writes has one byte for each: 0, or the cause
// of the exception.
func Probes(words []uint32) *Program {
	c := asm.Code{Base: CodeBase}
	handler, begin := c.NewLabel(), c.NewLabel()
	c.To(asm.Get("jal"), a{}, begin)
	// Linux calls it with a2 = context, all other registers but a0, a1, ra and sp as they were. The pc lies at
	// 176.
	const contextPC, causeIllegal = 176, 2
	c.Place(handler)
	c.I("ld", a{Rd: 5, Rs1: 12, Imm: contextPC})
	c.I("addi", a{Rd: 5, Rs1: 5, Imm: 4})
	c.I("sd", a{Rs1: 12, Rs2: 5, Imm: contextPC})
	c.Li(5, causeIllegal)
	c.I("sb", a{Rs1: probeNote, Rs2: 5})
	c.I("jalr", a{Rs1: 1})
	c.Place(begin)
	const sysSigaction, sigill = 134, 4
	c.Li(10, sigill)
	c.LaAddr(11, DataBase+actionOffset)
	c.La(5, handler)
	c.I("sd", a{Rs1: 11, Rs2: 5})
	c.Li(12, 0)
	c.Li(13, 8)
	c.Li(17, sysSigaction)
	c.I("ecall", a{})
	c.LaAddr(probeAddr, DataBase+besideOffset)
	c.LaAddr(probeNote, DataBase+notesOffset)
	raw := &asm.Op{Name: ".word", Format: asm.FormatNone}
	for _, w := range words {
		for _, x := range []uint8{2, 8, 9, 10, 11, 12, 13, 14, 15} {
			c.I("c.mv", a{Rd: x, Rs2: probeAddr})
		}
		if w&3 != 3 {
			w = w&0xffff | asm.Get("c.nop").Encode(a{})<<16
		}
		word := *raw
		word.Bits = w
		c.Emit(&word, a{})
		c.I("addi", a{Rd: probeNote, Rs1: probeNote, Imm: 1})
	}
	c.LaAddr(11, DataBase+notesOffset)
	c.Li(10, 1)
	c.Li(12, int64(len(words)))
	c.Li(17, sysWrite)
	c.I("ecall", a{})
	c.Li(10, 0)
	c.Li(17, sysExit)
	c.I("ecall", a{})

	p := &Program{Code: c.Finish(), Lines: c.Lines, Data: make([]byte, notesOffset)}
	const saSiginfo = 4
	binary.LittleEndian.PutUint64(p.Data[actionOffset+8:], saSiginfo)
	p.RecordsMax = (notesOffset-recordsOffset+len(words))/RecordBytes + 1
	return p
}

// prober is the firmware for probes: the stub's handler calls it for what it does not handle itself.
type prober struct {
	harness
	calls int
}

// SBI passes over the system call that installs a signal handler and stops at the next one.
func (s *prober) SBI(h *riscv.Hart) {
	if s.calls++; s.calls == 1 {
		return
	}
	s.ended = true
	h.Ask()
}

// HartProbes runs what Probes made in our machine, in U mode, and gives what it wrote.
func HartProbes(p *Program) ([]byte, error) {
	ram := mem.New(make([]byte, ramBytes))
	s := &prober{}
	h := riscv.New(ram, s, s)
	load(ram, p, ModeU)
	ram.Write(stubBase, probeStub())
	h.Reset(stubBase, 0, 0)
	h.SetClock(h.Position(), event.Clock{Rate: 1 << event.RateShift})
	for !s.ended {
		if h.Run(positionMax) != riscv.StopAsked {
			return nil, fmt.Errorf("did not end; pc %#x", h.PC())
		}
	}
	cause, _ := h.CSR(0x142)
	if pc, _ := h.CSR(0x141); cause != 8 || h.X(17) != sysWrite {
		return nil, fmt.Errorf("trap %d at %#x%s", cause, pc, p.around(pc))
	}
	out := make([]byte, h.X(12))
	if !ram.Read(DataBase+notesOffset, out) {
		return nil, fmt.Errorf("wrote %d bytes", h.X(12))
	}
	return out, nil
}

// probeStub enters the program in U mode. Its handler notes illegal instructions and calls the firmware for all
// else.
func probeStub() []byte {
	const sstatus, stvec, sscratch, sepc, scause = 0x100, 0x105, 0x140, 0x141, 0x142
	const fsInitial, spp, causeIllegal = 1 << 13, 1 << 8, 2
	c := asm.Code{Base: stubBase}
	handler, entry, other, back := c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel()
	c.To(asm.Get("jal"), a{}, entry)
	c.Place(handler)
	c.I("csrrw", a{Rd: 31, Rs1: 31, CSR: sscratch})
	c.I("csrrs", a{Rd: 31, CSR: scause})
	c.I("addi", a{Rd: 31, Rs1: 31, Imm: -causeIllegal})
	c.To(asm.Get("bne"), a{Rs1: 31}, other)
	c.I("addi", a{Rd: 31, Rs1: 31, Imm: causeIllegal})
	c.I("sb", a{Rs1: probeNote, Rs2: 31})
	c.To(asm.Get("jal"), a{}, back)
	c.Place(other)
	c.I("ecall", a{})
	c.Place(back)
	c.I("csrrs", a{Rd: 31, CSR: sepc})
	c.I("addi", a{Rd: 31, Rs1: 31, Imm: 4})
	c.I("csrrw", a{Rs1: 31, CSR: sepc})
	c.I("csrrw", a{Rd: 31, Rs1: 31, CSR: sscratch})
	c.I("sret", a{})
	c.Place(entry)
	c.La(5, handler)
	c.I("csrrw", a{Rs1: 5, CSR: stvec})
	c.Li(5, spp)
	c.I("csrrc", a{Rs1: 5, CSR: sstatus})
	c.Li(5, fsInitial)
	c.I("csrrs", a{Rs1: 5, CSR: sstatus})
	c.LaAddr(5, CodeBase)
	c.I("csrrw", a{Rs1: 5, CSR: sepc})
	c.I("sret", a{})
	return c.Finish()
}

// ProbeWord makes a random word to probe.
func ProbeWord(r *rand.Rand) uint32 {
	for {
		if r.IntN(3) == 0 {
			if w := r.Uint32() & 0xffff; harmless16(w) {
				return w
			}
			continue
		}
		if w := word32(r); w>>7&31 != probeAddr && w>>7&31 != probeNote {
			return w
		}
	}
}

// harmless16 tells whether a compressed word may be executed: it neither jumps nor writes a register that must
// stay.
func harmless16(w uint32) bool {
	f3, rd := w>>13, w>>7&31
	switch w & 3 {
	case 3:
		return false
	case 0:
		return true
	case 1:
		return f3 < 5 && (f3 == 4 || rd != probeAddr && rd != probeNote)
	}
	if f3 == 4 && w>>2&31 == 0 { // jumps and ebreak
		return false
	}
	return f3 > 4 || rd != probeAddr && rd != probeNote
}

// word32 makes a 32-bit word that neither jumps nor calls and accesses memory beside probeAddr only.
func word32(r *rand.Rand) uint32 {
	w := r.Uint32() | 3
	if r.IntN(8) == 0 { // a random but valid one has more chances to differ in one bit only
		w &= 1<<12 - 1 | 0x7f<<25
	}
	opcodes := []uint32{
		0x03, 0x07, 0x0b, 0x0f, 0x13, 0x1b, 0x1f, 0x23, 0x27, 0x2b, 0x2f, 0x33, 0x3b, 0x3f,
		0x43, 0x47, 0x4b, 0x4f, 0x53, 0x53, 0x53, 0x57, 0x5b, 0x5f, 0x63, 0x67, 0x6b, 0x73, 0x77, 0x7b, 0x7f,
	}
	w = w&^0x7f | opcodes[r.IntN(len(opcodes))]
	const rs1, funct3 = 31 << 15, 7 << 12
	beside := func() { w = w&^rs1 | probeAddr<<15 }
	switch w & 0x7f {
	case 0x03, 0x07: // loads: offsets from 0 to 255, by 8
		beside()
		w &^= 0xf07 << 20
	case 0x23, 0x27: // stores likewise
		beside()
		w &^= 0xf0<<24 | 7<<7
	case 0x2f:
		beside()
	}
	switch w & 0x7f {
	case 0x07, 0x27: // QEMU 7.2 takes whole-register vector accesses for legal even without vectors
		if f3 := w >> 12 & 7; f3 == 0 || f3 >= 5 {
			w &^= 8 << 20
		}
	case 0x63:
		w = w&^funct3 | (2+r.Uint32N(2))<<12
	case 0x67:
		w = w&^funct3 | (1+r.Uint32N(7))<<12
	case 0x73: // access to CSRs; the counters are the machine's own choice
		if w&funct3 == 0 || w>>30 == 3 {
			w = w&^(funct3|3<<30) | 1<<12
		}
		if r.IntN(2) == 0 {
			w = w&0xfffff | (1+r.Uint32N(3))<<20
		}
		if csr := w >> 20; csr == 2 || csr == 3 { // an invalid rounding mode would spoil later words
			w = w&^(rs1|funct3) | 6<<12
		}
	}
	return w
}
