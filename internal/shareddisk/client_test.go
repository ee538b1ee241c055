package shareddisk

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/event"
	"understudy/internal/pki"
)

// newClient makes a started client of a server.
func newClient(t *testing.T, s *running, life string) *Client {
	t.Helper()
	o := Options{Addr: s.addr, Group: "g", Host: life[:1], Life: life}
	info, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(o, info)
	c.Start(func() {})
	t.Cleanup(c.Close)
	return c
}

// results waits for n of them.
func results(t *testing.T, c *Client, n int) (all []event.DiskDone) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(all) < n; time.Sleep(time.Millisecond) {
		all = append(all, c.Finished()...)
		if time.Now().After(deadline) {
			t.Fatalf("%d results of %d: %+v", len(all), n, c.Status())
		}
	}
	return all
}

// TestRequestsOutliveTheServer: it is killed again and again; every request is answered once, in order, and what was
// written is there.
func TestRequestsOutliveTheServer(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	c := newClient(t, s, "a")
	c.Lead(1, nil)
	id, answered := uint64(0), uint64(0)
	for round := range 8 {
		for range 50 {
			c.Submit(writeOf(id, id%testSectors, id))
			id++
		}
		want := int(id-answered) - 40 // some were carried out
		if round%2 == 1 {
			want += 40
		}
		for _, d := range results(t, c, want) {
			if d.ID != answered || d.Status != event.DiskOK {
				t.Fatalf("%+v, want the answer to %d", d, answered)
			}
			answered++
		}
		s.kill()
		s = serve(t, path, s.addr)
	}
	got := readAll(t, path)
	for n := range uint64(testSectors) {
		want := (id-1-n)/testSectors*testSectors + n
		if v := binary.LittleEndian.Uint64(got[n*512:]); v != want {
			t.Errorf("sector %d holds %d, not %d", n, v, want)
		}
	}
	if n := c.Status().Waiting; n != 0 {
		t.Errorf("%d requests wait for ever", n)
	}
}

// TestLeadAndRest: what was asked in a former stint is forgotten, answers to it too.
func TestLeadAndRest(t *testing.T) {
	s := serve(t, newDisk(t), "")
	a, b := newClient(t, s, "a"), newClient(t, s, "b")
	a.Submit(writeOf(1, 0, 1)) // does not lead
	for view := uint64(1); view < 20; view += 2 {
		a.Lead(view, []event.DiskRequest{writeOf(view, 0, view)})
		for range 30 {
			a.Submit(writeOf(view, 1, view))
		}
		for i, d := range results(t, a, 1) {
			if d.ID != view {
				t.Fatalf("result %d is of view %d, not %d", i, d.ID, view)
			}
		}
		a.Rest()
		b.Lead(view+1, []event.DiskRequest{{ID: view + 1, Op: event.DiskRead, Count: 1}})
		if d := results(t, b, 1)[0]; d.ID != view+1 || binary.LittleEndian.Uint64(d.Data) != view {
			t.Fatalf("%d, %x", d.ID, d.Data[:8])
		}
		if len(a.Finished()) > 0 || a.Status().Waiting > 0 {
			t.Fatal("something is left")
		}
	}
	a.Lead(3, nil)
	for deadline := time.Now().Add(20 * time.Second); a.Fenced() == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("led an old view")
		}
	}
	a.Lead(50, []event.DiskRequest{{ID: 9, Op: event.DiskFlush}})
	results(t, a, 1)
	if a.Fenced() != "" {
		t.Error("fenced in a view that it leads")
	}
}

// TestFlushAfterTheCacheWasLost: the server's host was started anew after a write that was not flushed.
func TestFlushAfterTheCacheWasLost(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	c := newClient(t, s, "a")
	flush := event.DiskRequest{ID: 7, Op: event.DiskFlush}
	for _, wrote := range []bool{false, true} {
		c.Lead(1, []event.DiskRequest{writeOf(1, 0, 1), flush})
		results(t, c, 2)
		if wrote {
			c.Submit(writeOf(2, 0, 2))
			results(t, c, 1)
		}
		s.kill()
		s = serve(t, path, s.addr)
		s.mu.Lock()
		s.boot += "x" // no connection yet, or one that is ended below
		s.mu.Unlock()
		c.mu.Lock()
		if c.link != nil {
			c.link.Close()
		}
		c.boot = "before"
		c.mu.Unlock()
		c.Submit(flush)
		c.Submit(flush)
		got := results(t, c, 2)
		if (got[0].Status == event.DiskError) != wrote || got[1].Status != event.DiskOK {
			t.Errorf("lost a write: %v; flushes ended in %d, %d", wrote, got[0].Status, got[1].Status)
		}
	}
}

// TestServerThatLies: answers that do not fit end the connection and are asked for again.
func TestServerThatLies(t *testing.T) {
	s := serve(t, newDisk(t), "")
	o := Options{Addr: s.addr, Group: "g", Host: "a", Life: "a"}
	info, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := greet(t, s.addr, hello{Host: "a", Life: "a"}).w
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	read := event.DiskRequest{ID: 5, Op: event.DiskRead, Count: 1}
	lies := [][]byte{
		appendAnswer(nil, event.DiskDone{ID: 6, Data: make([]byte, 512)}), appendAnswer(nil, event.DiskDone{ID: 5, Data: make([]byte, 511)}),
		appendAnswer(nil, event.DiskDone{ID: 5}), appendFrame(nil, kindRefusal, func(b []byte) []byte { return b }),
		appendFrame(nil, 'z', func(b []byte) []byte { return b }),
		{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		appendRefusal(nil, 5, refusedSession),
		appendAnswer(nil, event.DiskDone{ID: 5, Data: make([]byte, 512)}),
	}
	go func() {
		for i := range lies {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Write(appendJSON(nil, kindWelcome, w))
			conn.Write(lies[i])
			defer conn.Close()
		}
	}()
	o.Addr = ln.Addr().String()
	c := NewClient(o, info)
	defer c.Close()
	c.Start(func() {})
	c.Lead(1, []event.DiskRequest{read})
	// The answers race with the request: one that comes before it is asked for is a lie as well, so the last may be too.
	deadline := time.Now().Add(20 * time.Second)
	for c.Status().Error == "" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if e := c.Status().Error; e == "" || c.Fenced() != "" {
		t.Errorf("%+v", c.Status())
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	ids := map[string]*pki.Identity{}
	for _, name := range []string{"a", "b", CertificateName} {
		if err := pki.NewHost(dir, name, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		id, err := pki.Load(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = id
	}
	s, err := Open(newDisk(t), ServerOptions{Identity: ids[CertificateName]})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	defer func() { cancel(); <-done }()
	o := Options{Addr: ln.Addr().String(), Group: "g", Host: "a", Life: "a", Identity: ids["a"]}
	info, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(o, info)
	defer c.Close()
	c.Start(func() {})
	c.Lead(1, []event.DiskRequest{writeOf(1, 3, 3), {ID: 2, Op: event.DiskRead, Sector: 3, Count: 1}})
	if got := results(t, c, 2); got[1].Status != event.DiskOK || got[1].Data[0] != 3 {
		t.Errorf("%+v", got)
	}
	// One that reads must show who it is as well.
	for name, ok := range map[string]bool{"a": true, "b": false} {
		o := o
		o.Identity = ids[name]
		conn, _, _, err := connect(t.Context(), &o, hello{Reads: true})
		if (err == nil) != ok {
			t.Errorf("%s reads as a: %v", name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	o.Identity = ids["b"] // says that it is a
	var r *RefusedError
	if _, err := Look(t.Context(), o); !errors.As(err, &r) || !strings.Contains(r.Reason, "certificate") {
		t.Errorf("%v", err)
	}
	o.Identity = nil
	if _, err := Look(t.Context(), o); err == nil {
		t.Error("one without a certificate was heard")
	}
}
