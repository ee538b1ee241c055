package riscv

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"understudy/event"
	"understudy/machine/mem"
	"understudy/machine/state"
)

// The chaos machine: random code in S and U mode that stores to itself, to its page tables and to
// a device, with a handler that puts it back somewhere after each trap. Whatever it does, it must do the
// same however the run is cut.
//
// RAM: page 0 handler, page 1 its save area, page 2 root table, pages 4 to 7 leaf tables, 16 to 31 code,
// 32 to 47 data. Virtual: identity for S by a gigapage; 16 pages of code and 16 of data for S at chaosS,
// the same for U at chaosU, the leaf tables for S at chaosT.
const (
	chaosRAM  = 64 * mem.PageBytes
	chaosCode = mem.Base + 16*mem.PageBytes
	chaosData = mem.Base + 32*mem.PageBytes
	chaosS    = 0x4000_0000
	chaosU    = 0x4020_0000
	chaosT    = 0x4040_0000
	chaosIO   = 0x4060_0000
	chaosRoot = mem.Base + 2*mem.PageBytes
)

type chaos struct {
	r *rand.Rand
}

func chaosImage(seed uint64) []byte {
	c := chaos{rand.New(rand.NewPCG(seed, 1))}
	img := make([]byte, chaosRAM)
	copy(img, c.handler())
	put := func(page, slot int, pte uint64) {
		binary.LittleEndian.PutUint64(img[page*mem.PageBytes+slot*8:], pte)
	}
	ppn := func(page int) uint64 { return (mem.Base>>12 + uint64(page)) << 10 }
	// Root: gigapage of RAM for S, and the table of the low regions.
	put(2, mem.Base>>30, mem.Base>>12<<10|pteV|pteR|pteW|pteX|pteA|pteD|pteG)
	put(2, chaosS>>30, ppn(3)|pteV)
	for i := range 4 {
		put(3, i, ppn(4+i)|pteV)
	}
	bits := func(user uint64) uint64 {
		p := uint64(pteV | pteR | pteX | user)
		if c.r.IntN(4) != 0 {
			p |= pteW
		}
		if c.r.IntN(8) == 0 {
			p &^= pteR | pteW
		}
		return p
	}
	for i := range 32 {
		put(4, i, ppn(16+i)|bits(0))
		put(5, i, ppn(16+i)|bits(pteU))
	}
	for i := range 4 {
		put(6, i, ppn(4+i)|pteV|pteR|pteW)
	}
	put(7, 0, testMMIO>>12<<10|pteV|pteR|pteW|pteU)
	for p := 16; p < 32; p++ {
		c.fill(img[p*mem.PageBytes : (p+1)*mem.PageBytes])
	}
	for i := 32 * mem.PageBytes; i < 48*mem.PageBytes; i++ {
		img[i] = byte(c.r.Uint32())
	}
	return img
}

// handler saves nothing but a0-a3. An interrupt is quietened; after an exception execution goes on at a
// pseudo-random place in a pseudo-random mode.
func (c *chaos) handler() []byte {
	p := newProg(mem.Base)
	p.raw(csrrw(a0, csrSscratch, a0), sd(a1, 8, a0), sd(a2, 16, a0), sd(a3, 24, a0))
	p.raw(csrrs(a1, csrScause, zero)).bge(a1, zero, "exception")
	p.raw(slli(a1, a1, 1), srli(a1, a1, 1)).li(a2, irqTimer).bne(a1, a2, "notimer")
	p.raw(csrrs(a1, csrTime, zero), addi(a1, a1, 777), csrrw(zero, csrStimecmp, a1)).jal(zero, "exception")
	p.label("notimer").li(a2, irqExternal).bne(a1, a2, "soft")
	p.li(a1, chaosIO).raw(sw(zero, 0, a1)).jal(zero, "out")
	p.label("soft").raw(csrrci(zero, csrSip, 2)).jal(zero, "out")
	p.label("exception").raw(ld(a1, 32, a0)).li(a2, 1103515245).raw(mul(a1, a1, a2)).li(a2, 12345).raw(add(a1, a1, a2), sd(a1, 32, a0))
	// Place: a halfword of the first code pages; mode by a bit.
	p.raw(srli(a1, a1, 20)).li(a2, 0x7ffe).raw(rType(0x33, 7, 0, a2, a2, a1)).li(a3, chaosS)
	p.raw(csrrw(zero, csrSepc, zero)).raw(andi(a1, a1, 1)).beq(a1, zero, "super")
	p.li(a3, chaosU).li(a1, 0x100).raw(csrrc(zero, csrSstatus, a1)).jal(zero, "place")
	p.label("super").li(a1, 0x100).raw(csrrs(zero, csrSstatus, a1))
	p.label("place").raw(add(a2, a2, a3), csrrw(zero, csrSepc, a2))
	// FS on, sie all on, and pointers for the code.
	p.li(a1, 0x6020).raw(csrrs(zero, csrSstatus, a1)).li(a1, sieMask).raw(csrrs(zero, csrSie, a1))
	p.li(s0, chaosS+0x800).li(s1, chaosU+0x800).li(s2, chaosT+0x800).li(s3, chaosIO).li(s4, chaosS+0x10800).li(s5, chaosU+0x10ffc)
	p.label("out").raw(ld(a1, 8, a0), ld(a2, 16, a0), ld(a3, 24, a0), csrrw(a0, csrSscratch, a0), insSret)
	return p.bytes()
}

func (c *chaos) reg() uint32 { return uint32(c.r.IntN(18)) }

func (c *chaos) base() uint32 { return []uint32{s0, s1, s2, s3, s4, s4, s5, s5}[c.r.IntN(8)] }

func (c *chaos) fill(b []byte) {
	at := 0
	for at < len(b) {
		w := c.ins()
		if w&3 != 3 {
			binary.LittleEndian.PutUint16(b[at:], uint16(w))
			at += 2
		} else if at+4 <= len(b) {
			binary.LittleEndian.PutUint32(b[at:], w)
			at += 4
		} else {
			// The first half of an instruction that goes on in the next page, whatever is there.
			binary.LittleEndian.PutUint16(b[at:], uint16(w))
			at += 2
		}
	}
}

func (c *chaos) ins() uint32 {
	r := c.r
	imm := uint32(r.IntN(4096))
	if r.IntN(2) == 0 {
		imm &^= 7
	}
	switch k := r.IntN(100); {
	case k < 25:
		return rType([]uint32{0x33, 0x3b}[r.IntN(2)], r.Uint32()&7, []uint32{0, 0, 0, 1, 1, 32}[r.IntN(6)], c.reg(), c.reg(), c.reg())
	case k < 40:
		return iType([]uint32{0x13, 0x13, 0x1b}[r.IntN(3)], r.Uint32()&7, c.reg(), c.reg(), imm&[]uint32{0xfff, 63, 31}[r.IntN(3)])
	case k < 43:
		return r.Uint32()&^0xfff | c.reg()<<7 | []uint32{0x37, 0x17}[r.IntN(2)]
	case k < 55:
		return iType([]uint32{3, 3, 3, 7}[r.IntN(4)], r.Uint32()&7, c.reg(), c.base(), imm)
	case k < 65:
		return encS([]uint32{0x23, 0x23, 0x23, 0x27}[r.IntN(4)], r.Uint32()&3, c.base(), c.reg(), imm)
	case k < 76: // branch, mostly short
		d := uint32(r.IntN(64)*2) - 60
		return d>>12&1<<31 | d>>5&63<<25 | c.reg()<<20 | c.reg()<<15 | []uint32{0, 1, 4, 5, 6, 7}[r.IntN(6)]<<12 | d>>1&15<<8 | d>>11&1<<7 | 0x63
	case k < 79: // jal
		d := uint32(r.IntN(0x4000)&^1) - 0x2000
		return d>>20&1<<31 | d>>1&0x3ff<<21 | d>>11&1<<20 | d>>12&0xff<<12 | []uint32{0, 1, c.reg()}[r.IntN(3)]<<7 | 0x6f
	case k < 81:
		return jalr(c.reg(), []uint32{ra, s0, s1, s0}[r.IntN(4)], int32(imm))
	case k < 85:
		csr := []uint32{csrFflags, csrFrm, csrFcsr, csrSstatus, csrSie, csrSip, csrSepc, csrStval, csrTime, csrCycle, csrInstret, csrStimecmp, csrScounteren}[r.IntN(13)]
		f3 := []uint32{1, 2, 3, 5, 6, 7, 2, 2}[r.IntN(8)]
		return iType(0x73, f3, c.reg(), c.reg(), csr)
	case k < 88:
		f5 := []uint32{0, 1, 2, 3, 4, 8, 12, 16, 20, 24, 28}[r.IntN(11)]
		rs2 := c.reg()
		if f5 == 2 {
			rs2 = 0
		}
		return rType(0x2f, 2+r.Uint32()&1, f5<<2, c.reg(), []uint32{s4, s5, s4, s0, s2}[r.IntN(5)], rs2)
	case k < 90:
		return []uint32{insFenceI, insSfence, insEcall, insEbreak, insSret, insWfi, 0x0ff0000f}[r.IntN(7)]
	case k < 92: // floating point
		return r.Uint32()&^0x7f | []uint32{0x53, 0x53, 0x43, 0x4b}[r.IntN(4)]
	case k < 99:
		return r.Uint32() & 0xffff
	}
	return r.Uint32()
}

// chaosEvent is something that happens to the machine at a position.
type chaosEvent struct {
	pos  event.Position
	kind int
	v    uint64
}

func chaosEvents(seed uint64, n int) []chaosEvent {
	r := rand.New(rand.NewPCG(seed, 2))
	var s []chaosEvent
	pos := event.Position(0)
	for range n {
		pos += event.Position(r.IntN(600) + 1)
		s = append(s, chaosEvent{pos, r.IntN(6), r.Uint64()})
	}
	return s
}

type chaosMachine struct {
	h   *Hart
	ram *mem.RAM
	bus *testBus
}

func newChaos(img []byte) *chaosMachine {
	m := &chaosMachine{bus: &testBus{}}
	m.ram = mem.New(bytes.Clone(img))
	m.h = New(m.ram, m.bus, m.bus)
	m.bus.onWrite = func(v uint64) { m.h.SetExternal(false) }
	m.bus.onSBI = func(h *Hart) { h.SetX(10, h.TimeNs()); h.SetTimer(h.TimeNs() + 300) }
	h := m.h
	h.Reset(chaosS, 0, 0)
	h.SetClock(0, event.Clock{Rate: 1<<event.RateShift + 12345})
	h.setCSR(csrSscratch, mem.Base+mem.PageBytes)
	h.setCSR(csrStvec, mem.Base)
	h.setCSR(csrSatp, satpSv39<<60|chaosRoot>>12)
	h.setCSR(csrSstatus, statusSUM|statusFS)
	h.setCSR(csrScounteren, 7)
	h.SetTimer(500)
	return m
}

// deliver makes the event happen, and gets a guest that has locked itself out going again.
func (m *chaosMachine) deliver(e chaosEvent) {
	h := m.h
	h.setCSR(csrSie, sieMask)
	h.sstatus |= statusSIE
	if h.stimecmp > h.TimeNs()+10000 {
		h.SetTimer(h.TimeNs() + e.v%1000)
	}
	switch e.kind {
	case 0:
		h.SetExternal(true)
	case 1:
		h.RaiseSoftware()
	case 2:
		h.SetClock(h.Position(), event.Clock{NowNs: h.TimeNs() + e.v%5000, Rate: uint32(e.v>>32)%(4<<event.RateShift) + 1})
	case 3: // a device writes to memory: code or data
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], e.v)
		m.ram.Write(chaosCode+e.v%(31*mem.PageBytes), b[:])
	case 4: // the guest is not the only one to change page tables
		pte := (mem.Base>>12+16+e.v>>8%32)<<10 | e.v&0xff | pteV
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], pte)
		m.ram.Write(mem.Base+(4+e.v>>40&1)*mem.PageBytes+e.v>>20%32*8, b[:])
	case 5:
		h.SetTimer(h.TimeNs() + e.v%3000)
	}
}

// digest covers everything that the guest can ever see.
func (m *chaosMachine) digest() [32]byte {
	var e state.Encoder
	m.h.Save(&e)
	for _, w := range m.bus.writes {
		e.U64(w)
	}
	e.U64(m.bus.reg)
	return sha256.Sum256(append(e.B, m.ram.Bytes()...))
}

func (m *chaosMachine) dump() string {
	h := m.h
	s := fmt.Sprintf("pc %#x pos %d priv %d idle %v", h.pc, h.pos, h.priv, h.idle)
	for n := range 0x200 {
		if v, ok := h.CSR(n); ok {
			s += fmt.Sprintf(" csr%#x=%#x", n, v)
		}
	}
	return s + fmt.Sprintf(" x=%#x", h.x[:32])
}

// A chaosRunner brings the machine to a position, or to idling, in its own way.
type chaosRunner func(r *rand.Rand, m *chaosMachine, img []byte, until event.Position)

func idleOr(m *chaosMachine, until event.Position) bool { return m.h.Idle() || m.h.Position() >= until }

var chaosRunners = map[string]chaosRunner{
	"uncached": func(r *rand.Rand, m *chaosMachine, img []byte, until event.Position) {
		for !idleOr(m, until) {
			m.h.mmu.flushAll()
			m.h.dropCode()
			m.h.Run(m.h.Position() + 1)
		}
	},
	"cut": func(r *rand.Rand, m *chaosMachine, img []byte, until event.Position) {
		for !idleOr(m, until) {
			m.h.Run(min(until, m.h.Position()+event.Position(r.IntN(40))))
			switch r.IntN(8) {
			case 0:
				m.ram.ClearDirty(mem.DirtyEpoch, nil)
			case 1:
				m.h.mmu.flushAll()
			case 2:
				m.h.dropCode()
			}
		}
	},
	"slice": func(r *rand.Rand, m *chaosMachine, img []byte, until event.Position) {
		for !idleOr(m, until) {
			if left := until - m.h.Position(); left > 70 {
				m.h.RunSlice(m.h.Position() + 1 + event.Position(r.IntN(int(left)-70)))
			} else {
				m.h.Run(until)
			}
		}
	},
	"load": func(r *rand.Rand, m *chaosMachine, img []byte, until event.Position) {
		for !idleOr(m, until) {
			m.h.Run(min(until, m.h.Position()+event.Position(r.IntN(200))))
			if r.IntN(4) == 0 {
				var e state.Encoder
				m.h.Save(&e)
				n := newChaos(m.ram.Bytes())
				d := state.NewDecoder(e.B)
				if n.h.Load(d); d.Err() != nil || d.Len() != 0 {
					panic(fmt.Sprint("load: ", d.Err(), d.Len()))
				}
				n.bus.reg, n.bus.writes = m.bus.reg, m.bus.writes
				*m.bus = *n.bus
				m.h, m.ram, m.bus = n.h, n.ram, n.bus
			}
		}
	},
}

func chaosRuns(t *testing.T, seed uint64, events int) (traps uint64) {
	img := chaosImage(seed)
	schedule := chaosEvents(seed, events)
	straight := newChaos(img)
	var want [][32]byte
	for _, e := range schedule {
		for straight.h.Run(e.pos) == StopAsked {
		}
		want = append(want, straight.digest())
		straight.deliver(e)
	}
	for name, run := range chaosRunners {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newChaos(img)
		for i, e := range schedule {
			run(r, m, img, e.pos)
			if m.digest() != want[i] {
				t.Errorf("seed %d: %s differs at event %d", seed, name, i)
				chaosExplain(t, img, schedule[:i+1], m)
				return
			}
			m.deliver(e)
		}
	}
	return binary.LittleEndian.Uint64(straight.ram.Bytes()[mem.PageBytes+32:])
}

// chaosExplain prints the state that a straight run has where m has another.
func chaosExplain(t *testing.T, img []byte, schedule []chaosEvent, m *chaosMachine) {
	w := newChaos(img)
	for i, e := range schedule {
		w.h.Run(e.pos)
		if i < len(schedule)-1 {
			w.deliver(e)
		}
	}
	t.Logf("straight: %s", w.dump())
	t.Logf("differs:  %s", m.dump())
	for i, b := range w.ram.Bytes() {
		if c := m.ram.Bytes()[i]; b != c {
			t.Logf("RAM at %#x: straight %#x, differs %#x", mem.Base+i, b, c)
			break
		}
	}
}

// TestNoDiff runs the chaos machine in several ways; UNDERSTUDY_SEEDS sets how many seeds.
func TestNoDiff(t *testing.T) {
	seeds := 5
	if s := os.Getenv("UNDERSTUDY_SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	for seed := range uint64(seeds) {
		chaosRuns(t, seed, 60)
		if t.Failed() {
			return
		}
	}
}

// TestChaosIsBusy holds the chaos machine to being worth running: it must take interrupts and exceptions
// in both modes, rewrite code that is decoded and tables that are walked.
func TestChaosIsBusy(t *testing.T) {
	causes := map[uint64]int{}
	modes := [2]int{}
	for seed := range uint64(8) {
		m := newChaos(chaosImage(seed))
		for _, e := range chaosEvents(seed, 100) {
			for !idleOr(m, e.pos) {
				m.h.Run(m.h.Position() + 1)
				if m.h.pc == mem.Base+4 {
					causes[m.h.scause]++
				}
				modes[m.h.priv]++
			}
			m.deliver(e)
		}
	}
	for _, c := range []uint64{2, 3, 5, 7, 8, 12, 13, 15, 1<<63 | 1, 1<<63 | 5, 1<<63 | 9} {
		if causes[c] < 3 {
			t.Errorf("cause %#x seen %d times", c, causes[c])
		}
	}
	if modes[privU] < modes[privS]/40 {
		t.Errorf("instructions by mode: %v", modes)
	}
	t.Log(causes, modes)
}
