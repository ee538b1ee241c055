package shareddisk

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/internal/pki"
)

// CertificateName is the name in the server's certificate.
const CertificateName = "disk"

const (
	// helloTimeout bounds the exchange of certificates and hello.
	helloTimeout = 5 * time.Second
	// maxConns bounds the connections: each may hold memory for one request.
	maxConns = 64
)

// ServerOptions are what a server may be told.
type ServerOptions struct {
	Identity *pki.Identity // if set, clients must show certificates with their names
	Log      *slog.Logger  // nil: nowhere
}

// Server gives one raw disk file to whoever leads. See the package comment for its rules.
type Server struct {
	o    ServerOptions
	boot string
	disk *disk.Disk

	mu     sync.Mutex // announcements and requests are carried out one at a time
	fence  *fence
	leader *session // whose requests are carried out; nil: nobody's

	// with mu held
	requests, backupReads, refusals, connections, refusedHellos uint64

	conns   sync.WaitGroup
	connsMu sync.Mutex
	open    map[*session]bool
}

// session is one connection.
type session struct {
	conn  net.Conn
	hello hello
	told  bool // that it is refused; the log has it once
}

// Open opens the raw file at path, which must not be in use by another server or machine, and its fence beside it
// (path.fence), which it makes if there is none.
func Open(path string, o ServerOptions) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := disk.Open(path, false)
	if err != nil {
		return nil, err
	}
	f, err := openFence(path) // after the lock on the disk: nobody else changes it
	if err != nil {
		d.Close()
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("tell this start of the host from others: %w", err)
	}
	return &Server{o: o, disk: d, fence: f, boot: strings.TrimSpace(string(boot)), open: map[*session]bool{}}, nil
}

// Free takes the disk from the group that has it, for good. It is for a server that does not serve yet.
func (s *Server) Free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fence.free()
}

// Close closes the file. Serve has returned, if it was called.
func (s *Server) Close() { s.disk.Close() }

// Serve takes connections until ctx ends or the listener fails; it closes the listener, and ends all of them. It
// returns nil when ctx has ended.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.conns.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer s.hangUp()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var again interface{ Temporary() bool }
			if errors.As(err, &again) && again.Temporary() { // out of descriptors, say
				time.Sleep(50 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		c := &session{conn: conn}
		s.connsMu.Lock()
		if len(s.open) >= maxConns {
			s.connsMu.Unlock()
			conn.Close()
			s.o.Log.Warn("too many connections: one is turned away", "most", maxConns)
			continue
		}
		s.open[c] = true
		s.connsMu.Unlock()
		s.conns.Go(func() {
			defer s.end(c)
			if err := s.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.o.Log.Warn("connection ended", "host", c.hello.Host, "view", c.hello.View, "err", err)
			}
		})
	}
}

func (s *Server) hangUp() {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	for c := range s.open {
		c.conn.Close()
	}
}

func (s *Server) end(c *session) {
	c.conn.Close()
	s.connsMu.Lock()
	delete(s.open, c)
	s.connsMu.Unlock()
	s.mu.Lock()
	if s.leader == c {
		s.leader = nil
	}
	s.mu.Unlock()
}

func (s *Server) serve(c *session) error {
	raw := c.conn
	_ = raw.SetDeadline(time.Now().Add(helloTimeout))
	conn := raw
	if s.o.Identity != nil {
		secure := tls.Server(raw, s.o.Identity.Server(""))
		if err := secure.Handshake(); err != nil {
			return fmt.Errorf("agree on certificates: %w", err)
		}
		conn = secure
	}
	in := bufio.NewReaderSize(conn, 256<<10)
	if err := readJSON(in, kindHello, &c.hello); err != nil {
		return err
	}
	w := s.greet(c, conn)
	if _, err := conn.Write(appendJSON(nil, kindWelcome, w)); err != nil || w.Error != "" {
		return err
	}
	_ = raw.SetDeadline(time.Time{})

	out := bufio.NewWriterSize(conn, 256<<10)
	var frame, answer []byte
	for {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		kind, body, err := readFrame(in, &frame, maxFrameBytes)
		if err != nil {
			return err
		}
		if kind != kindRequest {
			return fmt.Errorf("%w: kind %#x", ErrFrame, kind)
		}
		if answer, err = s.carryOut(c, body, answer[:0]); err != nil {
			return err
		}
		if _, err := out.Write(answer); err != nil {
			return err
		}
	}
}

// greet takes a hello, and what it announces.
func (s *Server) greet(c *session, conn net.Conn) welcome {
	h := &c.hello
	refuse := func(fenced bool, format string, args ...any) welcome {
		w := welcome{Error: fmt.Sprintf(format, args...), Fenced: fenced}
		s.o.Log.Warn("refuses a host", "host", h.Host, "group", h.Group, "view", h.View, "why", w.Error)
		s.mu.Lock()
		s.refusedHellos++
		s.mu.Unlock()
		return w
	}
	if h.Version != Version {
		return refuse(false, "protocol versions differ: %d there, %d at the disk", h.Version, Version)
	}
	if secure, ok := conn.(*tls.Conn); ok {
		if err := secure.ConnectionState().PeerCertificates[0].VerifyHostname(h.Host); err != nil {
			return refuse(false, "the certificate is not that of %s: %v", h.Host, err)
		}
	}
	s.mu.Lock()
	err := s.announceLocked(c)
	s.mu.Unlock()
	var r *refused
	if errors.As(err, &r) {
		return refuse(r.fenced, "%s", r.text)
	} else if err != nil {
		return refuse(false, "%v", err)
	}
	if h.View > 0 {
		s.o.Log.Info("leads", "host", h.Host, "group", h.Group, "view", h.View)
	}
	return welcome{Disk: s.fence.Disk, Sectors: s.disk.Sectors(), Boot: s.boot}
}

func (s *Server) announceLocked(c *session) error {
	s.connections++
	h := &c.hello
	var r *refused
	switch {
	case h.Reads:
		r = s.fence.checkReader(h)
	case h.View == 0:
		r = s.fence.check(h)
	}
	if r != nil {
		return r
	}
	if h.Reads || h.View == 0 {
		return nil
	}
	// A connection that was opened and given up by its client may be heard after the next one.
	if l := s.leader; l != nil && l.hello.Life == h.Life && l.hello.Session >= h.Session {
		return &refused{text: "the same replica has a newer connection"}
	}
	if err := s.fence.announce(h); err != nil {
		return err
	}
	s.leader = c
	return nil
}

// carryOut carries out one request, or refuses it, and appends what is to be said of it.
func (s *Server) carryOut(c *session, body, b []byte) ([]byte, error) {
	q, err := parseRequest(body)
	if err != nil {
		return b, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == c && s.fence.broken == nil {
		s.requests++
		return appendAnswer(b, s.disk.Do(q)), nil
	}
	why := refusedSession
	if c.hello.Reads {
		// Between announcements and requests like any other: it sees no half of a write.
		if q.Op == event.DiskRead && c.hello.Group == s.fence.Group {
			s.backupReads++
			return appendAnswer(b, s.disk.Do(q)), nil
		}
		why = refusedView
		if q.Op != event.DiskRead {
			why = refusedWrite
		}
	}
	s.refusals++
	if c.hello.View > 0 && (c.hello.Group != s.fence.Group || c.hello.View != s.fence.View || c.hello.Life != s.fence.Life) {
		why = refusedView
	}
	if !c.told {
		c.told = true
		s.o.Log.Warn("refuses requests", "host", c.hello.Host, "group", c.hello.Group, "view", c.hello.View, "leads", s.fence.Host, "in view", s.fence.View)
	}
	return appendRefusal(b, q.ID, why), nil
}

// ServerStatus is what a server says of itself.
type ServerStatus struct {
	Disk          string `json:"disk"` // identity
	Sectors       uint64 `json:"sectors"`
	Group         string `json:"group"` // whose disk it is; empty: nobody's
	View          uint64 `json:"view"`  // the highest that was announced
	Host          string `json:"host"`  // who leads it
	Connected     bool   `json:"connected"`
	Requests      uint64 `json:"requests"`       // carried out
	BackupReads   uint64 `json:"backup_reads"`   // reads of those who follow, carried out
	Refused       uint64 `json:"refused"`        // requests of those who do not lead
	RefusedHellos uint64 `json:"refused_hellos"` // connections turned away
	Connections   uint64 `json:"connections"`
	Error         string `json:"error,omitempty"` // why nothing is carried out any more
}

// Status tells how the server is.
func (s *Server) Status() ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := ServerStatus{
		Disk: s.fence.Disk, Sectors: s.disk.Sectors(), Group: s.fence.Group, View: s.fence.View, Host: s.fence.Host,
		Connected: s.leader != nil, Requests: s.requests, BackupReads: s.backupReads, Refused: s.refusals, RefusedHellos: s.refusedHellos, Connections: s.connections,
	}
	if s.fence.broken != nil {
		st.Error = s.fence.broken.Error()
	}
	return st
}

// Handler serves GET /status.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Status())
	})
	return mux
}
