package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
)

// fakeControl answers as a control with two machines and two hosts would.
type fakeControl struct {
	understudyv1connect.UnimplementedMachineServiceHandler
	drains int
}

func refused(code connect.Code, try, text string) error {
	e := connect.NewError(code, errors.New(text))
	if d, err := connect.NewErrorDetail(&api.Hint{Try: try}); err == nil && try != "" {
		e.AddDetail(d)
	}
	return e
}

var (
	web = &api.Machine{
		Spec: &api.MachineSpec{Name: "web", Image: "redis", MemBytes: 256 << 20, Spares: 1}, Id: "k3jw", Group: "web-k3jw-1", State: "running",
		View: 3, Primary: "a", Backup: "b", InSync: true, Protection: "protected", Hosts: []string{"a", "b"}, Forwards: []string{"127.0.0.1:6379:6379"},
		Failovers: 1, LastBlackout: durationpb.New(80 * time.Millisecond),
		Replicas: []*api.Replica{{Host: "a", Role: "primary", View: 3, Pid: 7, GuestUp: true, StatusJson: `{"lag_ns": 5}`}, {Host: "b", Role: "backup", View: 3, Error: "killed", Restarts: 1}},
	}
	db = &api.Machine{
		Spec: &api.MachineSpec{Name: "db", Image: "redis"}, Id: "x", State: "ended", ExitCode: 3, Reason: "the guest asked for a reboot", View: 1, Primary: "a",
	}
)

func (f *fakeControl) ListMachines(_ context.Context, r *api.ListMachinesRequest) (*api.ListMachinesResponse, error) {
	if r.All {
		return &api.ListMachinesResponse{Machines: []*api.Machine{db, web}}, nil
	}
	return &api.ListMachinesResponse{Machines: []*api.Machine{web}}, nil
}

func (f *fakeControl) find(name string) (*api.Machine, error) {
	for _, m := range []*api.Machine{web, db} {
		if m.Spec.Name == name {
			return m, nil
		}
	}
	return nil, refused(connect.CodeNotFound, "understudy ps -a", fmt.Sprintf("there is no machine %q", name))
}

func (f *fakeControl) GetMachine(_ context.Context, r *api.GetMachineRequest) (*api.GetMachineResponse, error) {
	m, err := f.find(r.Name)
	return &api.GetMachineResponse{Machine: m}, err
}

func (f *fakeControl) Run(_ context.Context, r *api.RunRequest, s *connect.ServerStream[api.RunProgress]) error {
	if r.Spec.Name == "web" {
		return refused(connect.CodeAlreadyExists, "another --name", "there is a machine named web already")
	}
	for _, p := range []*api.RunProgress{
		{Step: "place", Text: "looks for a host", Done: -1},
		{Step: "image", Text: "host a builds image redis", Done: 0.5},
		{Step: "boot", Text: "host a boots it", Done: -1},
		{Step: "protect", Up: true, Text: "joining 40%, 2.0 s left", Done: 0.4, Machine: &api.Machine{Spec: r.Spec, Forwards: r.Spec.Forwards}},
	} {
		if err := s.Send(p); err != nil {
			return err
		}
	}
	if !r.WaitProtected {
		return nil
	}
	return s.Send(&api.RunProgress{Step: "protected", Up: true, Protected: true, Text: "protected", Done: 1, Machine: &api.Machine{Spec: r.Spec, Forwards: r.Spec.Forwards}})
}

func (f *fakeControl) Console(_ context.Context, r *api.ConsoleRequest, s *connect.ServerStream[api.ConsoleChunk]) error {
	if _, err := f.find(r.Name); err != nil {
		return err
	}
	text := "one\ntwo\nthree\n"
	return s.Send(&api.ConsoleChunk{Data: []byte(text[r.From:]), Offset: r.From})
}

func (f *fakeControl) Failover(_ context.Context, r *api.FailoverRequest) (*api.FailoverResponse, error) {
	if r.Name == "db" {
		return nil, refused(connect.CodeFailedPrecondition, "understudy start db", "machine db is ended")
	}
	return &api.FailoverResponse{View: 4, Primary: "b", Pause: durationpb.New(12345 * time.Microsecond)}, nil
}

func (f *fakeControl) SetMode(context.Context, *api.SetModeRequest) (*api.SetModeResponse, error) {
	return &api.SetModeResponse{}, nil
}

func (f *fakeControl) Stop(_ context.Context, r *api.StopRequest) (*api.StopResponse, error) {
	_, err := f.find(r.Name)
	return &api.StopResponse{}, err
}

func (f *fakeControl) Start(_ context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	_, err := f.find(r.Name)
	return &api.StartResponse{}, err
}

func (f *fakeControl) Remove(_ context.Context, r *api.RemoveRequest) (*api.RemoveResponse, error) {
	if r.Name == "web" && !r.Force {
		return nil, refused(connect.CodeFailedPrecondition, "understudy stop web, or rm -f", "machine web is running")
	}
	_, err := f.find(r.Name)
	return &api.RemoveResponse{}, err
}

func (f *fakeControl) ListHosts(context.Context, *api.ListHostsRequest) (*api.ListHostsResponse, error) {
	return &api.ListHostsResponse{Hosts: []*api.Host{
		{Name: "a", Address: "127.0.0.1:1", State: "ready", MemBytes: 3 << 29, MemUsedBytes: 256 << 20, Primaries: 1, Version: "v1"},
		{Name: "b", Address: "127.0.0.1:2", State: "lost", Backups: 1, Version: "v1"},
	}}, nil
}

func (f *fakeControl) Drain(_ context.Context, r *api.DrainRequest) (*api.DrainResponse, error) {
	if r.Host != "a" {
		return nil, refused(connect.CodeNotFound, "understudy hosts", fmt.Sprintf("there is no host %q", r.Host))
	}
	if f.drains++; f.drains > 2 || !r.On {
		return &api.DrainResponse{}, nil
	}
	return &api.DrainResponse{Holding: []string{"web"}}, nil
}

func (f *fakeControl) WatchEvents(_ context.Context, _ *api.WatchEventsRequest, s *connect.ServerStream[api.Event]) error {
	return s.Send(&api.Event{Seq: 1, At: timestamppb.New(time.Unix(1, 0)), Kind: "failover", Machine: "web", Host: "b", View: 4, Text: "b took over from a"})
}

// TestFleetCommands runs testdata/fleet.txt: a command line, then its exit code if it is not 0, its stderr and its stdout.
// Regenerate with -rewrite.
func TestFleetCommands(t *testing.T) {
	for _, name := range []string{envControl, envInsecure, envTLSDir} {
		t.Setenv(name, "")
	}
	mux := http.NewServeMux()
	mux.Handle(understudyv1connect.NewMachineServiceHandler(&fakeControl{}))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	gone := httptest.NewServer(mux)
	gone.Close()
	datadriven.RunTest(t, "testdata/fleet.txt", func(t *testing.T, d *datadriven.TestData) string {
		args := strings.Fields(d.Input)
		switch d.Cmd {
		case "understudy":
			args = append([]string{args[0], "--insecure", "--control", address}, args[1:]...)
		case "nobody-answers":
			args = append([]string{args[0], "--insecure", "--control", strings.TrimPrefix(gone.URL, "http://")}, args[1:]...)
		case "bare":
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		var stdout, stderr bytes.Buffer
		code := run(args, &stdout, &stderr)
		var out strings.Builder
		if code != 0 {
			fmt.Fprintf(&out, "exit %d\n", code)
		}
		for line := range strings.Lines(stderr.String()) {
			out.WriteString("# " + line)
		}
		out.WriteString(stdout.String())
		return strings.ReplaceAll(out.String(), strings.TrimPrefix(gone.URL, "http://"), "ADDRESS")
	})
}

func TestMadeUpNamesAreNames(t *testing.T) {
	for i := range 200 {
		n := madeUpName(func(n int) int { return i % n })
		if strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(n) > 63 {
			t.Errorf("name %q", n)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text  string
		lines int
		want  string
	}{
		{"", 3, ""},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc", 2, "b\nc"},
		{"a\nb\n", 5, "a\nb\n"},
		{"a\nb\n", 0, ""},
		{"\n\n", 1, "\n"},
	} {
		if got := string(lastLines([]byte(c.text), c.lines)); got != c.want {
			t.Errorf("last %d of %q: %q, want %q", c.lines, c.text, got, c.want)
		}
	}
}
