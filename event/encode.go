package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxEntryBytes bounds the data of one entry. The largest is a disk completion that carries what was read.
const MaxEntryBytes = 8<<20 + 64

// ErrMalformed is wrapped by every error of ParseBatch.
var ErrMalformed = errors.New("malformed log entries")

// AppendBatch appends the encoding of consecutive entries (their numbers rise by one): the first number,
// the count, and for each entry the position as a difference to the one before, kind, device, length, data.
// Integers are unsigned LEB128 (encoding/binary's uvarint).
func AppendBatch(b []byte, entries []Entry) []byte {
	if len(entries) == 0 {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(entries)))
	b = binary.AppendUvarint(b, uint64(entries[0].Seq))
	var pos Position
	for i := range entries {
		e := &entries[i]
		if e.Seq != entries[0].Seq+Seq(i) || e.Pos < pos {
			panic(fmt.Sprintf("event: batch out of order: entry %d at %d after position %d", e.Seq, e.Pos, pos))
		}
		b = binary.AppendUvarint(b, uint64(e.Pos-pos))
		b = append(b, byte(e.Kind), e.Device)
		b = binary.AppendUvarint(b, uint64(len(e.Data)))
		b = append(b, e.Data...)
		pos = e.Pos
	}
	return b
}

// ParseBatch reads what AppendBatch wrote and gives the bytes that follow. The entries' data alias b.
func ParseBatch(b []byte) (entries []Entry, rest []byte, err error) {
	u := func(what string) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			if err == nil {
				err = fmt.Errorf("%w: %s", ErrMalformed, what)
			}
			return 0
		}
		b = b[n:]
		return v
	}
	count := u("count")
	if err != nil || count == 0 {
		return nil, b, err
	}
	if count > uint64(len(b))/4+1 {
		return nil, nil, fmt.Errorf("%w: %d entries in %d bytes", ErrMalformed, count, len(b))
	}
	seq := Seq(u("sequence number"))
	entries = make([]Entry, 0, count)
	var pos Position
	for range count {
		d := Position(u("position"))
		if err != nil {
			return nil, nil, err
		}
		if pos+d < pos {
			return nil, nil, fmt.Errorf("%w: position overflows", ErrMalformed)
		}
		pos += d
		if len(b) < 3 {
			return nil, nil, fmt.Errorf("%w: entry ends early", ErrMalformed)
		}
		e := Entry{Seq: seq, Pos: pos, Kind: Kind(b[0]), Device: b[1]}
		b = b[2:]
		n := u("length")
		if err != nil {
			return nil, nil, err
		}
		if n > MaxEntryBytes || n > uint64(len(b)) {
			return nil, nil, fmt.Errorf("%w: entry of %d bytes", ErrMalformed, n)
		}
		if n > 0 {
			e.Data = b[:n:n]
		}
		b = b[n:]
		entries = append(entries, e)
		seq++
	}
	return entries, b, nil
}
