package lanapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"understudy/internal/lan"
)

// network is one LAN of a daemon.
type network struct {
	name     string
	spec     Spec // as put last
	listen   string
	lan      *lan.LAN
	serving  chan struct{} // closed when no replica can join any more; nil if none ever could
	err      error         // why none can
	forwards []*forward
}

// forward is one forward of a network: open, or wanted since before a restart.
type forward struct {
	text string
	spec lan.ForwardSpec
	at   string // its address, once it has had one
	live *lan.Forward
	err  error // why it is not live
}

// parse checks a spec.
func parse(spec Spec) (forwards []*forward, mac [6]byte, err error) {
	bad := func(err error) ([]*forward, [6]byte, error) { return nil, mac, fmt.Errorf("%w: %w", ErrInvalid, err) }
	if len(spec.Forwards) > MaxForwards {
		return bad(fmt.Errorf("%d forwards, want at most %d", len(spec.Forwards), MaxForwards))
	}
	for _, text := range spec.Forwards {
		if len(text) > maxForwardBytes {
			return bad(fmt.Errorf("a forward of %d bytes, want at most %d", len(text), maxForwardBytes))
		}
		f, err := lan.ParseForward(text)
		if err != nil {
			return bad(err)
		}
		if find(forwards, f) != nil {
			return bad(fmt.Errorf("forward %q is there twice", text))
		}
		forwards = append(forwards, &forward{text: text, spec: f})
	}
	if spec.MAC != "" {
		if mac, err = parseMAC(spec.MAC); err != nil {
			return bad(err)
		}
	}
	return forwards, mac, nil
}

// parseMAC reads the hardware address of one device.
func parseMAC(text string) ([6]byte, error) {
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || [6]byte(hw) == ([6]byte{}) {
		return [6]byte{}, fmt.Errorf("MAC address %q: want that of one device, as 52:54:00:00:00:01", text)
	}
	return [6]byte(hw), nil
}

func find(in []*forward, spec lan.ForwardSpec) *forward {
	for _, f := range in {
		if f.spec == spec {
			return f
		}
	}
	return nil
}

// open opens the forward where it was before, or else where it is wanted.
func (f *forward) open(l *lan.LAN) error {
	spec := f.spec
	if f.at != "" {
		spec.Listen = f.at
	}
	live, err := l.OpenForward(spec)
	for _, denied := range []error{syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, denied) {
			err = fmt.Errorf("%w: %w", ErrConflict, err)
		}
	}
	if f.err = err; err != nil {
		return err
	}
	f.live, f.at = live, live.Addr().String()
	return nil
}

func (f *forward) close() {
	if f.live != nil {
		f.live.Close()
		f.live = nil
	}
}

// inTheWay reports whether f has a port that g asks for, as far as numbers tell.
func (f *forward) inTheWay(g *forward) bool {
	if f.live == nil || f.spec.Network != g.spec.Network {
		return false
	}
	a, err1 := netip.ParseAddrPort(f.at)
	b, err2 := netip.ParseAddrPort(g.spec.Listen)
	return err1 == nil && err2 == nil && a.Port() == b.Port()
}

// turn makes the network's forwards those in want, of which some may be open already: it opens what is new,
// lets store write the new state down and then closes what is gone. If anything fails all is as it was, except
// that a forward whose port was to lead elsewhere has lost its connections.
func (n *network) turn(want []*forward, store func() error) error {
	next := make([]*forward, len(want))
	var fresh []*forward
	for i, w := range want {
		if next[i] = find(n.forwards, w.spec); next[i] == nil {
			next[i] = w
		}
		if next[i].live == nil {
			fresh = append(fresh, next[i])
		}
	}
	var gone []*forward
	for _, f := range n.forwards {
		if !slices.Contains(next, f) {
			gone = append(gone, f)
		}
	}
	blocked := func(f *forward) int {
		return len(gone) - len(slices.DeleteFunc(slices.Clone(gone), func(g *forward) bool { return g.inTheWay(f) }))
	}
	// What needs a port that is in use by what goes comes last: until then nothing has been given up.
	slices.SortStableFunc(fresh, func(a, b *forward) int { return cmp.Compare(blocked(a), blocked(b)) })
	var opened, closed []*forward
	old := n.forwards
	err := func() error {
		for _, f := range fresh {
			for _, g := range gone {
				if g.inTheWay(f) {
					g.close()
					closed = append(closed, g)
				}
			}
			if err := f.open(n.lan); err != nil {
				return err
			}
			opened = append(opened, f)
		}
		n.forwards = next
		return store()
	}()
	if err != nil {
		n.forwards = old
		for _, f := range opened {
			f.close()
			f.err = err
		}
		for _, f := range closed {
			_ = f.open(n.lan) // it keeps its own error
		}
		return err
	}
	for i, w := range want {
		next[i].text = w.text
	}
	for _, f := range gone {
		f.close()
	}
	return nil
}

// serve lets replicas join at ln.
func (n *network) serve(ln net.Listener, failed func(error)) {
	n.serving, n.err = make(chan struct{}), nil
	go func() {
		defer close(n.serving)
		if err := n.lan.Serve(context.Background(), ln); err != nil {
			failed(err)
		}
	}()
}

// close ends the network and all connections through it.
func (n *network) close() {
	_ = n.lan.Close()
	if n.serving != nil {
		<-n.serving
	}
}

// status is the network as it is; full adds what may be long.
func (n *network) status(full bool) Status {
	s := Status{Name: n.name, Listen: n.listen, Forwards: []Forward{}, Outbound: n.spec.Outbound, MAC: n.spec.MAC, Stats: n.lan.Stats()}
	if n.err != nil {
		s.Error = n.err.Error()
	}
	for _, f := range n.forwards {
		g := Forward{Spec: f.text, At: f.at}
		if f.err != nil {
			g.Error = f.err.Error()
		}
		s.Forwards = append(s.Forwards, g)
	}
	if !full {
		return s
	}
	leases := n.lan.Leases()
	for mac, ip := range leases {
		s.Leases = append(s.Leases, Lease{MAC: macText(mac), IP: ip.String()})
	}
	slices.SortFunc(s.Leases, func(a, b Lease) int {
		return netip.MustParseAddr(a.IP).Compare(netip.MustParseAddr(b.IP))
	})
	s.Views = n.views()
	return s
}

func (n *network) views() []View {
	var views []View
	for mac, view := range n.lan.Views() {
		views = append(views, View{MAC: macText(mac), View: view})
	}
	slices.SortFunc(views, func(a, b View) int { return cmp.Compare(a.MAC, b.MAC) })
	return views
}

func macText(m [6]byte) string { return net.HardwareAddr(m[:]).String() }
