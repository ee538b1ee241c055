package control

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
	"understudy/internal/pki"
	"understudy/view"
	"understudy/view/httpview"
)

// Fast enough for tests, slow enough for a busy machine.
const (
	testPing      = 20 * time.Millisecond
	testDeadPings = 15
	testLostAfter = 700 * time.Millisecond
	testLimit     = 30 * time.Second // for a condition that is to come true
)

// fleetTest is a control on loopback, which may be ended and started again, and its fake hosts.
type fleetTest struct {
	t         *testing.T
	register  *memstore.Store
	dir       string
	address   string
	lans      *fakeLANs
	id        *pki.Identity // of control
	control   *Control
	store     Store
	stop      func()
	transport *http.Transport // of the user

	mu      sync.Mutex
	taken   map[string]map[string]view.Number // group, host: newest view in which it takes part
	console map[string][]byte                 // group
}

func newFleet(t *testing.T) *fleetTest { return newFleetAs(t, nil, nil) }

func newFleetAs(t *testing.T, id, user *pki.Identity) *fleetTest {
	f := &fleetTest{
		t: t, register: memstore.New(), dir: t.TempDir(), address: "127.0.0.1:0", lans: &fakeLANs{}, id: id,
		taken: map[string]map[string]view.Number{}, console: map[string][]byte{}, transport: &http.Transport{},
	}
	if user != nil {
		f.transport.TLSClientConfig = user.Client(Name)
	}
	f.begin()
	t.Cleanup(func() { f.end(); f.transport.CloseIdleConnections() })
	return f
}

func (f *fleetTest) url() string {
	if f.id != nil {
		return "https://" + f.address
	}
	return "http://" + f.address
}

// begin starts control, at the address that it had before.
func (f *fleetTest) begin() {
	f.t.Helper()
	ln, err := net.Listen("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	if strings.HasSuffix(f.address, ":0") {
		f.address = ln.Addr().String() // hosts read it later on
	}
	if f.store, err = OpenBolt(filepath.Join(f.dir, "control.db")); err != nil {
		f.t.Fatal(err)
	}
	f.control, err = New(context.Background(), Config{
		Register: f.register, Store: f.store, LANs: f.lans, Identity: f.id, ViewURLs: []string{f.url()}, Arbiter: f.url(), LostAfter: testLostAfter,
		View: view.Config{PingInterval: testPing, DeadPings: testDeadPings},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.control.Serve(ctx, ln, f.register)
	}()
	f.stop = func() {
		cancel()
		<-done
		f.control.Close()
		_ = f.store.Close()
	}
}

// end ends control.
func (f *fleetTest) end() {
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

func (f *fleetTest) user() understudyv1connect.MachineServiceClient {
	return understudyv1connect.NewMachineServiceClient(&http.Client{Transport: f.transport}, f.url())
}

// run creates a machine and returns at once.
func (f *fleetTest) run(spec *api.MachineSpec) {
	f.t.Helper()
	if spec.Image == "" {
		spec.Image = "test"
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := f.user().Run(ctx, &api.RunRequest{Spec: spec})
	if err != nil {
		f.t.Fatal(err)
	}
	if !s.Receive() {
		f.t.Fatal(s.Err())
	}
	cancel()
	s.Close()
}

func (f *fleetTest) machine(name string) *api.Machine {
	f.t.Helper()
	r, err := f.user().GetMachine(context.Background(), &api.GetMachineRequest{Name: name})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Machine
}

// await waits until a machine is as wanted.
func (f *fleetTest) await(name, what string, ok func(m *api.Machine) bool) *api.Machine {
	f.t.Helper()
	var m *api.Machine
	f.until(func() string { return fmt.Sprintf("%s: %s; it is %v", name, what, m) }, func() bool { m = f.machine(name); return ok(m) })
	return m
}

func (f *fleetTest) until(what func() string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(testLimit); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("did not come true: %s", what())
		}
	}
}

func protected(m *api.Machine) bool { return m.InSync && m.Backup != "" && m.State == "running" }

func (f *fleetTest) hostState(name string) *api.Host {
	f.t.Helper()
	r, err := f.user().ListHosts(context.Background(), &api.ListHostsRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range r.Hosts {
		if h.Name == name {
			return h
		}
	}
	return &api.Host{}
}

func (f *fleetTest) awaitHost(name, state string) {
	f.t.Helper()
	f.until(func() string { return "host " + name + " is " + state }, func() bool { return f.hostState(name).State == state })
}

func (f *fleetTest) kinds() (kinds []string) {
	list, _ := f.control.events.since(0)
	for _, e := range list {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (f *fleetTest) awaitEvent(kind, text string) {
	f.t.Helper()
	f.until(func() string { return fmt.Sprintf("event %s %q; there were %v", kind, text, f.kinds()) }, func() bool {
		list, _ := f.control.events.since(0)
		return slices.ContainsFunc(list, func(e *api.Event) bool { return e.Kind == kind && strings.Contains(e.Text, text) })
	})
}

func (f *fleetTest) takes(group, host string, n view.Number) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken[group] == nil {
		f.taken[group] = map[string]view.Number{}
	}
	f.taken[group][host] = n
}

func (f *fleetTest) hasTaken(group, host string, n view.Number) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken[group][host] == n
}

// fakeHost is a host process: it asks for work, reports, and its replicas ping the view service, all over the network.
type fakeHost struct {
	understudyv1connect.UnimplementedReplicaServiceHandler
	f      *fleetTest
	name   string
	life   string
	id     *pki.Identity
	client *http.Client
	cancel context.CancelFunc
	done   sync.WaitGroup
	server *http.Server
	mem    uint64

	mu       sync.Mutex
	list     *api.WorkList
	lists    int
	broken   string // it can start nothing
	replicas map[string]*fakeReplica
	workErr  error
}

func (f *fleetTest) host(name string) *fakeHost { return f.hostAs(name, 1<<30, nil) }

func (f *fleetTest) hostAs(name string, mem uint64, id *pki.Identity) *fakeHost {
	f.t.Helper()
	h := &fakeHost{f: f, name: name, life: rand.Text(), id: id, mem: mem, replicas: map[string]*fakeReplica{}}
	transport := &http.Transport{}
	if id != nil {
		transport.TLSClientConfig = id.Client(Name)
	}
	h.client = &http.Client{Transport: transport}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(understudyv1connect.NewReplicaServiceHandler(h))
	h.server = &http.Server{Handler: mux}
	address := ln.Addr().String()
	if id != nil {
		ln = tls.NewListener(ln, id.Server(Name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.done.Go(func() { _ = h.server.Serve(ln) })
	h.done.Go(func() { h.work(ctx, address) })
	h.done.Go(func() { h.reports(ctx) })
	f.t.Cleanup(h.kill)
	return h
}

// kill ends the host and all its replicas at once.
func (h *fakeHost) kill() {
	h.cancel()
	_ = h.server.Close()
	h.done.Wait()
	h.client.CloseIdleConnections()
}

func (h *fakeHost) service() understudyv1connect.HostServiceClient {
	return understudyv1connect.NewHostServiceClient(h.client, h.f.url())
}

func (h *fakeHost) work(ctx context.Context, address string) {
	for ctx.Err() == nil {
		s, err := h.service().Work(ctx, &api.WorkRequest{Host: h.name, Address: address, MemBytes: h.mem, Incarnation: h.life, Version: "test"})
		if err == nil {
			for s.Receive() {
				h.apply(ctx, s.Msg())
			}
			err = s.Err()
			s.Close()
		}
		h.mu.Lock()
		h.workErr = err
		h.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *fakeHost) apply(ctx context.Context, list *api.WorkList) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = list
	h.lists++
	wanted := map[string]bool{}
	for _, a := range list.Assignments {
		if a.Stopped || h.broken != "" {
			continue
		}
		wanted[a.Group] = true
		if h.replicas[a.Group] == nil {
			r := newFakeReplica(h, a, list)
			rctx, cancel := context.WithCancel(ctx)
			r.cancel = cancel
			h.replicas[a.Group] = r
			h.done.Go(func() { r.run(rctx) })
		}
	}
	for g, r := range h.replicas {
		if !wanted[g] {
			r.cancel()
			delete(h.replicas, g)
		}
	}
}

func (h *fakeHost) reports(ctx context.Context) {
	t := time.NewTicker(30 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		req := &api.ReportRequest{Host: h.name, Incarnation: h.life}
		h.mu.Lock()
		for _, r := range h.replicas {
			req.Replicas = append(req.Replicas, r.report())
		}
		if h.broken != "" && h.list != nil {
			for _, a := range h.list.Assignments {
				req.Progress = append(req.Progress, &api.HostProgress{Group: a.Group, Step: "image", Error: h.broken, Done: -1})
			}
		}
		h.mu.Unlock()
		_, _ = h.service().Report(ctx, req)
	}
}

// has tells whether the host was told to run, or keep, something of a machine.
func (h *fakeHost) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list != nil && slices.ContainsFunc(h.list.Assignments, func(a *api.Assignment) bool { return a.Spec.Name == name })
}

func (h *fakeHost) replica(group string) *fakeReplica {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.replicas[group]
}

// endGuest has the guest of a machine shut down here.
func (h *fakeHost) endGuest(group string, code int32) {
	r := h.replica(group)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.code = true, code
}

func (h *fakeHost) HandOver(_ context.Context, req *api.HandOverRequest) (*api.HandOverResponse, error) {
	r := h.replica(req.Group)
	if r == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such group here"))
	}
	n, err := r.handOver()
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return &api.HandOverResponse{View: uint64(n), Pause: durationpb.New(5 * time.Millisecond)}, nil
}

func (h *fakeHost) SetReplicaMode(_ context.Context, req *api.SetReplicaModeRequest) (*api.SetReplicaModeResponse, error) {
	if h.replica(req.Group) == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such group here"))
	}
	return &api.SetReplicaModeResponse{}, nil
}

func (h *fakeHost) ReplicaType(_ context.Context, req *api.ReplicaTypeRequest) (*api.ReplicaTypeResponse, error) {
	r := h.replica(req.Group)
	if r == nil || r.role() != "primary" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("not primary"))
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.console[req.Group] = append(h.f.console[req.Group], req.Data...)
	return &api.ReplicaTypeResponse{}, nil
}

func (h *fakeHost) ReplicaConsole(ctx context.Context, req *api.ReplicaConsoleRequest, out *connect.ServerStream[api.ConsoleChunk]) error {
	at := req.From
	for {
		h.f.mu.Lock()
		text := h.f.console[req.Group]
		more := text[min(at, int64(len(text))):]
		chunk := &api.ConsoleChunk{Data: slices.Clone(more), Offset: at}
		h.f.mu.Unlock()
		if len(more) > 0 {
			at += int64(len(more))
			if err := out.Send(chunk); err != nil {
				return err
			}
		}
		if !req.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fakeReplica keeps the view service's rules as a replica does, and holds no state at all.
type fakeReplica struct {
	h      *fakeHost
	group  string
	life   string
	cancel context.CancelFunc
	views  *httpview.Client
	arb    arbiter.Register

	mu     sync.Mutex
	member *view.Member
	part   string
	synced view.Number // view whose backup is in sync
	ended  bool
	code   int32
}

func newFakeReplica(h *fakeHost, a *api.Assignment, list *api.WorkList) *fakeReplica {
	r := &fakeReplica{h: h, group: a.Group, life: rand.Text(), part: "spare"}
	var o httpview.ClientOptions
	var oa httparb.ClientOptions
	if h.id != nil {
		o.TLS, oa.TLS = h.id.Client(Name), h.id.Client(ArbiterName)
	}
	var err error
	if r.views, err = httpview.NewClient(list.ViewUrls[0], o); err != nil {
		panic(err)
	}
	if r.arb, err = httparb.NewClient(list.ArbiterUrl, oa); err != nil {
		panic(err)
	}
	r.member = view.NewMember(a.Group, h.name, r.life)
	if !a.Found {
		r.member.CannotFound()
	}
	return r
}

func (r *fakeReplica) run(ctx context.Context) {
	defer r.views.Close()
	t := time.NewTicker(testPing)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.mu.Lock()
		p := r.member.Ping()
		r.mu.Unlock()
		a, err := r.views.Ping(ctx, p)
		if err == nil {
			r.observe(a)
		}
	}
}

func (r *fakeReplica) observe(a view.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.member.Observe(a)
	v := r.member.View()
	switch {
	case v.Primary == r.h.name && (r.member.MayFound() || r.member.Taken() > 0 && r.member.Taken() >= v.Number-1):
		if r.member.Taken() < v.Number {
			r.member.Take(v.Number)
			r.h.f.takes(r.group, r.h.name, v.Number)
		}
		r.part = "primary"
		if v.Backup != "" && r.h.f.hasTaken(r.group, v.Backup, v.Number) {
			r.synced = v.Number
			r.member.InSync(v.Number)
		}
	case v.Backup == r.h.name && r.member.MayJoin():
		r.member.Take(v.Number)
		r.h.f.takes(r.group, r.h.name, v.Number)
		r.part = "backup"
	case r.member.Taken() > 0 && !v.Names(r.h.name):
		// It lost its part: a new life.
		r.life = rand.Text()
		r.member = view.NewMember(r.group, r.h.name, r.life)
		r.member.CannotFound()
		r.part = "spare"
	}
	if r.member.Seen().HandOver && r.part == "primary" {
		_, _ = r.handOverLocked()
	}
}

func (r *fakeReplica) handOver() (view.Number, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handOverLocked()
}

func (r *fakeReplica) handOverLocked() (view.Number, error) {
	v := r.member.View()
	if r.part != "primary" || v.Backup == "" || r.synced != v.Number {
		return 0, errors.New("there is no backup in sync")
	}
	next := arbiter.Record{Number: uint64(v.Number + 1), Primary: v.Backup, Backup: r.h.name, Claimant: r.life}
	_, won, err := r.arb.CompareAndSet(context.Background(), r.group, next)
	if err != nil || !won {
		return 0, fmt.Errorf("claim: won %v, %w", won, err)
	}
	r.part = "backup"
	r.member.Take(v.Number + 1)
	r.h.f.takes(r.group, r.h.name, v.Number+1)
	return v.Number + 1, nil
}

func (r *fakeReplica) role() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.part
}

func (r *fakeReplica) report() *api.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &api.Replica{
		Group: r.group, Incarnation: r.life, Pid: 1, Role: r.part, View: uint64(r.member.Taken()), GuestUp: r.part == "primary",
		Ended: r.ended, ExitCode: r.code, StatusJson: `{"lag_ns": 3000000, "held": 2, "held_ns": 1000000, "log_bytes": 77, "grants_won": 1, "timeline": {"suspected_ns": 5, "live_ns": 2000005}}`,
	}
}

// fakeLANs remembers the LANs that were asked for.
type fakeLANs struct {
	mu   sync.Mutex
	fail error
	have map[string][]string
}

func (l *fakeLANs) Ensure(_ context.Context, name string, forwards []string, _ bool) (string, []string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return "", nil, l.fail
	}
	if l.have == nil {
		l.have = map[string][]string{}
	}
	l.have[name] = forwards
	return "127.0.0.1:9", append([]string{}, forwards...), nil
}

func (l *fakeLANs) Remove(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.have, name)
	return nil
}

func (l *fakeLANs) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.have)
}
