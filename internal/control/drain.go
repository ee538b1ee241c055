package control

import (
	"context"
	"slices"
	"time"

	api "understudy/api/understudy/v1"
)

// handoverLimit bounds one handover.
const handoverLimit = 15 * time.Second

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

// tellDrains passes on to the view service who is to be relieved: it forgets that when control restarts. It replaces such
// a host where that is backup, and asks it to hand over where it is primary and the backup is in sync.
func (c *Control) tellDrains() {
	for _, h := range c.hosts {
		if h.draining != h.told {
			if _, err := c.views.Drain(c.ctx, h.name, h.draining); err == nil {
				h.told = h.draining
			}
		}
	}
}

// beginHandover prepares to have the primary of a machine hand over. What it returns carries that out, without the lock.
func (c *Control) beginHandover(m *machine) func(ctx context.Context) (*api.HandOverResponse, error) {
	m.handing = true
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
			m.pauseView, m.pause = r.View, r.Pause.AsDuration()
		}
		return r, err
	}
}
