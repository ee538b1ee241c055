// Package sentinel answers clients of Redis that look for a group's primary as Redis Sentinel does, from what the view service
// knows: SENTINEL get-master-addr-by-name and its relatives, and +switch-master to subscribers. It decides nothing.
package sentinel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"understudy/view"
	"understudy/view/httpview"
)

const (
	// pollEvery is how often the view service is asked about groups that somebody has asked for.
	pollEvery = 100 * time.Millisecond
	// maxGroups bounds the groups that are watched, maxClients the connections.
	maxGroups, maxClients = 1000, 10_000
	sendPatience          = 10 * time.Second
)

// Server answers clients.
type Server struct {
	views httpview.Copy
	log   *slog.Logger
	addr  string // ours

	mu     sync.Mutex
	groups map[string]*group // that somebody has asked for
	conns  map[*conn]struct{}
}

type group struct {
	master string // client address of the primary that was told last
}

// New makes a server over a view service.
func New(views httpview.Copy, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{views: views, log: log, groups: map[string]*group{}, conns: map[*conn]struct{}{}}
}

// Serve answers on l until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	s.addr = l.Addr().String()
	context.AfterFunc(ctx, func() {
		l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.nc.Close()
		}
	})
	all.Go(func() { s.watch(ctx) })
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(50 * time.Millisecond) // out of descriptors, say
			continue
		}
		c := &conn{s: s, nc: nc, proto: 2, channels: map[string]bool{}, patterns: map[string]bool{}}
		s.mu.Lock()
		if len(s.conns) >= maxClients || ctx.Err() != nil {
			s.mu.Unlock()
			nc.Close()
			continue
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		all.Go(func() {
			c.serve(ctx)
			nc.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// ask asks the view service about a group. ok: it has a primary whose address is known.
func (s *Server) ask(ctx context.Context, name string) (a view.Answer, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	a, err := s.views.Get(ctx, name)
	if err != nil || a.View.Number == 0 || a.PrimaryClient == "" {
		return a, false
	}
	s.mu.Lock()
	if s.groups[name] == nil && len(s.groups) < maxGroups {
		s.groups[name] = &group{master: a.PrimaryClient}
	}
	s.mu.Unlock()
	return a, true
}

// names are the groups that are watched.
func (s *Server) names() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.groups {
		names = append(names, name)
	}
	return names
}

// watch tells subscribers of primaries that have changed.
func (s *Server) watch(ctx context.Context) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, name := range s.names() {
			a, ok := s.ask(ctx, name)
			if !ok {
				continue
			}
			s.mu.Lock()
			g := s.groups[name]
			old := g.master
			g.master = a.PrimaryClient
			var to []*conn
			if old != g.master {
				for c := range s.conns {
					to = append(to, c)
				}
			}
			s.mu.Unlock()
			if old != a.PrimaryClient {
				s.log.Info("another primary", "group", name, "view", uint64(a.View.Number), "was", old, "is", a.PrimaryClient)
			}
			for _, c := range to {
				c.publish("+switch-master", name+" "+pair(old)+" "+pair(a.PrimaryClient))
			}
		}
	}
}

func pair(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return host + " " + port
}
