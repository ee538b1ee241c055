package machine

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"understudy/machine/mem"
	"understudy/machine/state"
)

// digest keeps a hash of every page of RAM and their sum, so that only pages written since the last digest
// are hashed again. A page of zeros contributes 0.
type digest struct {
	page []uint64
	sum  uint64
}

// pageHash is what a page contributes to the sum.
func pageHash(n int, p []byte) uint64 {
	h := xxhash.Sum64(p)
	if h == zeroPageHash {
		return 0
	}
	// Mix in the page's number (splitmix64's finaliser), or swapped pages would go unnoticed.
	h ^= uint64(n) * 0x9e3779b97f4a7c15
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

var zeroPageHash = xxhash.Sum64(make([]byte, mem.PageBytes))

// Digest is a hash of the whole state: registers, devices and RAM. Equal states have equal digests on every
// host and every engine. It costs time in proportion to the pages written since the last call.
func (m *Machine) Digest() uint64 {
	if m.pages.page == nil {
		m.pages.page = make([]uint64, m.ram.Pages())
	}
	ram := m.ram.Bytes()
	m.ram.ClearDirty(mem.DirtyDigest, func(n int) {
		h := pageHash(n, ram[n*mem.PageBytes:(n+1)*mem.PageBytes])
		m.pages.sum += h - m.pages.page[n]
		m.pages.page[n] = h
	})
	var e state.Encoder
	m.save(&e)
	e.B = binary.LittleEndian.AppendUint64(e.B, m.pages.sum)
	return xxhash.Sum64(e.B)
}
