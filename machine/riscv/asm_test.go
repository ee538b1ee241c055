package riscv

import (
	"encoding/binary"
	"testing"

	"understudy/event"
	"understudy/machine/mem"
)

// prog is a small assembler: instructions in order, branches to labels that may come later.
type prog struct {
	base   uint64
	code   []byte
	labels map[string]int
	fixes  []fix
}

type fix struct {
	at    int
	label string
}

// Register names.
const (
	zero = iota
	ra
	sp
	gp
	tp
	t0
	t1
	t2
	s0
	s1
	a0
	a1
	a2
	a3
	a4
	a5
	a6
	a7
	s2
	s3
	s4
	s5
)

func newProg(base uint64) *prog { return &prog{base: base, labels: map[string]int{}} }

func (p *prog) raw(ws ...uint32) *prog {
	for _, w := range ws {
		if w&3 != 3 {
			p.code = binary.LittleEndian.AppendUint16(p.code, uint16(w))
		} else {
			p.code = binary.LittleEndian.AppendUint32(p.code, w)
		}
	}
	return p
}

func (p *prog) label(l string) *prog { p.labels[l] = len(p.code); return p }

func (p *prog) branch(f3, rs1, rs2 uint32, l string) *prog {
	p.fixes = append(p.fixes, fix{len(p.code), l})
	return p.raw(rs2<<20 | rs1<<15 | f3<<12 | 0x63)
}

func (p *prog) beq(a, b uint32, l string) *prog { return p.branch(0, a, b, l) }
func (p *prog) bne(a, b uint32, l string) *prog { return p.branch(1, a, b, l) }
func (p *prog) blt(a, b uint32, l string) *prog { return p.branch(4, a, b, l) }
func (p *prog) bge(a, b uint32, l string) *prog { return p.branch(5, a, b, l) }

func (p *prog) jal(rd uint32, l string) *prog {
	p.fixes = append(p.fixes, fix{len(p.code), l})
	return p.raw(rd<<7 | 0x6f)
}

// li loads a constant of 32 bits, sign-extended.
func (p *prog) li(rd uint32, v int32) *prog {
	if v >= -2048 && v < 2048 {
		return p.raw(addi(rd, zero, v))
	}
	return p.raw(lui(rd, uint32(v)+0x800), iType(0x1b, 0, rd, rd, uint32(v)))
}

// la loads an address in the first 2 GiB of RAM, which need not be a positive 32-bit number.
func (p *prog) la(rd uint32, addr uint64) *prog {
	p.li(rd, int32(addr>>4))
	return p.raw(slli(rd, rd, 4), addi(rd, rd, int32(addr&15)))
}

func (p *prog) bytes() []byte {
	for _, f := range p.fixes {
		to, ok := p.labels[f.label]
		if !ok {
			panic("no label " + f.label)
		}
		d := uint32(to - f.at)
		w := binary.LittleEndian.Uint32(p.code[f.at:])
		if w&0x7f == 0x63 {
			w |= d>>12&1<<31 | d>>5&63<<25 | d>>1&15<<8 | d>>11&1<<7
		} else {
			w |= d>>20&1<<31 | d>>1&0x3ff<<21 | d>>11&1<<20 | d>>12&0xff<<12
		}
		binary.LittleEndian.PutUint32(p.code[f.at:], w)
	}
	p.fixes = nil
	return p.code
}

func iType(opcode, f3, rd, rs1, imm uint32) uint32 {
	return imm<<20 | rs1<<15 | f3<<12 | rd<<7 | opcode
}

func rType(opcode, f3, f7, rd, rs1, rs2 uint32) uint32 {
	return f7<<25 | rs2<<20 | rs1<<15 | f3<<12 | rd<<7 | opcode
}

func sType(f3, rs1, rs2, imm uint32) uint32 { return encS(0x23, f3, rs1, rs2, imm&0xfff) }

func addi(rd, rs1 uint32, imm int32) uint32       { return iType(0x13, 0, rd, rs1, uint32(imm)) }
func andi(rd, rs1 uint32, imm int32) uint32       { return iType(0x13, 7, rd, rs1, uint32(imm)) }
func slli(rd, rs1, n uint32) uint32               { return iType(0x13, 1, rd, rs1, n) }
func srli(rd, rs1, n uint32) uint32               { return iType(0x13, 5, rd, rs1, n) }
func lui(rd, v uint32) uint32                     { return v&^0xfff | rd<<7 | 0x37 }
func auipc(rd, v uint32) uint32                   { return v&^0xfff | rd<<7 | 0x17 }
func add(rd, a, b uint32) uint32                  { return rType(0x33, 0, 0, rd, a, b) }
func sub(rd, a, b uint32) uint32                  { return rType(0x33, 0, 32, rd, a, b) }
func xor(rd, a, b uint32) uint32                  { return rType(0x33, 4, 0, rd, a, b) }
func mul(rd, a, b uint32) uint32                  { return rType(0x33, 0, 1, rd, a, b) }
func ld(rd uint32, off int32, rs1 uint32) uint32  { return iType(0x03, 3, rd, rs1, uint32(off)) }
func lw(rd uint32, off int32, rs1 uint32) uint32  { return iType(0x03, 2, rd, rs1, uint32(off)) }
func lbu(rd uint32, off int32, rs1 uint32) uint32 { return iType(0x03, 4, rd, rs1, uint32(off)) }
func sd(rs2 uint32, off int32, rs1 uint32) uint32 { return sType(3, rs1, rs2, uint32(off)) }
func sw(rs2 uint32, off int32, rs1 uint32) uint32 { return sType(2, rs1, rs2, uint32(off)) }
func jalr(rd, rs1 uint32, off int32) uint32       { return iType(0x67, 0, rd, rs1, uint32(off)) }
func csrrw(rd, csr, rs1 uint32) uint32            { return iType(0x73, 1, rd, rs1, csr) }
func csrrs(rd, csr, rs1 uint32) uint32            { return iType(0x73, 2, rd, rs1, csr) }
func csrrc(rd, csr, rs1 uint32) uint32            { return iType(0x73, 3, rd, rs1, csr) }
func csrrci(rd, csr, imm uint32) uint32           { return iType(0x73, 7, rd, imm, csr) }

const (
	insEcall  = 0x00000073
	insEbreak = 0x00100073
	insSret   = 0x10200073
	insWfi    = 0x10500073
	insFenceI = 0x0000100f
	insSfence = 0x12000073
	ret       = 0x00008067
)

// testBus is a device of one register at 0x1000_0000, and a console for hypercalls.
type testBus struct {
	reg     uint64
	writes  []uint64
	onSBI   func(h *Hart)
	onWrite func(v uint64)
}

const testMMIO = 0x1000_0000

func (b *testBus) Read(addr uint64, size int) (uint64, bool) { return b.reg, addr == testMMIO }

func (b *testBus) Write(addr uint64, size int, v uint64) bool {
	if addr != testMMIO {
		return false
	}
	b.reg = v
	b.writes = append(b.writes, v)
	if b.onWrite != nil {
		b.onWrite(v)
	}
	return true
}

// SBI stops the machine, unless the test has its own.
func (b *testBus) SBI(h *Hart) {
	if b.onSBI != nil {
		b.onSBI(h)
		return
	}
	h.Ask()
}

const testRAM = 4 << 20

func newTestHart(t testing.TB, ramBytes int, p *prog) (*Hart, *testBus) {
	t.Helper()
	bus := &testBus{}
	ram := mem.New(make([]byte, ramBytes))
	h := New(ram, bus, bus)
	h.SetClock(0, event.Clock{NowNs: 0, Rate: 1 << event.RateShift})
	if p != nil {
		if !ram.Write(p.base, p.bytes()) {
			t.Fatal("program does not fit in RAM")
		}
		h.Reset(p.base, 0, 0)
	}
	return h, bus
}

// finish runs to an ecall.
func finish(t testing.TB, h *Hart) {
	t.Helper()
	if s := h.Run(h.Position() + 1_000_000); s != StopAsked {
		t.Fatalf("stop %v at pc %#x position %d", s, h.PC(), h.Position())
	}
}
