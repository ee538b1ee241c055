package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is a Redis that can lie.
type store struct {
	mu     sync.Mutex
	values map[string]string
	writes int
	// lie, if set, is asked before a write is done, with its number; it may do something else instead.
	lie  func(s *store, n int, args []string) (reply string, lied bool)
	held []string // a write that a lie keeps back
}

func (s *store) do(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if args[0] == "GET" {
		return fmt.Sprintf("$%d\r\n%s\r\n", len(s.values[args[1]]), s.values[args[1]])
	}
	s.writes++
	if s.lie != nil {
		if reply, lied := s.lie(s, s.writes, args); lied {
			return reply
		}
	}
	return s.write(args)
}

func (s *store) write(args []string) string {
	key := args[1]
	switch args[0] {
	case "INCR":
		n, _ := strconv.Atoi(s.values[key])
		s.values[key] = strconv.Itoa(n + 1)
		return ":" + s.values[key] + "\r\n"
	case "APPEND":
		s.values[key] += args[2]
		return fmt.Sprintf(":%d\r\n", len(s.values[key]))
	case "SET": // with GET
		before := s.values[key]
		s.values[key] = args[2]
		return fmt.Sprintf("$%d\r\n%s\r\n", len(before), before)
	}
	return "-ERR unknown command\r\n"
}

// serve serves the store on loopback until the test ends.
func (s *store) serve(t *testing.T) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { conn.Close() })
				defer stop()
				r := bufio.NewReader(conn)
				for {
					args, err := readCommand(r)
					if err != nil {
						return
					}
					if _, err := io.WriteString(conn, s.do(args)); err != nil {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

func readCommand(r *bufio.Reader) (args []string, err error) {
	n := 0
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	for range n {
		size := 0
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args = append(args, string(b[:size]))
	}
	return args, nil
}

// TestLyingStores: what a replica could get wrong shows, and an honest store does not.
func TestLyingStores(t *testing.T) {
	const when = 500 // the write that is lied about
	twice := func(command string) func(*store, int, []string) (string, bool) {
		done := false
		return func(s *store, n int, args []string) (string, bool) {
			if n < when || done || args[0] != command {
				return "", false
			}
			done = true
			reply := s.write(args)
			s.write(args)
			return reply, true
		}
	}
	for _, c := range []struct {
		name string
		lie  func(*store, int, []string) (string, bool)
		want []string
	}{
		{"honest", nil, nil},
		{"an increment is done twice", twice("INCR"), []string{Doubled}},
		{"an append is done twice", twice("APPEND"), []string{Doubled}},
		{"a write is acknowledged and not done", func(s *store, n int, args []string) (string, bool) {
			if n != when {
				return "", false
			}
			before := s.values[args[1]]
			reply := s.write(args)
			s.values[args[1]] = before
			return reply, true
		}, []string{Lost}},
		{"two appends change places", func(s *store, n int, args []string) (string, bool) {
			switch {
			case n < when || args[0] != "APPEND" || s.held != nil && s.held[0] == "done":
				return "", false
			case s.held == nil:
				s.held = args
				return fmt.Sprintf(":%d\r\n", len(s.values[args[1]])+len(args[2])), true
			case s.held[1] == args[1]:
				s.write(args)
				reply := s.write(s.held)
				s.held = []string{"done"}
				return reply, true
			}
			return "", false
		}, []string{Reordered}},
		{"an old value comes back", func(s *store, n int, args []string) (string, bool) {
			if n < when || args[0] != "SET" || s.values[args[1]] == "" || s.held != nil {
				return "", false
			}
			s.held = args
			return fmt.Sprintf("$%d\r\n%s\r\n", len(s.values[args[1]]), s.values[args[1]]), true
		}, []string{Lost}},
		{"all is forgotten", func(s *store, n int, _ []string) (string, bool) {
			if n == when {
				s.values = map[string]string{}
			}
			return "", false
		}, []string{Lost}},
		{"an error", func(_ *store, n int, _ []string) (string, bool) { return "-READONLY\r\n", n == when }, []string{Wrong}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &store{values: map[string]string{}, lie: c.lie}
			conn, err := dialRedis(s.serve(t), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.close()
			cl := &client{pattern: pattern{name: "t", batch: 7}, c: conn, l: newLedger("t", rand.New(rand.NewPCG(1, 2)))}
			for err == nil && cl.count() < 2*when {
				err = cl.write()
				if err == nil && cl.count()%70 == 0 {
					err = cl.readBack()
				}
			}
			if err == nil {
				err = cl.readBack()
			}
			var v *Violation
			switch {
			case c.want == nil && err != nil:
				t.Fatal(err)
			case c.want != nil && (!errors.As(err, &v) || !strings.Contains(strings.Join(c.want, " "), v.Kind)):
				t.Fatalf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestBrokenConnection: a connection that ends is a failure, also for a client that does not use it just then.
func TestBrokenConnection(t *testing.T) {
	s := &store{values: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	l, err := startLoad(ctx, &wg, s.serve(t), 1, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := l.mark()
	for !served() {
		time.Sleep(time.Millisecond)
	}
	for _, c := range l.clients {
		if c.idle {
			c.c.conn.Close()
		}
	}
	var v *Violation
	if err := l.verify(t.Context()); !errors.As(err, &v) || v.Kind != Broken {
		t.Errorf("%v, want that the connection is broken", err)
	}
	cancel()
	wg.Wait()
}

// TestWatcher: what must never be is seen.
func TestWatcher(t *testing.T) {
	primary := func(view uint64, life string) replicaState {
		return replicaState{Role: "primary", View: view, Incarnation: life}
	}
	w := newWatcher()
	w.see(states{"a": primary(1, "x"), "b": {Role: "backup", View: 1, Incarnation: "y"}})
	w.see(states{"a": primary(1, "x"), "b": primary(2, "y")}) // a does not know yet
	w.see(states{"b": primary(3, "y")})
	if err := w.failed(); err != nil || w.moves() != 1 {
		t.Fatal(err, w.moves())
	}
	w.see(states{"a": primary(3, "z")})
	if w.failed() == nil {
		t.Error("two primaries in one view were not seen")
	}
	w = newWatcher()
	w.see(states{"a": primary(4, "x")})
	w.see(states{"a": primary(3, "x")})
	if w.failed() == nil {
		t.Error("a view that fell was not seen")
	}
}
