// Package plic is the board's interrupt controller: a platform-level interrupt controller as in the RISC-V
// PLIC specification 1.0.0, which Linux drives as "sifive,plic-1.0.0".
//
// It has sources 1 to 31 and one context, number 0: the supervisor mode of hart 0. The device tree says so
// with interrupts-extended = <&cpu_intc 9> and riscv,ndev = <31>.
//
// Gateways are level-triggered: a source whose line is high becomes pending, and after it was claimed it
// becomes pending again only once the claim was completed while the line is (still, or again) high. A line
// that drops before the claim leaves the request pending, as the specification asks.
package plic

import (
	"math/bits"

	"understudy/machine/device"
	"understudy/machine/state"
)

// Sources is the number of interrupt sources: they are numbered 1 to Sources (riscv,ndev).
const Sources = 31

// WindowBytes is the size of the register window. It covers the one context's registers.
const WindowBytes = 0x400000

// MaxPriority is the highest priority and threshold; 0 means "never interrupts".
const MaxPriority = 7

// Offsets of the registers (PLIC specification, "Memory Map").
const (
	offPriority  = 0x000000 // 4 bytes for each source
	offPending   = 0x001000
	offEnable    = 0x002000
	offThreshold = 0x200000
	offClaim     = 0x200004
)

// PLIC is the controller. Bit n of a mask stands for source n.
type PLIC struct {
	line device.Line

	priority  [Sources + 1]uint8 // Invariant: at most MaxPriority; priority[0] is 0
	pending   uint32             // Invariant: bit 0 is clear, here and in the masks below
	enabled   uint32
	claimed   uint32 // claimed and not completed: the gateway is shut
	level     uint32 // levels of the sources' lines
	threshold uint8  // Invariant: at most MaxPriority
}

// New makes a controller that drives line, the hart's external interrupt for supervisor mode (SEIP).
func New(line device.Line) *PLIC { return &PLIC{line: line} }

// Source gives the interrupt line of source n, in 1..Sources; another n is a mistake of the board and panics.
func (p *PLIC) Source(n int) device.Line {
	if n < 1 || n > Sources {
		panic("plic: no such interrupt source")
	}
	bit := uint32(1) << n
	return func(level bool) {
		if level == (p.level&bit != 0) {
			return
		}
		p.level ^= bit
		if level {
			p.open()
		}
	}
}

// open lets through what waits at the gateways and updates the hart's line.
func (p *PLIC) open() {
	p.pending |= p.level &^ p.claimed
	p.update()
}

// update drives the hart's line.
func (p *PLIC) update() { p.line(p.best(p.threshold) != 0) }

// best gives the pending, enabled source of the highest priority above floor, the lowest number among
// equals, or 0.
func (p *PLIC) best(floor uint8) uint32 {
	best := uint32(0)
	for m := p.pending & p.enabled; m != 0; m &= m - 1 {
		n := uint32(bits.TrailingZeros32(m))
		if p.priority[n] > floor {
			best, floor = n, p.priority[n]
		}
	}
	return best
}

// ReadMMIO implements device.Device. Registers are 4 bytes wide.
func (p *PLIC) ReadMMIO(off uint64, size int) uint64 {
	if size != 4 || off%4 != 0 {
		return 0
	}
	switch {
	case off < offPriority+4*(Sources+1):
		return uint64(p.priority[off/4])
	case off == offPending:
		return uint64(p.pending)
	case off == offEnable:
		return uint64(p.enabled)
	case off == offThreshold:
		return uint64(p.threshold)
	case off == offClaim:
		// The threshold does not matter for a claim (PLIC specification, "Interrupt Claim Process").
		n := p.best(0)
		if n != 0 {
			p.pending &^= 1 << n
			p.claimed |= 1 << n
			p.update()
		}
		return uint64(n)
	}
	return 0
}

// WriteMMIO implements device.Device. Registers are 4 bytes wide.
func (p *PLIC) WriteMMIO(off uint64, size int, v uint64) {
	if size != 4 || off%4 != 0 {
		return
	}
	v &= 0xffff_ffff
	switch {
	case off == 0:
		return // source 0 does not exist
	case off < offPriority+4*(Sources+1):
		p.priority[off/4] = uint8(v & MaxPriority)
	case off == offEnable:
		p.enabled = uint32(v) &^ 1
	case off == offThreshold:
		p.threshold = uint8(v & MaxPriority)
	case off == offClaim:
		// A completion of a source that is not enabled is ignored ("Interrupt Completion").
		if v > Sources || p.enabled&(1<<v) == 0 {
			return
		}
		p.claimed &^= 1 << v
		p.open()
		return
	default:
		return
	}
	p.update()
}

// Save implements device.Device.
func (p *PLIC) Save(e *state.Encoder) {
	for _, v := range p.priority {
		e.U8(v)
	}
	e.U32(p.pending)
	e.U32(p.enabled)
	e.U32(p.claimed)
	e.U32(p.level)
	e.U8(p.threshold)
}

// Load implements device.Device. It does not drive the hart's line: the hart's own state holds its level.
func (p *PLIC) Load(d *state.Decoder) {
	n := PLIC{line: p.line}
	for i := range n.priority {
		n.priority[i] = d.U8()
		if n.priority[i] > MaxPriority {
			d.Fail("plic: priority %d", n.priority[i])
		}
	}
	n.pending = d.U32()
	n.enabled = d.U32()
	n.claimed = d.U32()
	n.level = d.U32()
	n.threshold = d.U8()
	if n.priority[0] != 0 || (n.pending|n.enabled|n.claimed|n.level)&1 != 0 || n.threshold > MaxPriority {
		d.Fail("plic: impossible registers")
	}
	if d.Err() == nil {
		*p = n
	}
}
