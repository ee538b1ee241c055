package lan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ForwardSpec says which address of the host leads to which port of a guest.
type ForwardSpec struct {
	Network   string     // "tcp" or "udp"; empty means tcp
	Listen    string     // host address and port, "127.0.0.1:6379"; without a host, 127.0.0.1; port 0: any free one
	Guest     netip.Addr // zero: the first guest's, 192.168.127.2 by default
	GuestPort uint16     // 1 to 65,535
}

// ParseForward reads "[host:]port:guestport[/tcp|/udp]", as in "6379:6379" or "127.0.0.1:5353:53/udp". The
// host, an address ("[::1]" in brackets), is 127.0.0.1 by default; an explicit 0.0.0.0 opens the port to the
// network.
func ParseForward(text string) (ForwardSpec, error) {
	bad := func(why string) (ForwardSpec, error) {
		return ForwardSpec{}, fmt.Errorf("forward %q: %s: want [host:]port:guestport[/tcp|/udp]", text, why)
	}
	rest, network, _ := strings.Cut(text, "/")
	if network == "" {
		network = "tcp"
	}
	if network != "tcp" && network != "udp" {
		return bad("unknown protocol " + strconv.Quote(network))
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return bad("no guest port")
	}
	guestPort, err := strconv.ParseUint(rest[i+1:], 10, 16)
	if err != nil || guestPort == 0 {
		return bad("bad guest port")
	}
	listen := rest[:i]
	if !strings.Contains(listen, ":") {
		listen = "127.0.0.1:" + listen
	}
	if _, err := netip.ParseAddrPort(listen); err != nil {
		return bad("bad host address or port")
	}
	return ForwardSpec{Network: network, Listen: listen, GuestPort: uint16(guestPort)}, nil
}

// ErrPortInUse reports a forward whose host port another program has; the error names the address.
var ErrPortInUse = errors.New("port is in use")

// Forward opens a port of the host that leads to a guest, until the LAN is closed, and returns its address.
// See OpenForward.
func (l *LAN) Forward(spec ForwardSpec) (net.Addr, error) {
	f, err := l.OpenForward(spec)
	if err != nil {
		return nil, err
	}
	return f.Addr(), nil
}

// Forward is an open port of the host that leads to a guest.
type Forward struct {
	lan    *LAN
	guest  netip.AddrPort
	addr   net.Addr
	socket io.Closer // the listener, or the UDP socket
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// OpenForward opens a port of the host that leads to a guest, until the forward or the LAN is closed. The
// guest need not be there yet; a connection that finds no guest within Config.DialTimeout is closed.
func (l *LAN) OpenForward(spec ForwardSpec) (*Forward, error) {
	if spec.Network == "" {
		spec.Network = "tcp"
	}
	if !spec.Guest.IsValid() {
		spec.Guest = l.cfg.firstGuest()
	}
	if strings.HasPrefix(spec.Listen, ":") {
		spec.Listen = "127.0.0.1" + spec.Listen
	}
	if spec.GuestPort == 0 || !l.cfg.usable(spec.Guest) {
		return nil, fmt.Errorf("forward %s to %s port %d: no guest of %s", spec.Listen, spec.Guest, spec.GuestPort, l.cfg.Gateway.Masked())
	}
	f := &Forward{lan: l, guest: netip.AddrPortFrom(spec.Guest, spec.GuestPort)}
	f.ctx, f.cancel = context.WithCancel(l.ctx)
	var run func()
	var err error
	var lc net.ListenConfig
	switch spec.Network {
	case "tcp":
		var ln net.Listener
		if ln, err = lc.Listen(f.ctx, "tcp", spec.Listen); err == nil {
			f.addr, f.socket, run = ln.Addr(), ln, func() { f.tcp(ln) }
		}
	case "udp":
		var pc net.PacketConn
		if pc, err = lc.ListenPacket(f.ctx, "udp", spec.Listen); err == nil {
			f.addr, f.socket, run = pc.LocalAddr(), pc, func() { f.udp(pc.(*net.UDPConn)) }
		}
	default:
		err = fmt.Errorf("unknown protocol %q, want tcp or udp", spec.Network)
	}
	if err != nil {
		f.cancel()
		return nil, forwardError(spec, err)
	}
	if !f.start(run) {
		f.Close()
		return nil, ErrClosed
	}
	l.log.Info("forward opened", "protocol", spec.Network, "listen", f.addr, "guest", f.guest)
	return f, nil
}

// Addr is the address that the forward is reached at.
func (f *Forward) Addr() net.Addr { return f.addr }

// Close ends the forward and the connections through it. When it returns, the port is free.
func (f *Forward) Close() error {
	f.cancel()
	f.socket.Close()
	f.wg.Wait()
	return nil
}

// start runs one of the forward's goroutines; false if the LAN is closed.
func (f *Forward) start(run func()) bool {
	f.wg.Add(1)
	if f.lan.start(func() { defer f.wg.Done(); run() }) {
		return true
	}
	f.wg.Done()
	return false
}

func forwardError(spec ForwardSpec, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("forward %s %s: %w: stop the program that has it, or choose another port (0 picks a free one)", spec.Network, spec.Listen, ErrPortInUse)
	}
	return fmt.Errorf("forward %s %s: %w", spec.Network, spec.Listen, err)
}

// tcp accepts connections for one guest port until the forward closes.
func (f *Forward) tcp(ln net.Listener) {
	l := f.lan
	defer closeOnDone(f.ctx, ln)()
	defer ln.Close()
	for {
		client, err := acceptPatiently(ln)
		if err != nil {
			return
		}
		select {
		case l.conns <- struct{}{}:
		default:
			l.connsFailed.Add(1)
			client.Close()
			continue
		}
		l.connsTotal.Add(1)
		if !f.start(func() {
			defer func() { <-l.conns }()
			f.connect(client.(*net.TCPConn))
		}) {
			client.Close()
			<-l.conns
			return
		}
	}
}

// connect joins a client to a guest for as long as both want.
func (f *Forward) connect(client *net.TCPConn) {
	l := f.lan
	defer closeOnDone(f.ctx, client)()
	ctx, cancel := context.WithTimeout(f.ctx, l.cfg.DialTimeout)
	inside, err := l.gw.dial(ctx, f.guest)
	cancel()
	if err != nil {
		l.connsFailed.Add(1)
		l.log.Debug("forward failed", "client", client.RemoteAddr(), "guest", f.guest, "err", err)
		_ = client.SetLinger(0) // a reset says "nobody there" more plainly than an empty answer
		client.Close()
		return
	}
	defer closeOnDone(f.ctx, inside)()
	relay(client, inside)
}

// halfCloser is a connection whose two directions end separately.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relayBytes is the buffer of one direction of a connection.
const relayBytes = 64 << 10

var relayBuffers = sync.Pool{New: func() any { return ptr(make([]byte, relayBytes)) }}

// relay copies both ways until both directions have ended. The end of one is passed on as such (clients that
// pipe a request and then wait for the rest of the answer rely on it); an error ends both, as a reset.
func relay(outside *net.TCPConn, inside *guestConn) {
	var wg sync.WaitGroup
	var reset sync.Once
	abort := func() {
		reset.Do(func() {
			_ = outside.SetLinger(0)
			outside.Close()
			inside.abort()
		})
	}
	one := func(to, from halfCloser) {
		buf := relayBuffers.Get().(*[]byte)
		defer relayBuffers.Put(buf)
		// The wrappers hide ReadFrom and WriteTo, which would bring buffers of their own.
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buf)
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			abort()
		}
	}
	wg.Go(func() { one(inside, outside) })
	one(outside, inside)
	wg.Wait()
	outside.Close()
	inside.Close()
}

// closeOnDone closes c when ctx ends; the returned function calls that off.
func closeOnDone(ctx context.Context, c io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return func() { stop() }
}
