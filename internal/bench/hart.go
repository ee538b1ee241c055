package bench

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"syscall"

	"understudy/event"
	"understudy/machine/fdt"
	"understudy/machine/mem"
	"understudy/machine/riscv"
)

const (
	guestRAM = 64 << 20
	treeAddr = mem.Base + 48<<20 // behind the guest's image and its working memory
	// sliceInstructions is how long one call of Run is: as long as a shell that also has to watch a network would
	// make it.
	sliceInstructions = 1_000_000
)

// Guest is a bare hart with just enough firmware for the kernels: a console and a way to end.
type Guest struct {
	Hart  *riscv.Hart
	RAM   *mem.RAM
	Out   bytes.Buffer
	Ended bool
}

// Read finds no device.
func (g *Guest) Read(uint64, int) (uint64, bool) { return 0, false }

// Write finds no device.
func (g *Guest) Write(uint64, int, uint64) bool { return false }

// SBI answers the calls that the kernels make: the base extension's probe, the console's bytes, the end.
func (g *Guest) SBI(h *riscv.Hart) {
	const a0, a1, a6, a7 = 10, 11, 16, 17
	const base, dbcn, srst = 0x10, 0x4442434e, 0x53525354
	switch h.X(a7) {
	case base:
		h.SetX(a1, 0)
		if h.X(a6) == 3 && h.X(a0) == dbcn {
			h.SetX(a1, 1)
		}
		h.SetX(a0, 0)
	case dbcn:
		g.Out.WriteByte(byte(h.X(a0)))
		h.SetX(a0, 0)
		h.SetX(a1, 0)
	case srst:
		g.Ended = true
		h.Ask()
	default:
		h.SetX(a0, ^uint64(1)) // not supported
	}
}

// NewGuest makes a hart that is about to run a kernel. Close frees its memory.
func NewGuest(kernel string, reps uint64) (*Guest, error) {
	b, err := syscall.Mmap(-1, 0, guestRAM, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map guest memory: %w", err)
	}
	g := &Guest{RAM: mem.New(b)}
	f, err := elf.NewFile(bytes.NewReader(KernelsELF))
	if err != nil {
		return nil, fmt.Errorf("read kernels: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		segment := make([]byte, p.Filesz)
		if _, err := p.ReadAt(segment, 0); err != nil {
			return nil, fmt.Errorf("read kernels: %w", err)
		}
		if !g.RAM.Write(p.Paddr, segment) {
			return nil, fmt.Errorf("kernels do not fit in RAM at %#x", p.Paddr)
		}
	}
	t := fdt.New()
	t.BeginNode("")
	t.BeginNode("chosen")
	t.PropString("bootargs", fmt.Sprintf("%s %d", kernel, reps))
	t.EndNode()
	t.EndNode()
	tree, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	g.RAM.Write(treeAddr, tree)
	g.Hart = riscv.New(g.RAM, g, g)
	g.Hart.Reset(f.Entry, 0, treeAddr)
	g.Hart.SetClock(0, event.Clock{Rate: 1 << event.RateShift})
	return g, nil
}

// Close frees the guest's memory.
func (g *Guest) Close() {
	_ = syscall.Munmap(g.RAM.Bytes()) // it cannot fail on what Mmap gave
}

// Run executes at most n more instructions, in slices, and tells whether the guest has ended.
func (g *Guest) Run(ctx context.Context, n event.Position) (bool, error) {
	end := g.Hart.Position() + n
	for !g.Ended && g.Hart.Position() < end {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if g.Hart.Run(min(end, g.Hart.Position()+sliceInstructions)) == riscv.StopIdle {
			return false, fmt.Errorf("the guest idles at %#x", g.Hart.PC())
		}
	}
	return g.Ended, nil
}
