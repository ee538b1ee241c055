// Package pages encodes sets of RAM pages for another host: to clone a running machine, or to ship what an
// epoch changed.
//
// A sender copies the pages that changed into a Set while the machine stands still, then, while it runs on,
// encodes them with an Encoder against a Shadow, its copy of what the receiver has. The receiver's Decoder
// gives each page's new bytes. Batches must be decoded in the order in which they were encoded, each once
// or again in order: a delta says what bytes are, not how they differ, so going over it twice does no harm.
//
// A batch is the number of entries (32 bits, little endian) and that many entries with rising page numbers:
//
//	uvarint  page number: of the first entry as it is, of others less the one before and 1
//	byte     kind
//	uvarint  length of the body   } only where the kind has one
//	...      body                 }
//
// The body of Raw is the page. That of S2 is an S2 block of the page. That of Delta is a list of runs, each
// a uvarint of bytes to leave, a uvarint of bytes to put, at least 1, and those bytes; that of DeltaS2 is an
// S2 block of such a list. A page that did not change has no entry.
//
// The package is pure: it holds no goroutine, clock or file. Each of its values is used by one goroutine at a
// time.
package pages

import (
	"bytes"
	"errors"
	"fmt"

	"understudy/machine/mem"
)

// Kind says how a page is encoded.
type Kind uint8

// The kinds. Their values are part of the format, but for Unchanged, which never travels.
const (
	Zero      Kind = iota // all bytes are 0
	Raw                   // the bytes
	S2                    // the bytes, compressed
	Delta                 // the bytes that differ from the receiver's
	DeltaS2               // those, compressed
	Unchanged             // nothing: the receiver has the page
	kinds
)

// String names the kind.
func (k Kind) String() string {
	if k < kinds {
		return [...]string{"zero", "raw", "s2", "delta", "delta+s2", "unchanged"}[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// deltaMax bounds a list of runs, in bytes; where it would be longer the whole page is sent.
const deltaMax = mem.PageBytes / 2

// ErrBatch is wrapped by every error of a Decoder that is the batch's fault.
var ErrBatch = errors.New("unusable batch of pages")

// Stats counts pages and the bytes that they took in batches, by kind.
type Stats struct {
	Pages, Bytes [kinds]uint64
}

// Total gives the pages encoded, unchanged ones included, and the bytes that they took.
func (s *Stats) Total() (pages, bytes uint64) {
	for k := range kinds {
		pages += s.Pages[k]
		bytes += s.Bytes[k]
	}
	return pages, bytes
}

// Merge adds what o counted.
func (s *Stats) Merge(o *Stats) {
	for k := range kinds {
		s.Pages[k] += o.Pages[k]
		s.Bytes[k] += o.Bytes[k]
	}
}

// chunkPages is how many pages a Set's memory grows by.
const chunkPages = 64

// Set is a copy of some pages: what a stopped machine's pages are put into so that it can run on. It keeps
// the memory of the largest set that it held. The zero value is empty.
type Set struct {
	numbers []uint32
	chunks  [][]byte // never moved: growing while the machine stands still must not copy what is there
}

// Reset empties the set and keeps its memory.
func (s *Set) Reset() { s.numbers = s.numbers[:0] }

// Add copies page number n, whose bytes p are.
func (s *Set) Add(n uint32, p []byte) {
	if len(p) != mem.PageBytes {
		panic(fmt.Sprintf("pages: page %d of %d bytes", n, len(p)))
	}
	if len(s.numbers) == len(s.chunks)*chunkPages {
		s.chunks = append(s.chunks, make([]byte, chunkPages*mem.PageBytes))
	}
	s.numbers = append(s.numbers, n)
	_, to := s.At(len(s.numbers) - 1)
	copy(to, p)
}

// Len is the number of pages.
func (s *Set) Len() int { return len(s.numbers) }

// At gives the i-th page added.
func (s *Set) At(i int) (n uint32, p []byte) {
	at := i % chunkPages * mem.PageBytes
	return s.numbers[i], s.chunks[i/chunkPages][at : at+mem.PageBytes : at+mem.PageBytes]
}

// Shadow is the sender's copy of the receiver's RAM. It costs as much memory as the guest has written to.
type Shadow struct{ b []byte }

// NewShadow makes the shadow of a blank machine. b is as large as its RAM and zero, and is best mapped
// outside the Go heap; the caller keeps it mapped.
func NewShadow(b []byte) *Shadow {
	if len(b) == 0 || len(b)%mem.PageBytes != 0 {
		panic(fmt.Sprintf("pages: shadow of %d bytes", len(b)))
	}
	return &Shadow{b}
}

// Add adds page n, whose bytes are p, to the batch of e, as it differs from what the receiver has, and
// remembers it. If the batch is not delivered, the shadow is of no use any more.
func (s *Shadow) Add(e *Encoder, n uint32, p []byte) {
	old := s.b[int(n)*mem.PageBytes:][:mem.PageBytes]
	if e.Add(n, p, old) {
		copy(old, p)
	}
}

var zeroPage [mem.PageBytes]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeroPage[:]) }
