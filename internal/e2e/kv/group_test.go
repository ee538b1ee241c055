package kv

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/control"
	"understudy/internal/e2e/fleet"
	"understudy/internal/pki"
	"understudy/kv/client"
	"understudy/kv/resp"
	"understudy/view"
	"understudy/view/httpview"
)

// options of a group. The zero value is a group without certificates on loopback.
type options struct {
	servers   int
	suspect   time.Duration // default suspectAfter
	deadAfter time.Duration // default deadAfter, or suspect if that is longer
	tls       string        // directory of certificates; empty: none
	net       *fleet.Net    // every part in a namespace of its name; nil: none
	serve     []string      // further arguments of every server
	files     []string      // further arguments of servers that keep files, which gives each its directory; nil: none
}

// Where the time of detection does not matter a starved but living server must not be suspected, neither by the other nor by control. One
// that is killed is noticed at once: its connections break.
const (
	suspectAfter = time.Second
	deadAfter    = 3 * time.Second
	// calm is for tests in which nobody dies.
	calm = patience / 2
)

// groupName is the group of all tests.
const groupName = "cache"

// group is control and servers as processes that end with the test.
type group struct {
	t        *testing.T
	o        options
	dir      string
	control  *process
	sentinel string // address
	views    *httpview.Client
	servers  map[string]*process
}

// process is one of ours.
type process struct {
	*exec.Cmd
	name  string
	ready map[string]string
	log   string
	done  chan struct{} // closed when it has ended
}

func startGroup(t *testing.T, o options) *group {
	t.Helper()
	if o.suspect == 0 {
		o.suspect = suspectAfter
	}
	if o.deadAfter == 0 {
		o.deadAfter = max(deadAfter, o.suspect)
	}
	g := &group{t: t, o: o, dir: t.TempDir(), servers: map[string]*process{}}
	t.Cleanup(func() {
		for _, p := range g.servers {
			p.kill()
		}
		if g.control != nil {
			g.control.kill()
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(g.dir, "*.log"))
			for _, name := range logs {
				text, _ := os.ReadFile(name)
				t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-10_000):])
			}
		}
	})
	g.startControl("0", "0")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return g.dial(ctx, addr) }}
	t.Cleanup(transport.CloseIdleConnections)
	url := "http://"
	if o.tls != "" {
		transport.TLSClientConfig, url = g.identity(control.UserName).Client(control.Name), "https://"
	}
	var err error
	if g.views, err = httpview.NewClient(url+g.control.ready["listen"], httpview.ClientOptions{Transport: transport}); err != nil {
		t.Fatal(err)
	}
	for i := range o.servers {
		g.start(fmt.Sprint("kv", i+1))
		if i == 0 {
			wait(t, "the first server to lead", func() (bool, string) {
				a, err := g.view()
				return a.View.Primary == "kv1" && a.Acked, fmt.Sprint(a, err)
			})
		}
	}
	return g
}

// startControl starts control on the ports given.
func (g *group) startControl(port, sentinelPort string) {
	g.t.Helper()
	host := g.host("control")
	args := []string{
		"kv", "control", "--listen", net.JoinHostPort(host, port), "--sentinel", net.JoinHostPort(host, sentinelPort), "--data", filepath.Join(g.dir, "control.db"),
		"--dead-after", g.o.deadAfter.String(),
	}
	g.control = g.run("control", args...)
	g.sentinel = g.control.ready["sentinel"]
}

// host is the address of a part.
func (g *group) host(part string) string {
	if g.o.net != nil {
		return g.o.net.IP(part)
	}
	return "127.0.0.1"
}

// start starts a server, under a name that may have been used before.
func (g *group) start(name string, args ...string) *process {
	g.t.Helper()
	args = append([]string{
		"kv", "serve", "--name", name, "--group", groupName, "--control", g.control.ready["listen"], "--listen", net.JoinHostPort(g.host(name), "0"),
		"--suspect-after", g.o.suspect.String(), "--digest-every", "100ms",
	}, append(args, g.o.serve...)...)
	if g.o.files != nil {
		args = append(append(args, "--dir", filepath.Join(g.dir, "files-"+name)), g.o.files...)
	}
	p := g.run(name, args...)
	g.servers[name] = p
	return p
}

// run starts a process and waits for the line that says that it is ready.
func (g *group) run(name string, args ...string) *process {
	g.t.Helper()
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_INSECURE=1")
	if g.o.tls != "" {
		cmd.Env = append(os.Environ(), "UNDERSTUDY_TLS_DIR="+g.o.tls)
	}
	p, out := g.launch(name, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &p.ready)
	}
	if err != nil {
		p.kill()
		text, _ := os.ReadFile(p.log)
		g.t.Fatalf("start %s: %v\n%s", name, err, text)
	}
	return p
}

// launch starts a process in its namespace, if it has one.
func (g *group) launch(name string, cmd *exec.Cmd) (*process, io.Reader) {
	g.t.Helper()
	p := &process{Cmd: cmd, name: name, log: filepath.Join(g.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Not StdoutPipe, which Wait closes before all was read.
	out, stdout, err := os.Pipe()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { out.Close() })
	defer stdout.Close()
	cmd.Stdout = stdout
	start := cmd.Start
	if g.o.net != nil {
		start = func() error { return g.o.net.From(name, cmd.Start) }
	}
	if err := start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	return p, out
}

// kill ends a process at once, as kill -9 does.
func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.done
}

// stop stops every thread of a process, as SIGSTOP does in its time.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	wait(t, p.name+" to stand still", func() (bool, string) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Process.Pid))
		if err != nil || len(stats) == 0 {
			return false, fmt.Sprint("no threads: ", err)
		}
		for _, name := range stats {
			b, err := os.ReadFile(name)
			if err != nil {
				return false, err.Error()
			}
			// The state follows the name in parentheses, which may hold any character.
			_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
			if !strings.HasPrefix(rest, "T") {
				return false, string(b)
			}
		}
		return true, ""
	})
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// said tells what a process has written to stderr.
func (p *process) said() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

func (g *group) view() (view.Answer, error) { return g.views.Get(g.t.Context(), groupName) }

// until waits for a view that is as wanted.
func (g *group) until(what string, ok func(view.Answer) bool) (a view.Answer) {
	g.t.Helper()
	wait(g.t, what, func() (bool, string) {
		var err error
		if a, err = g.view(); err != nil {
			return false, err.Error()
		}
		return ok(a), fmt.Sprintf("%+v", a)
	})
	return a
}

func isProtected(a view.Answer) bool {
	return a.View.Backup != "" && a.Acked && a.InSync && a.PrimaryClient != "" && a.BackupClient != ""
}

// protected waits until there is a primary with a backup in sync.
func (g *group) protected() view.Answer {
	g.t.Helper()
	return g.until("a protected group", isProtected)
}

// addr is where clients reach a server.
func (g *group) addr(name string) string { return g.servers[name].ready["listen"] }

// spare is the name of a server without a part.
func (g *group) spare(a view.Answer) string {
	g.t.Helper()
	for name := range g.servers {
		if name != a.View.Primary && name != a.View.Backup {
			return name
		}
	}
	g.t.Fatal("no spare")
	return ""
}

// kill kills a server and forgets it.
func (g *group) kill(name string) {
	g.t.Helper()
	g.servers[name].kill()
	delete(g.servers, name)
}

func (g *group) identity(name string) *pki.Identity {
	g.t.Helper()
	id, err := pki.Load(g.o.tls, name)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

// dial connects as clients do: from their namespace, if they have one.
func (g *group) dial(ctx context.Context, addr string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if g.o.net == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	err = g.o.net.From("client", func() error {
		c, err = d.DialContext(ctx, "tcp", addr)
		return err
	})
	return c, err
}

// client is a client of ours.
func (g *group) client() *client.Client {
	g.t.Helper()
	o := client.Options{Group: groupName, Views: []httpview.Copy{g.views}, Timeout: 500 * time.Millisecond, Dial: g.dial}
	if g.o.tls != "" {
		o.TLS = g.identity(control.UserName).Client("")
	}
	c, err := client.New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// raw is a connection without any cleverness.
type raw struct {
	net.Conn
	in *resp.ReplyReader
}

func dial(t *testing.T, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &raw{c, resp.NewReplyReader(c)}
}

// do sends a command and gives its reply as a text.
func (r *raw) do(t *testing.T, words ...string) string {
	t.Helper()
	v, err := r.try(words...)
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return v.String()
}

func (r *raw) try(words ...string) (resp.Value, error) {
	_ = r.SetDeadline(time.Now().Add(patience))
	if _, err := r.Write(command(words...)); err != nil {
		return resp.Value{}, err
	}
	return r.in.Read()
}

// send sends a command and does not wait for its reply.
func (r *raw) send(t *testing.T, words ...string) {
	t.Helper()
	if _, err := r.Write(command(words...)); err != nil {
		t.Fatal(err)
	}
}

func command(words ...string) []byte {
	var args [][]byte
	for _, w := range words {
		args = append(args, []byte(w))
	}
	return resp.AppendCommand(nil, args...)
}

// info reads a field of INFO of a server, whatever its part; empty if it does not answer.
func info(addr, field string) string {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	v, err := (&raw{c, resp.NewReplyReader(c)}).try("INFO")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(v.Str)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
