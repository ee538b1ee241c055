// Package mem is the guest's RAM: one flat array outside the Go heap, with flags for each page that
// drive dirty tracking and keep the hart's cached translations and decoded code coherent.
//
// Invariant: a page with Code or Table set, or with a bit of AllDirty clear, never has a write tag in the
// hart's software TLB. So every store to such a page takes a slow path, which ends in Touch.
package mem

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// Base is the guest-physical address of the first byte of RAM.
const Base = 0x8000_0000

// PageBytes is the size of a page.
const PageBytes = 4096

// PageShift is log2 of PageBytes.
const PageShift = 12

// Flags of a page.
type Flags = uint8

// The page flags.
const (
	// DirtyDigest is set when the page was written since the last state digest.
	DirtyDigest Flags = 1 << iota
	// DirtyEpoch is set when the page was written since the last checkpoint or copying round.
	DirtyEpoch
	// Code is set while the hart holds decoded code from the page.
	Code
	// Table is set while the hart's TLB holds translations that were read from the page.
	Table
	// Written is set by the first store and stays: a page without it is still as it was mapped, zero.
	Written
)

// AllDirty are the flags that a store sets.
const AllDirty = DirtyDigest | DirtyEpoch | Written

// RAM is guest memory. All addresses are guest-physical.
type RAM struct {
	base  unsafe.Pointer
	bytes []byte
	flags []Flags

	// Invalidate is called by Touch before [addr, addr+n), which lies within one page, changes, when the
	// page has Code or Table set. The hart sets it.
	Invalidate func(addr uint64, n int)
	// DropWriteTags is called when dirty flags are cleared: every write tag must go. The hart sets it.
	DropWriteTags func()
}

// New makes RAM of b, whose length must be a positive multiple of PageBytes. b must not move or be freed
// while the RAM is used; it is normally mapped outside the Go heap by the caller.
func New(b []byte) *RAM {
	if len(b) == 0 || len(b)%PageBytes != 0 {
		panic("mem: size of RAM is not a positive multiple of the page size")
	}
	// Room behind the flags, which stays zero, so that they can be looked at many at a time.
	pages := len(b) / PageBytes
	flags := make([]Flags, (pages+strideFlags-1)&^(strideFlags-1))[:pages]
	return &RAM{base: unsafe.Pointer(&b[0]), bytes: b, flags: flags}
}

// Size is the number of bytes.
func (r *RAM) Size() uint64 { return uint64(len(r.bytes)) }

// Pages is the number of pages.
func (r *RAM) Pages() int { return len(r.flags) }

// Host is the address of the first byte in the monitor's own memory, for the hart's TLB.
func (r *RAM) Host() unsafe.Pointer { return r.base }

// Bytes is all of RAM. Whoever writes to it must call Touch first.
func (r *RAM) Bytes() []byte { return r.bytes }

// Contains tells whether [addr, addr+n) lies within RAM.
func (r *RAM) Contains(addr, n uint64) bool {
	off := addr - Base
	return off <= uint64(len(r.bytes)) && n <= uint64(len(r.bytes))-off
}

// PageFlags gives the flag array, indexed by page number from Base.
func (r *RAM) PageFlags() []Flags { return r.flags }

// Touch prepares [addr, addr+n), which must lie within RAM, for a change: it marks the pages dirty and
// has cached code and translations from them dropped.
func (r *RAM) Touch(addr, n uint64) {
	for n > 0 {
		page := (addr - Base) >> PageShift
		in := PageBytes - addr&(PageBytes-1)
		if in > n {
			in = n
		}
		f := r.flags[page]
		if f&(Code|Table) != 0 && r.Invalidate != nil {
			r.Invalidate(addr, int(in))
		}
		r.flags[page] |= AllDirty
		addr += in
		n -= in
	}
}

// Read copies guest memory at addr into p. It reports false, and copies nothing, when the range is not
// within RAM.
func (r *RAM) Read(addr uint64, p []byte) bool {
	if !r.Contains(addr, uint64(len(p))) {
		return false
	}
	copy(p, r.bytes[addr-Base:])
	return true
}

// Write copies p into guest memory at addr. It reports false, and copies nothing, when the range is not
// within RAM.
func (r *RAM) Write(addr uint64, p []byte) bool {
	if !r.Contains(addr, uint64(len(p))) {
		return false
	}
	r.Touch(addr, uint64(len(p)))
	copy(r.bytes[addr-Base:], p)
	return true
}

// strideFlags is how many flags are looked at at once while nothing is found.
const strideFlags = 32

// eachByte is 1 in each byte of a word of flags.
const eachByte = 0x0101_0101_0101_0101

// ClearDirty calls visit for every page that has one of the flags in set, in rising order, and clears
// those flags, which are dirty flags but not Written. Write tags are dropped once, so that the next store to
// each page is seen again.
func (r *RAM) ClearDirty(set Flags, visit func(page int)) {
	any := false
	words, mask := r.flags[:cap(r.flags)], uint64(set)*eachByte
	for at := 0; at < len(words); at += 8 {
		if at%strideFlags == 0 {
			s := words[at : at+strideFlags]
			if (binary.LittleEndian.Uint64(s)|binary.LittleEndian.Uint64(s[8:])|
				binary.LittleEndian.Uint64(s[16:])|binary.LittleEndian.Uint64(s[24:]))&mask == 0 {
				at += strideFlags - 8
				continue
			}
		}
		w := binary.LittleEndian.Uint64(words[at:])
		hits := w & mask
		if hits == 0 {
			continue
		}
		binary.LittleEndian.PutUint64(words[at:], w&^mask)
		any = true
		for hits != 0 && visit != nil {
			i := bits.TrailingZeros64(hits) / 8
			hits &^= 0xff << (8 * i)
			visit(at + i)
		}
	}
	if any && r.DropWriteTags != nil {
		r.DropWriteTags()
	}
}

// MarkWritten sets dirty flags of every page with Written.
func (r *RAM) MarkWritten(dirty Flags) {
	words := r.flags[:cap(r.flags)]
	for at := 0; at < len(words); at += 8 {
		if w := binary.LittleEndian.Uint64(words[at:]); w&(uint64(Written)*eachByte) != 0 {
			// Written moved to the lowest bit of each byte, then spread to the dirty flags: no byte overflows.
			written := w / uint64(Written) & eachByte
			binary.LittleEndian.PutUint64(words[at:], w|written*uint64(dirty))
		}
	}
}
