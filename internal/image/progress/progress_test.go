package progress

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := NewLines(&out)
	task := p.Start("file", 2_000_000)
	io.Copy(io.Discard, Reader(strings.NewReader(strings.Repeat("x", 1500)), task))
	task.Done()
	task.Done()
	p.Note("a note")
	p.Close()
	if got, want := out.String(), "file: 1.5 kB\na note\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Close must come back whatever became of the tasks: a full bar, an abandoned one, one of unknown size.
func TestBarsEnd(t *testing.T) {
	p := NewBars(io.Discard)
	full, part, unknown := p.Start("full", 100), p.Start("part", 100), p.Start(strings.Repeat("long", 30), 0)
	full.Add(100)
	part.Add(10)
	unknown.Add(10)
	p.Note("a note")
	for _, task := range []Task{full, part, unknown} {
		task.Done()
		task.Done()
	}
	done := make(chan struct{})
	go func() {
		p.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Close does not come back")
	}
}
