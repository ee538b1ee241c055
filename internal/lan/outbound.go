package lan

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxOutboundDials bounds the connections to the outside that are being set up.
const maxOutboundDials = 64

// outboundTimeout bounds the set-up of one.
const outboundTimeout = 10 * time.Second

// outbound carries guests' connections to the outside over sockets of the host.
type outbound struct {
	g     *gateway
	conns chan struct{} // one token per connection or UDP flow
	dial  func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
}

// allowOutbound makes the gateway take packets for any address and carry TCP and UDP. It answers pings for
// any address itself.
func (g *gateway) allowOutbound() error {
	if err := g.stack.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("set promiscuous mode: %s", err)
	}
	if err := g.stack.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("set spoofing: %s", err)
	}
	o := &outbound{g: g, conns: make(chan struct{}, g.lan.cfg.MaxConns), dial: dialOutside}
	g.out = o
	f := tcp.NewForwarder(g.stack, 0, maxOutboundDials, o.tcp)
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
	u := udp.NewForwarder(g.stack, o.udp)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		return o.outside(id) && u.HandlePacket(id, pkt)
	})
	return nil
}

func dialOutside(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, to.String())
}

// outside reports whether a guest may connect to the address: one that is not of this LAN, of the host itself
// or of the host's own link (which is where clouds keep a machine's credentials).
func (o *outbound) outside(id stack.TransportEndpointID) bool {
	ip := netip.AddrFrom4(id.LocalAddress.As4())
	return !o.g.lan.cfg.Gateway.Contains(ip) && ip.IsGlobalUnicast() && !ip.IsLinkLocalUnicast() &&
		id.LocalAddress != header.IPv4Broadcast && ip.As4()[0] != 0
}

func destination(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

// tcp handles one SYN, in a goroutine of its own.
func (o *outbound) tcp(r *tcp.ForwarderRequest) {
	l := o.g.lan
	if !o.outside(r.ID()) || !l.start(func() {
		select {
		case o.conns <- struct{}{}:
			defer func() { <-o.conns }()
		default:
			r.Complete(true)
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, outboundTimeout)
		conn, err := o.dial(ctx, "tcp", destination(r.ID()))
		cancel()
		if err != nil {
			r.Complete(true)
			return
		}
		defer closeOnDone(l.ctx, conn)()
		var wq waiter.Queue
		ep, terr := r.CreateEndpoint(&wq)
		r.Complete(terr != nil)
		if terr != nil {
			conn.Close()
			return
		}
		inside := newGuestConn(&wq, ep)
		defer closeOnDone(l.ctx, inside)()
		relay(conn.(*net.TCPConn), inside)
	}) {
		r.Complete(true)
	}
}

// udp handles the first datagram of a flow.
func (o *outbound) udp(r *udp.ForwarderRequest) {
	l := o.g.lan
	select {
	case o.conns <- struct{}{}:
	default:
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		<-o.conns
		return
	}
	inside := gonet.NewUDPConn(&wq, ep)
	if !l.start(func() {
		defer func() { <-o.conns }()
		defer inside.Close()
		o.udpFlow(inside, destination(r.ID()))
	}) {
		<-o.conns
		inside.Close()
	}
}

func (o *outbound) udpFlow(inside *gonet.UDPConn, to netip.AddrPort) {
	l := o.g.lan
	conn, err := o.dial(l.ctx, "udp", to)
	if err != nil {
		return
	}
	defer closeOnDone(l.ctx, conn)()
	defer closeOnDone(l.ctx, inside)()
	back := make(chan struct{})
	go func() {
		defer close(back)
		pumpUDP(conn, func(b []byte) { _, _ = inside.Write(b) })
		_ = inside.SetReadDeadline(time.Now())
	}()
	_ = inside.SetReadDeadline(time.Now().Add(udpIdle))
	pumpUDP(inside, func(b []byte) {
		_ = conn.SetReadDeadline(time.Now().Add(udpIdle))
		_, _ = conn.Write(b)
	})
	conn.Close()
	<-back
}
