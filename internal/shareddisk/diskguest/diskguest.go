// Package diskguest makes a small guest for tests: a program without an operating system that works on a virtio disk as
// hard as it can, and finds out when the disk is not what it wrote.
package diskguest

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"understudy/internal/oracle/asm"
)

// Sectors is how many sectors of the disk the guest uses, from the first on.
const Sectors = 1024

// Burst is how many sectors are written at a time.
const Burst = 8

const (
	base   = 0x8020_0000
	desc   = base + 0x1_0000 // descriptors of the ring
	driver = base + 0x1_1000 // available ring
	device = base + 0x1_2000 // used ring
	heads  = base + 0x1_3000 // request headers, 16 bytes each
	status = base + 0x1_4000 // a byte for each request
	data   = base + 0x2_0000 // a place for each request

	requests = 2 * Burst // of a round: first the reads of what the last round wrote, then the writes
	ring     = 64        // Invariant: 3*requests ≤ ring, a multiple of requests
)

// Kernel gives the guest, whose disk is the virtio device in the given slot of the board, as a kernel image. It works in
// rounds. In each it writes the next Burst sectors, numbered on from the end to the beginning, with the number of the
// write (from 1 on) in the first 8 bytes and again in the last 8, and with the same notification reads those that it wrote in the
// round before. If one was not as written it reports a system failure. After each round it says 'a' at the serial port. After rounds
// of them, if that is not 0, it shuts down.
func Kernel(slot int, rounds int64) []byte { return kernel(slot, rounds, Sectors, 512) }

// Overwriter gives a guest that is like Kernel's, but for one thing: its disk has Burst sectors for it. So each round reads
// them all, and with the same notification, behind the reads, overwrites them all. A read may then give what this round
// writes: requests in flight have no order for a guest, and a new primary issues again what may have been carried out.
func Overwriter(slot int, rounds int64) []byte { return kernel(slot, rounds, Burst, 512) }

const (
	// LargeBytes is what each request of a Large guest reads or writes.
	LargeBytes = 64 << 10
	// LargeSectors is how many sectors it uses.
	LargeSectors = 8 * Burst * LargeBytes / 512
)

// Large gives a guest that is like Kernel's with LargeBytes in place of each sector.
func Large(slot int, rounds int64) []byte { return kernel(slot, rounds, 8*Burst, LargeBytes) }

// kernel makes a guest that uses so many places on the disk, of so many bytes each: both powers of two.
func kernel(slot int, rounds, places, bytes int64) []byte {
	c := asm.Code{Base: base + 64}
	mmio := uint64(0x1000_1000 + slot*0x1000)
	round, prepare, wait, check, next, bad, loop := c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel()
	r := func(name string, rd, rs1, rs2 uint8) { c.I(name, asm.Args{Rd: rd, Rs1: rs1, Rs2: rs2}) }
	i := func(name string, rd, rs1 uint8, imm int64) { c.I(name, asm.Args{Rd: rd, Rs1: rs1, Imm: imm}) }
	store := func(name string, base, v uint8, imm int64) {
		c.I(name, asm.Args{Rs1: base, Rs2: v, Imm: imm})
	}
	reg := func(off int64, v int64) {
		c.Li(6, v)
		store("sw", 8, 6, off)
	}
	c.Li(8, int64(mmio))
	reg(0x70, 0)
	reg(0x70, 1)
	reg(0x70, 3)
	reg(0x24, 1) // features 32 to 63: version 1
	reg(0x20, 1)
	reg(0x24, 0)
	reg(0x20, 0)
	reg(0x70, 11)
	reg(0x30, 0)
	reg(0x38, ring)
	for i, addr := range []int64{desc, driver, device} {
		reg(0x80+0x10*int64(i), addr)
		reg(0x84+0x10*int64(i), 0)
	}
	reg(0x44, 1)
	reg(0x70, 15)

	c.Li(9, 0)  // x9: number of the newest write
	c.Li(18, 0) // x18: requests so far, the index of the available ring
	c.Li(19, rounds)
	c.Li(20, places-1)
	c.Li(21, bytes)
	c.Place(round)
	// Reads of the last round's sectors. In the first round these are the sectors before the first, modulo their number:
	// of those nothing is expected.
	c.Li(5, heads)
	i("addi", 6, 9, -Burst) // number of the write, less 1
	c.Li(7, 2*Burst)
	c.Li(28, data)
	c.Place(prepare)
	r("and", 29, 6, 20)
	i("slli", 29, 29, int64(bits.TrailingZeros64(uint64(bytes)/512)))
	store("sd", 5, 29, 8)
	i("addi", 6, 6, 1)
	store("sd", 28, 6, 0)
	i("addi", 5, 5, 16)
	r("add", 28, 28, 21)
	store("sd", 28, 6, -8)
	i("addi", 7, 7, -1)
	c.To(asm.Get("bne"), asm.Args{Rs1: 7}, prepare)

	c.I("fence", asm.Args{})
	i("addi", 18, 18, requests)
	c.Li(5, driver)
	store("sh", 5, 18, 2)
	store("sw", 8, 0, 0x50)
	c.Li(5, device)
	i("slli", 7, 18, 48)
	i("srli", 7, 7, 48)
	c.Place(wait)
	i("lhu", 6, 5, 2)
	c.To(asm.Get("bne"), asm.Args{Rs1: 6, Rs2: 7}, wait)

	// The statuses, and what was read, which has overwritten what was prepared.
	c.Li(5, status)
	i("ld", 6, 5, 0)
	c.To(asm.Get("bne"), asm.Args{Rs1: 6}, bad)
	i("ld", 6, 5, 8)
	c.To(asm.Get("bne"), asm.Args{Rs1: 6}, bad)
	c.To(asm.Get("beq"), asm.Args{Rs1: 9}, next)
	c.Li(28, data)
	i("addi", 6, 9, -Burst)
	c.Li(7, Burst)
	c.Place(check)
	i("addi", 6, 6, 1)
	i("ld", 29, 28, 0)
	same := c.NewLabel()
	c.To(asm.Get("beq"), asm.Args{Rs1: 29, Rs2: 6}, same)
	i("addi", 30, 6, Burst)
	c.To(asm.Get("bne"), asm.Args{Rs1: 29, Rs2: 30}, bad)
	c.Place(same)
	r("add", 28, 28, 21)
	i("ld", 30, 28, -8)
	c.To(asm.Get("bne"), asm.Args{Rs1: 29, Rs2: 30}, bad)
	i("addi", 7, 7, -1)
	c.To(asm.Get("bne"), asm.Args{Rs1: 7}, check)

	c.Place(next)
	i("addi", 9, 9, Burst)
	c.Li(5, 0x1000_0000)
	c.Li(6, 'a')
	store("sb", 5, 6, 0)
	i("addi", 19, 19, -1)
	c.To(asm.Get("bne"), asm.Args{Rs1: 19}, round)
	c.Li(11, 0)
	end := c.NewLabel()
	c.To(asm.Get("jal"), asm.Args{}, end)
	c.Place(bad)
	c.Li(11, 1)
	c.Place(end)
	c.Li(17, 0x53525354) // SRST: shut down
	c.Li(16, 0)
	c.Li(10, 0)
	c.I("ecall", asm.Args{})
	c.Place(loop)
	c.To(asm.Get("jal"), asm.Args{}, loop)
	return image(c.Finish(), int(bytes))
}

// Newest gives the number of the newest write on a disk, which must be as the guest has left it at some moment: all writes
// before the newest burst are there, and no sector holds an older one than its last.
func Newest(disk []byte) (newest uint64, err error) { return newestOf(disk, Sectors) }

// NewestOverwritten is Newest for the disk of an Overwriter.
func NewestOverwritten(disk []byte) (newest uint64, err error) { return newestOf(disk, Burst) }

func newestOf(disk []byte, sectors uint64) (newest uint64, err error) {
	at := func(s uint64) uint64 { return binary.LittleEndian.Uint64(disk[s*512:]) }
	for s := range sectors {
		newest = max(newest, at(s))
		if end := binary.LittleEndian.Uint64(disk[s*512+504:]); at(s) != end {
			return 0, fmt.Errorf("sector %d is torn: writes %d and %d", s, at(s), end)
		}
	}
	if newest == 0 {
		return 0, nil
	}
	sure := (newest - 1) / Burst * Burst // the newest burst began when all before it was written
	for s := range sectors {
		want := uint64(0)
		if sure > s {
			want = sure - (sure-1-s)%sectors // the last of this sector that is sure
		}
		if at(s) < want || at(s) > 0 && (at(s)-1)%sectors != s {
			return 0, fmt.Errorf("sector %d holds write %d, and not %d or later; the newest of all is %d", s, at(s), want, newest)
		}
	}
	return newest, nil
}

// image puts the code behind a kernel's header, and the rings and requests where it expects them.
func image(code []byte, bytes int) []byte {
	le := binary.LittleEndian
	k := make([]byte, data-base)
	if 64+len(code) > desc-base {
		panic("diskguest: the code is too long")
	}
	le.PutUint32(k, 0x0400006f) // j 64
	le.PutUint64(k[8:], 2<<20)
	le.PutUint64(k[16:], uint64(len(k)+requests*bytes))
	copy(k[0x38:], "RSC\x05")
	copy(k[64:], code)
	descriptor := func(n int, addr uint64, length uint32, flags, next uint16) {
		d := k[desc-base+n*16:]
		le.PutUint64(d, addr)
		le.PutUint32(d[8:], length)
		le.PutUint16(d[12:], flags)
		le.PutUint16(d[14:], next)
	}
	const more, write = 1, 2
	for q := range requests {
		n := 3 * q
		var in uint16
		if q < Burst {
			in = write
		} else {
			le.PutUint32(k[heads-base+q*16:], 1) // a write
		}
		descriptor(n, uint64(heads+q*16), 16, more, uint16(n+1))
		descriptor(n+1, uint64(data+q*bytes), uint32(bytes), more|in, uint16(n+2))
		descriptor(n+2, uint64(status+q), 1, write, 0)
	}
	for s := range ring {
		le.PutUint16(k[driver-base+4+2*s:], uint16(3*(s%requests)))
	}
	return k
}
