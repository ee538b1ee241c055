package lanapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"understudy/arbiter"
	"understudy/internal/lan"
	"understudy/internal/pki"
)

// retryPause lies between two attempts to have an address again that another program has.
const retryPause = time.Second

// Options tune Open. The zero value keeps LANs in memory alone and listens on loopback.
type Options struct {
	// Dir is where the set of LANs is kept; empty means nowhere.
	Dir string
	// JoinHost is the host address on which replicas join LANs; empty means 127.0.0.1. Without an Identity it
	// must be one of loopback.
	JoinHost string
	// Identity, if set, makes cables TLS with certificates on both sides.
	Identity *pki.Identity
	// Listen opens the listeners for replicas; nil means TCP alone, as JoinHost says.
	Listen func(addr string) (net.Listener, error)
	// Configure may change a LAN's configuration before it is made; nil changes nothing.
	Configure func(name string, c *lan.Config)
	// Log receives what happens; nil discards it.
	Log *slog.Logger
}

// Daemon has the LANs. Safe for concurrent use.
type Daemon struct {
	o     Options
	log   *slog.Logger
	store *store

	mu     sync.Mutex // held while a change is made: they come one after the other
	closed bool
	lans   map[string]*network

	spoke  chan struct{} // capacity 1: views were announced that are not yet written down
	keeper sync.WaitGroup
}

// Open begins a daemon with the LANs that its directory has. A LAN or forward whose address is taken is there
// too; its status says so, and it is tried again until it has the address.
func Open(o Options) (*Daemon, error) {
	if o.JoinHost == "" {
		o.JoinHost = "127.0.0.1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if ip := net.ParseIP(o.JoinHost); ip == nil || ip.IsUnspecified() || o.Identity == nil && !ip.IsLoopback() {
		return nil, fmt.Errorf("address %q for replicas to join: want one IP address of this host, of loopback unless there are certificates", o.JoinHost)
	}
	if o.Listen == nil {
		o.Listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	t, s, err := openStore(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Daemon{o: o, log: o.Log, store: t, lans: make(map[string]*network), spoke: make(chan struct{}, 1)}
	for _, l := range s.LANs {
		if err := d.restore(l); err != nil {
			d.Close()
			return nil, fmt.Errorf("restore LAN %s: %w", l.Name, err)
		}
	}
	d.keeper.Go(d.keep)
	return d, nil
}

// restore makes a LAN as it was.
func (d *Daemon) restore(l storedLAN) error {
	views := make(map[[6]byte]uint64)
	for _, v := range l.Views {
		mac, err := parseMAC(v.MAC)
		if err != nil {
			return err
		}
		views[mac] = v.View
	}
	want, mac, err := parse(l.spec())
	if err != nil {
		return err
	}
	n, err := d.make(l.Name, l.spec(), views)
	if err != nil {
		return err
	}
	d.lans[l.Name] = n
	n.listen = l.Listen
	if mac != ([6]byte{}) {
		if err := n.lan.SetLease(mac, netip.Addr{}); err != nil {
			return err
		}
	}
	if err := d.listen(n, l.Listen); err != nil {
		n.err = err
		d.log.Error("LAN is restored, but no replica can join it", "lan", l.Name, "err", err)
	}
	for i, f := range want {
		f.at = l.Forwards[i].At
		if err := f.open(n.lan); err != nil {
			d.log.Error("forward of a restored LAN is not open", "lan", l.Name, "err", err)
		}
	}
	n.forwards = want
	return nil
}

// make makes a LAN that nobody can join yet.
func (d *Daemon) make(name string, spec Spec, views map[[6]byte]uint64) (*network, error) {
	cfg := lan.Config{
		AllowOutbound: spec.Outbound, Identity: d.o.Identity, Log: d.log.With("lan", name), Views: views,
		OnView: func([6]byte, uint64) {
			select {
			case d.spoke <- struct{}{}:
			default:
			}
		},
	}
	if d.o.Configure != nil {
		d.o.Configure(name, &cfg)
	}
	l, err := lan.New(cfg)
	if err != nil {
		return nil, err
	}
	return &network{name: name, spec: spec, lan: l}, nil
}

// listen lets replicas join a LAN at addr.
func (d *Daemon) listen(n *network, addr string) error {
	ln, err := d.o.Listen(addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen for replicas on %s: %w", addr, lan.ErrPortInUse)
	}
	if err != nil {
		return fmt.Errorf("listen for replicas: %w", err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(true)
	}
	n.listen = ln.Addr().String()
	n.serve(ln, func(err error) { d.log.Error("replicas cannot join any more", "lan", n.name, "err", err) })
	return nil
}

// Put makes a LAN, or makes an existing one as the spec says. Errors wrap ErrInvalid, ErrConflict, ErrFull,
// ErrStore, ErrClosed or lan.ErrPortInUse; then nothing has changed.
func (d *Daemon) Put(name string, spec Spec) (Status, error) {
	if err := validName(name); err != nil {
		return Status{}, err
	}
	want, mac, err := parse(spec)
	if err != nil {
		return Status{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Status{}, ErrClosed
	}
	n := d.lans[name]
	if n == nil {
		n, err = d.create(name, spec, want)
	} else {
		err = d.update(n, spec, want)
	}
	if err != nil {
		return Status{}, err
	}
	if mac != ([6]byte{}) {
		if err := n.lan.SetLease(mac, netip.Addr{}); err != nil {
			return Status{}, err
		}
	}
	return n.status(true), nil
}

func (d *Daemon) create(name string, spec Spec, want []*forward) (*network, error) {
	if len(d.lans) >= MaxLANs {
		return nil, fmt.Errorf("%w: %d", ErrFull, MaxLANs)
	}
	n, err := d.make(name, spec, nil)
	if err != nil {
		return nil, err
	}
	addr := spec.Listen
	if addr == "" {
		addr = net.JoinHostPort(d.o.JoinHost, "0")
	}
	d.lans[name] = n
	if err = d.listen(n, addr); err == nil {
		err = n.turn(want, d.save)
	}
	if err != nil {
		delete(d.lans, name)
		n.close()
		return nil, err
	}
	d.log.Info("LAN made", "lan", name, "listen", n.listen)
	return n, nil
}

func (d *Daemon) update(n *network, spec Spec, want []*forward) error {
	if spec.Outbound != n.spec.Outbound {
		return fmt.Errorf("%w: outbound connections of LAN %s: delete it first", ErrConflict, n.name)
	}
	if spec.Listen == "" {
		spec.Listen = n.spec.Listen
	}
	if spec.Listen != n.spec.Listen {
		return fmt.Errorf("%w: LAN %s listens on %s: delete it first", ErrConflict, n.name, n.listen)
	}
	if n.err != nil {
		if err := d.listen(n, n.listen); err != nil {
			return err
		}
	}
	old := n.spec
	n.spec = spec
	if err := n.turn(want, d.save); err != nil {
		n.spec = old
		return err
	}
	return nil
}

// Get returns a LAN's status. The error wraps ErrInvalid or ErrNotFound.
func (d *Daemon) Get(name string) (Status, error) {
	if err := validName(name); err != nil {
		return Status{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lans[name]
	if n == nil {
		return Status{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return n.status(true), nil
}

// List returns all LANs in the order of their names, without leases and views.
func (d *Daemon) List() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []Status{}
	for _, n := range d.sorted() {
		all = append(all, n.status(false))
	}
	return all
}

func (d *Daemon) sorted() []*network {
	var all []*network
	for _, n := range d.lans {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *network) int { return cmp.Compare(a.name, b.name) })
	return all
}

// Delete ends a LAN: when it returns, its listeners and connections are closed. The error wraps ErrInvalid,
// ErrNotFound or ErrStore.
func (d *Daemon) Delete(name string) error {
	if err := validName(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lans[name]
	if n == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	delete(d.lans, name)
	if err := d.save(); err != nil {
		d.lans[name] = n
		return err
	}
	n.close()
	d.log.Info("LAN removed", "lan", name)
	return nil
}

// save writes the set of LANs down.
func (d *Daemon) save() error {
	if d.store == nil {
		return nil
	}
	var s stored
	for _, n := range d.sorted() {
		l := storedLAN{Name: n.name, Listen: n.listen, Wanted: n.spec.Listen, Outbound: n.spec.Outbound, MAC: n.spec.MAC, Views: n.views()}
		for _, f := range n.forwards {
			l.Forwards = append(l.Forwards, Forward{Spec: f.text, At: f.at})
		}
		s.LANs = append(s.LANs, l)
	}
	return d.store.save(s)
}

// keep writes announced views down, and tries again what could not be restored, until Close.
func (d *Daemon) keep() {
	missing := true
	for {
		var again <-chan time.Time
		if missing {
			again = time.After(retryPause)
		}
		save := false
		select {
		case <-d.spoke:
			save = true
		case <-again:
		}
		d.mu.Lock()
		closed := d.closed
		missing = !closed && d.retry()
		if save {
			if err := d.save(); err != nil {
				d.log.Error("announced views are not written down", "err", err)
			}
		}
		d.mu.Unlock()
		if closed {
			return
		}
	}
}

// retry opens the listeners and forwards that are missing and reports whether some still are.
func (d *Daemon) retry() (missing bool) {
	for _, n := range d.lans {
		if n.err != nil {
			if n.err = d.listen(n, n.listen); n.err == nil {
				d.log.Info("replicas can join again", "lan", n.name, "listen", n.listen)
			}
			missing = missing || n.err != nil
		}
		for _, f := range n.forwards {
			if f.live == nil && f.open(n.lan) != nil {
				missing = true
			}
		}
	}
	return missing
}

// Close ends all LANs. The set of them stays on disk.
func (d *Daemon) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	select { // the keeper looks once more, and ends
	case d.spoke <- struct{}{}:
	default:
	}
	d.keeper.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	var all sync.WaitGroup
	for _, n := range d.lans {
		all.Go(n.close)
	}
	all.Wait()
	d.lans = make(map[string]*network)
	d.store.close()
	return nil
}

func validName(name string) error {
	if err := arbiter.ValidGroup(name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
