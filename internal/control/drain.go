package control

import (
	"context"
	"slices"
	"time"

	api "understudy/api/understudy/v1"
)

const (
	// handoverLimit bounds one handover.
	handoverLimit = 15 * time.Second
	// handoverRetry is the pause before a drain tries one again.
	handoverRetry = 2 * time.Second
	// handoverTries is how often a drain tries in one view before it leaves the switch to the view service.
	handoverTries = 3
)

// Drain implements the API.
func (c *Control) Drain(_ context.Context, req *api.DrainRequest) (*api.DrainResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[req.Host]
	if h == nil {
		return nil, errNoHost(req.Host)
	}
	if h.draining != req.On {
		next := *h
		next.draining = req.On
		if err := c.saveHost(&next); err != nil {
			return nil, unavailable(err)
		}
		h.draining = req.On
		if req.On {
			c.event("host.draining", "", h.name, 0, "host %s is being drained", h.name)
		} else {
			c.event("host.undrained", "", h.name, 0, "host %s takes parts again", h.name)
		}
		c.touch()
		c.kick()
	}
	r := &api.DrainResponse{}
	for _, m := range c.sorted() {
		if m.live() && slices.Contains(m.Hosts, h.name) {
			r.Holding = append(r.Holding, m.spec.Name)
		}
	}
	return r, nil
}

// drain goes on with relieving hosts. A host first hands over what it is primary of, for that costs a machine the
// least; then the view service relieves it of what it is backup of, and of a primary's part that can be handed over
// only later, when a backup has come into sync.
func (c *Control) drain(now time.Time) {
	for _, h := range c.hosts {
		if !h.draining {
			if h.told {
				if _, err := c.views.Drain(c.ctx, h.name, false); err == nil {
					h.told = false
				}
			}
			continue
		}
		waits := false
		for _, m := range c.sorted() {
			if !m.live() || m.view.Primary != h.name || !m.inSync || !c.mayLead(m.view.Backup) {
				continue
			}
			if m.tries >= handoverTries && !m.handing {
				continue // it does not work: the view service's way is left
			}
			waits = true
			if !m.handing && now.Sub(m.handAt) > handoverRetry {
				m.tries++
				c.drainOne(m)
			}
		}
		if !waits && !h.told {
			if _, err := c.views.Drain(c.ctx, h.name, true); err == nil {
				h.told = true
			}
		}
	}
}

// mayLead tells whether a host can take a primary's part.
func (c *Control) mayLead(name string) bool {
	h := c.hosts[name]
	return h != nil && h.ready && !h.draining
}

func (c *Control) drainOne(m *machine) {
	name, do := m.spec.Name, c.beginHandover(m)
	c.beside(handoverLimit, func(ctx context.Context) func() {
		_, err := do(ctx)
		return func() {
			if err != nil {
				c.event("drain.waits", name, "", 0, "cannot hand over yet: %s", plain(err))
			}
		}
	})
}

// beginHandover prepares to have the primary of a machine hand over. What it returns carries that out, without the lock.
func (c *Control) beginHandover(m *machine) func(ctx context.Context) (*api.HandOverResponse, error) {
	m.handing, m.handAt = true, time.Now()
	group := m.Group
	client, err := c.replicaClient(m.view.Primary)
	return func(ctx context.Context) (*api.HandOverResponse, error) {
		var r *api.HandOverResponse
		if err == nil {
			r, err = client.HandOver(ctx, &api.HandOverRequest{Group: group})
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		m.handing = false
		if err == nil && group == m.Group {
			m.pauseView, m.pause, m.tries = r.View, r.Pause.AsDuration(), 0
		}
		return r, err
	}
}
