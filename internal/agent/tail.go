package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// tailMaxBytes bounds what is kept of a guest's console for those who ask when its process is over.
const tailMaxBytes = 256 << 10

// guestReady is what the init of our images says when its service answers.
var guestReady = []byte("understudy: guest ready")

// consoleTail keeps the newest of what a guest said. A running replica knows more; this is for when none runs.
type consoleTail struct {
	mu   sync.Mutex
	end  int64 // offset behind the newest byte
	kept []byte
	up   bool // guestReady was said
}

// at gives the offset from which more is wanted.
func (t *consoleTail) at() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

// add takes bytes that begin at an offset, and tells whether the guest has said that it is ready.
func (t *consoleTail) add(p []byte, at int64) (up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at != t.end {
		t.kept = nil // a gap: what was before it would be told at wrong offsets
	}
	before := max(0, len(t.kept)-len(guestReady))
	t.kept = append(t.kept, p...)
	t.up = t.up || bytes.Contains(t.kept[before:], guestReady)
	t.end = at + int64(len(p))
	if over := len(t.kept) - tailMaxBytes; over > tailMaxBytes {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return t.up
}

// read gives what is kept from an offset on, and the offset where that begins. A negative offset counts from the end.
func (t *consoleTail) read(from int64) ([]byte, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.end - int64(len(t.kept))
	if from < 0 {
		from += t.end
	}
	at := min(max(from, first), t.end)
	return append([]byte(nil), t.kept[at-first:]...), at
}

func (t *consoleTail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end, t.kept, t.up = 0, nil, false
}

// follow takes what a replica's guest says, until the context ends or the process does. It calls up once it has said that
// it is ready, perhaps again and again.
func (t *consoleTail) follow(ctx context.Context, ch *child, over <-chan struct{}, up func()) {
	buf := make([]byte, consoleChunk)
	for {
		body, at, err := ch.console(ctx, 0, t.at(), true)
		if err == nil {
			for err == nil {
				var n int
				n, err = body.Read(buf)
				if n > 0 {
					if t.add(buf[:n], at) {
						up()
					}
					at += int64(n)
				}
			}
			body.Close()
		}
		select {
		case <-over:
			return
		case <-ctx.Done():
			return
		case <-time.After(pollEvery):
		}
	}
}

// savedTail is a consoleTail in a file.
type savedTail struct {
	Group string `json:"group"`
	From  int64  `json:"from"`
	Data  []byte `json:"data"`
}

func (s *store) tailPath() string { return filepath.Join(s.dir, "console.json") }

// saveTail writes what was kept. It is for people only and need not survive a power cut.
func (s *store) saveTail(t *consoleTail, group string) error {
	data, from := t.read(0)
	raw, err := json.Marshal(savedTail{group, from, data})
	if err == nil {
		err = os.WriteFile(s.tailPath(), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the end of the console: %w", err)
	}
	return nil
}

// loadTail reads what was kept of a group's console, if anything was.
func (s *store) loadTail(t *consoleTail, group string) {
	f, err := os.Open(s.tailPath())
	if err != nil {
		return
	}
	defer f.Close()
	var saved savedTail
	if json.NewDecoder(io.LimitReader(f, 8*tailMaxBytes)).Decode(&saved) == nil && saved.Group == group && saved.From >= 0 {
		t.reset()
		t.add(saved.Data, saved.From)
	}
}
