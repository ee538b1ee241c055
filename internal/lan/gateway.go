package lan

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// gatewayPort is the gateway's port number at the switch: it is the first to be plugged in.
const gatewayPort = 0

// nicID is the gateway stack's one interface.
const nicID tcpip.NICID = 1

// neighbourReachable is how long the gateway believes in a guest's hardware address: for ever, in practice.
// A guest that is frozen while nobody may go live must not make its connections fail as unreachable.
const neighbourReachable = 365 * 24 * time.Hour

// gateway is the host's side of the LAN: an IP stack with one interface, on port 0 of the switch.
type gateway struct {
	lan   *LAN
	stack *stack.Stack
	link  *link
	addr  tcpip.Address
	dhcp  *dhcpServer
	out   *outbound // nil unless allowed
}

func newGateway(l *LAN) (*gateway, error) {
	g := &gateway{lan: l, addr: tcpip.AddrFrom4(l.cfg.Gateway.Addr().As4())}
	g.link = &link{mac: tcpip.LinkAddress(l.cfg.GatewayMAC[:]), ip: l.cfg.Gateway.Addr(), mtu: uint32(l.cfg.MTU)}
	port, err := l.sw.add("gateway", g.link.receive)
	if err != nil {
		return nil, err
	}
	g.link.send = func(f []byte) { l.sw.forward(port, f) }
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		NUDConfigs: stack.NUDConfigurations{
			BaseReachableTime:   neighbourReachable,
			MinRandomFactor:     1,
			MaxRandomFactor:     1.1,
			RetransmitTimer:     100 * time.Millisecond,
			DelayFirstProbeTime: 5 * time.Second,
			MaxMulticastProbes:  30,            // a guest never heard of is unreachable after 3 s
			MaxUnicastProbes:    math.MaxInt32, // one that was heard of never is
		},
	})
	if err := g.configure(); err != nil {
		return nil, fmt.Errorf("configure LAN gateway: %w", err)
	}
	if err := g.startServices(); err != nil {
		return nil, fmt.Errorf("start LAN gateway: %w", err)
	}
	return g, nil
}

// configure sets the stack's options and addresses.
func (g *gateway) configure() error {
	cfg := &g.lan.cfg
	for _, o := range []tcpip.SettableTransportProtocolOption{
		ptr(tcpip.TCPMaxRTOOption(cfg.MaxRTO)), // before the smallest, which must not exceed it
		ptr(tcpip.TCPMinRTOOption(cfg.MinRTO)),
		ptr(tcpip.TCPMaxRetriesOption(max(8, int64(cfg.GiveUpAfter/cfg.MaxRTO)))),
		// Without selective acknowledgement the stack sends everything again after a time-out, which ends a
		// blackout within a few round trips. With it this stack mends one hole per time-out: 4 MiB under way
		// across a blackout of 300 ms took up to 4 s more instead of 0.2 s at most (a gvisor guest that
		// sent with it took up to 30 s). The LAN neither reorders nor loses frames otherwise.
		ptr(tcpip.TCPSACKEnabled(false)),
		ptr(tcpip.TCPDelayEnabled(false)), // no Nagle
		ptr(tcpip.TCPModerateReceiveBufferOption(true)),
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 4 << 20},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 4 << 20},
		// A connection whose two ends have closed waits here for stray segments: seconds do, as the LAN
		// holds no segment for longer, and the gateway's ports are not used up by short connections.
		ptr(tcpip.TCPTimeWaitTimeoutOption(5 * time.Second)),
	} {
		if err := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("set TCP option %T: %s", o, err)
		}
	}
	if err := g.stack.CreateNIC(nicID, g.link); err != nil {
		return fmt.Errorf("create interface: %s", err)
	}
	if err := g.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: g.addr, PrefixLen: cfg.Gateway.Bits()},
	}, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address: %s", err)
	}
	subnet := tcpip.AddressWithPrefix{Address: g.addr, PrefixLen: cfg.Gateway.Bits()}.Subnet()
	g.stack.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nicID}})
	if cfg.AllowOutbound {
		return g.allowOutbound()
	}
	// As a router with no way out the gateway tells guests "unreachable" instead of leaving them to time out.
	if _, err := g.stack.SetNICForwarding(nicID, ipv4.ProtocolNumber, true); err != nil {
		return fmt.Errorf("set forwarding: %s", err)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func (g *gateway) startServices() error {
	if err := g.startDHCP(); err != nil {
		return err
	}
	return g.startDNS()
}

// close ends the stack and with it every connection and service on it.
func (g *gateway) close() {
	g.stack.Close()
	g.stack.Wait()
}

// link is an IP stack's network card: a stack.LinkEndpoint that hands frames straight to the switch, in the
// goroutine that makes them, and takes them from it.
type link struct {
	send func(frame []byte) // takes a frame without waiting; the frame is only valid during the call
	mac  tcpip.LinkAddress
	ip   netip.Addr
	mtu  uint32

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	frames     sync.Pool // of *[]byte
}

// receive is the switch's way in.
func (k *link) receive(frame []byte) {
	if frame[0]&1 == 0 && tcpip.LinkAddress(frame[:6]) != k.mac {
		return // flooded, for somebody else
	}
	d := k.dispatcher.Load()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame[MinFrame:])})
	pkt.PktType = tcpip.PacketHost
	if frame[0]&1 != 0 {
		pkt.PktType = tcpip.PacketBroadcast
	}
	(*d).DeliverNetworkPacket(tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])), pkt)
	pkt.DecRef()
}

// WritePackets implements stack.LinkWriter.
func (k *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		k.writePacket(p)
	}
	return pkts.Len(), nil
}

func (k *link) writePacket(p *stack.PacketBuffer) {
	bp, _ := k.frames.Get().(*[]byte)
	if bp == nil {
		bp = ptr(make([]byte, 0, 2048))
	}
	defer k.frames.Put(bp)
	src := k.mac
	if p.EgressRoute.LocalLinkAddress != "" {
		src = p.EgressRoute.LocalLinkAddress
	}
	f := append((*bp)[:0], p.EgressRoute.RemoteLinkAddress...)
	f = append(f, src...)
	f = binary.BigEndian.AppendUint16(f, uint16(p.NetworkProtocolNumber))
	if len(f) != MinFrame {
		return // no link address: nowhere to send it
	}
	for _, s := range p.AsSlices() {
		f = append(f, s...)
	}
	*bp = f
	// With outbound traffic allowed the stack takes every address for its own, and would say so.
	if _, ip, isARP := arpSender(f); isARP && ip != k.ip || len(f) > MaxFrame {
		return
	}
	k.send(f)
}

// Attach implements stack.NetworkLinkEndpoint.
func (k *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		k.dispatcher.Store(nil)
		return
	}
	k.dispatcher.Store(&d)
}

// The rest of stack.LinkEndpoint: a plain Ethernet card whose headers writePacket builds.

func (k *link) IsAttached() bool                 { return k.dispatcher.Load() != nil }
func (k *link) MTU() uint32                      { return k.mtu }
func (k *link) SetMTU(uint32)                    {}
func (k *link) MaxHeaderLength() uint16          { return 0 }
func (k *link) LinkAddress() tcpip.LinkAddress   { return k.mac }
func (k *link) SetLinkAddress(tcpip.LinkAddress) {}
func (k *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired
}
func (k *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (k *link) AddHeader(*stack.PacketBuffer)           {}
func (k *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (k *link) Wait()                                   {}
func (k *link) Close()                                  {}
func (k *link) SetOnCloseAction(func())                 {}
