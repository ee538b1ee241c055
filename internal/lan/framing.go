package lan

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The bounds on a frame's length in bytes, without the length prefix.
const (
	// MinFrame is an Ethernet header: two addresses and a type. Shorter is a protocol error.
	MinFrame = 14
	// MaxFrame admits what a guest with segmentation offload may send: 65,535 bytes of IP and a header
	// with room for a tag. Longer is a protocol error.
	MaxFrame = 65550
)

// A FramingError reports a peer that announced a frame of an impossible length. Nothing after it on the
// stream can be trusted.
type FramingError struct {
	Length uint32 // bytes, as announced
}

func (e *FramingError) Error() string {
	return fmt.Sprintf("frame of %d bytes announced, want %d to %d", e.Length, MinFrame, MaxFrame)
}

// AppendFrame appends frame to b as it travels: its length, 32 bits big endian, then itself. The frame's
// length must be MinFrame to MaxFrame.
func AppendFrame(b, frame []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}

// ReadFrame reads the next frame into buf, which must hold MaxFrame bytes, and returns it as a part of buf.
// The error is io.EOF at the end of the stream between two frames, io.ErrUnexpectedEOF within one, a
// *FramingError for a bad length, or the reader's own.
func ReadFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n < MinFrame || n > MaxFrame {
		return nil, &FramingError{Length: n}
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf[:n], nil
}
