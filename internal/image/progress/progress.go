// Package progress shows long transfers: bars on a terminal, one plain line per finished item elsewhere.
//
// Callers hold a Progress, Start a Task per item, Add the bytes as they come and call Done exactly once,
// whether the item succeeded or not.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Progress is where long work tells how far it is. Implementations may be used from several goroutines.
type Progress interface {
	// Start announces an item of totalBytes (0 or less: not known).
	Start(name string, totalBytes int64) Task
	// Note tells one line that belongs between the items.
	Note(line string)
}

// Task is one item of work under way.
type Task interface {
	// Add counts n further bytes; a negative n takes bytes back (a transfer starts again).
	Add(n int64)
	// Done ends the item. Calling it twice is harmless.
	Done()
}

// Closer is a Progress that must be closed for its last frame to be drawn.
type Closer interface {
	Progress
	// Close draws what is left and waits for the drawing to end.
	Close()
}

// Discard shows nothing.
var Discard Progress = discard{}

type discard struct{}

func (discard) Start(string, int64) Task { return discard{} }
func (discard) Note(string)              {}
func (discard) Add(int64)                {}
func (discard) Done()                    {}

// New gives bars when f is a terminal, plain lines when it is not.
func New(f *os.File) Closer {
	if term.IsTerminal(int(f.Fd())) {
		return NewBars(f)
	}
	return NewLines(f)
}

type lines struct {
	mu sync.Mutex
	w  io.Writer
}

// NewLines writes one line to w when an item ends.
func NewLines(w io.Writer) Closer { return &lines{w: w} }

func (l *lines) Close() {}

func (l *lines) Note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, line)
}

func (l *lines) Start(name string, totalBytes int64) Task {
	return &lineTask{out: l, name: name}
}

type lineTask struct {
	out   *lines
	mu    sync.Mutex
	name  string
	bytes int64
	ended bool
}

func (t *lineTask) Add(n int64) {
	t.mu.Lock()
	t.bytes += n
	t.mu.Unlock()
}

func (t *lineTask) Done() {
	t.mu.Lock()
	ended, bytes := t.ended, t.bytes
	t.ended = true
	t.mu.Unlock()
	if !ended {
		t.out.Note(fmt.Sprintf("%s: %s", t.name, Bytes(bytes)))
	}
}

type bars struct {
	p *mpb.Progress
}

// NewBars draws bars on w, which is taken to be a terminal.
func NewBars(w io.Writer) Closer {
	return &bars{p: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))}
}

func (b *bars) Close() { b.p.Wait() }

func (b *bars) Note(line string) { fmt.Fprintln(b.p, line) }

func (b *bars) Start(name string, totalBytes int64) Task {
	if totalBytes < 0 {
		totalBytes = 0
	}
	if len(name) > 44 {
		name = name[:41] + "..."
	}
	bar := b.p.AddBar(totalBytes,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WC{C: decor.DindentRight | decor.DextraSpace, W: 46})),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
	return &barTask{bar: bar}
}

type barTask struct {
	bar  *mpb.Bar
	once sync.Once
}

func (t *barTask) Add(n int64) { t.bar.IncrInt64(n) }

func (t *barTask) Done() {
	// A bar that never reached its total would keep Close waiting: end it where it is.
	t.once.Do(func() {
		t.bar.SetTotal(-1, true)
		t.bar.Abort(true)
	})
}

// Bytes writes a size the way people read it: "31.2 MB" (powers of 1000).
func Bytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

// Reader counts on t what is read from r.
func Reader(r io.Reader, t Task) io.Reader { return &countingReader{r, t} }

type countingReader struct {
	r io.Reader
	t Task
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.t.Add(int64(n))
	return n, err
}
