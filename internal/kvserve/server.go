package kvserve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"understudy/arbiter"
	"understudy/rsm"
	"understudy/view/httpview"
)

// Defaults of Options.
const (
	DefaultMaxClients  = 10_000
	DefaultOutputBytes = 64 << 20
	// rebirthPause is between the end of a life that lost its part and the next one.
	rebirthPause = 200 * time.Millisecond
	// sendPatience is how long a client may take to receive anything.
	sendPatience = 60 * time.Second
)

// Options describe a Server.
type Options struct {
	Name, Group string
	Arbiter     arbiter.Register
	Views       []httpview.Copy

	Listener     net.Listener // for clients
	ClientAddr   string       // where they find it; empty: its address
	TLS          *tls.Config  // for clients; nil: none
	LogListen    string       // for the primary's log, host:port
	LogAdvertise string       // where others reach that
	TLSDir       string       // see rsm.Options
	Dir, Fsync   string       // of the files, see rsm.Options; empty: none

	Password     string // of clients; empty: none
	MaxMemory    int64  // bytes of data above which commands that need memory are refused; 0: no bound
	MaxClients   int
	OutputBytes  int // what may wait for one client
	SuspectAfter time.Duration
	DigestEvery  time.Duration
	Log          *slog.Logger

	patience time.Duration // sendPatience, but for tests
}

// Server serves clients of one server of a group.
type Server struct {
	opt  Options
	log  *slog.Logger
	cur  atomic.Pointer[life]
	born time.Time

	clients  atomic.Int64
	total    atomic.Int64 // connections so far
	commands atomic.Uint64
	fails    atomic.Uint64 // lives that lost their part
	refusals refusals

	mu    sync.Mutex
	conns map[*conn]struct{}

	loop *loop // nil: each connection has its goroutine
}

// life is a node with its machine.
type life struct {
	node *rsm.Node
	m    *machine
}

// New makes a server.
func New(opt Options) (*Server, error) {
	if opt.MaxClients == 0 {
		opt.MaxClients = DefaultMaxClients
	}
	if opt.OutputBytes == 0 {
		opt.OutputBytes = DefaultOutputBytes
	}
	if opt.patience == 0 {
		opt.patience = sendPatience
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.ClientAddr == "" {
		opt.ClientAddr = opt.Listener.Addr().String()
	}
	s := &Server{opt: opt, log: opt.Log, born: time.Now(), conns: map[*conn]struct{}{}}
	l, err := s.live()
	if err != nil {
		return nil, err
	}
	s.opt.LogListen = l.node.Addr().String() // the next life is found in the same place
	s.cur.Store(l)
	return s, nil
}

// live begins a life with an empty store.
func (s *Server) live() (*life, error) {
	m := newMachine()
	n, err := rsm.New(rsm.Options{
		Name: s.opt.Name, Group: s.opt.Group, Machine: m, Format: format, Arbiter: s.opt.Arbiter, Views: s.opt.Views,
		Listen: s.opt.LogListen, Advertise: s.opt.LogAdvertise, ClientAddr: s.opt.ClientAddr, TLSDir: s.opt.TLSDir,
		SuspectAfter: s.opt.SuspectAfter, DigestEvery: s.opt.DigestEvery, Dir: s.opt.Dir, Fsync: s.opt.Fsync, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	return &life{n, m}, nil
}

// Node is the present life's node.
func (s *Server) Node() *rsm.Node { return s.cur.Load().node }

// Run serves until ctx ends. A life that loses its part is followed by another, which is a spare with an empty store.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	context.AfterFunc(ctx, func() {
		s.opt.Listener.Close()
		s.hangUp()
	})
	if l, err := newLoop(s); err != nil {
		s.log.Warn("serves each client with a goroutine of its own", "err", err)
	} else {
		s.loop = l
		all.Go(func() { l.run(ctx) })
	}
	all.Go(func() { s.accept(ctx, &all) })
	for {
		l := s.cur.Load()
		within, end := context.WithCancel(ctx)
		all.Go(func() { s.limitMemory(within, l) })
		err := l.node.Run(ctx)
		end()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, rsm.ErrHalted) {
			return err
		}
		s.fails.Add(1)
		s.log.Warn("this server has lost its part and begins again without data", "name", s.opt.Name, "err", err)
		s.hangUp()
		for {
			select {
			case <-time.After(rebirthPause):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if l, err = s.live(); err == nil {
				break
			}
			s.log.Warn("cannot begin again", "err", err)
		}
		s.cur.Store(l)
		s.hangUp() // those that came between the two lives
	}
}

// limitMemory makes the limit of this server, when it is primary, that of a group which has none.
func (s *Server) limitMemory(ctx context.Context, l *life) {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for was := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		is := l.node.IsPrimary()
		if is && !was && s.opt.MaxMemory > 0 {
			var limit int64
			if l.node.Peek(func() { limit = l.m.s.MaxMemory() }) != nil {
				continue
			}
			switch {
			case limit == 0:
				if _, err := l.node.Propose(ctx, maxMemoryCommand(s.opt.MaxMemory)); err != nil {
					continue
				}
			case limit != s.opt.MaxMemory:
				s.log.Warn("the group has another limit of memory than this server; CONFIG SET maxmemory changes it", "group", shownLimit(limit), "server", s.opt.MaxMemory)
			}
		}
		was = is
	}
}

// accept takes connections until ctx ends.
func (s *Server) accept(ctx context.Context, all *sync.WaitGroup) {
	for {
		nc, err := s.opt.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("cannot accept a client", "err", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, say
			continue
		}
		if s.clients.Add(1) > int64(s.opt.MaxClients) {
			s.clients.Add(-1)
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = nc.Write([]byte("-ERR max number of clients reached\r\n"))
			nc.Close()
			continue
		}
		var sock *socket
		switch {
		case s.opt.TLS != nil:
			nc = s.secure(nc)
		case s.loop != nil:
			if sock = newSocket(nc); sock != nil {
				nc = sock
			}
		}
		c := newConn(s, nc, s.total.Add(1))
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		if sock != nil {
			if !s.loop.join(ctx, c, sock) {
				sock.free()
				s.forget(c)
			}
			continue
		}
		all.Go(func() {
			c.serve(ctx)
			nc.Close()
			s.forget(c)
		})
	}
}

// forget is called once for each connection that was served.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.clients.Add(-1)
}

// hangUp closes all connections: what they know, such as a WATCH, is of a life that has ended.
func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close()
	}
}
