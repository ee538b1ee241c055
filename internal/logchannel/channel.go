package logchannel

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/replica"
)

// maxQueuedBytes bounds what waits to be written to the peer. The core's own bounds on unacknowledged
// entries are far lower, so reaching it means that the peer stopped reading; the channel is then closed,
// which is a reason for suspicion like any other.
const maxQueuedBytes = 256 << 20

// maxFramesBytes is what may wait to be written before SendFrame waits too.
const maxFramesBytes = 1 << 20

// ErrPeerStuck is why a channel was closed whose other end takes nothing any more.
var ErrPeerStuck = errors.New("the peer does not read the log channel")

// Channel is one connection between primary and backup. Writing never blocks the caller: what the socket
// takes at once is written at once, without a switch to another thread; the rest waits for a goroutine that
// writes it when there is room, together with what has gathered meanwhile.
type Channel struct {
	conn    net.Conn
	raw     syscall.RawConn // nil: always by the goroutine
	in      *bufio.Reader
	mu      sync.Mutex
	ready   sync.Cond // for the writer: something to write
	room    sync.Cond // for whoever waits in SendFrame
	queue   []byte
	stash   []byte // messages that wait behind what Resume will bring
	held    bool   // stash is in use
	writing bool   // the goroutine is in a write: nothing may overtake it
	ending  bool   // closed when the queue is empty
	closed  bool
	stuck   bool          // closed because the peer does not read
	sent    atomic.Uint64 // bytes
	arrived atomic.Uint64
	done    sync.WaitGroup
}

// New makes a channel of a connection whose handshake is over; in has what was read of it already.
func New(conn net.Conn, in *bufio.Reader) *Channel {
	c := &Channel{conn: conn, in: in}
	c.ready.L, c.room.L = &c.mu, &c.mu
	if sc, ok := conn.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.done.Add(1)
	go c.write()
	return c
}

// Send queues messages.
func (c *Channel) Send(ms []replica.Message) {
	c.mu.Lock()
	switch {
	case c.closed:
	case c.held:
		for i := range ms {
			c.stash = AppendMessage(c.stash, &ms[i])
		}
		c.boundLocked(len(c.stash))
	default:
		idle := len(c.queue) == 0 && !c.writing
		for i := range ms {
			c.queue = AppendMessage(c.queue, &ms[i])
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

func (c *Channel) boundLocked(bytes int) {
	if bytes > maxQueuedBytes {
		c.stuck = true
		c.closeLocked()
	}
}

// SendFrame queues one frame of another kind, when there is room for it. It reports false if the channel ended.
func (c *Channel) SendFrame(kind byte, parts ...[]byte) bool {
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

// Hold keeps messages back until Resume: what is sent with SendFrame meanwhile goes before them.
func (c *Channel) Hold() {
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
}

// Resume queues what Hold kept back, and holds no more.
func (c *Channel) Resume() {
	c.mu.Lock()
	c.held = false
	c.queue = append(c.queue, c.stash...)
	c.stash = nil
	c.mu.Unlock()
	c.ready.Signal()
}

// Finish closes the channel when what was sent has been written.
func (c *Channel) Finish() {
	c.mu.Lock()
	c.ending = true
	if len(c.queue) == 0 && !c.writing {
		c.closeLocked()
	}
	c.mu.Unlock()
	c.ready.Signal()
}

// tryLocked writes what the socket takes without waiting.
func (c *Channel) tryLocked() {
	if c.raw == nil {
		return
	}
	n := 0
	err := c.raw.Write(func(fd uintptr) bool {
		// Not announced to Go's scheduler: the call does not block, but on one machine it brings the bytes to their reader, and
		// lasts longer than the scheduler lets a processor be in a call.
		r, _, err := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(c.queue))), uintptr(len(c.queue)), unix.MSG_NOSIGNAL, 0, 0)
		if n = int(r); err != 0 {
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

func (c *Channel) write() {
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
			c.Close()
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

// Receive reads messages until the connection ends, and gives the reason.
func (c *Channel) Receive(each func(kind byte, body []byte) error) error {
	var buf []byte
	for {
		kind, body, err := ReadFrame(c.in, &buf)
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.stuck {
				return ErrPeerStuck
			}
			return err
		}
		c.arrived.Add(uint64(HeadBytes + 1 + len(body)))
		if err := each(kind, body); err != nil {
			return err
		}
	}
}

func (c *Channel) closeLocked() {
	if !c.closed {
		c.closed = true
		c.conn.Close()
		c.ready.Broadcast()
		c.room.Broadcast()
	}
}

// Close ends the connection; it may be called from anywhere, more than once.
func (c *Channel) Close() {
	c.mu.Lock()
	c.closeLocked()
	c.mu.Unlock()
}

// Wait returns when nothing writes to the connection any more: soon after Close, or after Finish when all is written.
func (c *Channel) Wait() { c.done.Wait() }

// SentBytes and ArrivedBytes are what has gone over the channel, frame heads included.
func (c *Channel) SentBytes() uint64    { return c.sent.Load() }
func (c *Channel) ArrivedBytes() uint64 { return c.arrived.Load() }
