package host

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"understudy/event"
	"understudy/replica"
)

// The log channel carries frames: a 32-bit big-endian length of what follows the head, a CRC-32C of it (32
// bits, big endian), then one byte that says what the frame is, then its content. docs/formats.md has the
// contents.

// ProtocolVersion is the version of the log channel. Sides of different versions refuse each other.
const ProtocolVersion = 2

const (
	frameHello   = 'H' // primary to backup: JSON, see hello
	frameWelcome = 'W' // backup to primary: JSON, see welcome
	frameAppend  = 'A'
	frameAck     = 'K'
	frameOver    = 'O' // the view was handed over

	// The state for a backup that joins, in this order where it matters; see docs/formats.md.
	framePages   = 'P' // a batch of package pages
	frameDisk    = 'D' // both ways: index of the disk (one byte), message of package disk
	frameConsole = 'C' // offset behind the newest byte said on consoles (64 bits, big endian), the bytes before it
	frameState   = 'S' // sequence number (uvarint), state of package machine: all the rest has come
	frameSorry   = 'X' // to the primary: why the state could not be taken
)

const (
	frameHead = 8
	// maxFrameBytes bounds a frame: a batch of replica's bound, one largest entry above it, and its head.
	maxFrameBytes = 10 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame is wrapped by errors about a peer that does not speak the protocol.
var errFrame = errors.New("bad frame on the log channel")

// beginFrame starts a frame in b; endFrame, given where it started, fills in its head.
func beginFrame(b []byte, kind byte) []byte {
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
}

func endFrame(b []byte, start int) []byte {
	body := b[start+frameHead:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// readFrame reads one frame into buf, which it may replace by a larger one, and gives kind and content.
func readFrame(r *bufio.Reader, buf *[]byte) (kind byte, body []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrameBytes {
		return 0, nil, fmt.Errorf("%w: length %d", errFrame, n)
	}
	if cap(*buf) < int(n) {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: checksum does not match", errFrame)
	}
	return b[0], b[1:], nil
}

// appendMessage appends m as one frame.
func appendMessage(b []byte, m *replica.Message) []byte {
	start := len(b)
	switch m.Type {
	case replica.MsgAppend:
		b = beginFrame(b, frameAppend)
		b = binary.AppendUvarint(b, uint64(m.View))
		b = binary.AppendUvarint(b, uint64(m.Sent))
		b = binary.AppendUvarint(b, uint64(m.Released))
		sync := uint64(0) // 0: not in sync
		if m.InSync {
			sync = uint64(m.SyncAt) + 1
		}
		b = binary.AppendUvarint(b, sync)
		b = event.AppendBatch(b, m.Entries)
	case replica.MsgHandOver:
		b = beginFrame(b, frameOver)
		b = binary.AppendUvarint(b, uint64(m.View))
		b = binary.AppendUvarint(b, uint64(m.Held))
	case replica.MsgAck:
		b = beginFrame(b, frameAck)
		b = binary.AppendUvarint(b, uint64(m.View))
		b = binary.AppendUvarint(b, uint64(m.Echo))
		b = binary.AppendUvarint(b, uint64(m.Held))
		b = binary.AppendUvarint(b, uint64(m.Executed))
		b = binary.AppendUvarint(b, m.Progress)
		if m.Gap {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return endFrame(b, start)
}

// parseMessage reads a frame's content. Entries' data are copied, so that the frame's buffer can be reused.
func parseMessage(kind byte, b []byte) (m replica.Message, err error) {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			if err == nil {
				err = fmt.Errorf("%w: field missing", errFrame)
			}
			return 0
		}
		b = b[n:]
		return v
	}
	switch kind {
	case frameAppend:
		m.Type = replica.MsgAppend
		m.View = replica.ViewNumber(next())
		m.Sent = time.Duration(next())
		m.Released = event.Seq(next())
		if sync := next(); sync > 0 {
			m.InSync, m.SyncAt = true, event.Seq(sync-1)
		}
		if err != nil {
			return m, err
		}
		m.Entries, b, err = event.ParseBatch(append([]byte(nil), b...))
	case frameAck:
		m.Type = replica.MsgAck
		m.View = replica.ViewNumber(next())
		m.Echo = time.Duration(next())
		m.Held = event.Seq(next())
		m.Executed = event.Seq(next())
		m.Progress = next()
		m.Gap = next() != 0
	case frameOver:
		m.Type = replica.MsgHandOver
		m.View = replica.ViewNumber(next())
		m.Held = event.Seq(next())
	default:
		return m, fmt.Errorf("%w: kind %#x", errFrame, kind)
	}
	if err == nil && len(b) != 0 {
		err = fmt.Errorf("%w: %d bytes too many", errFrame, len(b))
	}
	return m, err
}
