package logchannel

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

// The kinds of frames that every log channel knows. Those of a state transfer belong to who transfers; they use other
// letters. docs/formats.md has the contents.
const (
	KindHello   = 'H' // primary to backup: JSON, see Hello
	KindWelcome = 'W' // backup to primary: JSON, see Welcome
	kindAppend  = 'A'
	kindAsk     = 'Q' // an append that is to be acknowledged at once
	kindAck     = 'K'
	kindOver    = 'O' // the view was handed over
)

const (
	HeadBytes = 8
	// MaxFrameBytes bounds a frame: a batch of replica's bound, one largest entry above it, and its head.
	MaxFrameBytes = 10 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrFrame is wrapped by errors about a peer that does not speak the protocol.
var ErrFrame = errors.New("bad frame on the log channel")

// beginFrame starts a frame in b; endFrame, given where it started, fills in its head.
func beginFrame(b []byte, kind byte) []byte {
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
}

func endFrame(b []byte, start int) []byte {
	body := b[start+HeadBytes:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// ReadFrame reads one frame into buf, which it may replace by a larger one, and gives kind and content.
func ReadFrame(r *bufio.Reader, buf *[]byte) (kind byte, body []byte, err error) {
	var head [HeadBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrameBytes {
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

// AppendMessage appends m as one frame.
func AppendMessage(b []byte, m *replica.Message) []byte {
	start := len(b)
	switch m.Type {
	case replica.MsgAppend:
		kind := byte(kindAppend)
		if m.Ask {
			kind = kindAsk
		}
		b = beginFrame(b, kind)
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
		b = beginFrame(b, kindOver)
		b = binary.AppendUvarint(b, uint64(m.View))
		b = binary.AppendUvarint(b, uint64(m.Held))
	case replica.MsgAck:
		b = beginFrame(b, kindAck)
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

// ParseMessage reads a frame's content. Entries' data are copied, so that the frame's buffer can be reused.
func ParseMessage(kind byte, b []byte) (m replica.Message, err error) {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			if err == nil {
				err = fmt.Errorf("%w: field missing", ErrFrame)
			}
			return 0
		}
		b = b[n:]
		return v
	}
	switch kind {
	case kindAppend, kindAsk:
		m.Type, m.Ask = replica.MsgAppend, kind == kindAsk
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
	case kindAck:
		m.Type = replica.MsgAck
		m.View = replica.ViewNumber(next())
		m.Echo = time.Duration(next())
		m.Held = event.Seq(next())
		m.Executed = event.Seq(next())
		m.Progress = next()
		m.Gap = next() != 0
	case kindOver:
		m.Type = replica.MsgHandOver
		m.View = replica.ViewNumber(next())
		m.Held = event.Seq(next())
	default:
		return m, fmt.Errorf("%w: kind %#x", ErrFrame, kind)
	}
	if err == nil && len(b) != 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrFrame, len(b))
	}
	return m, err
}
