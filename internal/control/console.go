package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
)

// replicaClient is a client of a host. The caller holds mu.
func (c *Control) replicaClient(name string) (understudyv1connect.ReplicaServiceClient, error) {
	h := c.hosts[name]
	if h == nil || h.address == "" {
		return nil, refuse(connect.CodeUnavailable, "", "host %s has not said where it can be reached", name)
	}
	if h.client == nil || h.clientFor != h.address {
		transport := &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 2 * time.Second,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		}
		url := "http://" + h.address
		if c.cfg.Identity != nil {
			transport.TLSClientConfig = c.cfg.Identity.Client(name)
			url = "https://" + h.address
		}
		h.client = understudyv1connect.NewReplicaServiceClient(&http.Client{Transport: transport}, url, connect.WithReadMaxBytes(maxMessageBytes))
		h.clientFor = h.address
	}
	return h.client, nil
}

// sources are the hosts that may have a machine's console, the best first. The caller holds mu.
func (c *Control) sources(m *machine) []string {
	var all []string
	for _, n := range append([]string{m.view.Primary, m.Last, m.view.Backup, m.Founder}, m.Hosts...) {
		if n != "" && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// consoleRetry is the pause before another host is asked for a console.
const consoleRetry = 100 * time.Millisecond

// Console implements the API. It follows the machine from host to host: offsets mean the same on all of them.
func (c *Control) Console(ctx context.Context, req *api.ConsoleRequest, out *connect.ServerStream[api.ConsoleChunk]) error {
	at, group := req.From, ""
	var last error
	for try := 0; ; try++ {
		c.mu.Lock()
		m := c.machines[req.Name]
		if m == nil {
			c.mu.Unlock()
			return errNoMachine(req.Name)
		}
		if group != "" && group != m.Group {
			c.mu.Unlock()
			return refuse(connect.CodeAborted, "the same again", "machine %s was started anew", req.Name)
		}
		group = m.Group
		sources := c.sources(m)
		if req.Follow && m.live() && len(sources) > 1 {
			sources = sources[:1] // the primary alone goes on speaking
		}
		live := m.live()
		var from string
		if len(sources) > 0 {
			from = sources[try%len(sources)]
		}
		client, err := c.replicaClient(from)
		c.mu.Unlock()
		if from != "" && err == nil {
			var n int64
			n, err = c.copyConsole(ctx, client, m, from, &api.ReplicaConsoleRequest{Group: group, From: at, Follow: req.Follow && live, Console: req.Console}, out)
			if n >= 0 {
				at = n
			}
			if errors.Is(err, errGone) {
				return ctx.Err()
			}
		}
		switch {
		case err == nil && (!req.Follow || !live):
			return nil
		case err != nil:
			last = err
		}
		if !req.Follow && try+1 >= max(len(sources), 1) {
			if from == "" || last == nil {
				return nil // nobody has run it yet: it has said nothing
			}
			return refuse(connect.CodeUnavailable, "understudy hosts", "no host has the console of %s at hand: %s", req.Name, plain(last))
		}
		if req.Follow && !live && try >= len(sources)+1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return errEnding()
		case <-time.After(consoleRetry):
		}
	}
}

// errGone says that who asked does not listen any more.
var errGone = errors.New("the listener is gone")

// copyConsole copies from one host until its stream ends or, followed, until another host is primary. It returns the
// offset after the last byte sent on, or -1.
func (c *Control) copyConsole(ctx context.Context, client understudyv1connect.ReplicaServiceClient, m *machine, from string,
	req *api.ReplicaConsoleRequest, out *connect.ServerStream[api.ConsoleChunk],
) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if req.Follow {
		done := make(chan struct{})
		defer func() { cancel(); <-done }()
		go func() {
			defer close(done)
			c.until(ctx, func() bool {
				return !m.live() || m.Group != req.Group || m.view.Primary != "" && m.view.Primary != from
			})
			cancel()
		}()
	}
	in, err := client.ReplicaConsole(ctx, req)
	if err != nil {
		return -1, err
	}
	defer in.Close()
	at := int64(-1)
	for in.Receive() {
		chunk := in.Msg()
		if chunk.Offset < req.From {
			// It sends more than it was asked for: what was sent before is not sent again.
			skip := min(req.From-chunk.Offset, int64(len(chunk.Data)))
			chunk.Data, chunk.Offset = chunk.Data[skip:], chunk.Offset+skip
		}
		if len(chunk.Data) == 0 {
			continue
		}
		if err := out.Send(chunk); err != nil {
			return at, errGone
		}
		at = chunk.Offset + int64(len(chunk.Data))
	}
	return at, in.Err()
}

// until waits until something holds, under the lock, or ctx or control ends. It tells whether it holds.
func (c *Control) until(ctx context.Context, holds func() bool) bool {
	for {
		c.mu.Lock()
		ok, changed := holds(), c.changed
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-c.ctx.Done():
			return false
		case <-changed:
		}
	}
}

// typeWait bounds how long keystrokes wait for a primary.
const typeWait = 10 * time.Second

// maxTypeBytes bounds one call of Type.
const maxTypeBytes = 64 << 10

// Type implements the API. Keystrokes are sent once: only a host that says that it did not take them lets them go to
// another.
func (c *Control) Type(ctx context.Context, req *api.TypeRequest) (*api.TypeResponse, error) {
	if len(req.Data) > maxTypeBytes {
		return nil, refuse(connect.CodeInvalidArgument, "", "%d bytes at once, at most %d", len(req.Data), maxTypeBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, typeWait)
	defer cancel()
	for {
		c.mu.Lock()
		m := c.machines[req.Name]
		if m == nil {
			c.mu.Unlock()
			return nil, errNoMachine(req.Name)
		}
		if !m.live() {
			state := m.state
			c.mu.Unlock()
			return nil, refuse(connect.CodeFailedPrecondition, "understudy start "+req.Name, "machine %s is %s", req.Name, state)
		}
		group, primary := m.Group, m.view.Primary
		client, err := c.replicaClient(primary)
		c.mu.Unlock()
		if primary == "" {
			err = fmt.Errorf("machine %s has not begun yet", req.Name)
		}
		if err == nil {
			_, err = client.ReplicaType(ctx, &api.ReplicaTypeRequest{Group: group, Data: req.Data, Console: req.Console})
			if err == nil {
				return &api.TypeResponse{}, nil
			}
			var op *net.OpError
			notTaken := connect.CodeOf(err) == connect.CodeFailedPrecondition || errors.As(err, &op) && op.Op == "dial"
			if !notTaken {
				return nil, refuse(connect.CodeUnavailable, "", "host %s did not say whether it took the keys: %s", primary, plain(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil, refuse(connect.CodeUnavailable, "", "no primary took the keys: %s", plain(err))
		case <-c.ctx.Done():
			return nil, errEnding()
		case <-time.After(consoleRetry):
		}
	}
}
