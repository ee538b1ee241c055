package oracle

import (
	"encoding/binary"
	"math/rand/v2"

	"understudy/internal/oracle/asm"
)

// generator holds a program under construction. The random numbers that choose instructions and those that
// choose where records are written come from two sources, so that asking for more records leaves the
// instructions as they are.
type generator struct {
	r    *rand.Rand
	rec  *rand.Rand
	c    asm.Code
	base uint8 // holds DataBase+scratchOffset
	ptr  uint8 // where the next record goes
	link uint8 // return address of the recording subroutine

	locked   [32]bool // registers that random instructions may not write
	record   asm.Label
	every    float64 // probability of a record after a step
	depth    int     // nesting of branches and loops
	times    int     // how often the current place runs at most
	records  int     // bound of the records written so far
	recLimit int
	calls    []callee
	// counters are the registers that count loops: two for nested loops of the main part, then one for each
	// subroutine, so that a call inside a loop leaves the loop's counter alone.
	counters []uint8
	owner    int // index of the subroutine that is being made, or -1
}

// subroutines is how many subroutines a program has.
const subroutines = 3

// callee is a generated subroutine.
type callee struct {
	label   asm.Label
	link    uint8
	records int // written by one call at most
}

// a saves a few letters in the many places that name operands.
type a = asm.Args

// Generate makes the program of a seed.
func Generate(seed uint64, o Options) *Program {
	g := &generator{
		r:        rand.New(rand.NewPCG(seed, 0x6f7261636c65)),
		rec:      rand.New(rand.NewPCG(seed, 0x7265636f7264)),
		c:        asm.Code{Base: CodeBase},
		times:    1,
		recLimit: 1500,
	}
	if o.Steps == 0 {
		o.Steps = 300
	}
	// x1, x2 and x8 to x15 have roles in compressed instructions and stay free.
	free := []uint8{3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
	g.r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	g.base, g.ptr, g.link = free[0], free[1], free[2]
	g.counters = free[3 : 5+subroutines]
	for _, x := range free[:5+subroutines] {
		g.locked[x] = true
	}
	g.every = []float64{1, 1, 0.2, 0.02}[g.r.IntN(4)]
	if o.RecordAll {
		g.every, g.recLimit = 1, 40000
	}

	start := g.c.NewLabel()
	g.c.To(asm.Get("jal"), a{}, start)
	g.record = g.c.NewLabel()
	g.c.Place(g.record)
	g.recorder()
	for g.owner = range subroutines {
		g.subroutine()
	}
	g.owner = -1
	g.c.Place(start)
	g.prologue()
	for range o.Steps {
		g.step()
	}
	g.callRecorder()
	g.epilogue()

	p := &Program{Seed: seed, Code: g.c.Finish(), Lines: g.c.Lines, RecordsMax: g.records + 1, Link: g.link}
	p.Data = g.data()
	return p
}

// recorder writes all registers at ptr and steps it.
func (g *generator) recorder() {
	for i := uint8(1); i < 32; i++ {
		g.c.I("sd", a{Rs1: g.ptr, Rs2: i, Imm: int64(i) * 8})
	}
	for i := uint8(0); i < 32; i++ {
		g.c.I("fsd", a{Rs1: g.ptr, Rs2: i, Imm: 256 + int64(i)*8})
	}
	g.c.I("csrrs", a{Rd: g.base, CSR: 3})
	g.c.I("sd", a{Rs1: g.ptr, Rs2: g.base})
	g.c.LaAddr(g.base, DataBase+scratchOffset)
	g.c.I("addi", a{Rd: g.ptr, Rs1: g.ptr, Imm: RecordBytes})
	g.c.I("jalr", a{Rs1: g.link})
}

// prologue loads every register from the data.
func (g *generator) prologue() {
	g.c.LaAddr(g.base, DataBase+initOffset)
	g.c.I("ld", a{Rd: 1, Rs1: g.base})
	g.c.I("csrrw", a{Rs1: 1, CSR: 3})
	for i := uint8(0); i < 32; i++ {
		g.c.I("fld", a{Rd: i, Rs1: g.base, Imm: 256 + int64(i)*8})
	}
	for i := uint8(1); i < 32; i++ {
		if i != g.base {
			g.c.I("ld", a{Rd: i, Rs1: g.base, Imm: int64(i) * 8})
		}
	}
	g.c.LaAddr(g.ptr, DataBase+recordsOffset)
	g.c.LaAddr(g.base, DataBase+scratchOffset)
}

// epilogue is write(1, DataBase, ptr-DataBase) and exit(0).
func (g *generator) epilogue() {
	g.c.LaAddr(11, DataBase)
	g.c.I("sub", a{Rd: 12, Rs1: g.ptr, Rs2: 11})
	g.c.Li(10, 1)
	g.c.Li(17, sysWrite)
	g.c.I("ecall", a{})
	g.c.Li(10, 0)
	g.c.Li(17, sysExit)
	g.c.I("ecall", a{})
}

// The Linux system calls that a program ends with.
const (
	sysWrite = 64
	sysExit  = 93
)

// subroutine emits one callee of a few steps. The last one may call the others: it returns through x1, they
// through x5, unless that has another use.
func (g *generator) subroutine() {
	f := callee{label: g.c.NewLabel(), link: 1}
	links := []uint8{1}
	if !g.locked[5] {
		links = append(links, 5)
		if g.owner < subroutines-1 {
			f.link = 5
		}
	}
	g.c.Place(f.label)
	before := g.records
	for _, x := range links {
		g.locked[x] = true
	}
	g.depth++
	for range 1 + g.r.IntN(4) {
		g.step()
	}
	g.depth--
	for _, x := range links {
		g.locked[x] = false
	}
	f.records = g.records - before
	g.records = before
	if g.r.IntN(2) == 0 {
		g.c.I("c.jr", a{Rs1: f.link})
	} else {
		g.c.I("jalr", a{Rs1: f.link})
	}
	g.calls = append(g.calls, f)
}

// callRecorder emits a call of the recorder when the bound allows it.
func (g *generator) callRecorder() {
	if g.records+g.times > g.recLimit && g.depth > 0 {
		return
	}
	g.records += g.times
	g.c.To(asm.Get("jal"), a{Rd: g.link}, g.record)
}

// data fills the initial registers, the constants and the scratch area.
func (g *generator) data() []byte {
	b := make([]byte, recordsOffset)
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }
	put(0, uint64(g.r.IntN(5))<<5)
	for i := 1; i < 32; i++ {
		put(i*8, g.integer())
	}
	for i := 32; i < 64; i++ {
		put(i*8, g.float())
	}
	for i := range poolWords {
		v := g.float()
		if i < poolWords/3 {
			v = g.integer()
		}
		put(poolOffset+i*8, v)
	}
	for i := scratchOffset; i < scratchOffset+scratchBytes; i += 8 {
		put(i, g.integer())
	}
	return b
}
