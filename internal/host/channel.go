package host

import (
	"bufio"
	"errors"
	"fmt"
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

var errPeerStuck = errors.New("the peer does not read the log channel")

// channel is one connection between primary and backup. Writing never blocks the caller: what the socket
// takes at once is written at once, without a switch to another thread; the rest waits for a goroutine that
// writes it when there is room, together with what has gathered meanwhile.
type channel struct {
	conn    net.Conn
	raw     syscall.RawConn // nil: always by the goroutine
	in      *bufio.Reader
	mu      sync.Mutex
	ready   sync.Cond
	queue   []byte
	writing bool // the goroutine is in a write: nothing may overtake it
	closed  bool
	stuck   bool          // closed because the peer does not read
	sent    atomic.Uint64 // bytes
	arrived atomic.Uint64
	done    sync.WaitGroup
}

func newChannel(conn net.Conn, in *bufio.Reader) *channel {
	c := &channel{conn: conn, in: in}
	c.ready.L = &c.mu
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
	if !c.closed {
		idle := len(c.queue) == 0 && !c.writing
		for i := range ms {
			c.queue = appendMessage(c.queue, &ms[i])
		}
		if idle {
			c.tryLocked()
		}
		if len(c.queue) > maxQueuedBytes {
			c.stuck = true
			c.closeLocked()
		}
	}
	rest := len(c.queue) > 0
	c.mu.Unlock()
	if rest {
		c.ready.Signal()
	}
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
		c.mu.Unlock()
	}
}

// receive reads messages until the connection ends, and gives the reason.
func (c *channel) receive(each func(replica.Message) error) error {
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
		m, err := parseMessage(kind, body)
		if err != nil {
			return fmt.Errorf("read log channel: %w", err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

func (c *channel) closeLocked() {
	if !c.closed {
		c.closed = true
		c.conn.Close()
		c.ready.Broadcast()
	}
}

// close ends the connection; it may be called from anywhere, more than once.
func (c *channel) close() {
	c.mu.Lock()
	c.closeLocked()
	c.mu.Unlock()
}
