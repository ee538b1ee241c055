package host

import (
	"io"
	"sync"
)

// maxConsoleBytes bounds console output that nobody reads.
const maxConsoleBytes = 1 << 20

// consoleWriter writes the guest's console in a goroutine of its own, so that a terminal that stands still
// never stops the replica. What does not fit its buffer is dropped.
type consoleWriter struct {
	w      io.Writer
	mu     sync.Mutex
	ready  sync.Cond
	buf    []byte
	closed bool
	done   chan struct{}
}

func newConsoleWriter(w io.Writer) *consoleWriter {
	c := &consoleWriter{w: w, done: make(chan struct{})}
	c.ready.L = &c.mu
	go c.run()
	return c
}

func (c *consoleWriter) write(p []byte) {
	c.mu.Lock()
	if len(c.buf)+len(p) <= maxConsoleBytes {
		c.buf = append(c.buf, p...)
	}
	c.mu.Unlock()
	c.ready.Signal()
}

func (c *consoleWriter) run() {
	defer close(c.done)
	var out []byte
	for {
		c.mu.Lock()
		for len(c.buf) == 0 && !c.closed {
			c.ready.Wait()
		}
		if len(c.buf) == 0 {
			c.mu.Unlock()
			return
		}
		out, c.buf = c.buf, out[:0]
		c.mu.Unlock()
		if _, err := c.w.Write(out); err != nil {
			// Nobody hears the console any more; the guest goes on.
			c.w = io.Discard
		}
	}
}

// close writes what is left and ends the goroutine.
func (c *consoleWriter) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.ready.Signal()
	<-c.done
}
