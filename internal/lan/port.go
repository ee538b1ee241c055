package lan

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"understudy/internal/pki"
)

// Dialer holds the options for joining a LAN. The zero value is ready for use.
type Dialer struct {
	// QueueBytes bounds the frames that wait to be sent; 0 means DefaultQueueBytes.
	QueueBytes int
	// Handler is called for every frame received, from one goroutine; it owns the frame. While it does
	// not return, frames gather in the socket and then at the switch, where they are dropped in the end.
	// nil: frames go to Port.Frames.
	Handler func(frame []byte)
	// OnUp is called whenever the port is plugged in, at first and after each reconnection, before any
	// frame is delivered: the moment for a primary to announce its address (GratuitousARP, Announce). The
	// first call may come before Dial has returned.
	OnUp func(p *Port)
	// Retry makes Dial succeed although the LAN cannot be reached yet.
	Retry bool
	// MinBackoff and MaxBackoff bound the pause between two attempts to reconnect. Zero means 20 ms and 1 s.
	MinBackoff, MaxBackoff time.Duration
	// Identity, if set, is shown to the LAN, which must show a certificate with the name CertificateName. A LAN
	// that does not accept ours hangs up after Dial has returned; the log says so.
	Identity *pki.Identity
	// Log receives what happens to the connection; nil discards it.
	Log *slog.Logger
}

// frameBacklog is how many received frames wait in Port.Frames.
const frameBacklog = 512

// connectTimeout bounds one attempt to connect.
const connectTimeout = 5 * time.Second

// Port is a guest's end of a cable to the LAN. It plugs itself in again when the LAN went away; frames sent
// meanwhile are dropped, as on any network.
type Port struct {
	d             Dialer
	network, addr string
	frames        chan []byte
	cancel        context.CancelFunc
	done          chan struct{} // closed when the port's goroutines have ended

	queue   atomic.Pointer[outQueue] // nil while unplugged
	dropped atomic.Uint64            // frames sent while unplugged, and those of past queues
	sent    atomic.Uint64            // frames of past queues
	recv    atomic.Uint64

	mu    sync.Mutex         // orders announcements and reconnections
	views map[[6]byte]uint64 // what to announce whenever the port is plugged in
}

// Dial joins the LAN that listens at addr; network is "tcp" or "unix". The port lives until Close or until
// ctx ends.
func Dial(ctx context.Context, network, addr string) (*Port, error) {
	return (&Dialer{}).Dial(ctx, network, addr)
}

// Dial joins the LAN that listens at addr; network is "tcp" or "unix". The port lives until Close or until
// ctx ends. The dialer is copied.
func (d *Dialer) Dial(ctx context.Context, network, addr string) (*Port, error) {
	p := &Port{d: *d, network: network, addr: addr, done: make(chan struct{})}
	if p.d.MinBackoff <= 0 {
		p.d.MinBackoff = 20 * time.Millisecond
	}
	p.d.MaxBackoff = max(p.d.MinBackoff, p.d.MaxBackoff)
	if d.MaxBackoff <= 0 {
		p.d.MaxBackoff = max(p.d.MinBackoff, time.Second)
	}
	if p.d.Log == nil {
		p.d.Log = slog.New(slog.DiscardHandler)
	}
	if p.d.Handler == nil {
		p.frames = make(chan []byte, frameBacklog)
	}
	conn, err := p.connect(ctx)
	if err != nil && !p.d.Retry {
		return nil, fmt.Errorf("join LAN at %s: %w", addr, err)
	}
	ctx, p.cancel = context.WithCancel(ctx)
	if conn != nil {
		p.plug() // so that Send works once Dial has returned
	}
	go p.run(ctx, conn)
	return p, nil
}

func (p *Port) connect(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, p.network, p.addr) // TCP_NODELAY is Go's default
	if err != nil || p.d.Identity == nil {
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	secure := tls.Client(conn, p.d.Identity.Client(CertificateName))
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("agree on certificates: %w", err)
	}
	return secure, nil
}

// plug makes the queue of a new connection, with the announcements ahead of all else.
func (p *Port) plug() {
	q := newOutQueue(p.d.QueueBytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	for mac, view := range p.views {
		q.pushRegardless(viewFrame(view, mac))
	}
	p.queue.Store(q)
}

// Announce says that this port speaks for mac in that view, a primary's number at the arbiter, 1 or more: at
// once, ahead of what is sent later, and again, with the highest view so far, whenever the port is plugged in
// anew. From then on the switch drops frames from mac that come from ports which have not announced as high a
// view, and mac is at this port. View 0 calls the repetition off. The caller sends GratuitousARP or Announce
// besides, for switches that know nothing of views. It panics if mac is a group address or zero.
func (p *Port) Announce(view uint64, mac [6]byte) {
	if mac[0]&1 != 0 || mac == ([6]byte{}) {
		panic("lan: announce a view of " + macString(mac))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if view == 0 {
		delete(p.views, mac)
		return
	}
	if view < p.views[mac] {
		return
	}
	if p.views == nil {
		p.views = make(map[[6]byte]uint64)
	}
	p.views[mac] = view
	if q := p.queue.Load(); q != nil {
		q.pushRegardless(viewFrame(view, mac))
	}
}

// Send queues a copy of frame for the LAN. It never waits: it drops the frame, counted in Stats, when the
// queue is full or the LAN is away, or when the frame is an announcement of a view: Announce alone sends those,
// never a guest. It panics if the frame's length is not MinFrame to MaxFrame.
func (p *Port) Send(frame []byte) {
	if len(frame) < MinFrame || len(frame) > MaxFrame {
		panic(fmt.Sprintf("lan: send frame of %d bytes", len(frame)))
	}
	_, forged := announcedView(frame)
	if q := p.queue.Load(); q != nil && !forged {
		q.push(frame)
		return
	}
	p.dropped.Add(1)
}

// Frames returns the channel of received frames, which the receiver owns. It is closed after Close. It is nil
// if the dialer has a Handler.
func (p *Port) Frames() <-chan []byte { return p.frames }

// Up reports whether the port is plugged in.
func (p *Port) Up() bool { return p.queue.Load() != nil }

// Close unplugs the port for good and waits for its goroutines. It must not be called by the Handler.
func (p *Port) Close() error {
	p.cancel()
	<-p.done
	return nil
}

// PortStats counts frames of one port.
type PortStats struct {
	Sent, Received uint64
	Dropped        uint64 // not sent: the queue was full or the LAN away
}

// Stats returns the port's counters.
func (p *Port) Stats() PortStats {
	s := PortStats{Sent: p.sent.Load(), Received: p.recv.Load(), Dropped: p.dropped.Load()}
	if q := p.queue.Load(); q != nil {
		s.Sent += q.sent.Load()
		s.Dropped += q.dropped.Load()
	}
	return s
}

// run keeps the port plugged in until ctx ends.
func (p *Port) run(ctx context.Context, conn net.Conn) {
	defer close(p.done)
	if p.frames != nil {
		defer close(p.frames)
	}
	backoff := p.d.MinBackoff
	for {
		if conn != nil {
			begun := time.Now()
			err := p.session(ctx, conn)
			if time.Since(begun) > p.d.MaxBackoff { // else it may be that the LAN does not want us
				backoff = p.d.MinBackoff
			}
			if ctx.Err() != nil {
				return
			}
			p.d.Log.Warn("LAN is gone, frames are dropped until it is back", "addr", p.addr, "err", err)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		backoff = min(2*backoff, p.d.MaxBackoff)
		var err error
		if conn, err = p.connect(ctx); err != nil {
			p.d.Log.Debug("LAN cannot be reached", "addr", p.addr, "err", err)
			conn = nil
		} else {
			p.plug()
			p.d.Log.Info("joined LAN", "addr", p.addr)
		}
	}
}

// session moves frames over one connection, with the queue that is current, until it fails or ctx ends.
func (p *Port) session(ctx context.Context, conn net.Conn) error {
	q := p.queue.Load()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() {
		if q.run(conn) != nil {
			conn.Close() // ends the reader
		}
	})
	if p.d.OnUp != nil {
		p.d.OnUp(p)
	}
	err := p.receive(ctx, conn)
	p.queue.Store(nil)
	conn.Close()
	q.close()
	writer.Wait()
	p.sent.Add(q.sent.Load())
	p.dropped.Add(q.dropped.Load())
	return err
}

func (p *Port) receive(ctx context.Context, conn net.Conn) error {
	r := bufio.NewReaderSize(conn, readerBytes)
	buf := make([]byte, MaxFrame)
	for {
		f, err := ReadFrame(r, buf)
		if err != nil {
			return err
		}
		p.recv.Add(1)
		frame := append([]byte(nil), f...)
		if p.d.Handler != nil {
			p.d.Handler(frame)
			continue
		}
		select {
		case p.frames <- frame:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
