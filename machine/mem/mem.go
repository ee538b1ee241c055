// Package mem is the guest's RAM: one flat array outside the Go heap, with flags for each page that
// drive dirty tracking and keep the hart's cached translations and decoded code coherent.
//
// Invariant: a page with Code or Table set, or with a bit of AllDirty clear, never has a write tag in the
// hart's software TLB. So every store to such a page takes a slow path, which ends in Touch.
package mem

import "unsafe"

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
)

// AllDirty are the flags that a store sets.
const AllDirty = DirtyDigest | DirtyEpoch

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
	return &RAM{base: unsafe.Pointer(&b[0]), bytes: b, flags: make([]Flags, len(b)/PageBytes)}
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

// ClearDirty calls visit for every page that has one of the flags in set, in rising order, and clears
// those flags. Write tags are dropped once, so that the next store to each page is seen again.
func (r *RAM) ClearDirty(set Flags, visit func(page int)) {
	any := false
	for p := range r.flags {
		if r.flags[p]&set != 0 {
			r.flags[p] &^= set
			any = true
			if visit != nil {
				visit(p)
			}
		}
	}
	if any && r.DropWriteTags != nil {
		r.DropWriteTags()
	}
}
