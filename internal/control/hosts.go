package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "understudy/api/understudy/v1"
)

const (
	// workEvery is how often a host hears of its work when nothing changes.
	workEvery = 5 * time.Second
	// maxHosts bounds the hosts that control knows.
	maxHosts = 1000
	// maxReplicas bounds the replicas of one report, maxReportEvents its events.
	maxReplicas, maxReportEvents = 1000, 100
)

// Work implements the API.
func (c *Control) Work(ctx context.Context, req *api.WorkRequest, stream *connect.ServerStream[api.WorkList]) error {
	if err := mayBeHost(ctx, req.Host); err != nil {
		return err
	}
	h, err := c.join(req)
	if err != nil {
		return err
	}
	defer c.leave(h, req.Incarnation)
	var last *api.WorkList
	var sent time.Time
	for {
		c.mu.Lock()
		if h.incarnation != req.Incarnation {
			c.mu.Unlock()
			return refuse(connect.CodeAborted, "", "another process took the place of host %s", req.Host)
		}
		list, changed := c.workList(h), c.changed
		c.mu.Unlock()
		if last == nil || !proto.Equal(list, last) || time.Since(sent) >= workEvery {
			if err := stream.Send(list); err != nil {
				return err
			}
			last, sent = list, time.Now()
		}
		wait := time.NewTimer(workEvery - time.Since(sent))
		select {
		case <-ctx.Done():
		case <-c.ctx.Done():
		case <-changed:
		case <-wait.C:
		}
		wait.Stop()
		if c.ctx.Err() != nil {
			return errEnding()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (c *Control) join(req *api.WorkRequest) (*host, error) {
	switch {
	case !validName(req.Host):
		return nil, refuse(connect.CodeInvalidArgument, "", "host name %q: want [a-z0-9][a-z0-9._-]{0,62}", req.Host)
	case req.Incarnation == "" || len(req.Incarnation) > 64:
		return nil, refuse(connect.CodeInvalidArgument, "", "incarnation of %d bytes, want 1 to 64", len(req.Incarnation))
	case req.Address == "" || len(req.Address) > 255 || len(req.Version) > 255:
		return nil, refuse(connect.CodeInvalidArgument, "", "address or version of the host makes no sense")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[req.Host]
	if h == nil {
		if len(c.hosts) >= maxHosts {
			return nil, refuse(connect.CodeResourceExhausted, "", "there are %d hosts already", maxHosts)
		}
		h = &host{name: req.Host, replicas: map[string]*api.Replica{}}
	}
	if h.streams > 0 && h.incarnation != req.Incarnation && time.Since(h.seen) < c.cfg.LostAfter {
		return nil, refuse(connect.CodeAlreadyExists, "another --name, or end the other first",
			"a host named %s is here already, at %s", req.Host, h.address)
	}
	next := *h
	next.address, next.mem, next.version = req.Address, req.MemBytes, req.Version
	if c.hosts[req.Host] == nil || next.address != h.address || next.mem != h.mem || next.version != h.version {
		if err := c.saveHost(&next); err != nil {
			return nil, connect.NewError(connect.CodeUnavailable, err)
		}
	}
	if next.incarnation != req.Incarnation {
		next.incarnation, next.streams, next.replicas = req.Incarnation, 0, map[string]*api.Replica{}
		for _, m := range c.machines {
			delete(m.refused, req.Host) // a new life, a new try
			if m.live() && !m.Founded && m.Founder == req.Host && h.incarnation != "" {
				// What it began has died with it, and a host founds a group once.
				m.Generation++
				m.Group, m.dirty, m.known, m.progress = groupName(m.spec.Name, m.ID, m.Generation), true, false, nil
			}
		}
	}
	next.seen = time.Now()
	next.streams++
	*h = next
	c.hosts[req.Host] = h
	c.touch()
	c.kick()
	return h, nil
}

func (c *Control) leave(h *host, incarnation string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.incarnation == incarnation {
		h.streams--
	}
}

// workList is all that a host is to do.
func (c *Control) workList(h *host) *api.WorkList {
	list := &api.WorkList{Drain: h.draining, ViewUrls: c.cfg.ViewURLs, ArbiterUrl: c.cfg.Arbiter}
	for _, m := range c.sorted() {
		k := m.shown
		if !slices.Contains(k.Hosts, h.name) {
			continue
		}
		list.Assignments = append(list.Assignments, &api.Assignment{
			Spec: m.spec, Id: k.ID, Group: k.Group, Lan: k.LAN, Stopped: k.Stopped || k.Ended || c.cfg.LANs != nil && k.LAN == "",
			Found: !k.Founded && k.Founder == h.name,
		})
	}
	return list
}

// Report implements the API.
func (c *Control) Report(ctx context.Context, req *api.ReportRequest) (*api.ReportResponse, error) {
	if err := mayBeHost(ctx, req.Host); err != nil {
		return nil, err
	}
	if len(req.Replicas) > maxReplicas || len(req.Events) > maxReportEvents || len(req.Progress) > maxReplicas {
		return nil, refuse(connect.CodeInvalidArgument, "", "a report of more than %d replicas or %d events", maxReplicas, maxReportEvents)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[req.Host]
	if h == nil || h.incarnation != req.Incarnation {
		return nil, refuse(connect.CodeFailedPrecondition, "", "host %s has not asked for work", req.Host)
	}
	h.seen = time.Now()
	h.replicas = make(map[string]*api.Replica, len(req.Replicas))
	for _, r := range req.Replicas {
		if r == nil {
			continue
		}
		r.Host = h.name
		if r.At == nil {
			r.At = timestamppb.New(h.seen)
		}
		h.replicas[r.Group] = r
	}
	for _, p := range req.Progress {
		if m := c.byGroup(p.GetGroup()); m != nil && m.Founder == h.name && !m.Founded {
			m.progress = p
		}
	}
	for _, e := range req.Events {
		if e == nil {
			continue
		}
		e.Host = h.name
		if e.At == nil {
			e.At = timestamppb.New(h.seen)
		}
		c.addEvent(e)
	}
	c.touch()
	c.kick()
	return &api.ReportResponse{}, nil
}

// ListHosts implements the API.
func (c *Control) ListHosts(context.Context, *api.ListHostsRequest) (*api.ListHostsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &api.ListHostsResponse{}
	for _, h := range c.hosts {
		r.Hosts = append(r.Hosts, c.hostMessage(h))
	}
	slices.SortFunc(r.Hosts, func(a, b *api.Host) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

func (c *Control) hostMessage(h *host) *api.Host {
	m := &api.Host{Name: h.name, Address: h.address, MemBytes: h.mem, MemUsedBytes: c.memUsed(h.name, nil), Version: h.version}
	if !h.seen.IsZero() {
		m.Seen = timestamppb.New(h.seen)
	}
	holds := 0
	for _, v := range c.machines {
		if !v.live() {
			continue
		}
		if slices.Contains(v.Hosts, h.name) {
			holds++
		}
		switch h.name {
		case v.view.Primary:
			m.Primaries++
		case v.view.Backup:
			m.Backups++
		}
	}
	switch {
	case !h.ready:
		m.State = "lost"
	case h.draining && holds == 0:
		m.State = "drained"
	case h.draining:
		m.State = "draining"
	default:
		m.State = "ready"
	}
	return m
}
