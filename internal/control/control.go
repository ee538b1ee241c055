package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/arbiter"
	"understudy/internal/pki"
	"understudy/view"
	"understudy/view/httpview"
)

// DefaultLostAfter is how long a host may be silent before control gives its spare parts to others. It has nothing to
// do with failover, which is the replicas' and the view service's.
const DefaultLostAfter = 5 * time.Second

// Config tells New what to work with.
type Config struct {
	Register  arbiter.Register
	Store     Store
	LANs      LANs          // nil: machines have no network
	Identity  *pki.Identity // nil: no certificates
	ViewURLs  []string      // what hosts are told
	Arbiter   string        // what hosts are told, as --arbiter of a replica
	LostAfter time.Duration // 0: DefaultLostAfter
	View      view.Config   // ID is made up
	Log       *slog.Logger  // nil discards
	Version   string
}

// LANs makes the virtual LANs of machines.
type LANs interface {
	// Ensure makes the machine's LAN if there is none, and returns where replicas join it and its forwards as bound.
	Ensure(ctx context.Context, name string, forwards []string, outbound bool) (address string, bound []string, err error)
	// Remove ends it; one that does not exist is no error.
	Remove(ctx context.Context, name string) error
}

// Control is the state of the fleet and what is done about it. New makes one.
type Control struct {
	cfg     Config
	log     *slog.Logger
	id      string // of this life, at the view service
	views   *httpview.Service
	events  *events
	metrics *metrics
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	kicks   chan struct{}
	started time.Time

	mu       sync.Mutex
	machines map[string]*machine
	hosts    map[string]*host
	changed  chan struct{} // closed, and replaced, when something changed
	storeErr string        // why the newest write did not succeed
	retryAt  time.Time     // no write before

	noticeMu sync.Mutex // apart from mu: the view service tells of changes under its own lock
	notices  []view.Notice
}

// New reads the store and starts to work. Close ends it; store and register stay open.
func New(ctx context.Context, cfg Config) (*Control, error) {
	if cfg.LostAfter <= 0 {
		cfg.LostAfter = DefaultLostAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Control{
		cfg: cfg, log: cfg.Log, id: "control-" + rand.Text(), kicks: make(chan struct{}, 1), started: time.Now(),
		machines: map[string]*machine{}, hosts: map[string]*host{}, changed: make(chan struct{}), events: newEvents(),
	}
	c.metrics = newMetrics(c)
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	v := cfg.View
	v.ID = c.id
	views, err := httpview.NewService(cfg.Register, httpview.Options{View: v, Log: cfg.Log, Notify: c.notify})
	if err != nil {
		return nil, err
	}
	c.views = views
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.loop)
	return c, nil
}

func (c *Control) load(ctx context.Context) error {
	all, err := c.cfg.Store.All(ctx)
	if err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	for key, value := range all {
		kind, name, _ := strings.Cut(key, "/")
		switch kind {
		case "machine":
			m, err := unmarshalMachine(value)
			if err != nil {
				return fmt.Errorf("read store: machine %s: %w", name, err)
			}
			c.machines[name] = m
		case "host":
			var k keptHost
			if err := json.Unmarshal(value, &k); err != nil {
				return fmt.Errorf("read store: host %s: %w", name, err)
			}
			c.hosts[name] = &host{
				name: name, address: k.Address, mem: k.Mem, version: k.Version, draining: k.Draining,
				replicas: map[string]*api.Replica{},
			}
		}
	}
	return nil
}

// Close ends everything that New started. Calls of the API under way fail.
func (c *Control) Close() {
	c.cancel()
	c.running.Wait()
	c.views.Close()
}

// notify takes a notice of the view service, under that one's lock.
func (c *Control) notify(n view.Notice) {
	c.noticeMu.Lock()
	if len(c.notices) < 1000 {
		c.notices = append(c.notices, n)
	}
	c.noticeMu.Unlock()
	c.kick()
}

// kick has the loop look at once.
func (c *Control) kick() {
	select {
	case c.kicks <- struct{}{}:
	default:
	}
}

func (c *Control) loop() {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-t.C:
		case <-c.kicks:
		}
		c.mu.Lock()
		c.look(time.Now())
		c.mu.Unlock()
	}
}

// touch tells those who wait that something changed.
func (c *Control) touch() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// beside does something that takes time without the lock, then what it returned with it.
func (c *Control) beside(limit time.Duration, do func(ctx context.Context) func()) {
	c.running.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, limit)
		defer cancel()
		then := do(ctx)
		c.mu.Lock()
		then()
		c.touch()
		c.mu.Unlock()
		c.kick()
	})
}

// look takes one look at everything. The caller holds mu.
func (c *Control) look(now time.Time) {
	c.takeNotices()
	c.lookAtHosts(now)
	settled := c.settled(now)
	changed := false
	for _, m := range c.sorted() {
		before := m.summary()
		if m.live() {
			c.observe(m, now)
			c.takeEnd(m)
		}
		if m.live() {
			c.refusals(m)
			if settled && m.known {
				place(m, c.candidates(m))
			}
		}
		c.tendLAN(m, now)
		c.judge(m, now)
		c.save(m, now)
		if m.summary() != before {
			changed = true
		}
	}
	c.tellDrains()
	if changed {
		c.touch()
	}
}

// summary changes whenever somebody who waits might care.
func (m *machine) summary() string {
	text := ""
	if m.progress != nil {
		text = m.progress.Text
	}
	return fmt.Sprint(m.state, m.reason, m.view, m.acked, m.inSync, m.why, m.shown.LAN, m.shown.Hosts, m.shown.Group, m.shown.Stopped, text, m.lanErr, len(m.refused))
}

// settled tells whether the hosts that were there before control began have had the time to come back. Before, those
// who are missing are not replaced.
func (c *Control) settled(now time.Time) bool {
	if now.Sub(c.started) > c.cfg.LostAfter {
		return true
	}
	for _, h := range c.hosts {
		if !h.ready {
			return false
		}
	}
	return true
}

func (c *Control) sorted() []*machine {
	names := make([]string, 0, len(c.machines))
	for n := range c.machines {
		names = append(names, n)
	}
	slices.Sort(names)
	all := make([]*machine, len(names))
	for i, n := range names {
		all[i] = c.machines[n]
	}
	return all
}

// candidates are the hosts with their free memory; what this machine uses counts as free.
func (c *Control) candidates(m *machine) []*candidate {
	var all []*candidate
	for _, h := range c.hosts {
		used := c.memUsed(h.name, m)
		free := uint64(0)
		if h.mem > used {
			free = h.mem - used
		}
		if h.mem == 0 {
			free = 1<<50 - used // it did not say: of such hosts take the one that has least to do
		}
		all = append(all, &candidate{name: h.name, ready: h.ready, draining: h.draining, mem: h.mem, free: free})
	}
	return all
}

// memUsed is the memory of the guests that a host is to run, but for one.
func (c *Control) memUsed(name string, except *machine) (used uint64) {
	for _, m := range c.machines {
		if m != except && m.live() && slices.Contains(m.Hosts, name) {
			used += m.mem()
		}
	}
	return used
}

func (c *Control) lookAtHosts(now time.Time) {
	for _, h := range c.hosts {
		ready := h.streams > 0 && now.Sub(h.seen) < c.cfg.LostAfter
		// A host is lost when it was silent for so long, not when its connection breaks: it dials again.
		if h.ready && h.streams == 0 && now.Sub(h.seen) < c.cfg.LostAfter {
			ready = true
		}
		if ready == h.ready {
			continue
		}
		h.ready = ready
		if ready {
			c.event("host.ready", "", h.name, 0, "host %s is ready", h.name)
		} else {
			c.event("host.lost", "", h.name, 0, "nothing was heard of host %s for %v", h.name, now.Sub(h.seen).Round(time.Second))
		}
		c.touch()
	}
}

// save writes what changed of a machine. Until that has succeeded nobody is told of it.
func (c *Control) save(m *machine, now time.Time) {
	if !m.dirty || now.Before(c.retryAt) {
		return
	}
	if err := c.write(m); err != nil {
		c.retryAt = now.Add(time.Second)
	}
}

func (c *Control) write(m *machine) error {
	value, err := m.marshal()
	if err == nil {
		err = c.put("machine/"+m.spec.Name, value)
	}
	if err != nil {
		return err
	}
	m.dirty = false
	m.shown = m.kept
	m.shown.Hosts = slices.Clone(m.Hosts)
	return nil
}

// storeTimeout bounds a write: the lock is held meanwhile.
const storeTimeout = 2 * time.Second

func (c *Control) put(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(c.ctx, storeTimeout)
	defer cancel()
	err := c.cfg.Store.Put(ctx, key, value)
	return c.stored(err)
}

func (c *Control) forget(key string) error {
	ctx, cancel := context.WithTimeout(c.ctx, storeTimeout)
	defer cancel()
	return c.stored(c.cfg.Store.Delete(ctx, key))
}

func (c *Control) stored(err error) error {
	if err == nil {
		c.storeErr = ""
		return nil
	}
	if c.storeErr == "" {
		c.log.Error("cannot write to the store", "err", err)
	}
	c.storeErr = err.Error()
	return fmt.Errorf("write to the store: %w", err)
}

func (c *Control) saveHost(h *host) error {
	value, err := json.Marshal(keptHost{Address: h.address, Mem: h.mem, Version: h.version, Draining: h.draining})
	if err != nil {
		return err
	}
	return c.put("host/"+h.name, value)
}
