package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"

	"understudy/event"
)

const (
	// MaxDataBytes is the most data of one disk request (virtio.MaxBlockBytes).
	MaxDataBytes = 8 << 20
	// MaxMessageBytes bounds the messages between Source and Target. Only one that carries a read's result
	// comes near it; others stay below 512 KiB.
	MaxMessageBytes = MaxDataBytes + 8*BlockBytes

	messageBytes = 256 << 10 // a message is sent when it is as long as this
	hashBytes    = 16
	minPacked    = 32 // bytes that compression must save to be worth a decompression
)

// errMessage is what is wrong with a message of the other side.
var errMessage = errors.New("malformed message about a disk")

// recordKind says what a record of a message is. A message is a row of records; each is its kind's byte, the
// numbers that the kind has as uvarints, and bytes.
type recordKind byte

const (
	recHashes recordKind = iota + 1 // first, count, count hashes: what the target has
	recBlock                        // first, the block's bytes
	recPacked                       // first, length, the block's bytes in S2 of that length
	recZeros                        // first, count: blocks of zeros (from both sides)
	recSame                         // first, count: blocks that are as the target said
	recResult                       // ID, status, length, data: the result of a request in flight
	recEnd                          // 4 bytes, nothing follows: CRC-32C of the source's messages up to here; 0 from the target
)

// record is one record. Of its fields, a kind sets those that it has.
type record struct {
	kind         recordKind
	first, count uint64
	data         []byte // aliases the message
	done         event.DiskDone
	sum          uint32
}

func appendRun(b []byte, kind recordKind, first, count uint64) []byte {
	b = append(b, byte(kind))
	b = binary.AppendUvarint(b, first)
	return binary.AppendUvarint(b, count)
}

// appendBlock appends a block's bytes, packed where that is shorter.
func appendBlock(b []byte, i uint64, p []byte, scratch *[]byte) []byte {
	if need := s2.MaxEncodedLen(len(p)); cap(*scratch) < need {
		*scratch = make([]byte, need)
	}
	if packed := s2.Encode((*scratch)[:cap(*scratch)], p); len(packed)+minPacked <= len(p) {
		b = binary.AppendUvarint(append(b, byte(recPacked)), i)
		b = binary.AppendUvarint(b, uint64(len(packed)))
		return append(b, packed...)
	}
	b = binary.AppendUvarint(append(b, byte(recBlock)), i)
	return append(b, p...)
}

func appendResult(b []byte, d event.DiskDone) []byte {
	b = binary.AppendUvarint(append(b, byte(recResult)), d.ID)
	b = binary.AppendUvarint(append(b, byte(d.Status)), uint64(len(d.Data)))
	return append(b, d.Data...)
}

const endBytes = 1 + 4

func appendEnd(b []byte, sum uint32) []byte {
	return binary.LittleEndian.AppendUint32(append(b, byte(recEnd)), sum)
}

// parser takes a message apart. After the first error it gives no records.
type parser struct {
	b    []byte
	size geometry
	buf  []byte // a block's room, for unpacking
	err  error
}

func newParser(b []byte, size geometry) *parser {
	p := &parser{b: b, size: size}
	if len(b) > MaxMessageBytes {
		p.fail("%d bytes long", len(b))
	}
	return p
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s", errMessage, fmt.Sprintf(format, args...))
	}
}

func (p *parser) number() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail("a number is missing")
		return 0
	}
	p.b = p.b[n:]
	return v
}

// take takes n bytes, of which there may be max.
func (p *parser) take(n, max uint64) []byte {
	if p.err == nil && (n > max || n > uint64(len(p.b))) {
		p.fail("%d bytes are missing or too many", n)
	}
	if p.err != nil {
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

// next gives the next record. It reports false at the end of the message and behind an error.
func (p *parser) next() (r record, ok bool) {
	if p.err != nil || len(p.b) == 0 {
		return record{}, false
	}
	r.kind = recordKind(p.b[0])
	p.b = p.b[1:]
	switch r.kind {
	case recResult:
		p.result(&r)
	case recEnd:
		if sum := p.take(4, 4); p.err == nil {
			r.sum = binary.LittleEndian.Uint32(sum)
		}
		if len(p.b) != 0 {
			p.fail("something follows the end")
		}
	case recHashes, recZeros, recSame:
		r.first, r.count = p.number(), p.number()
		if n := p.size.blocks(); r.count == 0 || r.first >= n || r.count > n-r.first {
			p.fail("blocks %d and %d more are not the disk's", r.first, r.count)
		}
		if r.kind == recHashes {
			r.data = p.take(min(r.count, MaxMessageBytes)*hashBytes, MaxMessageBytes)
		}
	case recBlock, recPacked:
		r.first, r.count = p.number(), 1
		if r.first >= p.size.blocks() {
			p.fail("block %d is not the disk's", r.first)
			break
		}
		_, n := p.size.span(r.first)
		if r.kind == recBlock {
			r.data = p.take(uint64(n), BlockBytes)
		} else {
			r.data = p.unpack(p.take(p.number(), BlockBytes), n)
		}
	default:
		p.fail("kind %#x", byte(r.kind))
	}
	return r, p.err == nil
}

func (p *parser) result(r *record) {
	r.done.ID = p.number()
	if s := p.take(1, 1); p.err == nil {
		r.done.Status = event.DiskStatus(s[0])
	}
	data := p.take(p.number(), MaxDataBytes)
	if p.err != nil {
		return
	}
	if r.done.Status > event.DiskUnsupported || len(data)%SectorBytes != 0 ||
		r.done.Status != event.DiskOK && len(data) > 0 {
		p.fail("result %d is impossible", r.done.ID)
	}
	if len(data) > 0 {
		r.done.Data = slices.Clone(data)
	}
}

// unpack gives the n bytes that packed stands for, in a buffer that the next call uses again.
func (p *parser) unpack(packed []byte, n int) []byte {
	if p.err != nil {
		return nil
	}
	if have, err := s2.DecodedLen(packed); err != nil || have != n {
		p.fail("a packed block has the wrong length")
		return nil
	}
	if p.buf == nil {
		p.buf = make([]byte, BlockBytes)
	}
	b, err := s2.Decode(p.buf, packed)
	if err != nil {
		p.fail("a packed block: %v", err)
		return nil
	}
	return b
}
