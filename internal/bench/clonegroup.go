package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
	"understudy/internal/demo"
	"understudy/internal/host"
	"understudy/internal/image"
	"understudy/view"
	"understudy/view/httpview"
)

const (
	// groupSuspect is after how much silence a group's members suspect one another, groupDeadPings after how many
	// intervals of it the view service does: what is measured here is not failover, and the machine is shared.
	groupSuspect   = 2 * time.Second
	groupDeadPings = 30
	// groupPatience bounds the wait for what a group is to do.
	groupPatience = 3 * time.Minute
	bootPatience  = 10 * time.Minute
	// pollEvery is how often a wait looks: what a poll sees is that late at most.
	pollEvery = time.Millisecond
)

// groupRun has the guest of the redis image run the image's service and, beside it, a shell that reads commands from the
// serial console. The shell's output goes through a pipe, so it shows no prompts.
const groupRun = `understudy.run=". /etc/understudy/service; data_mounted=1; service_start & stty -F /dev/ttyS0 -echo; sh </dev/ttyS0 2>&1 | cat"`

// group is a protected machine with a view service, which is in this process, and spares.
type group struct {
	demo.Group
	addr    string // of Redis
	image   *image.Image
	lan     string
	socket  string // of view service and arbiter
	server  *http.Server
	views   *httpview.Service
	primary *demo.Process
	backup  *demo.Process
	started int // members so far
}

// startGroup starts a machine that runs alone, and waits until its guest serves.
func startGroup(ctx context.Context, exe string, im *image.Image) (g *group, err error) {
	dir, err := os.MkdirTemp("", "understudy-bench-")
	if err != nil {
		return nil, err
	}
	g = &group{Group: demo.Group{Exe: exe, Dir: dir}, image: im, socket: filepath.Join(dir, "views.sock"), lan: filepath.Join(dir, "lan.sock")}
	started := g
	defer func() {
		if err != nil {
			started.close()
		}
	}()
	store := memstore.New()
	if g.views, err = httpview.NewService(store, httpview.Options{View: view.Config{DeadPings: groupDeadPings}}); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/groups/", httparb.NewServer(store, nil))
	mux.Handle("/v1/views/", httpview.NewServer(g.views, nil))
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		return nil, err
	}
	g.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = g.server.Serve(l) }()

	lan, err := g.Start(ctx, "lan", "lan", "--listen", g.lan, "--forward", "127.0.0.1:0:6379")
	if err != nil {
		return nil, err
	}
	g.addr = lan.Ready.Forwards[0]
	disks := []string{"--append", groupRun}
	for i := range im.Disks {
		path := filepath.Join(dir, fmt.Sprintf("first%d.raw", i))
		if err := im.CreateDisk(i, path); err != nil {
			return nil, err
		}
		disks = append(disks, "--disk", path)
	}
	if g.primary, err = g.member(ctx, append(disks, im.Dir)...); err != nil {
		return nil, err
	}
	boot, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	first, err := demo.Await(boot, g.addr, "bench")
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, g.primary.LastWords())
	}
	first.Close()
	return g, nil
}

// member starts a process that takes the part that the view service gives it.
func (g *group) member(ctx context.Context, more ...string) (*demo.Process, error) {
	name := fmt.Sprintf("m%d", g.started)
	g.started++
	state := filepath.Join(g.Dir, name)
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	args := []string{
		"replica", "--name", name, "--group", "bench", "--views", "unix:" + g.socket, "--arbiter", "unix:" + g.socket, "--listen", "127.0.0.1:0",
		"--lan", g.lan, "--status", "127.0.0.1:0", "--suspect-after", groupSuspect.String(), "--state-dir", state,
	}
	args = append(args, cloneProfile(name)...)
	return g.Start(ctx, name, append(args, more...)...)
}

// cloneProfile asks the members for profiles when UNDERSTUDY_BENCH_PROFILES names a folder for them.
func cloneProfile(name string) []string {
	if dir := os.Getenv("UNDERSTUDY_BENCH_PROFILES"); dir != "" {
		return []string{"--cpuprofile", filepath.Join(dir, name+".pprof")}
	}
	return nil
}

// join starts a spare and waits until it is the backup and in sync. watch, if set, sees every status of the primary
// from the one that names the backup on; the time is from that to the one that says in sync.
func (g *group) join(ctx context.Context, watch func(host.Status)) (time.Duration, error) {
	b, err := g.member(ctx)
	if err != nil {
		return 0, err
	}
	g.backup = b
	var named time.Time
	err = g.until(ctx, g.primary, "a backup in sync", func(s host.Status) bool {
		if s.Peer != b.Name {
			return false
		}
		if named.IsZero() {
			named = time.Now()
		}
		if watch != nil {
			watch(s)
		}
		return s.InSync
	})
	return time.Since(named), err
}

// loseBackup kills the backup and waits until the primary runs alone.
func (g *group) loseBackup(ctx context.Context) error {
	if err := g.backup.Kill(); err != nil {
		return err
	}
	_ = os.RemoveAll(filepath.Join(g.Dir, g.backup.Name))
	g.backup = nil
	return g.until(ctx, g.primary, "the machine to run alone", func(s host.Status) bool { return s.Role == "primary" && s.Solo && s.Peer == "" })
}

// handOver makes the backup the primary, waits until it has a backup in sync, the former primary, and gives how long
// the machine stood still.
func (g *group) handOver(ctx context.Context) (time.Duration, error) {
	var answer struct {
		PauseNs int64 `json:"pause_ns"`
	}
	if err := post(ctx, g.primary, "/handover", nil, "", &answer); err != nil {
		return 0, err
	}
	g.primary, g.backup = g.backup, g.primary
	err := g.until(ctx, g.primary, "the former primary in sync", func(s host.Status) bool {
		return s.Role == "primary" && s.Peer == g.backup.Name && s.InSync
	})
	return time.Duration(answer.PauseNs), err
}

// mode changes how the machine is protected.
func (g *group) mode(ctx context.Context, mode string, epoch time.Duration) error {
	q := url.Values{"mode": {mode}}
	if epoch > 0 {
		q.Set("epoch", epoch.String())
	}
	return post(ctx, g.primary, "/mode", q, "", nil)
}

// until polls the status of a member until ok.
func (g *group) until(ctx context.Context, p *demo.Process, what string, ok func(host.Status) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, groupPatience, fmt.Errorf("waited in vain for %s", what))
	defer cancel()
	for {
		s, err := demo.StatusOf(p)
		if err == nil && ok(s) {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("wait for %s: %s ended: %s", what, p.Name, p.LastWords())
		case <-ctx.Done():
			return fmt.Errorf("%w; %s: %s", context.Cause(ctx), p.Name, p.LastWords())
		case <-time.After(pollEvery):
		}
	}
}

// close ends every process and removes every file.
func (g *group) close() {
	g.Stop()
	if g.server != nil {
		_ = g.server.Close()
	}
	if g.views != nil {
		g.views.Close()
	}
	_ = os.RemoveAll(g.Dir)
}

// post asks a member for something. answer may be nil.
func post(ctx context.Context, p *demo.Process, path string, q url.Values, body string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Ready.Status+path+"?"+q.Encode(), strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var why struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(b, &why)
		return errors.New(strings.TrimSpace(fmt.Sprintf("%s of %s: %s %s", path, p.Name, resp.Status, why.Error)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(b, answer)
}
