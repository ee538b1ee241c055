package shareddisk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/event"
)

const testSectors = 64

// newDisk makes an empty disk file.
func newDisk(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shared.raw")
	if err := os.WriteFile(path, make([]byte, testSectors*512), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// running is a server that can be killed.
type running struct {
	*Server
	addr string
	kill func()
}

// serve starts a server; addr may be one that was used before.
func serve(t testing.TB, path, addr string) *running {
	t.Helper()
	s, err := Open(path, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	for range 100 { // the kernel may still hold the former one
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	r := &running{Server: s, addr: ln.Addr().String()}
	ended := false
	r.kill = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			s.Close()
		}
	}
	t.Cleanup(r.kill)
	return r
}

// wire is a connection by hand.
type wire struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	w    welcome
}

func greet(t testing.TB, addr string, h hello) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	w := &wire{t: t, conn: conn, in: bufio.NewReader(conn)}
	h.Version = Version
	if h.Group == "" {
		h.Group = "g"
	}
	w.send(appendJSON(nil, kindHello, h))
	if err := readJSON(w.in, kindWelcome, &w.w); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one; ok tells that it is no refusal.
func (w *wire) answer() (d event.DiskDone, ok bool) {
	w.t.Helper()
	var buf []byte
	kind, body, err := readFrame(w.in, &buf, maxFrameBytes)
	if err != nil {
		w.t.Fatal(err)
	}
	if kind == kindRefusal {
		return d, false
	}
	if d, err = event.ParseDiskDone(body); err != nil || kind != kindAnswer {
		w.t.Fatal(kind, err)
	}
	return d, true
}

func writeOf(id uint64, sector uint64, v uint64) event.DiskRequest {
	p := make([]byte, 512)
	binary.LittleEndian.PutUint64(p, v)
	return event.DiskRequest{ID: id, Op: event.DiskWrite, Sector: sector, Count: 1, Data: p}
}

// TestNothingOfAnEarlierViewLands: two replicas lead in turns. Each writes the number of its view, and has requests on
// the way, in its socket and in the server's, when the other announces the next one. After each announcement was
// answered no sector ever holds an earlier view's number again where the later one has written.
func TestNothingOfAnEarlierViewLands(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var old []*wire
	refusals := 0
	for view := uint64(1); view <= 25; view++ {
		w := greet(t, s.addr, hello{Host: "ab"[view%2 : view%2+1], Life: fmt.Sprint(view), View: view, Session: 1})
		if w.w.Error != "" {
			t.Fatal(w.w.Error)
		}
		// From here on nothing of an earlier view may land.
		before := readAll(t, path)
		// Former ones wake up and go on writing, while this one does.
		stale, fresh := 0, 0
		var late []byte
		for i, o := range old {
			late = late[:0]
			for range rng.IntN(20) {
				late = appendRequest(late, writeOf(1, rng.Uint64N(testSectors), 1000+uint64(i)))
				stale++
			}
			o.send(late)
		}
		var burst []byte
		for range 1 + rng.IntN(100) {
			q := writeOf(2, rng.Uint64N(testSectors), view)
			burst = appendRequest(burst, q)
			fresh++
		}
		w.send(burst)
		// Some answers are read, some are left on the way: the burst may be carried out, or refused, in part.
		for range rng.IntN(fresh + 1) {
			if _, ok := w.answer(); !ok {
				t.Fatal("the leader was refused")
			}
		}
		after := readAll(t, path)
		for i := 0; i < len(after); i += 512 {
			was, now := binary.LittleEndian.Uint64(before[i:]), binary.LittleEndian.Uint64(after[i:])
			if now != was && now != view || now >= 1000 {
				t.Fatalf("view %d: sector %d holds %d, %d before", view, i/512, now, was)
			}
		}
		old = append(old, w)
		if len(old) > 6 {
			old[0].conn.Close()
			old = old[1:]
		}
		refusals += stale
	}
	// All that was sent late was refused, one by one.
	deadline := time.Now().Add(20 * time.Second)
	for s.Status().Refused == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if st := s.Status(); st.Refused == 0 || st.View != 25 {
		t.Errorf("%+v, %d sent late", st, refusals)
	}
}

// TestRequestsInTheSocketAreRefused: they lie in the server's socket buffer, behind one that it is not done with, when
// the later view is announced.
func TestRequestsInTheSocketAreRefused(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	a := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: 1})
	// Half a frame: the server waits for the rest, with all that follows behind it.
	frame := appendRequest(nil, writeOf(1, 0, 1))
	a.send(frame[:20])
	b := greet(t, s.addr, hello{Host: "b", Life: "b", View: 2, Session: 1})
	a.send(append(frame[20:], appendRequest(nil, writeOf(2, 1, 1))...))
	for range 2 {
		if _, ok := a.answer(); ok {
			t.Error("a request of view 1 was carried out in view 2")
		}
	}
	b.send(appendRequest(nil, event.DiskRequest{ID: 1, Op: event.DiskRead, Count: 2}))
	if d, ok := b.answer(); !ok || d.Status != event.DiskOK || !bytes.Equal(d.Data, make([]byte, 1024)) {
		t.Error("the disk is not as it was")
	}
	if st := s.Status(); st.Refused != 2 || st.Requests != 1 {
		t.Errorf("%+v", st)
	}
}

func TestWhoMayLead(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	for i, c := range []struct {
		h      hello
		want   string // part of the error
		fenced bool
	}{
		{h: hello{Host: "a", Life: "a1", View: 0}},
		{h: hello{Host: "a", Life: "a1", View: 3, Session: 1}},
		{h: hello{Host: "a", Life: "a1", View: 3, Session: 2}},
		{h: hello{Host: "a", Life: "a1", View: 3, Session: 2}, want: "newer connection"},
		{h: hello{Host: "a", Life: "a1", View: 3, Session: 1}, want: "newer connection"},
		{h: hello{Host: "b", Life: "b1", View: 3, Session: 1}, want: "another life", fenced: true},
		{h: hello{Host: "b", Life: "b1", View: 2, Session: 1}, want: "is over", fenced: true},
		{h: hello{Host: "c", Life: "c1", View: 4, Session: 1, Group: "other"}, want: "belongs to group g"},
		{h: hello{Host: "c", Life: "c1", Group: "other"}, want: "belongs to group g"},
		{h: hello{Host: "c", Life: "c1", View: 4, Session: 1, Group: "other", Takes: "x"}, want: "belongs to group g"},
		{h: hello{Host: "b", Life: "b1", View: 9, Session: 1}},
		{h: hello{Host: "a", Life: "a1", View: 8, Session: 3}, want: "is over", fenced: true},
		{h: hello{Host: "c", Life: "c1", View: 1, Session: 1, Group: "g-2", Takes: "g"}},
		{h: hello{Host: "b", Life: "b1", View: 10, Session: 2}, want: "has lost the disk", fenced: true},
		{h: hello{Host: "b", Life: "b1", View: 10, Session: 2, Takes: "g"}, want: "has lost the disk", fenced: true},
		{h: hello{Host: "", Life: "b1", View: 10}, want: "malformed"},
		{h: hello{Host: "b", Life: "b1", View: 10, Group: "../x"}, want: "malformed"},
	} {
		w := greet(t, s.addr, c.h)
		if c.want == "" && w.w.Error != "" || !strings.Contains(w.w.Error, c.want) || w.w.Fenced != c.fenced {
			t.Errorf("case %d: %+v", i, w.w)
		}
	}
}

// TestReadsNeedTheLead: nothing is told to one that leads no view, or an earlier one.
func TestReadsNeedTheLead(t *testing.T) {
	s := serve(t, newDisk(t), "")
	read := appendRequest(nil, event.DiskRequest{ID: 1, Op: event.DiskRead, Count: 1})
	looker := greet(t, s.addr, hello{Host: "b", Life: "b"})
	looker.send(read)
	if _, ok := looker.answer(); ok {
		t.Error("one that does not lead could read")
	}
	a := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: 1})
	again := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: 2})
	a.send(read)
	if _, ok := a.answer(); ok {
		t.Error("a connection that has a successor could read")
	}
	again.send(read)
	if _, ok := again.answer(); !ok {
		t.Error("the successor was refused")
	}
}

func TestFenceOutlivesTheServer(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	id := greet(t, s.addr, hello{Host: "a", Life: "a", View: 4, Session: 1}).w.Disk
	s.kill()
	// Killed between making the fence durable and the answer, or in the middle of making it.
	if err := os.WriteFile(fencePath(path)+".new", []byte(fenceMagic+"{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = serve(t, path, "")
	if w := greet(t, s.addr, hello{Host: "b", Life: "b", View: 3, Session: 1}); !w.w.Fenced {
		t.Errorf("view 3 after view 4: %+v", w.w)
	}
	// The one whose answer was lost asks again.
	if w := greet(t, s.addr, hello{Host: "a", Life: "a", View: 4, Session: 1}); w.w.Error != "" || w.w.Disk != id {
		t.Errorf("%+v", w.w)
	}
	s.kill()
	o, err := Open(path, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Free(); err != nil {
		t.Fatal(err)
	}
	o.Close()
	s = serve(t, path, "")
	if w := greet(t, s.addr, hello{Host: "a", Life: "a", View: 5, Session: 1}); !w.w.Fenced {
		t.Errorf("a group whose disk was given free: %+v", w.w)
	}
	if w := greet(t, s.addr, hello{Host: "c", Life: "c", View: 1, Session: 1, Group: "new"}); w.w.Error != "" {
		t.Errorf("%+v", w.w)
	}
}

// TestFenceThatCannotBeKept: an announcement that is not durable is not answered as if it were, and nothing more is done.
func TestFenceThatCannotBeKept(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	a := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: 1})
	if err := os.Mkdir(fencePath(path)+".new", 0o700); err != nil { // in the way of the next change
		t.Fatal(err)
	}
	if w := greet(t, s.addr, hello{Host: "b", Life: "b", View: 2, Session: 1}); w.w.Error == "" || w.w.Fenced {
		t.Errorf("%+v", w.w)
	}
	a.send(appendRequest(nil, writeOf(1, 0, 1)))
	if _, ok := a.answer(); ok {
		t.Error("a request was carried out although nobody knows what the fence says")
	}
	if s.Status().Error == "" {
		t.Error("the status does not say so")
	}
}

func TestDamagedFenceIsRefused(t *testing.T) {
	path := newDisk(t)
	serve(t, path, "").kill()
	good, err := os.ReadFile(fencePath(path))
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x10
		for _, bad := range [][]byte{good[:n], flipped} {
			if err := os.WriteFile(fencePath(path), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, ServerOptions{})
			var b *BadFenceError
			if !errors.As(err, &b) || b.Try() == "" {
				if err == nil {
					s.Close()
				}
				t.Fatalf("cut or changed at byte %d: %v", n, err)
			}
		}
	}
}

func TestHostileFrames(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	frame := func(kind byte, body string) []byte {
		return appendFrame(nil, kind, func(b []byte) []byte { return append(b, body...) })
	}
	damaged := appendRequest(nil, writeOf(1, 0, 7))
	damaged[30] ^= 1
	uv := func(op event.DiskOp, sector, count uint64, data string) []byte {
		return appendFrame(nil, kindRequest, func(b []byte) []byte {
			b = binary.AppendUvarint(append(b, 1, byte(op)), sector)
			return append(binary.AppendUvarint(b, count), data...)
		})
	}
	for i, bad := range [][]byte{
		{0, 0, 0, 0, 0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		damaged, frame(kindHello, "{}"), frame('z', ""), frame(kindRequest, ""),
		frame(kindRequest, "\x01"), frame(kindRequest, strings.Repeat("\xff", 40)),
		uv(event.DiskRead, 0, 1<<40, ""), uv(event.DiskRead, 0, 1<<32+1, ""), uv(event.DiskWrite, 0, 2, strings.Repeat("x", 512)),
		uv(event.DiskWrite, 0, 1<<55, ""), uv(event.DiskFlush, 0, 1, ""), uv(event.DiskDiscard, 0, 1<<31, ""), uv(99, 0, 0, ""), uv(event.DiskRead, 0, 1, "x"),
	} {
		w := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: uint64(i + 1)})
		if w.w.Error != "" {
			t.Fatal(w.w.Error)
		}
		w.send(bad)
		var buf []byte
		if _, _, err := readFrame(w.in, &buf, maxFrameBytes); err == nil {
			t.Errorf("case %d was answered", i)
		}
	}
	// Outside of the disk is the guest's mistake, not the protocol's.
	w := greet(t, s.addr, hello{Host: "a", Life: "a", View: 1, Session: 100})
	for _, q := range [][]byte{uv(event.DiskRead, testSectors, 1, ""), uv(event.DiskRead, 1<<63, 1, ""), uv(event.DiskDiscard, testSectors-1, 2, "")} {
		w.send(q)
		if d, ok := w.answer(); !ok || d.Status != event.DiskError {
			t.Errorf("%+v", d)
		}
	}
	for i, bad := range [][]byte{frame(kindHello, "{"), frame(kindHello, "[]"), frame(kindRequest, "x"), frame(kindHello, strings.Repeat(" ", maxHelloBytes))} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err = conn.Write(bad); err == nil {
			var buf []byte
			_, _, err = readFrame(bufio.NewReader(conn), &buf, maxFrameBytes)
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("hello %d: %v", i, err)
		}
		conn.Close()
	}
	if got := readAll(t, path); !bytes.Equal(got, make([]byte, testSectors*512)) {
		t.Error("something was written")
	}
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func FuzzParseRequest(f *testing.F) {
	for _, q := range []event.DiskRequest{writeOf(9, 3, 1), {ID: 1 << 60, Op: event.DiskRead, Sector: 1 << 40, Count: 8}, {Op: event.DiskFlush}, {Op: event.DiskDiscard, Count: 5}} {
		f.Add(appendRequest(nil, q)[headBytes+1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err != nil {
			return
		}
		again, err := parseRequest(appendRequest(nil, q)[headBytes+1:])
		if err != nil || again.ID != q.ID || again.Op != q.Op || again.Sector != q.Sector || again.Count != q.Count || !bytes.Equal(again.Data, q.Data) {
			t.Fatalf("%+v became %+v: %v", q, again, err)
		}
	})
}
