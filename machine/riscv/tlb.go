package riscv

import "unsafe"

// The software TLB is invisible to the guest: it holds only what a walk would find again, and whatever
// changes a page table in RAM drops what was derived from it (see mmu.tableStore). So sfence.vma has
// nothing to do and ASIDs do not matter.

const (
	tlbEntries = 1024
	tlbMask    = tlbEntries - 1
	// tlbBytesMask masks the index in bytes, see exec.
	tlbBytesMask  = tlbMask * tlbEntryBytes
	tlbEntryBytes = 1 << 5
	jcEntries     = 4096
	jcMask        = jcEntries - 1

	pageShift = 12
	pageMask  = 1<<pageShift - 1

	// tagNone is a tag that no address matches: its low bits are never all set in va &^ pageMask|align.
	tagNone = ^uint64(0)

	maxContexts = 16
)

// tlbEntry translates one virtual page. The tags are the page's virtual address, or tagNone.
//
// Invariant: w is set only while the physical page has neither Code nor Table and all of AllDirty.
type tlbEntry struct {
	r, w, x uint64
	add     uint64 // virtual address + add = offset in RAM
}

var _ [0]struct{} = [tlbEntryBytes - unsafe.Sizeof(tlbEntry{})]struct{}{}

// tlbIndex spreads arrays that lie a power of two apart. It depends on the page alone.
func tlbIndex(va uint64) uint64 { return (va>>12 ^ va>>22) & tlbMask }

// jcEntry maps a virtual pc to the block that starts there.
type jcEntry struct {
	pc uint64 // odd: none
	b  *block
}

// context is what the hart caches for one address space seen from one mode: translations, and entries
// of code. Contexts share blocks, which are keyed by physical address, but no permission.
type context struct {
	key    uint64 // see Hart.contextKey
	id     uint32
	used   uint64 // when it was last switched to
	empty  bool   // nothing is cached
	wEmpty bool   // there is no write tag

	// regions has a bit for each 2 MiB region with an entry in tlb, xpages for each page with an entry in
	// jc; both are hashed, so a set bit may be a false alarm, and they only grow until a flush.
	regions [16]uint64
	xpages  [16]uint64

	tlb [tlbEntries]tlbEntry
	jc  [jcEntries]jcEntry
}

func regionBit(va uint64) (int, uint64) {
	k := va>>21 ^ va>>31
	return int(k >> 6 & 15), 1 << (k & 63)
}

func xpageBit(va uint64) (int, uint64) {
	k := va>>12 ^ va>>22
	return int(k >> 6 & 15), 1 << (k & 63)
}

func (c *context) hasRegion(va uint64) bool {
	i, b := regionBit(va)
	return c.regions[i]&b != 0
}

func (c *context) flush() {
	if c.empty {
		return
	}
	for i := range c.tlb {
		e := &c.tlb[i]
		e.r, e.w, e.x = tagNone, tagNone, tagNone
	}
	c.regions = [16]uint64{}
	c.flushJumps()
	c.empty, c.wEmpty = true, true
}

func (c *context) flushJumps() {
	clear(c.jc[:])
	c.jc[0].pc = 1
	c.xpages = [16]uint64{}
}

func (c *context) dropWriteTags() {
	if c.wEmpty {
		return
	}
	for i := range c.tlb {
		c.tlb[i].w = tagNone
	}
	c.wEmpty = true
}

// dropPage drops what is cached of the page at va, and tells whether there was anything.
func (c *context) dropPage(va uint64) bool {
	if !c.hasRegion(va) {
		return false
	}
	va &^= pageMask
	dropped := false
	e := &c.tlb[tlbIndex(va)]
	if e.r == va || e.w == va || e.x == va {
		e.r, e.w, e.x = tagNone, tagNone, tagNone
		dropped = true
	}
	if i, b := xpageBit(va); c.xpages[i]&b != 0 {
		c.flushJumps()
		dropped = true
	}
	return dropped
}

// addJump enters block b for pc. The caller has just translated pc for fetching.
func (c *context) addJump(pc uint64, b *block) {
	c.addJumpPage(pc)
	c.jc[pc>>1&jcMask] = jcEntry{pc, b}
	c.empty = false
}

// addJumpPage records that an entry of jc depends on the translation of the page at va.
func (c *context) addJumpPage(va uint64) {
	i, bit := xpageBit(va)
	c.xpages[i] |= bit
	i, bit = regionBit(va)
	c.regions[i] |= bit
}

// contextKey packs all that a translation depends on. Without paging all modes see the same.
func (h *Hart) contextKey() uint64 {
	if h.satp == 0 {
		return 0
	}
	k := h.satp&satpPPN | 1<<47
	if h.priv == privS {
		k |= 1 << 44
		if h.sstatus&statusSUM != 0 {
			k |= 1 << 45
		}
	}
	if h.sstatus&statusMXR != 0 {
		k |= 1 << 46
	}
	return k
}

// setContext makes h.mmu.ctx the context of the current mode and address space.
func (h *Hart) setContext() {
	m := &h.mmu
	key := h.contextKey()
	if m.ctx != nil && m.ctx.key == key {
		return
	}
	h.changed = true
	m.clock++
	oldest := 0
	for i := range m.contexts {
		c := m.contexts[i]
		if c == nil {
			c = &context{id: uint32(i)}
			c.flush()
			m.contexts[i] = c
			c.key, c.used, m.ctx = key, m.clock, c
			return
		}
		if c.key == key {
			c.used, m.ctx = m.clock, c
			return
		}
		if c.used < m.contexts[oldest].used {
			oldest = i
		}
	}
	c := m.contexts[oldest]
	c.flush()
	c.key, c.used, m.ctx = key, m.clock, c
}

// flushAll drops all translations.
func (m *mmu) flushAll() {
	for _, c := range m.contexts {
		if c != nil {
			c.flush()
		}
	}
}

// dropWriteTags drops all write tags.
func (h *Hart) dropWriteTags() { h.mmu.dropWriteTags() }

func (m *mmu) dropWriteTags() {
	for _, c := range m.contexts {
		if c != nil {
			c.dropWriteTags()
		}
	}
	if m.epoch++; m.epoch>>32 != 0 {
		clear(m.writers)
		m.epoch = 1
	}
}

// Write tags of each physical page, so that a page that becomes code or a page table need not drop those
// of all other pages: mmu.writers holds epoch<<32 | holder, where holder is 1 + context.id*tlbEntries +
// index, or writersMany. An entry of an older epoch means none.
const writersMany = 1<<32 - 1

func (m *mmu) addWriter(page uint64, va uint64) {
	c := m.ctx
	c.wEmpty = false
	holder := uint64(c.id)*tlbEntries + tlbIndex(va) + 1
	w := m.writers[page]
	if w>>32 != m.epoch {
		m.writers[page] = m.epoch<<32 | holder
	} else if w&writersMany != holder {
		m.writers[page] = m.epoch<<32 | writersMany
	}
}

// dropWriters drops the write tags of one physical page.
func (m *mmu) dropWriters(page uint64) {
	w := m.writers[page]
	if w>>32 != m.epoch {
		return
	}
	holder := w & writersMany
	if holder == writersMany {
		m.dropWriteTags()
		return
	}
	m.writers[page] = 0
	m.contexts[(holder-1)/tlbEntries].tlb[(holder-1)%tlbEntries].w = tagNone
}
