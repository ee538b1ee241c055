// Package state encodes the parts of a machine for snapshots and digests: fixed-width little-endian
// fields, in one order, with no maps and no pointers, so that equal states have equal encodings.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Encoder appends fields to a buffer. The zero value is ready to use.
type Encoder struct{ B []byte }

// U8 appends one byte.
func (e *Encoder) U8(v uint8) { e.B = append(e.B, v) }

// Bool appends a truth value as one byte.
func (e *Encoder) Bool(v bool) {
	if v {
		e.U8(1)
	} else {
		e.U8(0)
	}
}

// U16 appends two bytes.
func (e *Encoder) U16(v uint16) { e.B = binary.LittleEndian.AppendUint16(e.B, v) }

// U32 appends four bytes.
func (e *Encoder) U32(v uint32) { e.B = binary.LittleEndian.AppendUint32(e.B, v) }

// U64 appends eight bytes.
func (e *Encoder) U64(v uint64) { e.B = binary.LittleEndian.AppendUint64(e.B, v) }

// Bytes appends a length (32 bits) and the bytes.
func (e *Encoder) Bytes(p []byte) {
	e.U32(uint32(len(p)))
	e.B = append(e.B, p...)
}

// ErrCorrupt is wrapped by every error of a Decoder.
var ErrCorrupt = errors.New("corrupt machine state")

// Decoder reads what an Encoder wrote. After the first error every read gives zero values, and Err
// tells the error; a caller may read a whole structure and check once.
type Decoder struct {
	b   []byte
	err error
}

// NewDecoder reads from b, which it does not copy.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// Err gives the first error.
func (d *Decoder) Err() error { return d.err }

// Fail records an error found by the caller in a value it read.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
}

// Len is the number of bytes not read yet.
func (d *Decoder) Len() int { return len(d.b) }

var zeros [8]byte

func (d *Decoder) take(n int) []byte {
	if d.err != nil || len(d.b) < n {
		d.Fail("ends early")
		return zeros[:n]
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

// U8 reads one byte.
func (d *Decoder) U8() uint8 { return d.take(1)[0] }

// Bool reads a truth value.
func (d *Decoder) Bool() bool { return d.U8() != 0 }

// U16 reads two bytes.
func (d *Decoder) U16() uint16 { return binary.LittleEndian.Uint16(d.take(2)) }

// U32 reads four bytes.
func (d *Decoder) U32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }

// U64 reads eight bytes.
func (d *Decoder) U64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// Bytes reads a length and a copy of that many bytes, at most limit.
func (d *Decoder) Bytes(limit int) []byte {
	n := int(d.U32())
	if d.err != nil {
		return nil
	}
	if n > limit || n > len(d.b) {
		d.Fail("field of %d bytes", n)
		return nil
	}
	p := append([]byte(nil), d.b[:n]...)
	d.b = d.b[n:]
	return p
}
