package lan

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

var (
	guestMAC  = [6]byte{0x52, 0x54, 0, 0, 0, 1}
	otherMAC  = [6]byte{0x52, 0x54, 0, 0, 0, 2}
	guestIP   = netip.MustParseAddr("192.168.127.2")
	gatewayIP = netip.MustParseAddr("192.168.127.1")
)

// startLAN makes a LAN that listens on loopback and returns its address.
func startLAN(t testing.TB, cfg Config) (*LAN, string) {
	t.Helper()
	if cfg.Log == nil && testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		l.Close()
	})
	return l, ln.Addr().String()
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(string(b[:len(b)-1]))
	}
	return len(b), nil
}

func dialPort(t testing.TB, d Dialer, addr string) *Port {
	t.Helper()
	p, err := d.Dial(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// guest is an IP stack that is not ours to configure: default TCP, one interface, a cable that can be moved
// from port to port or pulled.
type guest struct {
	stack *stack.Stack
	link  *link
	port  atomic.Pointer[Port] // nil: pulled
}

func newGuest(t testing.TB, mac [6]byte, ip netip.Addr) *guest {
	t.Helper()
	g := &guest{}
	g.link = &link{mac: tcpip.LinkAddress(mac[:]), ip: ip, mtu: 1500, send: func(f []byte) {
		if p := g.port.Load(); p != nil {
			p.Send(f)
		}
	}}
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := g.stack.CreateNIC(nicID, g.link); err != nil {
		t.Fatal(err)
	}
	addr := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(ip.As4()), PrefixLen: 24}
	if err := g.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addr}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	everything, _ := tcpip.NewSubnet(tcpip.AddrFrom4([4]byte{}), tcpip.MaskFromBytes(make([]byte, 4)))
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: addr.Subnet(), NIC: nicID},
		{Destination: everything, NIC: nicID, Gateway: tcpip.AddrFrom4(gatewayIP.As4())},
	})
	t.Cleanup(func() { g.port.Store(nil); g.stack.Close() })
	return g
}

// plug joins the LAN and returns the port; the guest hears it once the port is current.
func (g *guest) plug(t testing.TB, addr string) *Port {
	t.Helper()
	var self atomic.Pointer[Port]
	p := dialPort(t, Dialer{Handler: func(f []byte) {
		if p := self.Load(); p != nil && g.port.Load() == p {
			g.link.receive(f)
		}
	}}, addr)
	self.Store(p)
	return p
}

// joinGuest makes a guest with a port of its own.
func joinGuest(t testing.TB, addr string, mac [6]byte, ip netip.Addr) *guest {
	t.Helper()
	g := newGuest(t, mac, ip)
	g.port.Store(g.plug(t, addr))
	return g
}

// listen serves every connection to a port of the guest with f.
func (g *guest) listen(t testing.TB, port uint16, f func(net.Conn)) {
	t.Helper()
	ln, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{NIC: nicID, Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
}

// echo sends back what it reads and passes the end on.
func echo(c net.Conn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func forwardTo(t testing.TB, l *LAN, port uint16) string {
	t.Helper()
	a, err := l.Forward(ForwardSpec{Listen: "127.0.0.1:0", GuestPort: port})
	if err != nil {
		t.Fatal(err)
	}
	return a.String()
}

func dialHost(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// roundTrip sends text and wants it back.
func roundTrip(c net.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != text {
		return errors.New("echo differs: " + string(b))
	}
	return nil
}

// waitFor waits until cond holds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// nextFrame returns the next received frame that pick accepts.
func nextFrame(t testing.TB, p *Port, what string, pick func([]byte) bool) []byte {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case f := <-p.Frames():
			if pick(f) {
				return f
			}
		case <-timeout:
			t.Fatalf("no frame came: %s", what)
		}
	}
}

// ethernet builds a frame.
func ethernet(dst, src [6]byte, etherType uint16, payload []byte) []byte {
	f := append(append([]byte(nil), dst[:]...), src[:]...)
	return append(binary.BigEndian.AppendUint16(f, etherType), payload...)
}

// checksum is the Internet checksum of the parts, each of even length but the last.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i]) << 8
			if i+1 < len(b) {
				sum += uint32(b[i+1])
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ip4 builds an IPv4 packet.
func ip4(proto byte, src, dst netip.Addr, payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	s, d := src.As4(), dst.As4()
	h = append(append(h, s[:]...), d[:]...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

// udp4 builds an IPv4 packet with a UDP datagram, without a UDP checksum (0: none).
func udp4(src, dst netip.AddrPort, payload []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, src.Port())
	u = binary.BigEndian.AppendUint16(u, dst.Port())
	u = binary.BigEndian.AppendUint16(u, uint16(8+len(payload)))
	u = append(u, 0, 0)
	return ip4(17, src.Addr(), dst.Addr(), append(u, payload...))
}
