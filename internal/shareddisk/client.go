package shareddisk

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/event"
	"understudy/internal/pki"
)

const (
	minBackoff, maxBackoff = 20 * time.Millisecond, time.Second
	dialTimeout            = 5 * time.Second
)

// Options say where a disk is and who wants it.
type Options struct {
	Addr  string // host:port, or the path of a unix socket
	Group string
	Host  string // the replica's name
	Life  string // its incarnation
	// Takes is how the names of groups begin from which this one may take the disk: those of the same machine's
	// former starts. Empty: from none.
	Takes string
	// BackupReads says that backups read by themselves what the leader read: the leader's changes wait for that.
	BackupReads bool
	Identity    *pki.Identity // needed beyond loopback
	Log         *slog.Logger  // nil: nowhere
}

// Info is what a disk is.
type Info struct {
	ID      [32]byte // of this disk and no other
	Sectors uint64
}

// RefusedError is the server's reason to turn us away.
type RefusedError struct {
	Addr   string
	Reason string
	Fenced bool // another one leads: it is for ever
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the shared disk at %s refused: %s", e.Addr, e.Reason)
}

// CheckAddr refuses an address that certificates are needed for.
func CheckAddr(addr string, id *pki.Identity) error {
	if strings.HasPrefix(addr, "/") {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("shared disk %q: want host:port or the path of a unix socket", addr)
	}
	if ip := net.ParseIP(host); id == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("shared disk %q: without certificates only loopback addresses are allowed", addr)
	}
	return nil
}

// Look asks what disk is there, and whether the group may use it.
func Look(ctx context.Context, o Options) (Info, error) {
	conn, _, w, err := connect(ctx, &o, hello{})
	if err != nil {
		return Info{}, err
	}
	conn.Close()
	return w.info()
}

func (w *welcome) info() (i Info, err error) {
	id, err := hex.DecodeString(w.Disk)
	if err != nil || len(id) != len(i.ID) || w.Sectors == 0 || w.Sectors > 1<<40 {
		return i, fmt.Errorf("%w: impossible welcome", ErrFrame)
	}
	return Info{[32]byte(id), w.Sectors}, nil
}

// connect opens a connection and says hello, of which h has what is particular to it.
func connect(ctx context.Context, o *Options, h hello) (net.Conn, *bufio.Reader, welcome, error) {
	fail := func(err error) (net.Conn, *bufio.Reader, welcome, error) {
		return nil, nil, welcome{}, fmt.Errorf("reach the shared disk at %s: %w", o.Addr, err)
	}
	if err := CheckAddr(o.Addr, o.Identity); err != nil {
		return nil, nil, welcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(o.Addr, "/") {
		network = "unix"
	}
	// A server whose host died says nothing: without requests keep-alive tells, with them a time-out of TCP's.
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 5}, Control: userTimeout}
	conn, err := d.DialContext(ctx, network, o.Addr)
	if err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if o.Identity != nil {
		conn = tls.Client(conn, o.Identity.Client(CertificateName))
	}
	h.Version, h.Group, h.Host, h.Life, h.Takes = Version, o.Group, o.Host, o.Life, o.Takes
	in := bufio.NewReaderSize(conn, 256<<10)
	var w welcome
	if _, err = conn.Write(appendJSON(nil, kindHello, h)); err == nil {
		err = readJSON(in, kindWelcome, &w)
	}
	if err != nil {
		conn.Close()
		return fail(err)
	}
	if w.Error != "" {
		conn.Close()
		return nil, nil, w, &RefusedError{o.Addr, w.Error, w.Fenced}
	}
	return conn, in, w, nil
}

// Client is a replica's end of a shared disk. Nothing of it waits for the server but its own goroutine.
type Client struct {
	o    Options
	info Info
	wake func() // told when a request is done, and when the client was fenced

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	closed  bool
	view    uint64     // that we lead; 0: none
	stint   uint64     // counts calls of Lead and Rest
	queue   []*request // without an answer, in order of submission
	sent    []*request // those of them that went over link, in this order
	results []event.DiskDone
	orders  uint64    // requests so far
	guards  guards    // of a leader
	fetched event.Seq // not leading: the newest entry of which Fetch or Reread was told
	awaited event.Seq // the entry of the newest Reread
	waits   time.Time // since when Reread waits; zero: it does not
	link    net.Conn  // the socket, below TLS if there is any; nil: away
	session uint64
	fenced  string // why this client does not lead any more
	err     error  // why the newest connection ended, or was not made
	awayAt  time.Time

	boot      string // of the server's host when it was connected last
	unflushed bool   // something was written, and answered, since the last flush
	lost      bool   // and that may be gone

	held     uint64 // requests that were held, so far
	heldTime time.Duration
	toldHeld bool
}

// NewClient makes a client of the disk that Look has seen.
func NewClient(o Options, info Info) *Client {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, info: info, wake: func() {}}
	c.changed.L = &c.mu
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Addr is where the disk is.
func (c *Client) Addr() string { return c.o.Addr }

// Info is what it is.
func (c *Client) Info() Info { return c.info }

// Start begins to work; wake is told of every request that is done.
func (c *Client) Start(wake func()) {
	c.wake = wake
	c.done.Go(c.work)
}

// Lead makes the client announce view, which was granted to this replica, and then submit inFlight. Whatever it had
// to do before is forgotten.
func (c *Client) Lead(view uint64, inFlight []event.DiskRequest) { c.turn(view, inFlight) }

// Rest ends the leading: requests and results are forgotten.
func (c *Client) Rest() { c.turn(0, nil) }

func (c *Client) turn(view uint64, inFlight []event.DiskRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view = view
	c.stint++
	c.queue, c.sent, c.results, c.fetched, c.awaited = nil, nil, nil, 0, 0
	c.guards.reset()
	for _, q := range inFlight {
		c.submitLocked(q)
	}
	c.boot, c.unflushed, c.lost = "", false, false
	c.awayAt, c.err, c.fenced = time.Now(), nil, ""
	if c.link != nil {
		c.link.Close()
		c.link = nil
	}
	c.changed.Broadcast()
}

// Submit queues a request, in order. One that does not lead drops it.
func (c *Client) Submit(q event.DiskRequest) {
	c.mu.Lock()
	if c.view != 0 {
		c.submitLocked(q)
	}
	c.mu.Unlock()
	c.changed.Broadcast()
}

func (c *Client) submitLocked(q event.DiskRequest) {
	c.orders++
	r := &request{DiskRequest: q, order: c.orders}
	c.queue = append(c.queue, r)
	if c.o.BackupReads && q.Op == event.DiskRead {
		c.guards.open = append(c.guards.open, &guard{read: r})
	}
}

// Finished takes every result that waits, in order.
func (c *Client) Finished() []event.DiskDone {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view == 0 {
		return nil // what there is, Reread takes
	}
	r := c.results
	c.results = nil
	if len(c.guards.open) > 0 {
		n := len(c.guards.open)
		c.guards.open = end(c.guards.open, func(g *guard) bool { return g.taken })
		for _, g := range c.guards.open {
			g.taken = g.done
		}
		if len(c.guards.open) < n {
			c.changed.Broadcast()
		}
	}
	return r
}

// Fenced tells why this replica does not lead any more, whatever it was told by Lead; empty: it may.
func (c *Client) Fenced() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fenced
}

// Status is how a client is.
type Status struct {
	Addr    string `json:"address"`
	Up      bool   `json:"up"`              // this replica leads, and the server takes its requests
	Waiting int    `json:"waiting"`         // requests without an answer
	AwayNs  int64  `json:"away_ns"`         // how long the leader has been without a server
	Error   string `json:"error,omitempty"` // why

	Held      int    `json:"held"`        // leader: requests that wait for the backup to read what they replace
	HeldNs    int64  `json:"held_ns"`     // how long the oldest of them has waited
	HeldTotal uint64 `json:"held_total"`  // requests that were held, so far
	HeldAllNs int64  `json:"held_all_ns"` // and for how long, all together
	ReadingNs int64  `json:"reading_ns"`  // backup: for how long it has tried to read what the primary read
}

// Status tells how the client is.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Addr: c.o.Addr, Up: c.view != 0 && c.link != nil, Waiting: len(c.queue), Error: c.fenced, HeldTotal: c.held, HeldAllNs: int64(c.heldTime)}
	n, oldest := c.heldLocked()
	s.Held, s.HeldNs = n, int64(oldest)
	if !c.waits.IsZero() {
		s.ReadingNs = int64(time.Since(c.waits))
	}
	if c.view != 0 && c.link == nil {
		s.AwayNs = int64(time.Since(c.awayAt))
	}
	if c.link == nil && (c.view != 0 || len(c.queue) > 0) {
		if s.Error == "" && c.err != nil {
			s.Error = c.err.Error()
		}
	}
	return s
}

// Close ends the client. It may be called more than once.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	if c.link != nil {
		c.link.Close()
	}
	c.mu.Unlock()
	c.changed.Broadcast()
	c.cancel()
	c.done.Wait()
}

// work keeps a connection while this replica leads, or has something to read as a backup.
func (c *Client) work() {
	backoff := minBackoff
	for {
		c.mu.Lock()
		for (c.view == 0 && len(c.queue) == 0 || c.fenced != "") && !c.closed {
			c.changed.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		stint := c.stint
		c.session++
		h := hello{View: c.view, Session: c.session, Reads: c.view == 0}
		c.mu.Unlock()

		began := time.Now()
		err := c.connectAndServe(h, stint)
		c.mu.Lock()
		if c.closed || c.stint != stint {
			c.mu.Unlock()
			backoff = minBackoff
			continue
		}
		var r *RefusedError
		if errors.As(err, &r) && r.Fenced {
			c.fenced = r.Reason
		}
		fresh := c.err == nil || c.err.Error() != err.Error()
		c.err = err
		c.mu.Unlock()
		if r != nil && r.Fenced {
			c.wake()
			continue
		}
		if fresh {
			c.o.Log.Warn("the shared disk is away: requests wait", "addr", c.o.Addr, "err", err)
		}
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-time.After(backoff):
		case <-c.ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// connectAndServe is one connection, from the announcement to its end.
func (c *Client) connectAndServe(h hello, stint uint64) error {
	conn, in, w, err := connect(c.ctx, &c.o, h)
	if err != nil {
		return err
	}
	link := conn // closing TLS could wait for a peer that does not read
	if secure, ok := conn.(*tls.Conn); ok {
		link = secure.NetConn()
	}
	defer link.Close()
	if info, err := w.info(); err != nil || info != c.info {
		return fmt.Errorf("the disk at %s is another one than before", c.o.Addr)
	}
	c.mu.Lock()
	if c.closed || c.stint != stint {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if !h.Reads && c.boot != "" && c.boot != w.Boot && c.unflushed {
		c.lost = true
		c.o.Log.Error("the host of the shared disk was started anew: writes that were not flushed may be lost, the next flush will fail", "addr", c.o.Addr)
	}
	c.boot = w.Boot
	c.link, c.sent, c.err = link, nil, nil
	for _, q := range c.queue {
		q.sent = false
	}
	c.mu.Unlock()
	if h.Reads {
		c.o.Log.Info("reads by itself at the shared disk", "addr", c.o.Addr)
	} else {
		c.o.Log.Info("leads at the shared disk", "addr", c.o.Addr, "view", h.View)
	}

	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		readErr = c.read(in, link)
		c.drop(link)
	})
	writeErr := c.write(conn, link)
	c.drop(link)
	reader.Wait()
	if readErr != nil && !errors.Is(readErr, net.ErrClosed) {
		return readErr
	}
	return errors.Join(writeErr, readErr)
}

// drop ends link.
func (c *Client) drop(link net.Conn) {
	link.Close()
	c.mu.Lock()
	if c.link == link {
		c.link, c.awayAt = nil, time.Now()
	}
	c.mu.Unlock()
	c.changed.Broadcast()
}

// writeAtOnce is about how many bytes go into one write.
const writeAtOnce = 256 << 10

// write sends what is queued until link, over which conn goes, is that no more.
func (c *Client) write(conn, link net.Conn) error {
	var b []byte
	for {
		c.mu.Lock()
		for b = b[:0]; len(b) == 0; {
			if c.link != link || c.closed {
				c.mu.Unlock()
				return net.ErrClosed
			}
			if b = c.sendableLocked(b); len(b) == 0 {
				c.changed.Wait()
			}
		}
		c.mu.Unlock()
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
}

// read takes answers until the connection ends.
func (c *Client) read(in *bufio.Reader, link net.Conn) error {
	var buf []byte
	for {
		kind, body, err := readFrame(in, &buf, maxFrameBytes)
		if err != nil {
			return err
		}
		switch kind {
		case kindAnswer:
			d, err := event.ParseDiskDone(body)
			if err != nil {
				return fmt.Errorf("%w: %v", ErrFrame, err)
			}
			d.Data = append([]byte(nil), d.Data...)
			if err := c.answered(link, d); err != nil {
				return err
			}
		case kindRefusal:
			why, err := parseRefusal(body)
			if err != nil {
				return err
			}
			switch why {
			case refusedView:
				return &RefusedError{c.o.Addr, "another one leads by now", true}
			case refusedWrite:
				return &RefusedError{c.o.Addr, "who follows may only read", false}
			}
			return &RefusedError{c.o.Addr, "this replica has a newer connection", false}
		default:
			return fmt.Errorf("%w: kind %#x", ErrFrame, kind)
		}
	}
}

// answered takes the answer to the oldest request that was sent.
func (c *Client) answered(link net.Conn, d event.DiskDone) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != link {
		return net.ErrClosed
	}
	if len(c.sent) == 0 || c.sent[0].ID != d.ID {
		return fmt.Errorf("%w: an answer to nothing that was asked", ErrFrame)
	}
	q := c.sent[0]
	if want := len(d.Data); q.Op == event.DiskRead && d.Status == event.DiskOK && want != int(q.Count)*512 || q.Op != event.DiskRead && want != 0 {
		return fmt.Errorf("%w: an answer of %d bytes", ErrFrame, want)
	}
	switch {
	case d.Status != event.DiskOK:
	case q.Op == event.DiskFlush && c.lost:
		d.Status = event.DiskError
		c.lost, c.unflushed = false, false
	case q.Op == event.DiskFlush:
		c.unflushed = false
	case q.Op == event.DiskWrite || q.Op == event.DiskDiscard:
		c.unflushed = true
	}
	c.sent = slices.Delete(c.sent, 0, 1)
	i := slices.Index(c.queue, q)
	c.queue = slices.Delete(c.queue, i, i+1)
	c.results = append(c.results, d)
	if c.guards.read(q, d.Status == event.DiskOK) || c.view == 0 {
		c.changed.Broadcast()
	}
	c.wake()
	return nil
}
