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

// Mode says how our machine runs a program. The result must be the same in each.
type Mode int

// The modes.
const (
	ModeS   Mode = iota // S mode, translation off
	ModeU               // U mode, translation off
	ModeU2M             // U mode, Sv39, identity in 2 MiB pages
	ModeU4K             // U mode, Sv39, 4 KiB pages on frames in random order
	modes
)

func (m Mode) String() string { return [...]string{"S", "U", "U-2M", "U-4K"}[m] }

// Where the harness keeps its own things below the program.
const (
	stubBase   = mem.Base            // enters the program; the trap handler
	tablesBase = mem.Base + 0x100000 // page tables
	ramBytes   = 8 << 20
)

// positionMax bounds a run: no program is meant to be that long.
const positionMax = 50_000_000

// harness is the bus and the firmware around a hart: nothing, and a stop.
type harness struct{ ended bool }

func (*harness) Read(uint64, int) (uint64, bool) { return 0, false }
func (*harness) Write(uint64, int, uint64) bool  { return false }
func (s *harness) SBI(h *riscv.Hart)             { s.ended = true; h.Ask() }
func frameOf(table map[uint64]uint64, va uint64) uint64 {
	if f, ok := table[va>>mem.PageShift]; ok {
		return f
	}
	return va
}

// Hart runs the program in our machine and gives what it wrote, like QEMU, and the position where it ended.
// cut gives the length of each run in instructions; nil runs in one piece.
func Hart(p *Program, mode Mode, cut func() uint64) ([]byte, event.Position, error) {
	size := max(ramBytes, (DataBase-mem.Base+p.dataBytes()+mem.PageBytes-1)&^(mem.PageBytes-1))
	ram := mem.New(make([]byte, size))
	s := &harness{}
	h := riscv.New(ram, s, s)
	frames := load(ram, p, mode)
	h.Reset(stubBase, 0, 0)
	h.SetClock(h.Position(), event.Clock{Rate: 1 << event.RateShift})
	for !s.ended {
		until := event.Position(positionMax)
		if cut != nil {
			until = min(until, h.Position()+event.Position(cut()))
		}
		stop := h.Run(until)
		if h.Position() >= positionMax {
			return nil, 0, fmt.Errorf("still running at position %d, pc %#x", h.Position(), h.PC())
		}
		if stop == riscv.StopIdle {
			return nil, 0, fmt.Errorf("idle at position %d, pc %#x", h.Position(), h.PC())
		}
		if stop == riscv.StopPosition && h.Position() != until {
			return nil, 0, fmt.Errorf("asked to stop at %d, stopped at %d", until, h.Position())
		}
	}
	csr := func(n int) uint64 { v, _ := h.CSR(n); return v }
	const sepc, scause, stval, ecallU = 0x141, 0x142, 0x143, 8
	if h.PC() < CodeBase && csr(scause) != ecallU {
		return nil, 0, fmt.Errorf("trap at position %d: cause %d, pc %#x, value %#x%s", h.Position(),
			csr(scause), csr(sepc), csr(stval), p.around(csr(sepc)))
	}
	n := h.X(12)
	if h.X(17) != sysWrite || h.X(11) != DataBase || n > p.dataBytes() {
		return nil, 0, fmt.Errorf("ended by a call with a7 = %#x, a1 = %#x, a2 = %#x", h.X(17), h.X(11), n)
	}
	out := make([]byte, n)
	for off := uint64(0); off < n; off += mem.PageBytes {
		va := uint64(DataBase) + off
		if !ram.Read(frameOf(frames, va), out[off:min(off+mem.PageBytes, n)]) {
			return nil, 0, fmt.Errorf("read back at %#x", va)
		}
	}
	return out, h.Position(), nil
}

// load puts the program, the stub that enters it and page tables in RAM. It gives the frame of each page for
// the mode that moves pages.
func load(ram *mem.RAM, p *Program, mode Mode) map[uint64]uint64 {
	var frames map[uint64]uint64
	satp := uint64(0)
	const sv39 = 8 << 60
	const leaf = 0xdf // D A U X W R V
	put := func(addr, v uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		if !ram.Write(addr, b[:]) {
			panic(fmt.Sprintf("oracle: no RAM at %#x", addr))
		}
	}
	next := uint64(tablesBase)
	table := func() uint64 { next += mem.PageBytes; return next - mem.PageBytes }
	switch mode {
	case ModeU2M, ModeU4K:
		root, mid := table(), table()
		satp = sv39 | root>>12
		put(root+2*8, mid>>12<<10|1) // the third GiB
		end := mem.Base + ram.Size()
		if mode == ModeU2M {
			for va := uint64(mem.Base); va < end; va += 2 << 20 {
				put(mid+(va>>21&511)*8, va>>12<<10|leaf)
			}
			break
		}
		frames = map[uint64]uint64{}
		first, last := uint64(CodeBase)>>12, end>>12
		order := rand.New(rand.NewPCG(p.Seed, 4096)).Perm(int(last - first))
		for i, f := range order {
			frames[first+uint64(i)] = (first + uint64(f)) << 12
		}
		put(mid, stubBase>>12<<10|leaf&^0x10) // the stub stays the supervisor's, in a 2 MiB page
		for va := uint64(CodeBase); va < end; va += 2 << 20 {
			low := table()
			put(mid+(va>>21&511)*8, low>>12<<10|1)
			for i := uint64(0); i < 512 && va+i<<12 < end; i++ {
				put(low+i*8, frames[va>>12+i]>>12<<10|leaf)
			}
		}
		if next > CodeBase {
			panic("oracle: too many page tables")
		}
	}
	if mode == ModeU2M {
		put(tablesBase+mem.PageBytes, stubBase>>12<<10|leaf&^0x10)
	}
	copyIn := func(va uint64, b []byte) {
		for len(b) > 0 {
			n := min(len(b), int(mem.PageBytes-va%mem.PageBytes))
			if !ram.Write(frameOf(frames, va&^(mem.PageBytes-1))+va%mem.PageBytes, b[:n]) {
				panic(fmt.Sprintf("oracle: no RAM at %#x", va))
			}
			va, b = va+uint64(n), b[n:]
		}
	}
	copyIn(CodeBase, p.Code)
	copyIn(DataBase, p.Data)
	if !ram.Write(stubBase, stub(mode, satp)) {
		panic("oracle: no RAM for the stub")
	}
	return frames
}

// stub is the code at stubBase: it turns floating point on, sets the trap handler, which calls the firmware, and enters
// the program.
func stub(mode Mode, satp uint64) []byte {
	const sstatus, stvec, sepc, csrSatp, fsInitial, spp = 0x100, 0x105, 0x141, 0x180, 1 << 13, 1 << 8
	c := asm.Code{Base: stubBase}
	handler, entry := c.NewLabel(), c.NewLabel()
	c.To(asm.Get("jal"), asm.Args{}, entry)
	c.I("fence", asm.Args{Imm: 0xff})
	c.Place(handler)
	c.I("ecall", asm.Args{})
	c.Place(entry)
	c.La(5, handler)
	c.I("csrrw", asm.Args{Rs1: 5, CSR: stvec})
	c.Li(5, spp)
	c.I("csrrc", asm.Args{Rs1: 5, CSR: sstatus})
	if mode == ModeS {
		c.I("csrrs", asm.Args{Rs1: 5, CSR: sstatus})
	}
	c.Li(5, fsInitial)
	c.I("csrrs", asm.Args{Rs1: 5, CSR: sstatus})
	c.Li(5, int64(satp))
	c.I("csrrw", asm.Args{Rs1: 5, CSR: csrSatp})
	c.I("sfence.vma", asm.Args{})
	c.LaAddr(5, CodeBase)
	c.I("csrrw", asm.Args{Rs1: 5, CSR: sepc})
	c.I("sret", asm.Args{})
	return c.Finish()
}
