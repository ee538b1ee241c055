package host

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"understudy/replica"
)

// maxQueuedBytes bounds what waits to be written to the peer. The core's own bounds on unacknowledged
// entries are far lower, so reaching it means that the peer stopped reading; the channel is then closed,
// which is a reason for suspicion like any other.
const maxQueuedBytes = 256 << 20

// maxFramesBytes is what may wait to be written before sendFrame waits too.
const maxFramesBytes = 1 << 20

var errPeerStuck = errors.New("the peer does not read the log channel")

// channel is one connection between primary and backup. Writing never blocks the caller: what the socket
// takes at once is written at once, without a switch to another thread; the rest waits for a goroutine that
// writes it when there is room, together with what has gathered meanwhile.
type channel struct {
	conn    net.Conn
	raw     syscall.RawConn // nil: always by the goroutine
	in      *bufio.Reader
	mu      sync.Mutex
	ready   sync.Cond // for the writer: something to write
	room    sync.Cond // for whoever waits in sendFrame
	queue   []byte
	stash   []byte // messages that wait behind what resume will bring
	held    bool   // stash is in use
	writing bool   // the goroutine is in a write: nothing may overtake it
	ending  bool   // closed when the queue is empty
	closed  bool
	stuck   bool          // closed because the peer does not read
	sent    atomic.Uint64 // bytes
	arrived atomic.Uint64
	done    sync.WaitGroup
}

func newChannel(conn net.Conn, in *bufio.Reader) *channel {
	c := &channel{conn: conn, in: in}
	c.ready.L, c.room.L = &c.mu, &c.mu
	if sc, ok := conn.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.done.Add(1)
	go c.write()
	return c
}

// send queues messages.
func (c *channel) send(ms []replica.Message) {
	c.mu.Lock()
	switch {
	case c.closed:
	case c.held:
		for i := range ms {
			c.stash = appendMessage(c.stash, &ms[i])
		}
		c.boundLocked(len(c.stash))
	default:
		idle := len(c.queue) == 0 && !c.writing
		for i := range ms {
			c.queue = appendMessage(c.queue, &ms[i])
		}
		if idle {
			c.tryLocked()
		}
		c.boundLocked(len(c.queue))
	}
	rest := len(c.queue) > 0
	c.mu.Unlock()
	if rest {
		c.ready.Signal()
	}
}

func (c *channel) boundLocked(bytes int) {
	if bytes > maxQueuedBytes {
		c.stuck = true
		c.closeLocked()
	}
}

// sendFrame queues one frame of another kind, when there is room for it. It reports false if the channel ended.
func (c *channel) sendFrame(kind byte, parts ...[]byte) bool {
	c.mu.Lock()
	for len(c.queue) > maxFramesBytes && !c.closed {
		c.room.Wait()
	}
	ok := !c.closed && !c.ending
	if ok {
		start := len(c.queue)
		c.queue = beginFrame(c.queue, kind)
		for _, p := range parts {
			c.queue = append(c.queue, p...)
		}
		endFrame(c.queue, start)
	}
	c.mu.Unlock()
	c.ready.Signal()
	return ok
}

// hold keeps messages back until resume: what is sent with sendFrame meanwhile goes before them.
func (c *channel) hold() {
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
}

func (c *channel) resume() {
	c.mu.Lock()
	c.held = false
	c.queue = append(c.queue, c.stash...)
	c.stash = nil
	c.mu.Unlock()
	c.ready.Signal()
}

// finish closes the channel when what was sent has been written.
func (c *channel) finish() {
	c.mu.Lock()
	c.ending = true
	if len(c.queue) == 0 && !c.writing {
		c.closeLocked()
	}
	c.mu.Unlock()
	c.ready.Signal()
}

// tryLocked writes what the socket takes without waiting.
func (c *channel) tryLocked() {
	if c.raw == nil {
		return
	}
	n := 0
	err := c.raw.Write(func(fd uintptr) bool {
		var err error
		if n, err = unix.Write(int(fd), c.queue); err != nil {
			n = 0 // full, or broken: the goroutine's write will tell
		}
		return true
	})
	if err != nil || n <= 0 {
		return
	}
	c.sent.Add(uint64(n))
	c.queue = c.queue[:copy(c.queue, c.queue[n:])]
}

func (c *channel) write() {
	defer c.done.Done()
	var out []byte
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.ready.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		out, c.queue = c.queue, out[:0]
		c.writing = true
		c.mu.Unlock()
		n, err := c.conn.Write(out)
		c.sent.Add(uint64(n))
		if err != nil {
			c.close()
			return
		}
		c.mu.Lock()
		c.writing = false
		if c.ending && len(c.queue) == 0 {
			c.closeLocked()
		}
		c.mu.Unlock()
		c.room.Broadcast()
	}
}

// receive reads messages until the connection ends, and gives the reason.
func (c *channel) receive(each func(kind byte, body []byte) error) error {
	var buf []byte
	for {
		kind, body, err := readFrame(c.in, &buf)
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.stuck {
				return errPeerStuck
			}
			return err
		}
		c.arrived.Add(uint64(frameHead + 1 + len(body)))
		if err := each(kind, body); err != nil {
			return err
		}
	}
}

func (c *channel) closeLocked() {
	if !c.closed {
		c.closed = true
		c.conn.Close()
		c.ready.Broadcast()
		c.room.Broadcast()
	}
}

// close ends the connection; it may be called from anywhere, more than once.
func (c *channel) close() {
	c.mu.Lock()
	c.closeLocked()
	c.mu.Unlock()
}
