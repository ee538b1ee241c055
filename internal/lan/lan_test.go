package lan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

func TestGatewayAnswersARPAndPing(t *testing.T) {
	l, addr := startLAN(t, Config{})
	p := dialPort(t, Dialer{}, addr)

	p.Send(arpFrame(etherTypeARP, 1, guestMAC, guestIP.As4(), [6]byte{}, gatewayIP.As4()))
	reply := nextFrame(t, p, "ARP reply", func(f []byte) bool { _, ip, ok := arpSender(f); return ok && ip == gatewayIP && f[21] == 2 })
	if got := [6]byte(reply[6:12]); got != l.cfg.GatewayMAC {
		t.Errorf("ARP reply from %x, want %x", got, l.cfg.GatewayMAC)
	}

	ping := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'h', 'e', 'l', 'l', 'o', '!'}
	binary.BigEndian.PutUint16(ping[2:], checksum(ping))
	p.Send(ethernet(l.cfg.GatewayMAC, guestMAC, etherTypeIPv4, ip4(1, guestIP, gatewayIP, ping)))
	nextFrame(t, p, "echo reply", func(f []byte) bool {
		return f[12] == 8 && f[13] == 0 && f[23] == 1 && f[34] == 0 && bytes.Equal(f[38:48], ping[4:])
	})
}

func TestForwardEchoesAndPassesHalfClose(t *testing.T) {
	l, addr := startLAN(t, Config{})
	joinGuest(t, addr, guestMAC, guestIP).listen(t, 6379, func(c net.Conn) {
		// Answers only once it has seen the end of the request.
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
		c.Close()
	})
	c := dialHost(t, forwardTo(t, l, 6379))
	want := strings.Repeat("a request of some length. ", 40_000)
	go func() {
		_, _ = io.WriteString(c, want)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != strings.ToUpper(want) {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
	waitFor(t, "the connection to end", func() bool { return l.Stats().Conns == 0 })
}

func TestForwardPassesResets(t *testing.T) {
	l, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	closed := make(chan error, 1)
	g.listen(t, 7, func(c net.Conn) { _, err := c.Read(make([]byte, 1)); closed <- err })

	// A port that nobody listens on in the guest: refused there, reset here.
	refused, err := net.Dial("tcp", forwardTo(t, l, 9))
	if err == nil { // else the reset was there before connect returned
		_, err = refused.Read(make([]byte, 1))
		refused.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a refused forward: %v, want a reset", err)
	}
	// A client that resets.
	c := dialHost(t, forwardTo(t, l, 7))
	waitFor(t, "the connection", func() bool { return l.Stats().ConnsTotal == 2 })
	_ = c.SetLinger(0)
	c.Close()
	select {
	case err := <-closed:
		if err == nil {
			t.Error("the guest read something")
		}
	case <-time.After(10 * time.Second):
		t.Error("the guest did not learn of the reset")
	}
}

func TestForwardWithoutGuestIsClosed(t *testing.T) {
	l, _ := startLAN(t, Config{DialTimeout: 200 * time.Millisecond})
	c := dialHost(t, forwardTo(t, l, 80))
	start := time.Now()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the connection closed", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("closed after %s", d)
	}
	if s := l.Stats(); s.ConnsFailed != 1 {
		t.Errorf("ConnsFailed = %d, want 1", s.ConnsFailed)
	}
}

func TestForwardPortInUse(t *testing.T) {
	l, _ := startLAN(t, Config{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = l.Forward(ForwardSpec{Listen: taken.Addr().String(), GuestPort: 80})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v, want ErrPortInUse with the address", err)
	}
}

func TestForwardUDP(t *testing.T) {
	l, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	at := fullAddress(netip.AddrPortFrom(guestIP, 53))
	srv, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := srv.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = srv.WriteTo(b[:n], from)
		}
	}()
	a, err := l.Forward(ForwardSpec{Network: "udp", Listen: "127.0.0.1:0", GuestPort: 53})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for range 3 {
		if err := roundTrip(c, "a datagram"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseForward(t *testing.T) {
	for text, want := range map[string]ForwardSpec{
		"6379:6380":             {Network: "tcp", Listen: "127.0.0.1:6379", GuestPort: 6380},
		"0:22":                  {Network: "tcp", Listen: "127.0.0.1:0", GuestPort: 22},
		"127.0.0.2:5353:53/udp": {Network: "udp", Listen: "127.0.0.2:5353", GuestPort: 53},
		"[::1]:80:8080/tcp":     {Network: "tcp", Listen: "[::1]:80", GuestPort: 8080},
		"80":                    {}, "80:": {}, ":80": {}, "80:0": {}, "80:65536": {}, "x:80": {}, "80:80/sctp": {}, "::1:80:80": {}, "name:80:80": {},
	} {
		got, err := ParseForward(text)
		if got != want || (err != nil) != (want == ForwardSpec{}) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

// The point of the package: the guest's machine dies, another takes its address over, the client's
// connection goes on.
// A burst lost at a failover costs a few round trips, not one time-out for every lost segment.
// A frozen primary keeps its port: only the frame from the new one moves the address.
func TestPortThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	l, addr := startLAN(t, Config{QueueBytes: 256 << 10})
	stuck, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	_ = stuck.(*net.TCPConn).SetReadBuffer(4096)
	joinGuest(t, addr, guestMAC, guestIP).listen(t, 7, echo)
	c := dialHost(t, forwardTo(t, l, 7))
	noisy := dialPort(t, Dialer{}, addr)
	noise := ethernet(broadcastMAC, otherMAC, 0x88b5, make([]byte, 1400))
	start := time.Now()
	for i := 0; l.Stats().Dropped == 0; i++ {
		noisy.Send(noise)
		if i%100 == 0 {
			if err := roundTrip(c, "still here"); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("nothing was dropped")
		}
	}
	for range 100 {
		noisy.Send(noise)
		start := time.Now()
		if err := roundTrip(c, "still here"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("a round trip took %s", d)
		}
	}
}

func TestGuestsReachNothingOutside(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	go func() {
		if c, err := outside.Accept(); err == nil {
			t.Errorf("a guest reached the host from %s", c.RemoteAddr())
		}
	}()
	port := uint16(outside.Addr().(*net.TCPAddr).Port)
	_, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	for _, ip := range []string{"198.51.100.7", "127.0.0.1", "192.168.127.1", "192.168.127.254"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := gonet.DialContextTCP(ctx, g.stack, fullAddress(netip.AddrPortFrom(netip.MustParseAddr(ip), port)), ipv4.ProtocolNumber)
		cancel()
		if err == nil {
			c.Close()
			t.Errorf("connected to %s", ip)
		}
		t.Logf("%s: %v", ip, err)
	}
}

// A guest learns that there is no way out by ICMP, at once.
func TestNoWayOutIsSaidAtOnce(t *testing.T) {
	l, addr := startLAN(t, Config{})
	p := dialPort(t, Dialer{}, addr)
	p.Send(GratuitousARP(guestMAC, guestIP))
	syn := make([]byte, 20)
	binary.BigEndian.PutUint16(syn, 40000)
	binary.BigEndian.PutUint16(syn[2:], 80)
	syn[12], syn[13] = 5<<4, 2
	p.Send(ethernet(l.cfg.GatewayMAC, guestMAC, etherTypeIPv4, ip4(6, guestIP, netip.MustParseAddr("198.51.100.7"), syn)))
	nextFrame(t, p, "ICMP destination unreachable", func(f []byte) bool {
		if _, ip, ok := arpSender(f); ok && ip == gatewayIP && f[21] == 1 {
			reply := arpFrame(etherTypeARP, 2, guestMAC, guestIP.As4(), l.cfg.GatewayMAC, gatewayIP.As4())
			copy(reply, l.cfg.GatewayMAC[:])
			p.Send(reply)
		}
		return f[12] == 8 && f[13] == 0 && f[23] == 1 && f[34] == 3
	})
}

func TestOutboundWhenAllowed(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	go func() {
		for {
			c, err := outside.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	l, addr := startLAN(t, Config{AllowOutbound: true})
	l.gw.out.dial = func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
		if to.String() != "198.51.100.7:80" {
			t.Errorf("dialled %s", to)
		}
		return dialOutside(ctx, network, outside.Addr().(*net.TCPAddr).AddrPort())
	}
	g := joinGuest(t, addr, guestMAC, guestIP)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := gonet.DialContextTCP(ctx, g.stack, fullAddress(netip.MustParseAddrPort("198.51.100.7:80")), ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(c, "to the outside and back"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for _, to := range []string{"127.0.0.1:80", "169.254.169.254:80", "192.168.127.77:80", "0.0.0.1:80"} {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		if c, err := gonet.DialContextTCP(ctx, g.stack, fullAddress(netip.MustParseAddrPort(to)), ipv4.ProtocolNumber); err == nil {
			c.Close()
			t.Errorf("connected to %s", to)
		}
		cancel()
	}
}

func TestMalformedFramingUnplugsThatPortAlone(t *testing.T) {
	l, addr := startLAN(t, Config{})
	joinGuest(t, addr, guestMAC, guestIP).listen(t, 7, echo)
	for i, bad := range [][]byte{{0, 0, 0, 0}, {0, 0, 0, 13}, {0, 1, 0, 0x0f}, {0xff, 0xff, 0xff, 0xff}, []byte("GET / HTTP/1.1\r\n\r\n")} {
		c := dialHost(t, addr)
		_, _ = c.Write(bad)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("% x: still connected", bad)
		}
		waitFor(t, "the count", func() bool { return l.Stats().FramingErrors == uint64(i+1) })
	}
	half := dialHost(t, addr) // a frame that never ends
	_, _ = half.Write([]byte{0, 0, 0, 60, 1, 2, 3})
	half.Close()
	if err := roundTrip(dialHost(t, forwardTo(t, l, 7)), "unharmed"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "one port", func() bool { return l.Stats().Ports == 1 })
}

// A hostile guest can neither take the gateway's address nor fill the switch's table.
func TestSwitchBoundsAndRejects(t *testing.T) {
	l, addr := startLAN(t, Config{})
	p := dialPort(t, Dialer{}, addr)
	p.Send(ethernet(broadcastMAC, l.cfg.GatewayMAC, 0x88b5, nil))
	p.Send(ethernet(broadcastMAC, broadcastMAC, 0x88b5, nil))
	for i := range 1000 {
		p.Send(ethernet(l.cfg.GatewayMAC, [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)}, 0x88b5, []byte{1, 2, 3}))
	}
	waitFor(t, "the frames", func() bool { return l.Stats().Frames >= 1000 })
	if s := l.Stats(); s.Rejected != 2 {
		t.Errorf("Rejected = %d, want 2", s.Rejected)
	}
	l.sw.mu.RLock()
	defer l.sw.mu.RUnlock()
	if n := len(l.sw.table); n > maxMACsPerPort+1 {
		t.Errorf("the table has %d entries", n)
	}
}

func TestFramesForUnknownAddressesReachAllOthers(t *testing.T) {
	_, addr := startLAN(t, Config{})
	a, b, c := dialPort(t, Dialer{}, addr), dialPort(t, Dialer{}, addr), dialPort(t, Dialer{}, addr)
	f := ethernet(otherMAC, guestMAC, 0x88b5, []byte("who has this?"))
	isF := func(g []byte) bool { return bytes.Equal(f, g) }
	// Ports join one after the other: send until both have it.
	got := make(chan bool, 2)
	for _, p := range []*Port{b, c} {
		go func() {
			for g := range p.Frames() {
				if isF(g) {
					got <- true
					return
				}
			}
		}()
	}
	deadline := time.After(10 * time.Second)
	for n := 0; n < 2; {
		a.Send(f)
		select {
		case <-got:
			n++
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("not flooded")
		}
	}
	select {
	case g := <-a.Frames():
		if isF(g) {
			t.Error("the sender got its own frame back")
		}
	default:
	}
}

func TestPortReconnects(t *testing.T) {
	l1, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(t.TempDir(), "lan")
	serve := func(l *LAN) {
		ln, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		go l.Serve(context.Background(), ln)
	}
	serve(l1)
	ups := make(chan bool, 10)
	d := Dialer{OnUp: func(p *Port) { p.Send(Announce(guestMAC)); ups <- true }}
	p, err := d.Dial(context.Background(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	waitFor(t, "the announcement", func() bool { return l1.sw.portOf(guestMAC) != "" })
	l1.Close()
	waitFor(t, "the loss to show", func() bool { return !p.Up() })
	p.Send(Announce(guestMAC))
	if s := p.Stats(); s.Dropped == 0 {
		t.Errorf("%+v, want a drop", s)
	}
	l2, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l2.Close()
	serve(l2)
	waitFor(t, "the announcement to the new LAN", func() bool { return l2.sw.portOf(guestMAC) != "" })
	if len(ups) != 2 {
		t.Errorf("OnUp called %d times, want 2", len(ups))
	}

	if _, err := Dial(context.Background(), "unix", sock+".nothing"); err == nil {
		t.Error("joined a LAN that is not there")
	}
	late, err := (&Dialer{Retry: true}).Dial(context.Background(), "unix", sock+".nothing")
	if err != nil {
		t.Fatal(err)
	}
	late.Close()
}

func TestCloseEndsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background(), ln) }()
	g := joinGuest(t, ln.Addr().String(), guestMAC, guestIP)
	g.listen(t, 7, echo)
	c := dialHost(t, forwardTo(t, l, 7))
	if err := roundTrip(c, "hello"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Close took %s", d)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection is still open")
	}
	if _, err := l.Forward(ForwardSpec{Listen: "127.0.0.1:0", GuestPort: 1}); err == nil {
		t.Error("Forward works after Close")
	}
	l.Close()
	g.port.Load().Close()
	g.port.Store(nil)
	g.stack.Close()
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before+3 })
}

func TestCapture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lan.pcap")
	l, addr := startLAN(t, Config{PcapPath: path})
	p := dialPort(t, Dialer{}, addr)
	f := GratuitousARP(guestMAC, guestIP)
	p.Send(f)
	waitFor(t, "the frame", func() bool { b, _ := os.ReadFile(path); return bytes.Contains(b, f) })
	b, _ := os.ReadFile(path)
	if len(b) < 24+16+60 || binary.LittleEndian.Uint32(b) != 0xa1b23c4d || binary.LittleEndian.Uint32(b[20:]) != 1 {
		t.Fatalf("capture begins % x", b[:min(len(b), 40)])
	}
	if n := binary.LittleEndian.Uint32(b[32:]); n != 60 || !bytes.Equal(b[40:100], f) {
		t.Errorf("first record: %d bytes, % x", n, b[40:100])
	}
	_ = l
	if _, err := New(Config{PcapPath: filepath.Join(t.TempDir(), "no", "such", "dir")}); err == nil {
		t.Error("no error for an impossible path")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"IPv6":    {Gateway: netip.MustParsePrefix("fd00::1/64")},
		"prefix":  {Gateway: netip.MustParsePrefix("10.0.0.1/31")},
		"MTU":     {MTU: 100},
		"RTO":     {MinRTO: time.Second},
		"lease":   {Leases: map[[6]byte]netip.Addr{guestMAC: netip.MustParseAddr("10.0.0.1")}},
		"lease 2": {Leases: map[[6]byte]netip.Addr{guestMAC: guestIP, otherMAC: guestIP}},
		"MAC":     {GatewayMAC: broadcastMAC},
	} {
		if l, err := New(cfg); err == nil {
			l.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
