package lan

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	// udpIdle is how long a UDP flow is remembered after its last datagram.
	udpIdle = time.Minute
	// maxUDPFlows bounds the flows of one forward; datagrams of one more are dropped.
	maxUDPFlows = 256
	maxDatagram = 65507
)

// udp passes datagrams to a guest port and answers back, one flow per client address, until the forward
// closes.
func (f *Forward) udp(pc *net.UDPConn) {
	defer closeOnDone(f.ctx, pc)()
	defer pc.Close()
	var mu sync.Mutex
	flows := make(map[netip.AddrPort]*gonet.UDPConn)
	buf := make([]byte, maxDatagram)
	for {
		n, client, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			if f.ctx.Err() != nil {
				return
			}
			time.Sleep(time.Millisecond) // an ICMP error of an earlier answer
			continue
		}
		mu.Lock()
		inside, full := flows[client], len(flows) >= maxUDPFlows
		mu.Unlock()
		if inside == nil {
			if full {
				continue
			}
			to := fullAddress(f.guest)
			if inside, err = gonet.DialUDP(f.lan.gw.stack, nil, &to, ipv4.ProtocolNumber); err != nil {
				continue
			}
			mu.Lock()
			flows[client] = inside
			mu.Unlock()
			conn := inside
			if !f.start(func() {
				defer closeOnDone(f.ctx, conn)()
				pumpUDP(conn, func(b []byte) { _, _ = pc.WriteToUDPAddrPort(b, client) })
				mu.Lock()
				delete(flows, client)
				mu.Unlock()
				conn.Close()
			}) {
				conn.Close()
				return
			}
		}
		_ = inside.SetReadDeadline(time.Now().Add(udpIdle))
		_, _ = inside.Write(buf[:n])
	}
}

// pumpUDP passes what conn receives to send until conn fails or has been silent for udpIdle.
func pumpUDP(conn net.Conn, send func([]byte)) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(udpIdle))
		send(buf[:n])
	}
}
