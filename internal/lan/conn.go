package lan

import (
	"context"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// guestConn is a TCP connection to a guest that can also be reset.
type guestConn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func newGuestConn(wq *waiter.Queue, ep tcpip.Endpoint) *guestConn {
	return &guestConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
}

// abort ends the connection with a reset.
func (c *guestConn) abort() { c.ep.Abort() }

// dial connects to a guest. It gives up when ctx ends.
func (g *gateway) dial(ctx context.Context, to netip.AddrPort) (*guestConn, error) {
	fail := func(err any) (*guestConn, error) { return nil, fmt.Errorf("connect to guest %s: %v", to, err) }
	var wq waiter.Queue
	ep, err := g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if err != nil {
		return fail(err)
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	err = ep.Connect(fullAddress(to))
	if _, started := err.(*tcpip.ErrConnectStarted); started {
		select {
		case <-writable:
			err = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return fail(ctx.Err())
		}
	}
	if err != nil {
		ep.Close()
		return fail(err)
	}
	return newGuestConn(&wq, ep), nil
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(a.Addr().Unmap().As4()), Port: a.Port()}
}
