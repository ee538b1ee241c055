package lanapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/internal/lan"
	"understudy/internal/pki"
)

var mac = [6]byte{0x52, 0x54, 0, 0, 0, 1}

const macName = "52:54:00:00:00:01"

// open begins a daemon with an admin server and returns a client of it; end ends both.
func open(t testing.TB, o Options) (d *Daemon, c *Client, end func()) {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(d, nil).Serve(ctx, ln) }()
	if c, err = NewClient("http://"+ln.Addr().String(), ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(end)
	return d, c, end
}

func put(t testing.TB, c *Client, name string, forwards ...string) Status {
	t.Helper()
	s, err := c.Put(t.Context(), name, Spec{Forwards: forwards})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// responder plays a guest without a stack of its own: it answers ARP, and sends UDP datagrams back.
func responder(t testing.TB, d lan.Dialer, addr string) *lan.Port {
	t.Helper()
	ip := netip.MustParseAddr("192.168.127.2")
	ready := make(chan *lan.Port, 1)
	d.Retry = true
	d.Handler = func(f []byte) {
		p := <-ready
		defer func() { ready <- p }()
		switch kind := binary.BigEndian.Uint16(f[12:]); {
		case kind == 0x0806 && f[21] == 1 && netip.AddrFrom4([4]byte(f[38:42])) == ip:
			reply := slices.Clone(f)
			copy(reply, f[6:12])
			copy(reply[6:], mac[:])
			reply[21] = 2
			copy(reply[32:42], f[22:32])
			copy(reply[22:], mac[:])
			copy(reply[28:], ip.AsSlice())
			p.Send(reply)
		case kind == 0x0800 && f[23] == 17 && len(f) >= 42 && netip.AddrFrom4([4]byte(f[30:34])) == ip:
			reply := slices.Clone(f)
			copy(reply, f[6:12])
			copy(reply[6:], mac[:])
			copy(reply[26:30], f[30:34])
			copy(reply[30:34], f[26:30])
			copy(reply[34:36], f[36:38])
			copy(reply[36:38], f[34:36])
			p.Send(reply) // the sums stay right: their terms have only changed places
		}
	}
	p, err := d.Dial(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ready <- p
	t.Cleanup(func() { p.Close() })
	return p
}

// echoes waits until a datagram to addr comes back.
func echoes(t testing.TB, addr string) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	waitFor(t, "an echo from "+addr, func() bool {
		_, _ = io.WriteString(c, "datagram")
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _ := c.Read(buf)
		return string(buf[:n]) == "datagram"
	})
}

func TestMakeChangeAndRemove(t *testing.T) {
	_, c, _ := open(t, Options{})
	ctx := t.Context()
	first := put(t, c, "db1", "127.0.0.1:0:80", "127.0.0.1:0:53/udp")
	if first.Name != "db1" || len(first.Forwards) != 2 || first.Forwards[1].Spec != "127.0.0.1:0:53/udp" {
		t.Fatalf("%+v", first)
	}
	responder(t, lan.Dialer{}, first.Listen)
	echoes(t, first.Forwards[1].At)

	again := put(t, c, "db1", "127.0.0.1:0:80", "127.0.0.1:0:53/udp")
	if !slices.Equal(again.Forwards, first.Forwards) || again.Listen != first.Listen {
		t.Errorf("a repeated put changed %+v to %+v", first, again)
	}
	// A forward more, and one less; what stays keeps its connection.
	conn, err := net.Dial("tcp", first.Forwards[0].At)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	waitFor(t, "the connection", func() bool { s, _ := c.Get(ctx, "db1"); return s.Stats.Conns == 1 })
	more := put(t, c, "db1", "127.0.0.1:0:81", "0:80/tcp")
	if more.Forwards[1].At != first.Forwards[0].At || more.Forwards[1].Spec != "0:80/tcp" || more.Stats.Conns != 1 {
		t.Errorf("%+v", more)
	}
	// The port of one that goes can lead elsewhere at once; its connections go.
	_, port, _ := net.SplitHostPort(first.Forwards[0].At)
	moved := put(t, c, "db1", port+":82")
	if moved.Forwards[0].At != first.Forwards[0].At || moved.Stats.Conns != 0 {
		t.Errorf("%+v", moved)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection of a removed forward: %v", err)
	}
	if _, err := net.Dial("tcp", more.Forwards[0].At); err == nil {
		t.Error("a removed forward still listens")
	}

	if _, err := c.Put(ctx, "db1", Spec{Outbound: true}); !errors.Is(err, ErrConflict) {
		t.Errorf("outbound was changed: %v", err)
	}
	st, err := c.Put(ctx, "db1", Spec{MAC: macName})
	if err != nil || len(st.Forwards) != 0 || len(st.Leases) != 1 || st.Leases[0] != (Lease{macName, "192.168.127.2"}) {
		t.Errorf("%+v, %v", st, err)
	}
	put(t, c, "db0")
	if all, err := c.List(ctx); err != nil || len(all) != 2 || all[0].Name != "db0" || all[1].Stats.Ports != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := c.Delete(ctx, "db1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, "db1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := c.Get(ctx, "db1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted and there: %v", err)
	}
}

func TestRemovalClosesListenersAndConnections(t *testing.T) {
	_, c, _ := open(t, Options{})
	s := put(t, c, "g", "0:80", "0:53/udp")
	p := responder(t, lan.Dialer{}, s.Listen)
	echoes(t, s.Forwards[1].At)
	conn, err := net.Dial("tcp", s.Forwards[0].At)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	waitFor(t, "the connection", func() bool { s, _ := c.Get(t.Context(), "g"); return s.Stats.Conns == 1 })
	if err := c.Delete(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open: %v", err)
	}
	waitFor(t, "the cable to end", func() bool { return !p.Up() })
	for _, f := range []string{s.Listen, s.Forwards[0].At} {
		if ln, err := net.Listen("tcp", f); err != nil {
			t.Error(err)
		} else {
			ln.Close()
		}
	}
	if pc, err := net.ListenPacket("udp", s.Forwards[1].At); err != nil {
		t.Error(err)
	} else {
		pc.Close()
	}
}

func TestPortConflictsChangeNothing(t *testing.T) {
	dir := t.TempDir()
	_, c, _ := open(t, Options{Dir: dir})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	in := taken.Addr().String() + ":80"
	before := put(t, c, "g", "0:80", "0:81")
	_, port, _ := net.SplitHostPort(before.Forwards[0].At)
	open := func() {
		t.Helper()
		for _, f := range before.Forwards {
			conn, err := net.Dial("tcp", f.At)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
		}
	}
	open()
	waitFor(t, "the connections", func() bool { s, _ := c.Get(t.Context(), "g"); return s.Stats.Conns == 2 })
	// One that works, one that takes over a port, one that cannot be.
	_, err = c.Put(t.Context(), "g", Spec{Forwards: []string{"0:90", port + ":91", in}})
	if !errors.Is(err, lan.ErrPortInUse) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v, want ErrPortInUse with the address", err)
	}
	if after, err := c.Get(t.Context(), "g"); err != nil || !slices.Equal(after.Forwards, before.Forwards) || after.Stats.Conns != 2 {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	open()
	if _, err := c.Put(t.Context(), "new", Spec{Forwards: []string{"0:80", in}}); !errors.Is(err, lan.ErrPortInUse) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Get(t.Context(), "new"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a LAN that could not be made is there: %v", err)
	}
	if _, err := c.Put(t.Context(), "new", Spec{Forwards: []string{"192.0.2.1:80:80"}}); !errors.Is(err, ErrConflict) {
		t.Errorf("error %v", err)
	}
	// Another LAN's port is in use too.
	if _, err := c.Put(t.Context(), "new", Spec{Forwards: []string{port + ":80"}}); !errors.Is(err, lan.ErrPortInUse) {
		t.Errorf("error %v", err)
	}
	// A change that cannot be written down is not made.
	if err := os.Mkdir(filepath.Join(dir, storeName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "g", Spec{Forwards: []string{port + ":92"}}); !errors.Is(err, ErrStore) {
		t.Errorf("error %v", err)
	}
	if err := c.Delete(t.Context(), "g"); !errors.Is(err, ErrStore) {
		t.Errorf("error %v", err)
	}
	if after, err := c.Get(t.Context(), "g"); err != nil || !slices.Equal(after.Forwards, before.Forwards) {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	open() // the port that was given up and taken back, too
}

func TestDaemonIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	_, c, end := open(t, Options{Dir: dir})
	a, err := c.Put(t.Context(), "a", Spec{Forwards: []string{"0:80", "0:53/udp"}, MAC: macName})
	if err != nil {
		t.Fatal(err)
	}
	b := put(t, c, "b", "0:80")
	put(t, c, "gone")
	if err := c.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	p := responder(t, lan.Dialer{}, a.Listen)
	p.Announce(7, mac)
	echoes(t, a.Forwards[1].At)
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("two daemons in one directory: %v", err)
	}
	end()
	waitFor(t, "the cable to end", func() bool { return !p.Up() })
	p.Announce(0, mac) // so that what the new daemon knows, it knows from the old

	// Another program has one of the ports meanwhile.
	taken, err := net.Listen("tcp", b.Forwards[0].At)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, c, end = open(t, Options{Dir: dir})
	all, err := c.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if got := all[0]; got.Name != "a" || got.Listen != a.Listen || !slices.Equal(got.Forwards, a.Forwards) || got.MAC != macName {
		t.Errorf("%+v became %+v", a, got)
	}
	full, _ := c.Get(t.Context(), "a")
	if len(full.Views) != 1 || full.Views[0] != (View{macName, 7}) || len(full.Leases) != 1 {
		t.Errorf("%+v", full)
	}
	if f := all[1].Forwards[0]; all[1].Listen != b.Listen || f.At != b.Forwards[0].At || f.Error == "" {
		t.Errorf("%+v became %+v", b, all[1])
	}
	if _, err := c.Put(t.Context(), "b", Spec{Forwards: []string{"0:80"}}); !errors.Is(err, lan.ErrPortInUse) {
		t.Errorf("error %v", err)
	}
	taken.Close()
	if s := put(t, c, "b", "0:80"); s.Forwards[0] != b.Forwards[0] {
		t.Errorf("%+v became %+v", b, s)
	}
	waitFor(t, "the cable", p.Up)
	p.Announce(8, mac)
	echoes(t, a.Forwards[1].At)
	waitFor(t, "the view on disk", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, storeName))
		return bytes.Contains(text, []byte(`"view": 8`))
	})
	end()

	// The listener's port is another program's.
	taken, err = net.Listen("tcp", b.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, c, _ = open(t, Options{Dir: dir})
	if s, err := c.Get(t.Context(), "b"); err != nil || s.Error == "" || s.Listen != b.Listen {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Put(t.Context(), "b", Spec{Forwards: []string{"0:80"}}); !errors.Is(err, lan.ErrPortInUse) {
		t.Errorf("error %v", err)
	}
	taken.Close()
	waitFor(t, "the address", func() bool { s, _ := c.Get(t.Context(), "b"); return s.Error == "" && s.Listen == b.Listen })
	if p, err := lan.Dial(t.Context(), "tcp", b.Listen); err != nil {
		t.Error(err)
	} else {
		p.Close()
	}
}

func TestDamagedStoreIsRefused(t *testing.T) {
	good := `{"version":1,"lans":[{"name":"a","listen":"127.0.0.1:0","outbound":false,"forwards":[]}]}`
	for name, text := range map[string]string{
		"empty": "", "half": good[:40], "version": strings.Replace(good, "1", "2", 1), "name": strings.Replace(good, `"a"`, `"../a"`, 1),
		"forward": strings.Replace(good, "[]", `[{"spec":"x","at":""}]`, 1), "MAC": strings.Replace(good, `"forwards"`, `"mac":"x","forwards"`, 1),
		"view": strings.Replace(good, `"forwards"`, `"views":[{"mac":"x","view":1}],"forwards"`, 1), "field": strings.Replace(good, "outbound", "outbond", 1),
		"twice": strings.Replace(good, `[{`, `[{"name":"a","listen":"127.0.0.1:0","outbound":false,"forwards":[]},{`, 1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, storeName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(Options{Dir: dir})
		var hint interface{ Try() string }
		if err == nil {
			d.Close()
			t.Errorf("%s: no error", name)
		} else if !errors.As(err, &hint) || !strings.Contains(hint.Try(), dir) {
			t.Errorf("%s: %v: says not what to do", name, err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, storeName)); string(after) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestHostileRequests(t *testing.T) {
	d, c, _ := open(t, Options{})
	for _, r := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/v1/lans/g", "", 400},
		{"PUT", "/v1/lans/g", "{", 400},
		{"PUT", "/v1/lans/g", "[1]", 400},
		{"PUT", "/v1/lans/g", `{"forwards":"80:80"}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":["80"]}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":["0:80","127.0.0.1:0:80/tcp"]}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":["` + strings.Repeat("0", 200) + `:80"]}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":[` + strings.Repeat(`"0:1",`, MaxForwards) + `"0:2"]}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":[],"listen":"/etc/x"}`, 400},
		{"PUT", "/v1/lans/g", `{"mac":"ff:ff:ff:ff:ff:ff"}`, 400},
		{"PUT", "/v1/lans/g", `{"mac":"00:00:00:00:00:00"}`, 400},
		{"PUT", "/v1/lans/g", `{"mac":"52:54"}`, 400},
		{"PUT", "/v1/lans/g", `{} {}`, 400},
		{"PUT", "/v1/lans/g", `{"forwards":["` + strings.Repeat("0", 1<<20) + `"]}`, 413},
		{"PUT", "/v1/lans/UPPER", `{}`, 400},
		{"PUT", "/v1/lans/%2e%2e%2fx", `{}`, 400},
		{"PUT", "/v1/lans/" + strings.Repeat("a", 100), `{}`, 400},
		{"DELETE", "/v1/lans/-", "", 400},
		{"GET", "/v1/lans/a%00", "", 400},
		{"GET", "/v1/lans/g", "", 404},
		{"DELETE", "/v1/lans/g", "", 404},
		{"POST", "/v1/lans/g", "{}", 405},
		{"GET", "/else", "", 404},
		{"GET", "/healthz", "", 200},
		{"GET", "/v1/lans", "", 200},
	} {
		req, _ := http.NewRequest(r.method, c.base+r.path, strings.NewReader(r.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != r.want {
			t.Errorf("%s %.40s %.60s: status %d, want %d: %.200s", r.method, r.path, r.body, resp.StatusCode, r.want, text)
		}
	}
	if all := d.List(); len(all) != 0 {
		t.Errorf("there are LANs: %+v", all)
	}
	http.DefaultClient.CloseIdleConnections()
	for name, host := range map[string]string{"not loopback": "192.0.2.1", "all": "0.0.0.0", "a name": "localhost"} {
		if d, err := Open(Options{JoinHost: host}); err == nil {
			d.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTwentyLANsAreApartAndLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	d, c, end := open(t, Options{Dir: t.TempDir()})
	const n = 20
	all := make([]Status, n)
	var made sync.WaitGroup
	for i := range n {
		made.Go(func() {
			var err error
			if all[i], err = c.Put(context.Background(), fmt.Sprintf("g%02d", i), Spec{Forwards: []string{"0:80", "0:53/udp"}}); err != nil {
				t.Error(err)
			}
		})
	}
	made.Wait()
	if t.Failed() {
		t.FailNow()
	}
	ports := make([]*lan.Port, n)
	for i := range n {
		// The same addresses everywhere.
		ports[i] = responder(t, lan.Dialer{}, all[i].Listen)
		echoes(t, all[i].Forwards[1].At)
	}
	// What is said on one LAN is heard on no other.
	var heard int
	for i := range n {
		p, err := lan.Dial(t.Context(), "tcp", all[i].Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		waitFor(t, "the port", func() bool { s, _ := d.Get(all[i].Name); return s.Stats.Ports == 2 })
		ports[0].Send(lan.Announce(mac))
		ports[i].Send(lan.GratuitousARP(mac, netip.AddrFrom4([4]byte{192, 168, 127, byte(100 + i)})))
		for f := range p.Frames() {
			if f[13] == 0x35 { // the reverse ARP of LAN 0
				heard++
			}
			if f[12] == 8 && f[13] == 6 && f[31] == byte(100+i) {
				break
			}
		}
		p.Close()
	}
	if heard != 1 { // on LAN 0 itself
		t.Errorf("LAN 0 was heard on %d LANs", heard)
	}
	if s, err := d.Put("late", Spec{Forwards: []string{all[3].Forwards[0].At + ":80"}}); !errors.Is(err, lan.ErrPortInUse) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, p := range ports {
		p.Close()
	}
	end()
	if _, err := d.Put("late", Spec{}); !errors.Is(err, ErrClosed) {
		t.Errorf("put after Close: %v", err)
	}
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestCertificatesOnCablesAndAPI(t *testing.T) {
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]*pki.Identity)
	for _, name := range []string{lan.CertificateName, "a"} {
		if err := pki.NewHost(dir, name, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		id, err := pki.Load(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = id
	}
	d, err := Open(Options{Identity: ids[lan.CertificateName]})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- NewServer(d, nil).Serve(ctx, tlsListener(ln, ids[lan.CertificateName]))
	}()
	defer func() { cancel(); <-ended }()
	c, err := NewClient("https://"+ln.Addr().String(), ClientOptions{TLS: ids["a"].Client(lan.CertificateName)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := put(t, c, "g", "0:53/udp")
	responder(t, lan.Dialer{Identity: ids["a"]}, s.Listen)
	echoes(t, s.Forwards[0].At)

	none := ids["a"].Client(lan.CertificateName)
	none.Certificates = nil
	stranger, _ := NewClient("https://"+ln.Addr().String(), ClientOptions{TLS: none})
	defer stranger.Close()
	plain, _ := NewClient("http://"+ln.Addr().String(), ClientOptions{})
	defer plain.Close()
	for _, bad := range []*Client{stranger, plain} {
		if err := bad.Delete(t.Context(), "g"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("without a certificate: %v", err)
		}
	}
	if _, err := c.Get(t.Context(), "g"); err != nil {
		t.Error(err)
	}
}

func tlsListener(ln net.Listener, id *pki.Identity) net.Listener {
	return tls.NewListener(ln, id.Server(""))
}
