package wal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"understudy/arbiter"
	"understudy/event"
)

// A record is, little endian: length of the payload (32 bits), CRC-32C of all that follows here (32 bits), type (8 bits),
// synced (64 bits: so many bytes of the file were on disk when this was written), payload.
const (
	recordHead = 4 + 4 + 1 + 8
	// maxRecord bounds a payload, in bytes.
	maxRecord = 64 << 20
	// entryBytes is up to where entries share a record.
	entryBytes = 1 << 20
)

// The types of records.
const (
	typeHeader = 'H' // header, JSON; the first of a file
	typeEntry  = 'E' // sequence number of the first entry (uvarint), then each: kind, length (uvarint), data
	typeMark   = 'M' // Mark, JSON
	typeData   = 'D' // of a snapshot: a piece of the state
	typeEnd    = 'Z' // of a snapshot: end, JSON; the last of a file
)

const (
	magicLog  = "USWLOG\r\n"
	magicSnap = "USWSNP\r\n"
	version   = 1
)

// Part is what a server is in a view.
type Part string

// Parts of marks. Only those of a primary and of a backup in sync say that the files hold everything of the view.
const (
	Primary Part = "primary"
	Backup  Part = "backup"  // in sync
	Joining Part = "joining" // holds the state, but the primary may have acted without it
	Void    Part = "void"    // what the files hold is wrong
)

// Mark is a server's part in a view, and the arbiter's record of that view.
type Mark struct {
	Record arbiter.Record `json:"record"`
	Part   Part           `json:"part"`
}

// Holds tells whether all that was released in the mark's view, or before, is in the files.
func (m Mark) Holds() bool { return m.Part == Primary || m.Part == Backup }

type header struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Name    string `json:"name"`
	Format  string `json:"format"` // of entries and snapshots
	// Of a log: the entry behind which it begins, the machine's clock then, the mark in force, and whether it continues the log
	// of the generation before.
	Base    uint64 `json:"base,omitempty"`
	Clock   int64  `json:"clock,omitempty"`
	Mark    Mark   `json:"mark,omitzero"`
	Chained bool   `json:"chained,omitempty"`
}

type end struct {
	Base  uint64 `json:"base"`
	Clock int64  `json:"clock"` // the newest entry's time, nanoseconds since 1970
	Bytes int64  `json:"bytes"` // of the state
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn reports bytes that are no record.
var errTorn = errors.New("not a record")

// appendRecord appends a record whose payload is put together by fill.
func appendRecord(b []byte, kind byte, synced int64, fill func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	b[at+8] = kind
	binary.LittleEndian.PutUint64(b[at+9:], uint64(synced))
	b = fill(b)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-recordHead))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

func appendJSON(b []byte, kind byte, synced int64, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("wal: " + err.Error()) // plain structs
	}
	return appendRecord(b, kind, synced, func(b []byte) []byte { return append(b, text...) })
}

// record is one that was read.
type record struct {
	kind    byte
	synced  int64
	payload []byte
}

// reader reads the records of a file one after the other.
type reader struct {
	from io.Reader
	at   int64 // offset of the next record
	size int64 // of the file
	head [recordHead]byte
	buf  []byte
}

// next reads a record. Its payload is good until the next call. The error is io.EOF at the end of the file, wraps errTorn for
// bytes that are no record, or is the disk's.
func (r *reader) next() (record, error) {
	left := r.size - r.at
	if left == 0 {
		return record{}, io.EOF
	}
	if left < recordHead {
		return record{}, fmt.Errorf("%w: %d bytes", errTorn, left)
	}
	if _, err := io.ReadFull(r.from, r.head[:]); err != nil {
		return record{}, err
	}
	n := int64(binary.LittleEndian.Uint32(r.head[:]))
	if n > maxRecord || n > left-recordHead {
		return record{}, fmt.Errorf("%w: %d bytes are too many", errTorn, n)
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.from, r.buf); err != nil {
		return record{}, err
	}
	sum := crc32.Update(crc32.Checksum(r.head[8:], castagnoli), castagnoli, r.buf)
	if sum != binary.LittleEndian.Uint32(r.head[4:]) {
		return record{}, fmt.Errorf("%w: the checksum is wrong", errTorn)
	}
	r.at += recordHead + n
	return record{r.head[8], int64(binary.LittleEndian.Uint64(r.head[9:])), r.buf}, nil
}

// appendEntries appends the payload of a typeEntry record.
func appendEntries(b []byte, entries []event.Entry) []byte {
	b = binary.AppendUvarint(b, uint64(entries[0].Seq))
	for i := range entries {
		b = append(b, byte(entries[i].Kind))
		b = binary.AppendUvarint(b, uint64(len(entries[i].Data)))
		b = append(b, entries[i].Data...)
	}
	return b
}

// parseEntries calls each for every entry of a typeEntry record. Their data is good until the next record is read.
func parseEntries(b []byte, each func(event.Entry) error) error {
	seq, n := binary.Uvarint(b)
	if n <= 0 {
		return errors.New("entries without a number")
	}
	for b = b[n:]; len(b) > 0; seq++ {
		kind := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return fmt.Errorf("entry %d is cut", seq)
		}
		data := b[1+n : 1+n+int(size) : 1+n+int(size)]
		if err := each(event.Entry{Seq: event.Seq(seq), Kind: event.Kind(kind), Data: data}); err != nil {
			return err
		}
		b = b[1+n+int(size):]
	}
	return nil
}
