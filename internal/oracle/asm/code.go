package asm

import (
	"encoding/binary"
	"fmt"
)

// Label is a place in a Code that jumps and branches go to.
type Label int

// Line is one instruction of a Code, for listings.
type Line struct {
	Addr uint64
	Op   *Op
	Args Args
}

func (l Line) String() string {
	w := l.Op.Encode(l.Args)
	if l.Op.Bytes() == 2 {
		return fmt.Sprintf("%x:     %04x  %s", l.Addr, w, l.Op.Text(l.Args))
	}
	return fmt.Sprintf("%x: %08x  %s", l.Addr, w, l.Op.Text(l.Args))
}

// Code is a program under construction.
type Code struct {
	Base  uint64 // address of the first instruction
	Lines []Line

	size   uint64
	labels []uint64 // address, or 0 while it is not placed
	fixes  []fix
}

type fix struct {
	line  int
	label Label
	lo    bool // a 12-bit remainder of a distance from the auipc one line before
	hi    bool // the upper part of such a distance
}

// PC is the address of the next instruction.
func (c *Code) PC() uint64 { return c.Base + c.size }

// Emit appends an instruction.
func (c *Code) Emit(o *Op, a Args) {
	c.Lines = append(c.Lines, Line{c.PC(), o, a})
	c.size += uint64(o.Bytes())
}

// I appends the instruction of that name.
func (c *Code) I(name string, a Args) { c.Emit(Get(name), a) }

// NewLabel makes a label, to be placed later.
func (c *Code) NewLabel() Label {
	c.labels = append(c.labels, 0)
	return Label(len(c.labels) - 1)
}

// Place puts the label at the next instruction.
func (c *Code) Place(l Label) { c.labels[l] = c.PC() }

// To appends a jump or branch whose distance Finish fills in.
func (c *Code) To(o *Op, a Args, l Label) {
	c.fixes = append(c.fixes, fix{line: len(c.Lines), label: l})
	c.Emit(o, a)
}

// La appends auipc and addi that load the address of the label.
func (c *Code) La(rd uint8, l Label) {
	c.fixes = append(c.fixes, fix{line: len(c.Lines), label: l, hi: true})
	c.I("auipc", Args{Rd: rd})
	c.fixes = append(c.fixes, fix{line: len(c.Lines), label: l, lo: true})
	c.I("addi", Args{Rd: rd, Rs1: rd})
}

// LaAddr appends auipc and addi that load an address within 2 GiB.
func (c *Code) LaAddr(rd uint8, addr uint64) {
	hi, lo := split(addr - c.PC())
	c.I("auipc", Args{Rd: rd, Imm: hi})
	c.I("addi", Args{Rd: rd, Rs1: rd, Imm: lo})
}

// Li appends what loads a constant, in at most eight instructions.
func (c *Code) Li(rd uint8, v int64) {
	if int64(int32(v)) == v {
		lo := v << 52 >> 52
		hi := int64(int32(v-lo)) >> 12
		if hi == 0 {
			c.I("addi", Args{Rd: rd, Imm: lo})
			return
		}
		c.I("lui", Args{Rd: rd, Imm: hi})
		if lo != 0 {
			c.I("addiw", Args{Rd: rd, Rs1: rd, Imm: lo})
		}
		return
	}
	lo := v << 52 >> 52
	c.Li(rd, (v-lo)>>12)
	c.I("slli", Args{Rd: rd, Rs1: rd, Imm: 12})
	if lo != 0 {
		c.I("addi", Args{Rd: rd, Rs1: rd, Imm: lo})
	}
}

func split(distance uint64) (hi, lo int64) {
	d := int64(distance)
	lo = d << 52 >> 52
	return (d - lo) >> 12, lo
}

// Finish fills in the distances and gives the bytes of the program. It panics when a label was not placed
// or is too far away.
func (c *Code) Finish() []byte {
	for _, f := range c.fixes {
		l := &c.Lines[f.line]
		at := c.labels[f.label]
		if at == 0 {
			panic("asm: label not placed")
		}
		switch {
		case f.hi:
			l.Args.Imm, _ = split(at - l.Addr)
		case f.lo:
			_, l.Args.Imm = split(at - c.Lines[f.line-1].Addr)
		default:
			l.Args.Imm = int64(at - l.Addr)
		}
	}
	c.fixes = nil
	var b []byte
	for _, l := range c.Lines {
		w := l.Op.Encode(l.Args)
		if l.Op.Bytes() == 2 {
			b = binary.LittleEndian.AppendUint16(b, uint16(w))
		} else {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
	}
	return b
}
