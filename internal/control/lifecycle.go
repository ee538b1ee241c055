package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	api "understudy/api/understudy/v1"
	"understudy/view"
)

// defaultGrace is how long Stop waits for hosts to say that nothing runs any more.
const defaultGrace = 10 * time.Second

// Stop implements the API. It returns when the hosts that can be reached run nothing of the machine any more.
func (c *Control) Stop(ctx context.Context, req *api.StopRequest) (*api.StopResponse, error) {
	grace := defaultGrace
	if req.Grace != nil {
		grace = req.Grace.AsDuration()
		if grace < 0 || grace > time.Hour {
			return nil, refuse(connect.CodeInvalidArgument, "", "grace of %v: want 0 to 1 h", grace)
		}
	}
	c.mu.Lock()
	m := c.machines[req.Name]
	if m == nil {
		c.mu.Unlock()
		return nil, errNoMachine(req.Name)
	}
	if m.live() {
		before := m.kept
		m.Stopped, m.LAN = true, ""
		if err := c.write(m); err != nil {
			m.kept = before
			c.mu.Unlock()
			return nil, unavailable(err)
		}
		m.lanOld, m.lanAt = true, time.Time{}
		c.event("machine.stopped", req.Name, "", uint64(m.view.Number), "stopped by its user")
		c.judge(m, time.Now())
		c.touch()
		c.kick()
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	c.until(ctx, func() bool { return !c.runsAnywhere(m) })
	return &api.StopResponse{}, nil
}

// runsAnywhere tells whether a host that is ready reported a process of the machine.
func (c *Control) runsAnywhere(m *machine) bool {
	for _, h := range c.hosts {
		if r := h.replicas[m.Group]; h.ready && r != nil && r.Pid != 0 {
			return true
		}
	}
	return false
}

// Start implements the API. The guest boots anew, from the disks of the host that was primary last; it is another group,
// for what the old one's replicas held is gone.
func (c *Control) Start(_ context.Context, req *api.StartRequest) (*api.StartResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.machines[req.Name]
	switch {
	case m == nil:
		return nil, errNoMachine(req.Name)
	case m.live():
		if m.state == stateStuck {
			return nil, refuse(connect.CodeFailedPrecondition, "understudy stop "+req.Name+", then start it: it boots anew from its disks",
				"machine %s is stuck: %s", req.Name, m.reason)
		}
		return nil, refuse(connect.CodeFailedPrecondition, "understudy ps", "machine %s is %s already", req.Name, m.state)
	}
	before := m.kept
	m.Generation++
	m.Group = groupName(m.spec.Name, m.ID, m.Generation)
	m.Stopped, m.Ended, m.ExitCode, m.Up, m.Founded = false, false, 0, false, false
	// The LAN is a new one as well: the old one has heard of higher views than the new group will have at first.
	m.LAN, m.lanOld, m.lanAt = "", true, time.Time{}
	if len(m.Forwards) > 0 {
		m.Asked = m.Forwards
	}
	m.Founder, m.Hosts = m.Last, nil
	if m.Last != "" {
		m.Hosts = []string{m.Last} // at once as its founder: a host that begins without leave to found stays a spare
	}
	if err := c.write(m); err != nil {
		m.kept = before
		return nil, unavailable(err)
	}
	m.view, m.claimant, m.known, m.acked, m.inSync, m.why, m.safe = view.View{}, "", false, false, false, "", false
	m.refused, m.whys, m.progress, m.transfer, m.changed = map[string]string{}, map[uint64]string{}, nil, 0, time.Time{}
	c.event("machine.started", req.Name, "", 0, "started anew by its user")
	c.judge(m, time.Now())
	c.touch()
	c.kick()
	return &api.StartResponse{}, nil
}

// Remove implements the API.
func (c *Control) Remove(_ context.Context, req *api.RemoveRequest) (*api.RemoveResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.machines[req.Name]
	switch {
	case m == nil:
		return nil, errNoMachine(req.Name)
	case m.live() && !req.Force:
		return nil, refuse(connect.CodeFailedPrecondition, "understudy stop "+req.Name+", or rm -f", "machine %s is %s", req.Name, m.state)
	}
	if err := c.remove(m); err != nil {
		return nil, unavailable(err)
	}
	return &api.RemoveResponse{}, nil
}

// remove forgets a machine. Hosts end what runs of it and remove its files, for it is no longer in their lists.
func (c *Control) remove(m *machine) error {
	name := m.spec.Name
	if err := c.forget("machine/" + name); err != nil {
		return err
	}
	delete(c.machines, name)
	m.Stopped = true
	c.event("machine.removed", name, "", uint64(m.view.Number), "machine %s is removed", name)
	c.touch()
	c.kick()
	c.removeLAN(m)
	return nil
}

func (c *Control) removeLAN(m *machine) {
	if c.cfg.LANs == nil {
		return
	}
	c.beside(lanLimit, func(ctx context.Context) func() {
		err := c.cfg.LANs.Remove(ctx, lanName(m))
		return func() {
			if err != nil {
				c.log.Warn("cannot remove a LAN", "machine", m.spec.Name, "err", err)
			}
		}
	})
}

const (
	// lanLimit bounds one call of the LAN daemon.
	lanLimit = 5 * time.Second
	// lanEvery is how often it is asked whether a LAN is still there, lanRetry how soon after an error.
	lanEvery, lanRetry = 5 * time.Second, time.Second
)

// lanName is a LAN's name: that of the creation, for the next machine of that name is another.
func lanName(m *machine) string { return strings.TrimSuffix(groupName(m.spec.Name, m.ID, 0), "-0") }

// tendLAN keeps the LAN of a machine that is to run there, for what is asked for again changes nothing, and removes that of
// another: its ports are free then.
func (c *Control) tendLAN(m *machine, now time.Time) {
	if c.cfg.LANs == nil || m.lanBusy || now.Before(m.lanAt) || !m.live() && !m.lanOld {
		return
	}
	m.lanBusy = true
	if m.lanOld {
		c.beside(lanLimit, func(ctx context.Context) func() {
			err := c.cfg.LANs.Remove(ctx, lanName(m))
			return func() { c.lanDone(m, err, func() { m.lanOld, m.lanAt = false, time.Time{} }) }
		})
		return
	}
	asked := slices.Clone(m.Asked)
	c.beside(lanLimit, func(ctx context.Context) func() {
		address, bound, err := c.cfg.LANs.Ensure(ctx, lanName(m), asked, m.spec.Outbound)
		return func() {
			c.lanDone(m, err, func() {
				if !m.live() || m.lanOld { // stopped meanwhile
					m.lanOld, m.lanAt = true, time.Time{}
					return
				}
				if m.LAN != address || !slices.Equal(m.Forwards, bound) {
					m.LAN, m.Forwards, m.dirty = address, bound, true
				}
			})
		}
	})
}

// lanDone takes what the LAN daemon answered.
func (c *Control) lanDone(m *machine, err error, then func()) {
	m.lanBusy = false
	if c.machines[m.spec.Name] != m {
		c.removeLAN(m)
		return
	}
	if err != nil {
		if m.lanErr == "" {
			c.event("lan.error", m.spec.Name, "", 0, "%s", err)
		}
		m.lanErr, m.lanAt = err.Error(), time.Now().Add(lanRetry)
		return
	}
	m.lanErr, m.lanAt = "", time.Now().Add(lanEvery)
	then()
}
