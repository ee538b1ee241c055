package riscv

import (
	"encoding/binary"
	"testing"

	"understudy/machine/mem"
)

// paged is a hart with code for S mode at paged address pagedCode, tables that the test fills, and RAM
// mapped for S by a gigapage at its own address.
type paged struct {
	*testing.T
	h *Hart
}

const (
	pagedRoot = mem.Base + 0x10000
	pagedMid  = mem.Base + 0x11000
	pagedLeaf = mem.Base + 0x12000 // maps the 2 MiB from pagedVA on
	pagedVA   = 0x4000_0000
	pagedPA   = mem.Base + 0x20000
)

func (p paged) pte(addr, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	p.h.ram.Write(addr, b[:])
}

func (p paged) get(addr uint64) uint64 {
	return binary.LittleEndian.Uint64(p.h.ram.Bytes()[addr-mem.Base:])
}

func leaf(pa, bits uint64) uint64 { return pa>>12<<10 | bits | pteV }

func newPaged(t *testing.T, code *prog) paged {
	p := paged{t, trapHart(t, code)}
	p.pte(pagedRoot+mem.Base>>30*8, leaf(mem.Base, pteR|pteW|pteX|pteA|pteD))
	p.pte(pagedRoot+pagedVA>>30*8, leaf(pagedMid, 0))
	p.pte(pagedMid, leaf(pagedLeaf, 0))
	p.h.setCSR(csrSatp, satpSv39<<60|pagedRoot>>12)
	return p
}

// one executes a load (f3 < 8) or store of a doubleword at va in the mode, and gives the trap's cause.
func (p paged) one(va uint64, acc access, user, sum, mxr bool) uint64 {
	h := p.h
	raw := ld(a0, 0, a1)
	switch acc {
	case accStore:
		raw = sd(a0, 0, a1)
	case accFetch:
		raw = jalr(ra, a1, 0)
		h.ram.Write(pagedPA, newProg(0).raw(insEcall).bytes())
	}
	const at = mem.Base + 0x400
	h.ram.Write(at, newProg(0).raw(raw, insEcall).bytes())
	status := uint64(0)
	if sum {
		status |= statusSUM
	}
	if mxr {
		status |= statusMXR
	}
	h.scause = 0
	if user { // code for U at its own address: a page of its own
		p.pte(pagedLeaf+511*8, leaf(mem.Base, pteR|pteX|pteU|pteA))
		h.sepc = pagedVA + 511*mem.PageBytes + 0x400
		h.setCSR(csrSstatus, status)
		h.sret()
	} else {
		h.SetPC(at)
		h.setCSR(csrSstatus, status)
	}
	h.SetX(a1, va)
	finish(p, h)
	if h.scause == causeEcallU {
		return causeNone
	}
	if h.scause != causeNone && h.stval != va {
		p.Errorf("stval %#x, want %#x", h.stval, va)
	}
	return h.scause
}

func TestPermissions(t *testing.T) {
	const all = pteR | pteW | pteX | pteA | pteD
	tests := []struct {
		name           string
		pte            uint64
		acc            access
		user, sum, mxr bool
		want           uint64
	}{
		{"S load", leaf(pagedPA, all), accLoad, false, false, false, 0},
		{"S store", leaf(pagedPA, all), accStore, false, false, false, 0},
		{"S fetch", leaf(pagedPA, all), accFetch, false, false, false, 0},
		{"S load of U", leaf(pagedPA, all|pteU), accLoad, false, false, false, causeLoadPage},
		{"S load of U with SUM", leaf(pagedPA, all|pteU), accLoad, false, true, false, 0},
		{"S store of U", leaf(pagedPA, all|pteU), accStore, false, false, false, causeStorePage},
		{"S store of U with SUM", leaf(pagedPA, all|pteU), accStore, false, true, false, 0},
		{"S fetch of U with SUM", leaf(pagedPA, all|pteU), accFetch, false, true, false, causeFetchPage},
		{"U load of S", leaf(pagedPA, all), accLoad, true, false, false, causeLoadPage},
		{"U store", leaf(pagedPA, all|pteU), accStore, true, false, false, 0},
		{"U fetch of S", leaf(pagedPA, all), accFetch, true, false, false, causeFetchPage},
		{"U load of X", leaf(pagedPA, pteX|pteA|pteU), accLoad, true, false, false, causeLoadPage},
		{"U load of X with MXR", leaf(pagedPA, pteX|pteA|pteU), accLoad, true, false, true, 0},
		{"store of R", leaf(pagedPA, pteR|pteA), accStore, false, false, false, causeStorePage},
		{"fetch of RW", leaf(pagedPA, pteR|pteW|pteA|pteD), accFetch, false, false, false, causeFetchPage},
		{"not valid", leaf(pagedPA, all) &^ pteV, accLoad, false, false, false, causeLoadPage},
		{"W without R", leaf(pagedPA, pteW|pteA|pteD), accStore, false, false, false, causeStorePage},
		{"pointer at level 0", leaf(pagedPA, 0), accLoad, false, false, false, causeLoadPage},
		{"reserved bit", leaf(pagedPA, all) | 1<<60, accLoad, false, false, false, causeLoadPage},
		{"Svnapot bit", leaf(pagedPA, all) | 1<<63, accLoad, false, false, false, causeLoadPage},
		{"outside", leaf(0x5000_0000, all), accLoad, false, false, false, causeLoadAccess},
		{"fetch outside", leaf(0x5000_0000, all), accFetch, false, false, false, causeFetchAccess},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPaged(t, newProg(mem.Base))
			p.pte(pagedLeaf, tt.pte)
			for range 2 { // the second time from the TLB
				if got := p.one(pagedVA, tt.acc, tt.user, tt.sum, tt.mxr); got != tt.want {
					t.Errorf("cause %d, want %d", got, tt.want)
				}
			}
			// What one mode has cached must not serve another.
			p.one(pagedVA, accLoad, !tt.user, true, true)
			p.one(pagedVA, accStore, !tt.user, true, true)
			p.one(pagedVA, accFetch, !tt.user, true, true)
			if got := p.one(pagedVA, tt.acc, tt.user, tt.sum, tt.mxr); got != tt.want {
				t.Errorf("after other modes: cause %d, want %d", got, tt.want)
			}
		})
	}
}

func TestAccessedDirty(t *testing.T) {
	p := newPaged(t, newProg(mem.Base))
	const bits = pteR | pteW | pteX
	check := func(what string, want uint64) {
		t.Helper()
		if got := p.get(pagedLeaf) & (pteA | pteD); got != want {
			t.Errorf("%s: A and D are %#x, want %#x", what, got, want)
		}
	}
	p.pte(pagedLeaf, leaf(pagedPA, bits))
	p.one(pagedVA, accLoad, false, false, false)
	check("load", pteA)
	p.one(pagedVA, accStore, false, false, false)
	check("store", pteA|pteD)
	p.pte(pagedLeaf, leaf(pagedPA, bits|pteA)) // the guest clears D
	p.one(pagedVA, accLoad, false, false, false)
	check("load after clearing D", pteA)
	p.one(pagedVA, accStore, false, false, false)
	check("store after clearing D", pteA|pteD)
	p.h.ram.ClearDirty(mem.AllDirty, nil)
	p.one(pagedVA, accStore, false, false, false)
	if p.h.ram.PageFlags()[(pagedPA-mem.Base)>>12]&mem.AllDirty != mem.AllDirty {
		t.Error("a store after ClearDirty was not seen")
	}
	p.pte(pagedLeaf, leaf(pagedPA, pteR))
	p.one(pagedVA, accStore, false, false, false)
	check("refused store", 0)
}

func TestSuperpages(t *testing.T) {
	const all = pteR | pteW | pteX | pteA | pteD
	p := newPaged(t, newProg(mem.Base))
	p.pte(pagedPA+0x123458, 0x1234)
	const va = pagedVA + 2<<20 + 0x143458
	p.pte(pagedMid+8, leaf(mem.Base, all))
	if c := p.one(va, accLoad, false, false, false); c != 0 || p.h.X(a0) != 0x1234 {
		t.Errorf("2 MiB page: cause %d value %#x", c, p.h.X(a0))
	}
	p.pte(pagedMid+8, leaf(mem.Base+0x1000, all))
	if c := p.one(va, accLoad, false, false, false); c != causeLoadPage {
		t.Errorf("misaligned 2 MiB page: cause %d", c)
	}
	p.pte(pagedRoot+3*8, leaf(mem.Base, all))
	if c := p.one(3<<30+0x143458, accLoad, false, false, false); c != 0 || p.h.X(a0) != 0x1234 {
		t.Errorf("1 GiB page: cause %d", c)
	}
	p.pte(pagedRoot+3*8, leaf(mem.Base+2<<20, all))
	if c := p.one(3<<30+0x143458, accLoad, false, false, false); c != causeLoadPage {
		t.Errorf("misaligned 1 GiB page: cause %d", c)
	}
	for _, va := range []uint64{1 << 38, 1 << 63, ^uint64(1<<38) &^ 7} {
		if c := p.one(va, accLoad, false, false, false); c != causeLoadPage {
			t.Errorf("address %#x: cause %d", va, c)
		}
	}
	p.pte(pagedRoot+5*8, leaf(0x5000_0000, 0))
	if c := p.one(5<<30, accStore, false, false, false); c != causeStoreAccess {
		t.Errorf("table outside RAM: cause %d", c)
	}
}

// TestNoFenceNeeded: the guest rewrites an entry of each level, and the next access sees it, within one
// block and without sfence.vma.
func TestNoFenceNeeded(t *testing.T) {
	const all = pteR | pteW | pteX | pteA | pteD
	for _, slot := range []uint64{pagedLeaf, pagedMid, pagedRoot + pagedVA>>30*8} {
		p := newProg(mem.Base).la(s0, slot).la(a1, pagedVA)
		p.raw(ld(a2, 0, a1), ld(a4, 0, s0), sd(a3, 0, s0), ld(a5, 0, a1), sd(a4, 0, s0), ld(a6, 0, a1), insEcall)
		h := newPaged(t, p)
		h.pte(pagedLeaf, leaf(pagedPA, all))
		h.pte(pagedPA, 111)
		h.pte(pagedPA+0x1000, 222)
		// A second set of tables, to which each level can be switched.
		h.pte(pagedLeaf+0x4000, leaf(pagedPA+0x1000, all))
		h.pte(pagedMid+0x4000, leaf(pagedLeaf+0x4000, 0))
		other := map[uint64]uint64{pagedLeaf: leaf(pagedPA+0x1000, all), pagedMid: leaf(pagedLeaf+0x4000, 0)}[slot]
		if other == 0 {
			other = leaf(pagedMid+0x4000, 0)
		}
		for range 3 {
			h.h.SetPC(mem.Base)
			h.h.SetX(a3, other)
			finish(t, h.h)
			if x := h.h; x.X(a2) != 111 || x.X(a5) != 222 || x.X(a6) != 111 {
				t.Errorf("slot %#x: %d %d %d", slot, x.X(a2), x.X(a5), x.X(a6))
			}
		}
	}
}

// TestTableDemotion: a page that was a table and is now stored to for other purposes becomes an ordinary
// one, and is a table again once it is walked.
func TestTableDemotion(t *testing.T) {
	const all = pteR | pteW | pteX | pteA | pteD
	p := newPaged(t, newProg(mem.Base))
	p.pte(pagedLeaf, leaf(pagedPA, all))
	p.one(pagedVA, accLoad, false, false, false)
	flags := &p.h.ram.PageFlags()[(pagedLeaf-mem.Base)>>12]
	if *flags&mem.Table == 0 {
		t.Fatal("not a table")
	}
	for i := range uint64(100) {
		p.pte(pagedLeaf+1024+i*8, i)
	}
	if *flags&mem.Table != 0 {
		t.Error("still a table")
	}
	p.pte(pagedLeaf, leaf(pagedPA, all)&^pteV)
	if c := p.one(pagedVA, accLoad, false, false, false); c != causeLoadPage {
		t.Errorf("cause %d", c)
	}
	p.pte(pagedLeaf, leaf(pagedPA, all))
	p.one(pagedVA, accLoad, false, false, false)
	if *flags&mem.Table == 0 {
		t.Error("not a table again")
	}
}
