package pages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/s2"

	"understudy/machine/mem"
)

const (
	// smallDelta is the size, in bytes, up to which a list of runs is sent as it is.
	smallDelta = 128
	// gapMin is how many equal bytes end a run: a new run costs two bytes or three.
	gapMin = 4
	// stride is how many bytes are compared at once while nothing differs.
	stride = 256
)

// Encoder makes batches. The zero value is ready; its memory is used again. The order of calls is Begin,
// any number of Add, Finish.
type Encoder struct {
	Stats Stats // of all batches; the caller may reset it

	batch   []byte
	start   int
	count   uint32
	next    uint32 // the lowest page number that may be added
	runs    [deltaMax]byte
	squeeze []byte
}

// Begin starts a batch that is appended to dst.
func (e *Encoder) Begin(dst []byte) {
	e.start, e.count, e.next = len(dst), 0, 0
	e.batch = append(dst, 0, 0, 0, 0)
	if e.squeeze == nil {
		e.squeeze = make([]byte, s2.MaxEncodedLen(mem.PageBytes))
	}
}

// Len is the size of the batch so far, in bytes. An entry adds 4,106 at most.
func (e *Encoder) Len() int { return len(e.batch) - e.start }

// Count is the number of entries in the batch so far.
func (e *Encoder) Count() int { return int(e.count) }

// Add adds page n with the bytes p. Numbers must rise within a batch. old is what the receiver has, or nil
// if that is not known. It reports false when that is the same, so that no entry was needed.
func (e *Encoder) Add(n uint32, p, old []byte) bool {
	if n < e.next || len(p) != mem.PageBytes || old != nil && len(old) != mem.PageBytes {
		panic(fmt.Sprintf("pages: page %d of %d bytes (old: %d) after page %d", n, len(p), len(old), int64(e.next)-1))
	}
	if old != nil && bytes.Equal(p, old) {
		e.Stats.Pages[Unchanged]++
		return false
	}
	kind, body := e.encode(p, old)
	from := len(e.batch)
	e.batch = binary.AppendUvarint(e.batch, uint64(n-e.next))
	e.batch = append(e.batch, byte(kind))
	if kind != Zero && kind != Raw {
		e.batch = binary.AppendUvarint(e.batch, uint64(len(body)))
	}
	e.batch = append(e.batch, body...)
	e.next = n + 1
	e.count++
	e.Stats.Pages[kind]++
	e.Stats.Bytes[kind] += uint64(len(e.batch) - from)
	return true
}

// Finish gives the slice that Begin got with the batch appended.
func (e *Encoder) Finish() []byte {
	binary.LittleEndian.PutUint32(e.batch[e.start:], e.count)
	b := e.batch
	e.batch = nil
	return b
}

func (e *Encoder) encode(p, old []byte) (Kind, []byte) {
	if isZero(p) {
		return Zero, nil
	}
	if old != nil {
		if runs, ok := appendRuns(e.runs[:0], old, p); ok {
			if len(runs) > smallDelta {
				if b := s2.Encode(e.squeeze, runs); worth(b, len(runs)) {
					return DeltaS2, b
				}
			}
			return Delta, runs
		}
	}
	if b := s2.Encode(e.squeeze, p); worth(b, mem.PageBytes) {
		return S2, b
	}
	return Raw, p
}

// worth tells whether compression saved an eighth; less is not worth the receiver's time.
func worth(b []byte, from int) bool { return len(b) <= from-from/8 }

// appendRuns appends the runs that turn old into p, which differs. It reports false when they take more than
// deltaMax.
func appendRuns(dst, old, p []byte) (runs []byte, ok bool) {
	old, p = old[:mem.PageBytes], p[:mem.PageBytes]
	done, start, end := 0, 0, 0 // the run [start, end) is not written yet, all before done is
	for i := 0; i < mem.PageBytes; i += 8 {
		if i%stride == 0 && bytes.Equal(old[i:i+stride], p[i:i+stride]) {
			i += stride - 8
			continue
		}
		x := binary.LittleEndian.Uint64(old[i:]) ^ binary.LittleEndian.Uint64(p[i:])
		if x == 0 {
			continue
		}
		first, last := i+bits.TrailingZeros64(x)/8, i+7-bits.LeadingZeros64(x)/8
		switch {
		case end == start:
			start = first
		case first-end >= gapMin:
			if dst, ok = appendRun(dst, start-done, p[start:end]); !ok {
				return nil, false
			}
			done, start = end, first
		case end-start > deltaMax:
			return nil, false
		}
		end = last + 1
	}
	return appendRun(dst, start-done, p[start:end])
}

// appendRun appends one run, unless the list would be too long.
func appendRun(dst []byte, leave int, put []byte) (runs []byte, ok bool) {
	if len(dst)+len(put)+4 > deltaMax {
		return nil, false
	}
	dst = binary.AppendUvarint(dst, uint64(leave))
	dst = binary.AppendUvarint(dst, uint64(len(put)))
	return append(dst, put...), true
}
