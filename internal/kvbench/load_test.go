package kvbench

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/kv/resp"
)

// server answers +OK, or an integer to WAIT, and counts commands. One that is mute reads only.
type server struct {
	addr string
	mu   sync.Mutex
	seen map[string]int
}

func serve(t *testing.T, mute bool) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s := &server{addr: ln.Addr().String(), seen: map[string]int{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.conn(c, mute)
		}
	}()
	return s
}

func (s *server) conn(c net.Conn, mute bool) {
	defer c.Close()
	in := resp.Reader{Limits: resp.Limits{MaxArgs: 8, MaxBulk: 1024, MaxCommand: 4096}}
	for {
		n, err := c.Read(in.Space(4096))
		if err != nil {
			return
		}
		in.Commit(n)
		var out []byte
		for {
			args, err := in.Next()
			if err != nil || args == nil {
				break
			}
			name := string(args[0])
			s.mu.Lock()
			s.seen[name]++
			s.mu.Unlock()
			if name == "WAIT" {
				out = resp.AppendInt(out, 1)
			} else {
				out = resp.AppendSimple(out, "OK")
			}
		}
		if !mute {
			_, _ = c.Write(out)
		}
	}
}

func TestLoadSendsWhatItSays(t *testing.T) {
	for _, c := range []struct {
		name       string
		wait, once bool
		read       bool
		waits      int // for each pipeline of 4
	}{
		{"plain", false, false, false, 0},
		{"wait", true, false, false, 4},
		{"wait once", true, true, false, 1},
		{"read", true, false, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, false)
			r, err := Run(t.Context(), Load{
				Addr: s.addr, Clients: 3, Pipeline: 4, Wait: c.wait, Once: c.once, Read: c.read, Bytes: 8, Keys: 10, For: 50 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			name, other := "SET", "GET"
			if c.read {
				name, other = other, name
			}
			n := s.seen[name]
			if n == 0 || uint64(n) != r.Operations || s.seen[other] != 0 || s.seen["WAIT"] != n/4*c.waits {
				t.Errorf("%d operations, the server saw %v", r.Operations, s.seen)
			}
			if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max || r.PerSecond <= 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A load of a server that says nothing ends with its context.
func TestLoadEnds(t *testing.T) {
	s := serve(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			s.mu.Lock()
			n := s.seen["SET"]
			s.mu.Unlock()
			if n > 0 {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := Run(ctx, Load{Addr: s.addr, Clients: 1, Pipeline: 1, Keys: 1, For: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := Run(t.Context(), Load{Addr: s.addr, Clients: 1, Keys: 1, For: time.Hour}); err == nil || !strings.Contains(err.Error(), "pipeline") {
		t.Errorf("without a pipeline: %v", err)
	}
}
