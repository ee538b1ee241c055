package lan

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// The names that the gateway's DNS server knows. Both are the gateway.
const (
	GatewayName = "gateway.internal"
	HostName    = "host.internal"
)

// maxLookups bounds the questions that the host's resolver works on at once.
const maxLookups = 64

// dnsTTL is how long, in seconds, a guest may keep an answer.
const dnsTTL = 60

// startDNS answers on port 53 of the gateway, by UDP and TCP.
func (g *gateway) startDNS() error {
	at := tcpip.FullAddress{NIC: nicID, Addr: g.addr, Port: 53}
	conn, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("bind DNS server: %w", err)
	}
	listener, err := gonet.ListenTCP(g.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("bind DNS server: %w", err)
	}
	h := &dnsHandler{g: g, lookups: make(chan struct{}, maxLookups)}
	for _, srv := range []*dns.Server{
		{PacketConn: conn, Handler: h},
		{Listener: listener, Handler: h, MaxTCPQueries: 128, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second},
	} {
		stop := context.AfterFunc(g.lan.ctx, func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = srv.ShutdownContext(ctx)
			conn.Close()
			listener.Close()
		})
		g.lan.start(func() { defer stop(); _ = srv.ActivateAndServe() })
	}
	return nil
}

type dnsHandler struct {
	g       *gateway
	lookups chan struct{}
}

// ServeDNS implements dns.Handler.
func (h *dnsHandler) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = h.g.lan.cfg.AllowOutbound
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 {
		m.Rcode = dns.RcodeNotImplemented
	} else {
		h.resolve(m, r.Question[0])
	}
	size := dns.MinMsgSize
	if o := r.IsEdns0(); o != nil {
		size = max(size, min(int(o.UDPSize()), h.g.lan.cfg.MTU-28))
		m.SetEdns0(uint16(size), false)
	}
	if _, isTCP := w.RemoteAddr().(*net.TCPAddr); isTCP {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	_ = w.WriteMsg(m) // the guest asks again
}

// resolve fills in the answer: our own names, then the host's resolver if guests may reach the outside. All
// else does not exist, which a program learns at once instead of after a time-out.
func (h *dnsHandler) resolve(m *dns.Msg, q dns.Question) {
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	if name == GatewayName || name == HostName {
		m.Authoritative = true
		if q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, aRecord(q.Name, h.g.lan.cfg.Gateway.Addr().AsSlice()))
		}
		return
	}
	if !h.g.lan.cfg.AllowOutbound || strings.HasSuffix(name, ".internal") {
		m.Rcode = dns.RcodeNameError
		return
	}
	if q.Qtype != dns.TypeA {
		return // the name may exist; it has nothing of this type here, the LAN being IPv4 alone
	}
	select {
	case h.lookups <- struct{}{}:
		defer func() { <-h.lookups }()
	default:
		m.Rcode = dns.RcodeServerFailure
		return
	}
	ctx, cancel := context.WithTimeout(h.g.lan.ctx, 4*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip4", name+".")
	if err != nil {
		m.Rcode = dns.RcodeServerFailure
		if de, ok := err.(*net.DNSError); ok && de.IsNotFound {
			m.Rcode = dns.RcodeNameError
		}
		return
	}
	for _, ip := range ips {
		m.Answer = append(m.Answer, aRecord(q.Name, ip))
	}
}

func aRecord(name string, ip net.IP) dns.RR {
	return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: dnsTTL}, A: ip}
}
