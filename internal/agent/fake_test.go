package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
)

// TestMain makes of the test binary a replica or an agent when it is called like one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "replica":
			fakeReplica(os.Args[2:])
		case "agent":
			agentProcess(os.Args[2:])
		}
	}
	os.Exit(m.Run())
}

// fakeLife is what a fake replica notes of itself in a file "lives" beside its socket.
type fakeLife struct {
	Pid  int
	Args []string
}

// fakeReplica serves what `understudy replica` does, with a status that the test sets.
func fakeReplica(args []string) {
	f := flag.NewFlagSet("replica", flag.ContinueOnError)
	socket := f.String("status", "", "")
	group := f.String("group", "", "")
	for _, n := range []string{"name", "views", "arbiter", "listen", "state-dir", "lan", "tls-dir", "suspect-after", "lag-max", "bandwidth", "mode", "epoch", "mem", "cmdline"} {
		f.String(n, "", "")
	}
	f.Func("disk", "", func(string) error { return nil })
	if err := f.Parse(args); err != nil {
		os.Exit(125)
	}
	line, _ := json.Marshal(fakeLife{os.Getpid(), args})
	lives, _ := os.OpenFile(filepath.Join(filepath.Dir(*socket), "lives"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fmt.Fprintf(lives, "%s\n", line)
	lives.Close()
	if strings.Contains(*group, "broken") {
		fmt.Fprintln(os.Stderr, "level=INFO msg=begins\nError: the port is in use\nTry: another port")
		os.Exit(125)
	}
	ln, err := net.Listen("unix", *socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(125)
	}
	var mu sync.Mutex
	status := []byte(`{"role":"spare"}`)
	var typed bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Write(status)
	})
	mux.HandleFunc("POST /test/status", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		status, _ = io.ReadAll(r.Body)
	})
	mux.HandleFunc("POST /test/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		fmt.Fprintln(os.Stderr, "Error: told to")
		os.Exit(code)
	})
	mux.HandleFunc("GET /console", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("n") == "3" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		from, _ := strconv.Atoi(r.FormValue("from"))
		from = max(from, 2) // what is older is gone
		w.Header().Set("X-Offset", strconv.Itoa(from))
		text := "0123456789"
		if strings.Contains(*group, "ready") {
			text += "\r\nunderstudy: guest "
		}
		io.WriteString(w, text[min(from, len(text)):])
		if r.FormValue("follow") != "" {
			w.(http.Flusher).Flush()
			if strings.Contains(*group, "ready") {
				time.Sleep(10 * time.Millisecond) // in two pieces, most likely
				io.WriteString(w, "ready\r\n")
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}
	})
	mux.HandleFunc("POST /console", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.Copy(&typed, r.Body)
	})
	mux.HandleFunc("GET /test/typed", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Write(typed.Bytes())
	})
	mux.HandleFunc("POST /handover", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !bytes.Contains(status, []byte("primary")) {
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"error": "no backup is in sync"}`)
			return
		}
		io.WriteString(w, `{"view": 7, "pause_ns": 5000000}`)
	})
	mux.HandleFunc("POST /mode", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&typed, "mode=%s epoch=%s", r.FormValue("mode"), r.FormValue("epoch"))
	})
	go http.Serve(ln, mux)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Printf("{\"listen\": \"127.0.0.1:1\", \"status\": %q}\n", *socket)
	<-term
	os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(*socket))), "terminated"), nil, 0o600)
	os.Exit(130)
}

// agentProcess runs an agent: control's address and the directory.
func agentProcess(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		var a *Agent
		if a, err = New(Options{Name: "a", Dir: args[1], Control: args[:1], Listener: ln, images: fakeImage}); err == nil {
			err = a.Run(ctx)
		}
	}
	fmt.Fprintln(os.Stderr, "Error:", err)
	os.Exit(3)
}

// fakeImage has one disk, and wants 100 MiB.
func fakeImage(_ context.Context, name string, tell tell) (bootImage, error) {
	if name == "none" {
		return provideImage(context.Background(), name, tell)
	}
	tell("copies image "+name, 0.5)
	return bootImage{dir: "/images/" + name, memBytes: 100 << 20, disks: 1, createDisk: func(_ int, path string) error {
		if name == "full" {
			return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		return os.WriteFile(path, []byte("first content"), 0o600)
	}}, nil
}

// fakeControl hands out a list and takes reports.
type fakeControl struct {
	t       *testing.T
	address string
	srv     *httptest.Server

	mu      sync.Mutex
	list    *pb.WorkList
	changed chan struct{}
	asked   *pb.WorkRequest
	last    *pb.ReportRequest
	events  []string
	gone    chan struct{}
}

func newFakeControl(t *testing.T) *fakeControl {
	c := &fakeControl{t: t, changed: make(chan struct{}), list: &pb.WorkList{ViewUrls: []string{"http://v1", "http://v2"}, ArbiterUrl: "http://arb"}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = ln.Addr().String()
	c.serve(ln)
	t.Cleanup(c.stop)
	return c
}

func (c *fakeControl) serve(ln net.Listener) {
	_, h := understudyv1connect.NewHostServiceHandler(c)
	c.gone = make(chan struct{})
	c.srv = &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	c.srv.Start()
}

// stop is control's death; start its coming back at the same address.
func (c *fakeControl) stop() {
	select {
	case <-c.gone:
		return
	default:
	}
	close(c.gone)
	c.srv.CloseClientConnections()
	c.srv.Close()
}

func (c *fakeControl) start() {
	c.mu.Lock()
	c.last = nil
	c.mu.Unlock()
	ln, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.serve(ln)
}

// assign sets the list.
func (c *fakeControl) assign(as ...*pb.Assignment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = &pb.WorkList{ViewUrls: c.list.ViewUrls, ArbiterUrl: c.list.ArbiterUrl, Assignments: as}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeControl) Work(ctx context.Context, r *pb.WorkRequest, out *connect.ServerStream[pb.WorkList]) error {
	c.mu.Lock()
	gone := c.gone
	c.asked = r
	c.mu.Unlock()
	for {
		c.mu.Lock()
		list, changed := c.list, c.changed
		c.mu.Unlock()
		if err := out.Send(list); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *fakeControl) Report(_ context.Context, r *pb.ReportRequest) (*pb.ReportResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = r
	for _, e := range r.Events {
		c.events = append(c.events, e.Kind+" "+e.Text)
	}
	return &pb.ReportResponse{}, nil
}

// wantReport waits for a report of the group that is as wanted.
func (c *fakeControl) wantReport(what, group string, ok func(*pb.Replica) bool) *pb.Replica {
	c.t.Helper()
	var got *pb.Replica
	eventually(c.t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		got = nil
		for _, r := range c.last.GetReplicas() {
			if r.Group == group {
				got = r
			}
		}
		return got != nil && ok(got)
	}, func() string { return fmt.Sprintf("%s: %v", what, got) })
	return got
}

func eventually(t *testing.T, ok func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what())
		}
	}
}

// bench is a control, an agent and what is asked of its replicas.
type bench struct {
	*testing.T
	control *fakeControl
	dir     string
	agent   *Agent
	url     string
	end     context.CancelFunc
	ended   chan error
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "us-agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t, control: newFakeControl(t), dir: shortDir(t), log: &lockedBuffer{}}
	b.begin()
	t.Cleanup(func() {
		b.finish()
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

func (b *bench) options() Options {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return Options{
		Name: "a", Dir: b.dir, Control: []string{b.control.address}, Listener: ln, MemBytes: 1 << 30, Version: "1.2",
		SuspectAfter: 150 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.log, nil)), images: fakeImage,
	}
}

func (b *bench) begin() {
	b.Helper()
	b.control.mu.Lock()
	b.control.last = nil
	b.control.mu.Unlock()
	o := b.options()
	a, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, end := context.WithCancel(b.Context())
	b.agent, b.end, b.ended, b.url = a, end, make(chan error, 1), "http://"+o.Listener.Addr().String()
	go func() { b.ended <- a.Run(ctx) }()
}

func (b *bench) finish() {
	b.end()
	<-b.ended
	b.ended <- nil
}

func (b *bench) path(id string, names ...string) string {
	return filepath.Join(append([]string{b.dir, "machines", id}, names...)...)
}

// lives are all lives of a machine so far.
func (b *bench) lives(id string) []fakeLife {
	raw, _ := os.ReadFile(b.path(id, "lives"))
	var all []fakeLife
	d := json.NewDecoder(bytes.NewReader(raw))
	for {
		var l fakeLife
		if d.Decode(&l) != nil {
			return all
		}
		all = append(all, l)
	}
}

// life waits for life number n (from 1) of a machine.
func (b *bench) life(id string, n int) fakeLife {
	b.Helper()
	var all []fakeLife
	eventually(b.T, func() bool { all = b.lives(id); return len(all) >= n }, func() string { return fmt.Sprintf("%d lives of %s: %v", n, id, all) })
	return all[n-1]
}

// ask speaks to the fake replica behind the agent's back.
func (b *bench) ask(id, method, path, body string) string {
	b.Helper()
	ch := newChild(b.path(id, "status"))
	defer ch.close()
	req, _ := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
	resp, err := ch.http.Do(req)
	if err != nil {
		if strings.HasPrefix(path, "/test/exit") {
			return ""
		}
		b.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// exit has the replica end, once it serves.
func (b *bench) exit(id string, code int) {
	b.Helper()
	b.control.wantReport("runs", "g-"+id, func(r *pb.Replica) bool { return r.StatusJson != "" && alive(int(r.Pid)) })
	b.ask(id, "POST", fmt.Sprintf("/test/exit?code=%d", code), "")
}

func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func (b *bench) wantGone(pid int) {
	b.Helper()
	eventually(b.T, func() bool { return !alive(pid) }, func() string { return fmt.Sprintf("process %d ends", pid) })
}

// machine is an assignment of group g-ID.
func machine(id string, change ...func(*pb.Assignment)) *pb.Assignment {
	as := &pb.Assignment{Id: id, Group: "g-" + id, Spec: &pb.MachineSpec{Name: "web", Image: "redis"}}
	for _, f := range change {
		f(as)
	}
	return as
}

func found(as *pb.Assignment)   { as.Found = true }
func stopped(as *pb.Assignment) { as.Stopped = true }
