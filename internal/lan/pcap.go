package lan

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"
)

// pcapWriter writes frames to a capture file in the classic libpcap format (magic 0xa1b23c4d: time stamps
// in nanoseconds; link type 1: Ethernet). Each frame is one write, so that the file is whole up to the last
// frame whenever the process dies.
type pcapWriter struct {
	mu  sync.Mutex
	f   *os.File
	buf []byte
}

func createPcap(path string) (*pcapWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create capture file: %w", err)
	}
	h := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	h = binary.LittleEndian.AppendUint16(h, 2) // version 2.4
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = binary.LittleEndian.AppendUint32(h, MaxFrame)
	h = binary.LittleEndian.AppendUint32(h, 1)
	if _, err := f.Write(h); err != nil {
		f.Close()
		return nil, fmt.Errorf("write capture file: %w", err)
	}
	return &pcapWriter{f: f}, nil
}

// write appends a frame. A capture that cannot be written ends quietly: it must not stop the LAN.
func (p *pcapWriter) write(frame []byte) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		return
	}
	b := binary.LittleEndian.AppendUint32(p.buf[:0], uint32(now.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(now.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	p.buf = append(b, frame...)
	if _, err := p.f.Write(p.buf); err != nil {
		p.f.Close()
		p.f = nil
	}
}

func (p *pcapWriter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
}
