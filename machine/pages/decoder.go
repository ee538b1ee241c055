package pages

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/s2"

	"understudy/machine/mem"
)

// Decoder reads batches. The zero value is ready; its memory is used again.
type Decoder struct {
	page [mem.PageBytes]byte
	runs [deltaMax]byte
}

// Decode reads one batch for a RAM of so many pages. For every entry it calls install with the page's number
// and new bytes, which are valid until install returns; for a delta it asks have for the bytes of the page
// as it is. Machine.Page and Machine.InstallPage do for both.
//
// An error wraps ErrBatch, or is install's. The pages before it have been installed then: RAM is neither
// here nor there, unless the batch has passed Check.
func (d *Decoder) Decode(batch []byte, pages int, have func(n int) []byte, install func(n int, p []byte) error) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("decode pages: %w: %s", ErrBatch, fmt.Sprintf(format, args...))
	}
	if len(batch) < 4 {
		return bad("it ends in its head")
	}
	count := binary.LittleEndian.Uint32(batch)
	in := batch[4:]
	next := uint64(0)
	for i := range count {
		skip, size := binary.Uvarint(in)
		if size <= 0 || size >= len(in) {
			return bad("it ends in entry %d of %d", i, count)
		}
		if skip >= uint64(pages) || next+skip >= uint64(pages) {
			return bad("a page beyond the %d of the machine", pages)
		}
		n := int(next + skip)
		next = uint64(n) + 1
		kind := Kind(in[size])
		in = in[size+1:]
		var length uint64
		switch kind {
		case Zero:
		case Raw:
			length = mem.PageBytes
		case S2, Delta, DeltaS2:
			if length, size = binary.Uvarint(in); size <= 0 {
				return bad("page %d: malformed length", n)
			}
			in = in[size:]
		default:
			return bad("page %d: unknown %v", n, kind)
		}
		if length > uint64(len(in)) {
			return bad("it ends in page %d", n)
		}
		body := in[:length]
		in = in[length:]
		p, why := d.decode(kind, body, n, have)
		if why != "" {
			return bad("page %d (%v): %s", n, kind, why)
		}
		if err := install(n, p); err != nil {
			return err
		}
	}
	if len(in) != 0 {
		return bad("%d bytes too many", len(in))
	}
	return nil
}

// Check reads a batch and installs nothing. A batch that it finds good is good for Decode, whatever the
// pages are that it is decoded over.
func (d *Decoder) Check(batch []byte, pages int) error {
	return d.Decode(batch, pages, func(int) []byte { return zeroPage[:] }, func(int, []byte) error { return nil })
}

// decode gives the bytes of one page, or says why it cannot.
func (d *Decoder) decode(kind Kind, body []byte, n int, have func(n int) []byte) (p []byte, why string) {
	switch kind {
	case Zero:
		return zeroPage[:], ""
	case Raw:
		return body, ""
	case S2:
		if size, err := s2.DecodedLen(body); err != nil || size != mem.PageBytes {
			return nil, "not a compressed page"
		}
		p, err := s2.Decode(d.page[:], body)
		if err != nil || len(p) != mem.PageBytes {
			return nil, "corrupt compression"
		}
		return p, ""
	case DeltaS2:
		size, err := s2.DecodedLen(body)
		if err != nil || size > deltaMax {
			return nil, "not a compressed list of runs"
		}
		if body, err = s2.Decode(d.runs[:], body); err != nil || len(body) != size {
			return nil, "corrupt compression"
		}
	}
	if len(body) == 0 || len(body) > deltaMax {
		return nil, fmt.Sprintf("runs of %d bytes", len(body))
	}
	copy(d.page[:], have(n))
	if !putRuns(d.page[:], body) {
		return nil, "runs that do not fit the page"
	}
	return d.page[:], ""
}

// putRuns changes p, a page, as a list of runs says. It reports false when that is malformed.
func putRuns(p, runs []byte) bool {
	for len(runs) > 0 {
		leave, a := binary.Uvarint(runs)
		if a <= 0 {
			return false
		}
		put, b := binary.Uvarint(runs[a:])
		if b <= 0 || leave > uint64(len(p)) || put == 0 || put > uint64(len(p))-leave || put > uint64(len(runs)-a-b) {
			return false
		}
		runs = runs[a+b:]
		copy(p[leave:], runs[:put])
		p, runs = p[leave+put:], runs[put:]
	}
	return true
}
