package lan

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// ask sends a DHCP message over the wire, as a guest without an address does, and returns the answer.
func ask(t *testing.T, p *Port, mac [6]byte, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	packet := udp4(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), m.ToBytes())
	p.Send(ethernet(broadcastMAC, mac, etherTypeIPv4, packet))
	var reply *dhcpv4.DHCPv4
	nextFrame(t, p, "DHCP answer", func(f []byte) bool {
		if len(f) < 42 || f[23] != 17 || f[37] != 68 {
			return false
		}
		r, err := dhcpv4.FromBytes(f[42:])
		reply = r
		return err == nil && r.TransactionID == m.TransactionID
	})
	return reply
}

func TestDHCPGivesTheFirstGuestItsAddress(t *testing.T) {
	_, addr := startLAN(t, Config{MTU: 9000})
	p := dialPort(t, Dialer{}, addr)
	discover, _ := dhcpv4.NewDiscovery(guestMAC[:])
	offer := ask(t, p, guestMAC, discover)
	request, _ := dhcpv4.NewRequestFromOffer(offer)
	ack := ask(t, p, guestMAC, request)
	if ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(guestIP.AsSlice()) {
		t.Errorf("answer %s", ack.Summary())
	}
	if gw := net.IP(gatewayIP.AsSlice()); !ack.Router()[0].Equal(gw) || !ack.DNS()[0].Equal(gw) || ack.SubnetMask().String() != "ffffff00" {
		t.Errorf("answer %s", ack.Summary())
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) != 2 || int(mtu[0])<<8+int(mtu[1]) != 9000 {
		t.Errorf("MTU option % x", mtu)
	}
	// Another guest gets another address, and cannot have the first one's.
	wrong, _ := dhcpv4.New(dhcpv4.WithHwAddr(otherMAC[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(guestIP.AsSlice())))
	if nak := ask(t, p, otherMAC, wrong); nak.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("answer %s, want a refusal", nak.Summary())
	}
	discover, _ = dhcpv4.NewDiscovery(otherMAC[:])
	if offer := ask(t, p, otherMAC, discover); offer.YourIPAddr.String() != "192.168.127.3" {
		t.Errorf("second guest was offered %s", offer.YourIPAddr)
	}
}

func TestDHCPLeasesRunOutWithoutHarm(t *testing.T) {
	l, _ := startLAN(t, Config{Gateway: netip.MustParsePrefix("10.9.9.6/29"), Leases: map[[6]byte]netip.Addr{otherMAC: netip.MustParseAddr("10.9.9.2")}})
	var got []string
	for i := range 8 {
		mac := [6]byte{2, 0, 0, 0, 0, byte(i)}
		if ip, ok := l.gw.dhcp.lease(mac, netip.Addr{}); ok {
			got = append(got, ip.String())
			if again, _ := l.gw.dhcp.lease(mac, netip.MustParseAddr("10.9.9.6")); again != ip {
				t.Errorf("%s became %s", ip, again)
			}
		}
	}
	want := []string{"10.9.9.1", "10.9.9.3", "10.9.9.4", "10.9.9.5"}
	if len(got) != len(want) {
		t.Fatalf("leases %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("leases %v, want %v", got, want)
		}
	}
	if ip, ok := l.gw.dhcp.lease(otherMAC, netip.Addr{}); !ok || ip.String() != "10.9.9.2" {
		t.Errorf("fixed lease %s, %t", ip, ok)
	}
}

func TestDNSKnowsItsOwnNamesOnly(t *testing.T) {
	_, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	to := fullAddress(netip.AddrPortFrom(gatewayIP, 53))
	query := func(c net.Conn, name string, kind uint16) *dns.Msg {
		t.Helper()
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		m := new(dns.Msg)
		m.SetQuestion(name, kind)
		r, _, err := (&dns.Client{}).ExchangeWithConn(m, &dns.Conn{Conn: c})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	overUDP := func() net.Conn {
		c, err := gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, name := range []string{"gateway.internal.", "Host.Internal."} {
		r := query(overUDP(), name, dns.TypeA)
		if len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != gatewayIP.String() {
			t.Errorf("%s: %v", name, r)
		}
		if r := query(overUDP(), name, dns.TypeAAAA); len(r.Answer) != 0 || r.Rcode != dns.RcodeSuccess {
			t.Errorf("%s AAAA: %v", name, r)
		}
	}
	if r := query(overUDP(), "example.org.", dns.TypeA); r.Rcode != dns.RcodeNameError {
		t.Errorf("example.org: %v", r)
	}
	c, err := gonet.DialTCP(g.stack, to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	if r := query(c, "gateway.internal.", dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("over TCP: %v", r)
	}
}
