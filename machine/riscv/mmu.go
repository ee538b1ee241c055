package riscv

import (
	"encoding/binary"

	"understudy/machine/mem"
)

// access is what a translation is for.
type access uint8

const (
	accLoad access = iota
	accStore
	accFetch
)

// Fault causes by access.
var (
	pageFault   = [3]uint64{causeLoadPage, causeStorePage, causeFetchPage}
	accessFault = [3]uint64{causeLoadAccess, causeStoreAccess, causeFetchAccess}
)

// Bits of a page-table entry.
const (
	pteV = 1 << iota
	pteR
	pteW
	pteX
	pteU
	pteG
	pteA
	pteD

	pteReserved = 0x3ff << 54 // including Svpbmt and Svnapot, which are absent
)

// mmu holds the cached translations and what is known of the pages that they were read from.
type mmu struct {
	ctx      *context // of the current mode and address space
	contexts [maxContexts]*context
	clock    uint64
	epoch    uint64 // of writers, 32 bits
	writers  []uint64
	tables   []tableInfo
	flags    []mem.Flags
}

func (m *mmu) init(ram *mem.RAM) {
	m.epoch = 1
	m.writers = make([]uint64, ram.Pages())
	m.tables = make([]tableInfo, ram.Pages())
	m.flags = ram.PageFlags()
}

// translate gives the guest-physical address of va for the current mode. A translation to RAM is cached.
// fault is the exception's cause, or causeNone.
func (h *Hart) translate(va uint64, acc access) (pa, fault uint64) {
	e := &h.mmu.ctx.tlb[tlbIndex(va)]
	tag := va &^ pageMask
	switch {
	case acc == accLoad && e.r == tag, acc == accStore && e.w == tag, acc == accFetch && e.x == tag:
		return va + e.add + mem.Base, causeNone
	}
	if h.satp == 0 {
		if h.ram.Contains(va, 1) {
			h.fill(va, va, pteR|pteW|pteX|pteD, acc)
		}
		return va, causeNone
	}
	return h.walk(va, acc)
}

// walk translates va with the Sv39 tables (privileged manual, "Virtual Address Translation Process"). It
// sets the A and D bits itself.
func (h *Hart) walk(va uint64, acc access) (pa, fault uint64) {
	if uint64(int64(va)<<25>>25) != va {
		return 0, pageFault[acc]
	}
	base := h.satp & satpPPN << pageShift
	var path [3]uint64
	for level := 2; ; level-- {
		addr := base + va>>(pageShift+9*level)&511*8
		if !h.ram.Contains(addr, 8) {
			return 0, accessFault[acc]
		}
		path[level] = (addr - mem.Base) >> pageShift
		slot := h.ram.Bytes()[addr-mem.Base:][:8]
		pte := binary.LittleEndian.Uint64(slot)
		if pte&pteV == 0 || pte&(pteR|pteW) == pteW || pte&pteReserved != 0 {
			return 0, pageFault[acc]
		}
		base = pte >> 10 & satpPPN << pageShift
		if pte&(pteR|pteX) == 0 {
			if level == 0 || pte&(pteU|pteA|pteD) != 0 {
				return 0, pageFault[acc]
			}
			continue
		}
		low := uint64(1)<<(pageShift+9*level) - 1
		if base&low != 0 || !h.permitted(pte, acc) {
			return 0, pageFault[acc]
		}
		want := uint64(pteA)
		if acc == accStore {
			want |= pteD
		}
		if pte&want != want {
			pte |= want
			h.setAccessed(addr, slot, pte)
		}
		pa = base | va&low
		if h.ram.Contains(pa, 1) {
			for l := 2; l >= level; l-- {
				h.mmu.noteTable(path[l], l, va)
			}
			h.fill(va, pa, pte, acc)
		}
		return pa, causeNone
	}
}

// permitted tells whether a leaf allows the access in the current mode.
func (h *Hart) permitted(pte uint64, acc access) bool {
	if h.priv == privU {
		if pte&pteU == 0 {
			return false
		}
	} else if pte&pteU != 0 && (acc == accFetch || h.sstatus&statusSUM == 0) {
		return false
	}
	switch acc {
	case accLoad:
		return pte&pteR != 0 || h.sstatus&statusMXR != 0 && pte&pteX != 0
	case accStore:
		return pte&pteW != 0
	}
	return pte&pteX != 0
}

// setAccessed writes a page-table entry whose A or D bit was set. No cached translation depends on them
// having been clear, but code could have been decoded from the page.
func (h *Hart) setAccessed(addr uint64, slot []byte, pte uint64) {
	page := (addr - mem.Base) >> pageShift
	if h.mmu.flags[page]&mem.Code != 0 {
		h.codeStore(addr, 8)
	}
	h.mmu.flags[page] |= mem.AllDirty
	binary.LittleEndian.PutUint64(slot, pte)
}

// fill caches the translation of va to pa, which is in RAM, found with the leaf pte for access acc.
func (h *Hart) fill(va, pa, pte uint64, acc access) {
	m := &h.mmu
	c := m.ctx
	e := &c.tlb[tlbIndex(va)]
	tag := va &^ pageMask
	add := pa&^pageMask - mem.Base - tag
	if e.r != tag && e.w != tag && e.x != tag || e.add != add {
		e.r, e.w, e.x, e.add = tagNone, tagNone, tagNone, add
	}
	if acc == accFetch {
		e.x = tag
	}
	if h.satp == 0 || h.permitted(pte, accLoad) {
		e.r = tag
	}
	page := (pa - mem.Base) >> pageShift
	f := m.flags[page]
	if f&(mem.Code|mem.Table) == 0 && (acc == accStore ||
		f&mem.AllDirty == mem.AllDirty && pte&pteD != 0 && (h.satp == 0 || h.permitted(pte, accStore))) {
		m.flags[page] |= mem.AllDirty
		e.w = tag
		m.addWriter(page, va)
	}
	i, b := regionBit(va)
	c.regions[i] |= b
	c.empty = false
}

// tableInfo is what is known of a page that translations were read from: bits 0-1 the kind, bits 2-11 the
// stores since it was last walked, from bit 12 on the part of virtual memory that it maps.
type tableInfo uint32

const (
	tableNone   tableInfo = iota
	tableLeaf             // level 0: entries map pages of one 2 MiB region
	tableMiddle           // level 1: entries map regions of one 1 GiB range
	tableMany             // the root, or used in several ways

	tableStores    = 1 << 2 // one store
	tableStoresAll = 1023 << 2
	tableRange     = 12
	// tableStoresMax is how many stores without a walk make a page no table.
	tableStoresMax = 24
)

// noteTable records that a translation of va was read from page at the level.
func (m *mmu) noteTable(page uint64, level int, va uint64) {
	info := tableMany
	switch level {
	case 0:
		info = tableLeaf | tableInfo(va>>21&(1<<18-1))<<tableRange
	case 1:
		info = tableMiddle | tableInfo(va>>30&(1<<9-1))<<tableRange
	}
	if m.flags[page]&mem.Table == 0 {
		m.flags[page] |= mem.Table
		m.dropWriters(page)
	} else if m.tables[page]&^tableStoresAll != info {
		info = tableMany
	}
	m.tables[page] = info
}

// tableStore is called before [addr, addr+n), part of a page with flag Table, changes. Entries that are
// not valid have nothing cached; for the others the translations read from them are dropped.
func (h *Hart) tableStore(addr uint64, n int) {
	m := &h.mmu
	page := (addr - mem.Base) >> pageShift
	info := m.tables[page]
	first, last := addr&^7, (addr+uint64(n)-1)&^7
	for a := first; a <= last; a += 8 {
		if binary.LittleEndian.Uint64(h.ram.Bytes()[a-mem.Base:])&pteV == 0 {
			continue
		}
		slot := a & pageMask / 8
		switch info & 3 {
		case tableLeaf:
			h.dropPage(signExtend39(uint64(info>>tableRange)<<21 | slot<<pageShift))
		case tableMiddle:
			h.dropRegion(signExtend39(uint64(info>>tableRange)<<30 | slot<<21))
		default:
			m.flushAll()
			h.changed = true
			a = last
		}
	}
	info += tableStores
	m.tables[page] = info
	if info&tableStoresAll < tableStoresMax*tableStores {
		return
	}
	switch info & 3 {
	case tableLeaf:
		h.dropRegion(signExtend39(uint64(info>>tableRange) << 21))
	default:
		m.flushAll()
		h.changed = true
	}
	m.tables[page] = tableNone
	m.flags[page] &^= mem.Table
}

func signExtend39(va uint64) uint64 { return uint64(int64(va<<25) >> 25) }

// dropPage drops the page at va from all contexts.
func (h *Hart) dropPage(va uint64) {
	for _, c := range h.mmu.contexts {
		if c != nil && c.dropPage(va) {
			h.changed = true
		}
	}
}

// dropRegion drops the 2 MiB region at va from all contexts.
func (h *Hart) dropRegion(va uint64) {
	for _, c := range h.mmu.contexts {
		if c != nil && c.hasRegion(va) {
			c.flush()
			h.changed = true
		}
	}
}

// invalidate is RAM's hook: [addr, addr+n), part of one page with flag Code or Table, is about to change.
func (h *Hart) invalidate(addr uint64, n int) {
	f := h.mmu.flags[(addr-mem.Base)>>pageShift]
	if f&mem.Code != 0 {
		h.codeStore(addr, n)
	}
	if f&mem.Table != 0 {
		h.tableStore(addr, n)
	}
}
