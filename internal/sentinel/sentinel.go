// Package sentinel answers clients of Redis that look for a group's primary as Redis Sentinel does, from what the view service
// knows: SENTINEL get-master-addr-by-name and its relatives, and +switch-master to subscribers. It decides nothing.
package sentinel

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"understudy/view"
	"understudy/view/httpview"
)

const (
	// pollEvery is how often the view service is asked about groups that somebody has asked for.
	pollEvery = 25 * time.Millisecond
	// discoverEvery is how often we look for groups that nobody has asked for.
	discoverEvery = time.Second
	// maxGroups bounds the groups that are watched, maxClients the connections.
	maxGroups, maxClients = 1000, 10_000
	sendPatience          = 10 * time.Second
)

// Server answers clients.
type Server struct {
	views httpview.Copy
	all   Groups
	log   *slog.Logger

	mu     sync.Mutex
	groups map[string]*group // that have, or had, a primary with an address for clients
	conns  map[*conn]struct{}
}

type group struct {
	master string // client address of the primary that was told last
}

// Groups lists the groups that there are, of whatever kind: those without addresses for clients are passed over.
type Groups func(ctx context.Context) ([]string, error)

// New makes a server over a view service. Without all, which may be nil, only groups that a client has named are known.
func New(views httpview.Copy, all Groups, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{views: views, all: all, log: log, groups: map[string]*group{}, conns: map[*conn]struct{}{}}
}

// Serve answers on l until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
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

// names are the groups that are watched, sorted.
func (s *Server) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.groups))
}

// discover watches the groups that there are.
func (s *Server) discover(ctx context.Context) {
	if s.all == nil {
		return
	}
	all, err := s.all(ctx)
	if err != nil {
		s.log.Warn("cannot list groups", "err", err)
		return
	}
	watched := s.names()
	for _, name := range all {
		if _, known := slices.BinarySearch(watched, name); !known {
			s.ask(ctx, name)
		}
	}
}

// watch tells subscribers of primaries that have changed.
func (s *Server) watch(ctx context.Context) {
	t, look := time.NewTicker(pollEvery), time.NewTicker(discoverEvery)
	defer t.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.discover(ctx)
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
