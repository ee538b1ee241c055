package host

import "sync"

// consoleKeepBytes is how much of what the guest said on its consoles is kept for those who come later.
const consoleKeepBytes = 1 << 20

// consoleLog keeps the newest of what left the guest's consoles. Every replica that follows hears of all that left,
// so an offset means the same on each of them, and a reader can go on after a failover where it was.
type consoleLog struct {
	mu   sync.Mutex
	end  int64  // offset behind the newest byte: how much the guest ever said
	kept []byte // the bytes before end
	more chan struct{}
}

func (c *consoleLog) write(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end += int64(len(p))
	c.kept = append(c.kept, p...)
	if over := len(c.kept) - consoleKeepBytes; over > consoleKeepBytes/4 || over > 0 && cap(c.kept) > 2*consoleKeepBytes {
		c.kept = append(make([]byte, 0, 2*consoleKeepBytes), c.kept[over:]...)
	}
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

// state gives what a replica that joins has to know.
func (c *consoleLog) state() (end int64, kept []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, append([]byte(nil), c.kept[max(0, len(c.kept)-consoleKeepBytes):]...)
}

// position gives the offset behind the newest byte, and that of the oldest that is kept.
func (c *consoleLog) position() (end, first int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, c.end - int64(len(c.kept))
}

// restore replaces everything.
func (c *consoleLog) restore(end int64, kept []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end, c.kept = end, append([]byte(nil), kept...)
}

// read gives what is kept from an offset on, the offset where that begins, which is later than from if it was
// forgotten, and a channel that is closed when there is more. A negative offset counts from the end.
func (c *consoleLog) read(from int64) (p []byte, at int64, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.end - int64(len(c.kept))
	if from < 0 {
		from = c.end + from
	}
	at = min(max(from, first), c.end)
	if c.more == nil {
		c.more = make(chan struct{})
	}
	return append([]byte(nil), c.kept[at-first:]...), at, c.more
}
