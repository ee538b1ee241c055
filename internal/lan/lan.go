// Package lan is the network that guests live on, in user space and without privileges: an Ethernet switch
// whose cables are stream sockets, and a gateway with DHCP, DNS and port forwards from the host.
//
// It runs in a process of its own, apart from every replica. A client's connection from the outside ends in
// the gateway's TCP, which retransmits while the guest is silent, so it outlives the replica that served it:
// the backup goes live, announces the guest's MAC address on its own cable, and the gateway's next
// retransmission finds it.
//
//	l, err := lan.New(lan.Config{Log: log})
//	addr, err := l.Forward(lan.ForwardSpec{Listen: "127.0.0.1:6379", GuestPort: 6379})
//	err = l.Serve(ctx, listener)            // replicas join here
//
//	p, err := lan.Dial(ctx, "tcp", addr)    // in a replica
//	p.Send(lan.GratuitousARP(mac, ip))
//
// The cables use the framing of QEMU's stream sockets: 32 bits of length, big endian, then the frame. Whoever
// can reach the listener is on the network, as with a switch in a rack: listen on loopback or a unix socket.
// With Config.Identity the cables are TLS, and a peer without a certificate of the fleet's authority is refused
// before its first frame; then the listener may be anywhere.
//
// # Views
//
// A primary that was stopped in the middle of sending, and goes on after its backup has gone live, must not put
// a stale frame on the network. So whoever goes live announces the number of its view, once for each MAC address
// of the guest, before it sends anything (Port.Announce). The rule of the switch, per LAN and MAC address:
//
//   - It remembers the highest view that any port has announced.
//   - A frame from that address passes only if its port has announced that view. Others are dropped and counted
//     (Stats.Fenced), those of ports that have announced nothing too.
//   - Before the announcer's next frame is read, every earlier frame of others has been delivered or will be
//     dropped, and the address is at the announcer's port.
//   - An address that nobody has announced is free: QEMU and other tools on the same framing need know nothing
//     of this. The announcement is itself a frame, which a switch of another make does not pass on.
//
// Its limits. It goes by the source address of the Ethernet frame: the same replica's frames from another address,
// which only a guest that forges addresses sends, pass. It stops the frames of a deposed primary, not what it had
// sent before: those are in the receivers' queues. It trusts the announcers, who need no more than access: one
// that announces a number that no view will reach mutes the address. It is forgotten with the LAN; one that
// is started again must be told (Config.Views, as lanapi does), or a deposed primary that joins before its
// successor speaks until that has joined too. And it is not forgotten before: a group whose views begin
// again at 1 needs a new LAN.
//
// Guests cannot reach anything beyond the gateway unless Config.AllowOutbound says so.
package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"understudy/internal/pki"
)

// Config describes a LAN. The zero value is a usable one.
type Config struct {
	// Gateway is the gateway's address and the subnet's length. Zero means 192.168.127.1/24. The prefix
	// must be IPv4 and /8 to /30.
	Gateway netip.Prefix
	// GatewayMAC is the gateway's hardware address, a locally administered one by default.
	GatewayMAC [6]byte
	// Leases fixes the addresses of some guests. Others get the free addresses of the subnet in order,
	// beginning after the gateway's: a lone guest has 192.168.127.2.
	Leases map[[6]byte]netip.Addr
	// MTU is what the guests are told, in bytes of IP; 0 means 1500, 576 to 65,520 are allowed.
	MTU int
	// AllowOutbound lets guests open TCP and UDP connections to the outside through the host, and asks the
	// host's resolver for names. The host's own loopback and link-local addresses stay out of reach.
	AllowOutbound bool
	// QueueBytes bounds the frames that wait for one port that does not read; 0 means DefaultQueueBytes.
	QueueBytes int
	// MinRTO and MaxRTO bound the gateway's TCP retransmission time-out. Zero means 20 ms and 250 ms. After
	// a blackout a connection goes on at the latest MaxRTO later.
	MinRTO, MaxRTO time.Duration
	// GiveUpAfter is how long the gateway's TCP keeps a connection whose guest does not acknowledge; 0 means
	// 10 minutes.
	GiveUpAfter time.Duration
	// DialTimeout bounds the wait for the guest when a forward is used; 0 means 10 s.
	DialTimeout time.Duration
	// MaxConns bounds the connections through forwards, and again those of guests to the outside; 0 means
	// 4096. One more is closed at once.
	MaxConns int
	// PcapPath names a file to capture every frame in; empty means none.
	PcapPath string
	// Identity, if set, makes the cables TLS: a peer that shows no certificate of the identity's authority is
	// refused before its first frame. Replicas expect the name CertificateName in the identity's own.
	Identity *pki.Identity
	// Views are views that were announced to an earlier life of this LAN, see Port.Announce: no port speaks
	// for these addresses until it has announced as high a view.
	Views map[[6]byte]uint64
	// OnView is called when a port has announced a higher view of an address than all before, from that
	// port's goroutine: it must not wait.
	OnView func(mac [6]byte, view uint64)
	// Log receives what happens on the network; nil discards it.
	Log *slog.Logger
}

// CertificateName is the name in the certificate of a LAN.
const CertificateName = "lan"

func (c *Config) fill() error {
	if !c.Gateway.IsValid() {
		c.Gateway = netip.MustParsePrefix("192.168.127.1/24")
	}
	if !c.Gateway.Addr().Is4() || c.Gateway.Bits() < 8 || c.Gateway.Bits() > 30 {
		return fmt.Errorf("LAN gateway %s: want IPv4 with a prefix of 8 to 30 bits", c.Gateway)
	}
	if c.GatewayMAC == ([6]byte{}) {
		c.GatewayMAC = [6]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}
	}
	if c.GatewayMAC[0]&1 != 0 {
		return fmt.Errorf("LAN gateway MAC %s is a group address", macString(c.GatewayMAC))
	}
	for mac, ip := range c.Leases {
		if !c.usable(ip) {
			return fmt.Errorf("LAN lease of %s for %s: not a guest address of %s", ip, macString(mac), c.Gateway.Masked())
		}
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.MTU < 576 || c.MTU > 65520 {
		return fmt.Errorf("LAN MTU of %d bytes: want 576 to 65520", c.MTU)
	}
	orDefault(&c.MinRTO, 20*time.Millisecond)
	orDefault(&c.MaxRTO, 250*time.Millisecond)
	orDefault(&c.GiveUpAfter, 10*time.Minute)
	orDefault(&c.DialTimeout, 10*time.Second)
	if c.MinRTO > c.MaxRTO {
		return fmt.Errorf("LAN retransmission time-outs: smallest %s exceeds largest %s", c.MinRTO, c.MaxRTO)
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 4096
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// usable reports whether a guest can have the address.
func (c *Config) usable(ip netip.Addr) bool {
	if !c.Gateway.Contains(ip) || ip == c.Gateway.Addr() || ip == c.Gateway.Masked().Addr() {
		return false
	}
	return c.Gateway.Contains(ip.Next()) // the last one is the subnet's broadcast address
}

// firstGuest is the address that a lone guest gets.
func (c *Config) firstGuest() netip.Addr {
	ip := c.Gateway.Masked().Addr().Next()
	for !c.usable(ip) {
		ip = ip.Next()
	}
	return ip
}

// LAN is a virtual network. New makes one; Close ends it.
type LAN struct {
	cfg Config
	log *slog.Logger
	sw  *etherSwitch
	gw  *gateway

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the LAN; Add under mu while not closed

	mu     sync.Mutex
	closed bool
	cables map[*cable]struct{}

	conns                       chan struct{} // one token per forwarded connection
	connsTotal, connsFailed     atomic.Uint64
	framingErrors, cableDropped atomic.Uint64
	handshakes                  chan struct{} // one token per peer that shows its certificate
	refused                     atomic.Uint64 // peers without a valid certificate
	logged                      logLimiter
}

// ErrClosed is what calls on a LAN return after Close.
var ErrClosed = errors.New("LAN is closed")

// New makes a LAN with a gateway and no ports.
func New(cfg Config) (*LAN, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	l := &LAN{cfg: cfg, log: cfg.Log, cables: make(map[*cable]struct{}), conns: make(chan struct{}, cfg.MaxConns), handshakes: make(chan struct{}, maxHandshakes)}
	var capture *pcapWriter
	if cfg.PcapPath != "" {
		var err error
		if capture, err = createPcap(cfg.PcapPath); err != nil {
			return nil, err
		}
	}
	l.sw = newSwitch(l.log, cfg.GatewayMAC, capture)
	l.sw.onView = cfg.OnView
	for mac, view := range cfg.Views {
		if len(l.sw.views) < maxViews {
			l.sw.views[mac] = view
		}
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	var err error
	if l.gw, err = newGateway(l); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Gateway returns the gateway's address within the LAN.
func (l *LAN) Gateway() netip.Prefix { return l.cfg.Gateway }

// start runs f in a goroutine that Close waits for; false if the LAN is closed.
func (l *LAN) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

// Serve takes ports in from ln until ctx ends or the LAN is closed, and then returns nil. It closes ln. Ports
// stay joined after Serve has returned; Close ends them.
func (l *LAN) Serve(ctx context.Context, ln net.Listener) error {
	stop1 := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop1()
	stop2 := context.AfterFunc(l.ctx, func() { ln.Close() })
	defer stop2()
	defer ln.Close()
	for {
		conn, err := acceptPatiently(ln)
		if err != nil {
			if ctx.Err() != nil || l.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept ports on %s: %w", ln.Addr(), err)
		}
		if err := l.Join(conn); err != nil {
			l.log.Warn("port refused", "peer", peerName(conn), "err", err)
			conn.Close()
		}
	}
}

// acceptPatiently accepts, and rides out a shortage of descriptors or memory instead of giving up.
func acceptPatiently(ln net.Listener) (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := ln.Accept()
		if !short(err) {
			return conn, err
		}
		time.Sleep(pause)
	}
}

// short tells whether the host lacks something that may come back.
func short(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close ends the LAN: its ports, forwards and gateway. It waits for all of them.
func (l *LAN) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.wg.Wait()
		return nil
	}
	l.closed = true
	for c := range l.cables {
		c.raw.Close()
	}
	l.mu.Unlock()
	l.cancel()
	if l.gw != nil {
		l.gw.close()
	}
	l.wg.Wait()
	if l.sw.pcap != nil {
		l.sw.pcap.close()
	}
	return nil
}
