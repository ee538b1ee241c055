package kvserve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
)

// wire is a client that sees the bytes.
type wire struct {
	t *testing.T
	net.Conn
	in *resp.ReplyReader
}

func (g *group) dial(s *testServer) *wire {
	g.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &wire{g.t, c, resp.NewReplyReader(c)}
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
}

// text shows a reply in one line.
func text(v resp.Value) string {
	switch v.Kind {
	case resp.Int:
		return fmt.Sprint(v.Int)
	case resp.Null:
		return "nil"
	case resp.Array:
		var all []string
		for _, e := range v.Elems {
			all = append(all, text(e))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return string(v.Str)
}

// want reads as many replies as it is given.
func (w *wire) want(replies ...string) {
	w.t.Helper()
	for _, want := range replies {
		v, err := w.in.Read()
		if err != nil {
			w.t.Fatalf("%v, want %.80q", err, want)
		}
		if got := text(v); got != want {
			w.t.Fatalf("got %.80q, want %.80q", got, want)
		}
	}
}

// ended waits until the server has closed the connection.
func (w *wire) ended() {
	w.t.Helper()
	_, err := io.Copy(io.Discard, w.Conn)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		w.t.Fatal("the connection stays open")
	}
}

// opaque hides from the server that its connections are sockets.
type opaque struct{ net.Listener }

func (l opaque) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// TestConversation: what a connection answers does not depend on who moves its bytes, nor on how they are cut.
func TestConversation(t *testing.T) {
	const said = "SET a 1\r\nINCR a\r\nWATCH a\r\nGET a\r\nMULTI\r\nINCR a\r\nSELECT 3\r\nEXEC\r\nSET b 2\r\nPING\r\nSELECT 0\r\nCLIENT GETNAME\r\n" +
		"CLIENT SETNAME x\r\nGET a\r\nGET b\r\nCLIENT GETNAME\r\nnosuch\r\nWATCH a\r\nINCR a\r\nMULTI\r\nGET a\r\nEXEC\r\nMULTI\r\nGET a\r\nEXEC\r\nWAIT 0 0\r\nFLUSHALL\r\nQUIT\r\nPING\r\n"
	heard := []string{
		"OK", "2", "OK", "2", "OK", "QUEUED", "QUEUED", "[3 OK]", "OK", "PONG", "OK", "nil",
		"OK", "3", "nil", "x", "ERR unknown command 'nosuch', with args beginning with: ", "OK", "4", "OK", "QUEUED", "nil", "OK", "QUEUED", "[4]", "0", "OK", "OK",
	}
	for _, name := range []string{"loop", "goroutine"} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			a := g.start("a", func(o *Options) {
				if name == "goroutine" {
					o.Listener = opaque{o.Listener}
				}
			})
			g.want("a", "")
			if name == "loop" != (len(a.sockets()) > 0) {
				w := g.dial(a)
				w.send("PING\r\n")
				w.want("PONG")
				if name == "loop" != (len(a.sockets()) > 0) {
					t.Fatal("the connection is served in the other way")
				}
			}
			for _, piece := range []int{len(said), 7, 1} {
				w := g.dial(a)
				for rest := said; rest != ""; {
					n := min(piece, len(rest))
					if _, err := io.WriteString(w, rest[:n]); err != nil {
						break // it was told to quit
					}
					rest = rest[n:]
				}
				w.want(heard...)
				w.ended()
			}
		})
	}
}

// sockets are the connections that the loop serves.
func (s *Server) sockets() (all []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if _, ok := c.nc.(*socket); ok {
			all = append(all, c)
		}
	}
	return all
}

func (g *group) alone(tune ...func(*Options)) *testServer {
	a := g.start("a", tune...)
	g.want("a", "")
	return a
}

// TestSlowReader: a client that does not read is closed in the end, and holds nobody up.
func TestSlowReader(t *testing.T) {
	g := newGroup(t)
	a := g.alone(func(o *Options) { o.patience = 2 * time.Second })
	other := g.dial(a)
	other.send("SET large " + strings.Repeat("x", 60_000) + "\r\n")
	other.want("OK")
	slow := g.dial(a)
	slow.send(strings.Repeat("GET large\r\n", 1000))
	served := 0
	g.await("the end of the slow client", func() bool {
		other.send("INCR n\r\n")
		served++
		other.want(fmt.Sprint(served))
		return a.clients.Load() == 1
	})
	if served < 10 {
		t.Errorf("%d commands of another client in the meantime", served)
	}
	slow.ended()
}

// TestRepliesInPieces: replies larger than a socket takes at once arrive whole.
func TestRepliesInPieces(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	w := g.dial(a)
	value := bytes.Repeat([]byte("0123456789abcdef"), 7<<20/16)
	if _, err := w.Write(resp.AppendCommand(nil, []byte("SET"), []byte("k"), value)); err != nil {
		t.Fatal(err)
	}
	w.want("OK")
	w.send(strings.Repeat("GET k\r\n", 3) + "PING\r\n")
	for range 3 {
		v, err := w.in.Read()
		if err != nil || !bytes.Equal(v.Str, value) {
			t.Fatalf("%d bytes, %v", len(v.Str), err)
		}
	}
	w.want("PONG")
}

// TestHalfClose: a client that has said all gets all its replies.
func TestHalfClose(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	w := g.dial(a)
	w.send(strings.Repeat("INCR n\r\n", 3000) + "GET n\r\nunfinished")
	if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		w.want(fmt.Sprint(i + 1))
	}
	w.want("3000")
	w.ended()
	g.await("the connection to be forgotten", func() bool { return a.clients.Load() == 0 })
}

// TestThousandClients at a time, some of whom hang up without a word, or are killed.
func TestThousandClients(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	const clients = 1000
	var all [clients]*wire
	for i := range all {
		all[i] = g.dial(a)
	}
	for round := range 3 {
		for i, w := range all {
			w.send(fmt.Sprintf("SET k%d %d\r\nGET k%d\r\n", i, round, i))
		}
		for _, w := range all {
			w.want("OK", fmt.Sprint(round))
		}
	}
	for i, w := range all {
		if i%2 == 1 {
			w.send("SET half")
			w.Close()
		}
	}
	g.await("half of them to be gone", func() bool { return a.clients.Load() == clients/2 })
	all[0].send("CLIENT KILL TYPE normal\r\n")
	all[0].want(fmt.Sprint(clients/2 - 1))
	for i := 2; i < clients; i += 2 {
		all[i].ended()
	}
	all[0].send("GET k999\r\n")
	all[0].want("2")
	g.await("one to be left", func() bool { return a.clients.Load() == 1 })
}

// TestGreedyClient: one who sends without end leaves others their turn.
func TestGreedyClient(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	greedy, other := g.dial(a), g.dial(a)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	load.Go(func() {
		for ctx.Err() == nil {
			if _, err := io.WriteString(greedy, strings.Repeat("PING\r\nINCR m\r\n", 5000)); err != nil {
				return
			}
		}
	})
	load.Go(func() { _, _ = io.Copy(io.Discard, greedy.Conn) })
	for i := range 50 {
		other.send("INCR n\r\n")
		other.want(fmt.Sprint(i + 1))
	}
	stop()
	greedy.Close()
}

// TestLoopOutlivesLives: when a server loses its part its clients are cut off, and find the next life behind the same address.
func TestLoopOutlivesLives(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	b := g.start("b")
	g.want("a", "b")
	w := g.dial(a)
	w.send("SET k v\r\n")
	w.want("OK")
	w = g.dial(b)
	w.send("PING\r\n")
	w.want("PONG")
	life := b.cur.Load()
	if err := life.node.Peek(func() {
		// b is no longer what a is, and will find that out.
		life.m.s.Do(nil, &kv.Call{}, &kv.Request{Now: 1, Proto: 2, Cmds: [][][]byte{{[]byte("SET"), []byte("x"), []byte("y")}}})
	}); err != nil {
		t.Fatal(err)
	}
	w.ended()
	g.await("b's next life", func() bool { return b.cur.Load() != life })
	g.want("a", "b")
	w = g.dial(b)
	w.send("GET k\r\nSET k w\r\nPING\r\n")
	w.want(errMasterDown, errReadOnly, "PONG")
	a.kill()
	g.await("b to lead", func() bool { return b.Node().IsPrimary() })
	w.send("GET k\r\nGET x\r\n")
	w.want("v", "nil")
}

// TestEndsWithCommandsUnderWay: a server that ends waits for nothing that its clients want.
func TestEndsWithCommandsUnderWay(t *testing.T) {
	g := newGroup(t)
	a := g.alone()
	var load sync.WaitGroup
	for range 20 {
		w := g.dial(a)
		load.Go(func() {
			for {
				if _, err := io.WriteString(w, strings.Repeat("INCR n\r\nGET n\r\n", 10)); err != nil {
					return
				}
				for range 20 {
					if _, err := w.in.Read(); err != nil {
						return
					}
				}
			}
		})
	}
	g.await("load", func() bool { return a.commands.Load() > 1000 })
	a.kill()
	load.Wait()
	if n := a.clients.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
