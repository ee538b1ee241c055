package shareddisk

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/machine/virtio"
)

// Version is the version of the protocol. Sides of different versions refuse each other.
const Version = 2

// The kinds of frames. docs/formats.md has the contents.
const (
	kindHello   = 'H' // to the server: JSON, hello
	kindWelcome = 'W' // from it: JSON, welcome
	kindRequest = 'R' // to the server: a request
	kindAnswer  = 'A' // from it: how one ended
	kindRefusal = 'F' // from it: a request was not carried out, as this connection does not lead
)

const (
	headBytes = 8
	// maxFrameBytes bounds a frame: the largest request of a guest, with its head.
	maxFrameBytes = virtio.MaxBlockBytes + 64
	// maxHelloBytes bounds the frames before a connection is known.
	maxHelloBytes = 16 << 10
	// maxCount is the most sectors that one read or write has.
	maxCount = virtio.MaxBlockBytes / disk.SectorBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrFrame is wrapped by errors about a peer that does not speak the protocol.
var ErrFrame = errors.New("bad frame of a shared disk")

// hello opens a connection.
type hello struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Host    string `json:"host"`            // the replica's name
	Life    string `json:"life"`            // its incarnation
	View    uint64 `json:"view"`            // that it leads; 0: it only wants to know what disk this is
	Session uint64 `json:"session"`         // connections of one life have rising numbers
	Takes   string `json:"takes,omitempty"` // how the names of groups begin from which it may take the disk
	Reads   bool   `json:"reads,omitempty"` // it announces nothing, and reads what the disk's group has there: a backup
}

// welcome answers it.
type welcome struct {
	Disk    string `json:"disk,omitempty"` // the disk's identity: 64 hexadecimal digits
	Sectors uint64 `json:"sectors,omitempty"`
	Boot    string `json:"boot,omitempty"`   // of the server's host: another one means that its cache is gone
	Error   string `json:"error,omitempty"`  // why not
	Fenced  bool   `json:"fenced,omitempty"` // with Error: for ever, as somebody else leads
}

var errRequest = fmt.Errorf("%w: malformed request", ErrFrame)

// appendFrame appends a frame whose content fill appends.
func appendFrame(b []byte, kind byte, fill func([]byte) []byte) []byte {
	start := len(b)
	b = fill(append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind))
	body := b[start+headBytes:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// readFrame reads a frame of at most limit bytes into buf, which it may replace by a larger one.
func readFrame(r *bufio.Reader, buf *[]byte, limit uint32) (kind byte, body []byte, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > limit {
		return 0, nil, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	if cap(*buf) < int(n) {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: checksum does not match", ErrFrame)
	}
	return b[0], b[1:], nil
}

func appendJSON(b []byte, kind byte, v any) []byte {
	return appendFrame(b, kind, func(b []byte) []byte {
		p, err := json.Marshal(v)
		if err != nil {
			panic(err) // of strings and numbers
		}
		return append(b, p...)
	})
}

func readJSON(r *bufio.Reader, want byte, v any) error {
	var buf []byte
	kind, body, err := readFrame(r, &buf, maxHelloBytes)
	if err != nil {
		return err
	}
	if kind != want {
		return fmt.Errorf("%w: kind %#x at the start", ErrFrame, kind)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return nil
}

func appendRequest(b []byte, q event.DiskRequest) []byte {
	return appendFrame(b, kindRequest, func(b []byte) []byte {
		b = binary.AppendUvarint(b, q.ID)
		b = binary.AppendUvarint(append(b, byte(q.Op)), q.Sector)
		b = binary.AppendUvarint(b, uint64(q.Count))
		return append(b, q.Data...)
	})
}

// parseRequest reads what appendRequest wrote. Data is part of b. Whether the sectors are the disk's is not looked at.
func parseRequest(b []byte) (q event.DiskRequest, err error) {
	id, n := binary.Uvarint(b)
	if n <= 0 || len(b) == n {
		return q, errRequest
	}
	q.ID, q.Op, b = id, event.DiskOp(b[n]), b[n+1:]
	if q.Sector, n = binary.Uvarint(b); n <= 0 {
		return q, errRequest
	}
	b = b[n:]
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return q, errRequest
	}
	b = b[n:]
	limit, data := uint64(maxCount), uint64(0)
	switch q.Op {
	case event.DiskRead:
	case event.DiskWrite:
		data = count * disk.SectorBytes
	case event.DiskFlush:
		limit = 0
	case event.DiskDiscard:
		limit = virtio.MaxDiscardSectors
	default:
		return q, errRequest
	}
	if count > limit || uint64(len(b)) != data {
		return q, errRequest
	}
	q.Count = uint32(count)
	if data > 0 {
		q.Data = b
	}
	return q, nil
}

func appendAnswer(b []byte, d event.DiskDone) []byte {
	return appendFrame(b, kindAnswer, func(b []byte) []byte { return event.AppendDiskDone(b, d) })
}

// refusal tells why a request was not carried out.
type refusal byte

const (
	refusedView    refusal = iota + 1 // a later view was announced, or another group has the disk
	refusedSession                    // the same replica has a newer connection, or this one never led
	refusedWrite                      // this connection only reads
)

func appendRefusal(b []byte, id uint64, why refusal) []byte {
	return appendFrame(b, kindRefusal, func(b []byte) []byte { return append(binary.AppendUvarint(b, id), byte(why)) })
}

func parseRefusal(b []byte) (refusal, error) {
	_, n := binary.Uvarint(b)
	if n <= 0 || len(b) != n+1 || b[n] < byte(refusedView) || b[n] > byte(refusedWrite) {
		return 0, fmt.Errorf("%w: malformed refusal", ErrFrame)
	}
	return refusal(b[n]), nil
}
