package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "understudy/api/understudy/v1"
)

// maxMachines bounds the machines of a fleet.
const maxMachines = 500

// ListMachines implements the API.
func (c *Control) ListMachines(_ context.Context, req *api.ListMachinesRequest) (*api.ListMachinesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &api.ListMachinesResponse{}
	for _, m := range c.sorted() {
		if req.All || m.live() {
			r.Machines = append(r.Machines, c.message(m))
		}
	}
	return r, nil
}

// GetMachine implements the API.
func (c *Control) GetMachine(_ context.Context, req *api.GetMachineRequest) (*api.GetMachineResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.machines[req.Name]
	if m == nil {
		return nil, errNoMachine(req.Name)
	}
	return &api.GetMachineResponse{Machine: c.message(m)}, nil
}

// message is a machine as the API shows it.
func (c *Control) message(m *machine) *api.Machine {
	v := &api.Machine{
		Spec: proto.Clone(m.spec).(*api.MachineSpec), Id: m.ID, Created: timestamppb.New(m.Created), State: m.state, Reason: m.reason,
		View: uint64(m.view.Number), Primary: m.view.Primary, Backup: m.view.Backup, InSync: m.inSync,
		Forwards: slices.Clone(m.Forwards), Failovers: m.Failovers, ExitCode: m.ExitCode, Group: m.Group,
		Hosts: slices.Clone(m.Hosts), Protection: c.protection(m), Progress: c.progressText(m),
	}
	if m.Blackout > 0 {
		v.LastBlackout = durationpb.New(m.Blackout)
	}
	for _, n := range slices.Sorted(maps.Keys(c.hosts)) {
		if r := c.replica(m, n); r != nil {
			v.Replicas = append(v.Replicas, proto.Clone(r).(*api.Replica))
		}
	}
	return v
}

// protection is what protects a machine, in a few words.
func (c *Control) protection(m *machine) string {
	switch {
	case !m.live() || m.view.Number == 0:
		return ""
	case m.inSync && m.view.Backup != "":
		return "protected"
	case m.spec.Unprotected:
		return "alone: no backup is wanted"
	case m.state == stateStuck:
		return ""
	}
	if p := c.replica(m, m.view.Primary); p != nil && p.Transfer != nil {
		return transferText(p.Transfer)
	}
	if m.view.Backup != "" {
		return "joining"
	}
	for _, n := range m.Hosts {
		if n != m.view.Primary && c.isReady(n) {
			return "alone: host " + n + " prepares"
		}
	}
	return "alone: no idle host"
}

// progressText is what a machine that does not run yet waits for.
func (c *Control) progressText(m *machine) string {
	switch m.state {
	case statePlacing:
		if len(c.hosts) == 0 {
			return "waits for a first host"
		}
		if m.Last != "" {
			return fmt.Sprintf("waits for host %s, which has its disks", m.Last)
		}
		text := "waits for a host that is ready"
		for _, h := range c.candidates(m) {
			if h.ready && !h.draining {
				if text = fmt.Sprintf("no host has %s of memory free", sizeText(m.mem())); h.free >= m.mem() {
					return "looks for a host"
				}
			}
		}
		return text
	case stateStarting:
		if m.lanErr != "" && m.LAN == "" {
			return "waits for its LAN: " + m.lanErr
		}
		if m.view.Number == 0 && m.progress != nil && m.progress.Text != "" {
			return m.progress.Text
		}
		if m.view.Number > 0 {
			return fmt.Sprintf("host %s boots it", m.view.Primary)
		}
		return fmt.Sprintf("host %s prepares it", m.Founder)
	case stateRunning:
		if !m.inSync {
			return c.protection(m)
		}
	}
	return ""
}

// Run implements the API.
func (c *Control) Run(ctx context.Context, req *api.RunRequest, stream *connect.ServerStream[api.RunProgress]) error {
	spec, err := checkSpec(req.Spec)
	if err != nil {
		return err
	}
	m, err := c.create(ctx, spec)
	if err != nil {
		return err
	}
	return c.follow(ctx, m, req.WaitProtected, stream)
}

// create makes a machine. Its LAN comes first, so that a port that is taken leaves nothing behind.
func (c *Control) create(ctx context.Context, spec *api.MachineSpec) (*machine, error) {
	m := &machine{
		kept: kept{ID: strings.ToLower(rand.Text()[:12]), Generation: 1, Created: time.Now().UTC()},
		spec: spec, refused: map[string]string{}, whys: map[uint64]string{}, state: statePlacing,
	}
	m.Group, m.Asked = groupName(spec.Name, m.ID, 1), spec.Forwards
	c.mu.Lock()
	err := c.roomFor(spec.Name)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if c.cfg.LANs != nil {
		ctx, cancel := context.WithTimeout(ctx, lanLimit)
		defer cancel()
		if m.LAN, m.Forwards, err = c.cfg.LANs.Ensure(ctx, lanName(m), spec.Forwards, spec.Outbound); err != nil {
			return nil, lanError(err)
		}
		m.lanAt = time.Now().Add(lanEvery)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err = c.roomFor(spec.Name); err == nil { // the name may have been taken meanwhile
		if err = c.write(m); err != nil {
			err = unavailable(err)
		}
	}
	if err != nil {
		c.removeLAN(m)
		return nil, err
	}
	c.machines[spec.Name] = m
	c.event("machine.created", spec.Name, "", 0, "machine %s of image %s", spec.Name, spec.Image)
	c.touch()
	c.kick()
	return m, nil
}

// roomFor refuses a name that is taken, and one machine more than there may be. The caller holds mu.
func (c *Control) roomFor(name string) error {
	if c.machines[name] != nil {
		return refuse(connect.CodeAlreadyExists, "another --name, or: understudy rm -f "+name, "there is a machine named %s already", name)
	}
	if len(c.machines) >= maxMachines {
		return refuse(connect.CodeResourceExhausted, "understudy ps -a", "there are %d machines already", maxMachines)
	}
	return nil
}

// follow tells of a machine's progress until it is up.
func (c *Control) follow(ctx context.Context, m *machine, protected bool, stream *connect.ServerStream[api.RunProgress]) error {
	var last *api.RunProgress
	for {
		c.mu.Lock()
		now, present, changed := c.runProgress(m), c.machines[m.spec.Name] == m, c.changed
		state, reason, founded := m.state, m.reason, m.Founded
		if present && state == stateStuck && !founded {
			// It never began: it leaves nothing behind, as if it had been refused at once.
			err := c.remove(m)
			c.mu.Unlock()
			if err != nil {
				return unavailable(err)
			}
			return refuse(connect.CodeFailedPrecondition, "understudy hosts", "start %s: %s", m.spec.Name, reason)
		}
		c.mu.Unlock()
		switch {
		case !present:
			return refuse(connect.CodeAborted, "", "machine %s was removed", m.spec.Name)
		case state == stateStopped:
			return refuse(connect.CodeAborted, "understudy start "+m.spec.Name, "machine %s was stopped", m.spec.Name)
		case state == stateStuck, state == stateEnded && !now.Up:
			return refuse(connect.CodeFailedPrecondition, "understudy logs "+m.spec.Name, "machine %s is %s: %s", m.spec.Name, state, reason)
		}
		done := now.Up && (!protected || now.Protected)
		if last == nil || !sameProgress(now, last) || done {
			last = proto.Clone(now).(*api.RunProgress)
			if !done {
				now.Machine = nil // for the last message
			}
			if err := stream.Send(now); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return errEnding()
		case <-changed:
		}
	}
}

func sameProgress(a, b *api.RunProgress) bool {
	return a.Text == b.Text && a.Step == b.Step && a.Done == b.Done && a.Up == b.Up && a.Protected == b.Protected
}

func (c *Control) runProgress(m *machine) *api.RunProgress {
	p := &api.RunProgress{
		At: timestamppb.Now(), Text: c.progressText(m), Done: -1,
		Up: m.Up, Protected: m.inSync || m.spec.Unprotected, Machine: c.message(m),
	}
	switch {
	case m.Up && p.Protected:
		p.Step, p.Done, p.Text = "protected", 1, c.protection(m)
	case m.Up:
		p.Step = "protect"
		if r := c.replica(m, m.view.Primary); r != nil && r.Transfer != nil && r.Transfer.TotalBytes > 0 {
			p.Done = float64(min(r.Transfer.DoneBytes, r.Transfer.TotalBytes)) / float64(r.Transfer.TotalBytes)
		}
	case m.view.Number > 0:
		p.Step = "boot"
	case m.progress != nil && m.progress.Step != "":
		p.Step, p.Done = m.progress.Step, m.progress.Done
	case m.Founder != "":
		p.Step = "boot"
	default:
		p.Step = "place"
	}
	return p
}

// Failover implements the API.
func (c *Control) Failover(ctx context.Context, req *api.FailoverRequest) (*api.FailoverResponse, error) {
	c.mu.Lock()
	m, err := c.running1(req.Name)
	switch {
	case err != nil:
	case m.handing:
		err = refuse(connect.CodeFailedPrecondition, "", "machine %s is being handed over already", req.Name)
	case m.view.Backup == "" || !m.inSync:
		err = refuse(connect.CodeFailedPrecondition, "understudy ps, and again when it is protected", "machine %s has no backup in sync: %s", req.Name, c.protection(m))
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	before, backup := uint64(m.view.Number), m.view.Backup
	do := c.beginHandover(m)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, handoverLimit)
	defer cancel()
	r, err := do(ctx)
	if err != nil {
		return nil, refuse(connect.CodeOf(err), "understudy inspect "+req.Name, "hand over %s: %s", req.Name, plain(err))
	}
	c.kick()
	c.until(ctx, func() bool { return uint64(m.view.Number) > before || c.machines[req.Name] != m })
	c.mu.Lock()
	defer c.mu.Unlock()
	if uint64(m.view.Number) == r.View {
		backup = m.view.Primary
	}
	return &api.FailoverResponse{View: r.View, Primary: backup, Pause: r.Pause}, nil
}

// running1 is a machine that has a primary. The caller holds mu.
func (c *Control) running1(name string) (*machine, error) {
	m := c.machines[name]
	switch {
	case m == nil:
		return nil, errNoMachine(name)
	case !m.live():
		return nil, refuse(connect.CodeFailedPrecondition, "understudy start "+name, "machine %s is %s", name, m.state)
	case m.view.Number == 0:
		return nil, refuse(connect.CodeFailedPrecondition, "understudy ps", "machine %s does not run yet: it is %s", name, m.state)
	}
	return m, nil
}

// SetMode implements the API.
func (c *Control) SetMode(ctx context.Context, req *api.SetModeRequest) (*api.SetModeResponse, error) {
	if req.Mode != api.Mode_MODE_LOCKSTEP && req.Mode != api.Mode_MODE_CHECKPOINT {
		return nil, refuse(connect.CodeInvalidArgument, "", "mode %v: want lockstep or checkpoint", req.Mode)
	}
	if err := checkEpoch(req.Epoch); err != nil {
		return nil, err
	}
	c.mu.Lock()
	m, err := c.running1(req.Name)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	group := m.Group
	client, err := c.replicaClient(m.view.Primary)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handoverLimit)
	defer cancel()
	_, err = client.SetReplicaMode(ctx, &api.SetReplicaModeRequest{Group: group, Mode: req.Mode, Epoch: req.Epoch})
	if err != nil {
		return nil, refuse(connect.CodeOf(err), "understudy inspect "+req.Name, "change the mode of %s: %s", req.Name, plain(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	spec := proto.Clone(m.spec).(*api.MachineSpec) // hosts are being sent the old one
	spec.Mode, spec.Epoch = req.Mode, req.Epoch
	m.spec = spec
	if err := c.write(m); err != nil {
		m.dirty = true
		return nil, unavailable(err)
	}
	c.event("machine.mode", req.Name, m.view.Primary, uint64(m.view.Number), "%s", modeText(req))
	c.touch()
	return &api.SetModeResponse{Machine: c.message(m)}, nil
}

func modeText(req *api.SetModeRequest) string {
	if req.Mode == api.Mode_MODE_LOCKSTEP {
		return "protected in lockstep"
	}
	if req.Epoch != nil {
		return fmt.Sprintf("protected by checkpoints every %v", req.Epoch.AsDuration())
	}
	return "protected by checkpoints"
}
