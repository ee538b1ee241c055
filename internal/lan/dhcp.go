package lan

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// leaseTime is long, as a lease here never ends before the LAN does: the table is bounded by maxLeases and
// by the subnet.
const leaseTime = 24 * time.Hour

const maxLeases = 1024

// dhcpServer gives guests their addresses (RFC 2131). One goroutine uses it.
type dhcpServer struct {
	g    *gateway
	conn *gonet.UDPConn

	mu     sync.Mutex
	byMAC  map[[6]byte]netip.Addr
	byAddr map[netip.Addr][6]byte
	logged logLimiter
}

func (g *gateway) startDHCP() error {
	var wq waiter.Queue
	ep, terr := g.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if terr != nil {
		return errors.New(terr.String())
	}
	ep.SocketOptions().SetBroadcast(true)
	if terr := ep.Bind(tcpip.FullAddress{NIC: nicID, Port: dhcpv4.ServerPort}); terr != nil {
		ep.Close()
		return fmt.Errorf("bind DHCP server: %s", terr)
	}
	d := &dhcpServer{g: g, conn: gonet.NewUDPConn(&wq, ep), byMAC: make(map[[6]byte]netip.Addr), byAddr: make(map[netip.Addr][6]byte)}
	for mac, ip := range g.lan.cfg.Leases {
		if other, taken := d.byAddr[ip]; taken {
			return fmt.Errorf("lease of %s to both %s and %s", ip, macString(other), macString(mac))
		}
		d.byMAC[mac], d.byAddr[ip] = ip, mac
	}
	g.dhcp = d
	stop := closeOnDone(g.lan.ctx, d.conn)
	g.lan.start(func() { defer stop(); d.serve() })
	return nil
}

func (d *dhcpServer) serve() {
	buf := make([]byte, MaxFrame)
	for {
		n, peer, err := d.conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		reply := d.answer(buf[:n])
		if reply == nil {
			continue
		}
		to, ok := peer.(*net.UDPAddr)
		if !ok || to.IP == nil || to.IP.IsUnspecified() {
			to = &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
		}
		_, _ = d.conn.WriteTo(reply, to) // a lost answer is asked for again
	}
}

// answer returns the reply to a message, or nil if it deserves none.
func (d *dhcpServer) answer(message []byte) []byte {
	m, err := dhcpv4.FromBytes(message)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest || len(m.ClientHWAddr) != 6 {
		return nil
	}
	gw := net.IP(d.g.lan.cfg.Gateway.Addr().AsSlice())
	if id := m.ServerIdentifier(); id != nil && !id.Equal(gw) {
		return nil // the guest chose another server
	}
	mac := [6]byte(m.ClientHWAddr)
	want, _ := netip.AddrFromSlice(m.RequestedIPAddress().To4())
	if !want.IsValid() {
		want, _ = netip.AddrFromSlice(m.ClientIPAddr.To4())
	}
	var kind dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		kind = dhcpv4.MessageTypeAck
	default:
		return nil // release and decline change nothing: leases are for good
	}
	ip, ok := d.lease(mac, want)
	if !ok {
		if d.logged.allow() {
			d.g.lan.log.Warn("no address left for guest", "mac", macString(mac))
		}
		return nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(m)
	if err != nil {
		return nil
	}
	reply.UpdateOption(dhcpv4.OptServerIdentifier(gw))
	if m.MessageType() == dhcpv4.MessageTypeRequest && want.IsValid() && !want.IsUnspecified() && want != ip {
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
		return reply.ToBytes()
	}
	reply.UpdateOption(dhcpv4.OptMessageType(kind))
	if m.MessageType() != dhcpv4.MessageTypeInform {
		reply.YourIPAddr = ip.AsSlice()
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
	}
	reply.ServerIPAddr = gw
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(d.g.lan.cfg.Gateway.Bits(), 32)))
	reply.UpdateOption(dhcpv4.OptRouter(gw))
	reply.UpdateOption(dhcpv4.OptDNS(gw))
	reply.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(d.g.lan.cfg.MTU)})
	if kind == dhcpv4.MessageTypeAck && d.logged.allow() {
		d.g.lan.log.Info("address leased", "mac", macString(mac), "ip", ip)
	}
	return reply.ToBytes()
}

// fix gives an address to one guest for good. The guest that has it now gets another when it asks again.
func (d *dhcpServer) fix(mac [6]byte, ip netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other, taken := d.byAddr[ip]; taken {
		delete(d.byMAC, other)
	}
	if old, has := d.byMAC[mac]; has {
		delete(d.byAddr, old)
	}
	d.byMAC[mac], d.byAddr[ip] = ip, mac
}

// SetLease fixes the address of a guest, as Config.Leases does; the zero address means the first guest's.
func (l *LAN) SetLease(mac [6]byte, ip netip.Addr) error {
	if !ip.IsValid() {
		ip = l.cfg.firstGuest()
	}
	if !l.cfg.usable(ip) || mac[0]&1 != 0 {
		return fmt.Errorf("lease %s to %s: not a guest address of %s", ip, macString(mac), l.cfg.Gateway.Masked())
	}
	l.gw.dhcp.fix(mac, ip)
	return nil
}

// Leases returns the addresses that guests have.
func (l *LAN) Leases() map[[6]byte]netip.Addr {
	l.gw.dhcp.mu.Lock()
	defer l.gw.dhcp.mu.Unlock()
	return maps.Clone(l.gw.dhcp.byMAC)
}

// lease returns the guest's address, giving it want if that is free, else the first free one.
func (d *dhcpServer) lease(mac [6]byte, want netip.Addr) (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ip, ok := d.byMAC[mac]; ok {
		return ip, true
	}
	if len(d.byMAC) >= maxLeases {
		return netip.Addr{}, false
	}
	cfg := &d.g.lan.cfg
	free := func(ip netip.Addr) bool {
		_, taken := d.byAddr[ip]
		return !taken && cfg.usable(ip)
	}
	ip := want
	if !want.IsValid() || !free(want) {
		ip = cfg.firstGuest()
		for cfg.Gateway.Contains(ip) && !free(ip) {
			ip = ip.Next()
		}
		if !free(ip) {
			return netip.Addr{}, false
		}
	}
	d.byMAC[mac], d.byAddr[ip] = ip, mac
	return ip, true
}
