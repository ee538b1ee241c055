// Package kvdemo shows a key-value group in real processes: a load, kill -9 of the primary, and a report of what became of the data.
package kvdemo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"understudy/kv/client"
	"understudy/view"
	"understudy/view/httpview"
)

// Options of Run.
type Options struct {
	Exe     string // the understudy program
	Dir     string // for what the processes write
	Servers int    // at least 2
	Clients int
	Kills   int
	All     bool          // in the end every process is killed, control too, and started again with its files
	Suspect time.Duration // silence after which a server is suspected
	Say     io.Writer     // narration
}

// Report is what happened.
type Report struct {
	Servers   int     `json:"servers"`
	Clients   int     `json:"clients"`
	Kills     int     `json:"kills"`
	Appends   int     `json:"appends"`        // acknowledged
	Lost      int     `json:"lost"`           // of these, not there at the end
	Repeated  int     `json:"repeated"`       // there more than once
	Disorder  int     `json:"disorder"`       // behind a later one of the same client
	Blackouts []int64 `json:"blackouts_ns"`   // of each kill: the longest time without an acknowledgement
	AllKilled int64   `json:"all_killed_ns"`  // the same when every process was killed and started again; 0: they were not
	PerSecond float64 `json:"per_second"`     // appends, over the whole time
	Proved    bool    `json:"nothing_lost"`   // lost, repeated and disorder are 0
	Protected bool    `json:"protected_last"` // at the end there was a backup in sync
}

// group is the processes.
type group struct {
	o       Options
	control *process
	servers map[string]*process
	views   *httpview.Client
	addr    string
}

type process struct {
	cmd   *exec.Cmd
	ready map[string]string
	done  chan struct{}
}

func (g *group) start(ctx context.Context, name string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, g.o.Exe, args...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_INSECURE=1")
	log, err := os.OpenFile(filepath.Join(g.o.Dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { _ = cmd.Wait(); close(p.done) }()
	if err == nil {
		err = json.Unmarshal([]byte(line), &p.ready)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("start %s: %w (see %s)", name, err, log.Name())
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (g *group) server(ctx context.Context, name string) error {
	p, err := g.start(ctx, name, "kv", "serve", "--name", name, "--group", "demo", "--control", g.addr, "--listen", "127.0.0.1:0",
		"--suspect-after", g.o.Suspect.String(), "--digest-every", "1s", "--dir", filepath.Join(g.o.Dir, name))
	if err == nil {
		g.servers[name] = p
	}
	return err
}

// startControl starts arbiter and view service on an address.
func (g *group) startControl(ctx context.Context, addr string) (err error) {
	g.control, err = g.start(ctx, "control", "kv", "control", "--listen", addr, "--data", filepath.Join(g.o.Dir, "control.db"))
	return err
}

// again kills every process and starts those that lived again.
func (g *group) again(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(g.servers))
	for _, name := range names { // together, as by a power failure
		_ = g.servers[name].cmd.Process.Kill()
	}
	g.control.kill()
	for _, name := range names {
		g.servers[name].kill()
	}
	if err := g.startControl(ctx, g.addr); err != nil {
		return err
	}
	for _, name := range names {
		if err := g.server(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// await waits for a view that is as wanted.
func (g *group) await(ctx context.Context, what string, ok func(view.Answer) bool) (view.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		a, err := g.views.Get(ctx, "demo")
		if err == nil && ok(a) {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("wait for %s: %w (view %+v)", what, context.Cause(ctx), a.View)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func protected(a view.Answer) bool { return a.View.Backup != "" && a.Acked && a.InSync }

// Run runs the demo.
func Run(ctx context.Context, o Options) (rep Report, err error) {
	if o.Servers < 2 || o.Clients < 1 || o.Kills > o.Servers-1 {
		return rep, errors.New("the demo needs two servers, a client, and a server that is left")
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &group{o: o, servers: map[string]*process{}}
	defer func() {
		cancel()
		for _, p := range g.servers {
			p.kill()
		}
		if g.control != nil {
			g.control.kill()
		}
	}()
	if err = g.startControl(ctx, "127.0.0.1:0"); err != nil {
		return rep, err
	}
	g.addr = g.control.ready["listen"]
	if g.views, err = httpview.NewClient("http://"+g.addr, httpview.ClientOptions{}); err != nil {
		return rep, err
	}
	for i := range o.Servers {
		if err := g.server(ctx, fmt.Sprint("kv", i+1)); err != nil {
			return rep, err
		}
	}
	a, err := g.await(ctx, "a protected group", protected)
	if err != nil {
		return rep, err
	}
	fmt.Fprintf(o.Say, "%d servers: primary %s, backup %s in sync, %d spare\n", o.Servers, a.View.Primary, a.View.Backup, o.Servers-2)
	l := newLoad(g, o.Clients)
	began := time.Now()
	l.start(ctx)
	fmt.Fprintf(o.Say, "%d clients append to %d keys, one operation at a time\n", o.Clients, o.Clients)
	l.quiet(ctx, time.Second)
	for range o.Kills {
		if a, err = g.await(ctx, "a protected group", protected); err != nil {
			break
		}
		l.gap() // forget what was
		fmt.Fprintf(o.Say, "kill -9 %s, after %d appends\n", a.View.Primary, l.count())
		at := time.Now()
		g.servers[a.View.Primary].kill()
		delete(g.servers, a.View.Primary)
		if !l.after(ctx, at) {
			err = errors.New("nobody answers after the kill")
			break
		}
		l.quiet(ctx, time.Second)
		gap := l.gap()
		rep.Blackouts = append(rep.Blackouts, int64(gap))
		fmt.Fprintf(o.Say, "%s goes on; the longest silence was %v\n", a.View.Backup, gap.Round(time.Millisecond))
	}
	if err == nil && o.All {
		rep.AllKilled, err = g.comeBack(ctx, l)
	}
	took := time.Since(began)
	l.stop()
	if err != nil {
		return rep, err
	}
	rep.Servers, rep.Clients, rep.Kills = o.Servers, o.Clients, o.Kills
	rep.PerSecond = float64(l.count()) / took.Seconds()
	if a, err = g.views.Get(ctx, "demo"); err != nil {
		return rep, err
	}
	rep.Protected = protected(a)
	return rep, l.verify(ctx, &rep)
}

// comeBack kills everything at once, and lets it come back from its files.
func (g *group) comeBack(ctx context.Context, l *load) (blackout int64, err error) {
	l.gap()
	fmt.Fprintf(g.o.Say, "kill -9 every process, control too, after %d appends; they start again with their files\n", l.count())
	at := time.Now()
	if err := g.again(ctx); err != nil {
		return 0, err
	}
	a, err := g.await(ctx, "a primary", func(a view.Answer) bool { return a.Acked })
	if err != nil {
		return 0, err
	}
	if !l.after(ctx, at) {
		return 0, errors.New("nobody answers after all were started again")
	}
	l.quiet(ctx, time.Second)
	gap := l.gap()
	fmt.Fprintf(g.o.Say, "%s leads by its files; the longest silence was %v\n", a.View.Primary, gap.Round(time.Millisecond))
	return int64(gap), nil
}

// load is clients that append numbers to a key each.
type load struct {
	clients []*client.Client
	acked   []int // appends of each client that were acknowledged
	cancel  context.CancelFunc
	all     sync.WaitGroup

	mu     sync.Mutex
	total  int
	last   time.Time // newest acknowledgement
	maxGap time.Duration
}

func newLoad(g *group, n int) *load {
	l := &load{acked: make([]int, n)}
	for range n {
		c, err := client.New(client.Options{Group: "demo", Views: []httpview.Copy{g.views}, Timeout: 500 * time.Millisecond})
		if err != nil {
			panic(err)
		}
		l.clients = append(l.clients, c)
	}
	return l
}

func key(i int) []byte { return fmt.Appendf(nil, "list-%d", i) }

func (l *load) start(ctx context.Context) {
	life, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	l.last = time.Now()
	for i, c := range l.clients {
		l.all.Go(func() {
			for life.Err() == nil {
				if _, err := c.Append(ctx, key(i), fmt.Appendf(nil, "%d,", l.acked[i])); err != nil {
					return
				}
				l.acked[i]++
				now := time.Now()
				l.mu.Lock()
				l.total++
				l.maxGap = max(l.maxGap, now.Sub(l.last))
				l.last = now
				l.mu.Unlock()
			}
		})
	}
}

func (l *load) stop() {
	l.cancel()
	l.all.Wait()
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// gap is the longest time without an acknowledgement since the last call.
func (l *load) gap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.maxGap
	l.maxGap = 0
	return g
}

func (l *load) quiet(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// after waits for a silence that began after at to end.
func (l *load) after(ctx context.Context, at time.Time) bool {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		ok := l.last.Sub(at) > 50*time.Millisecond
		l.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// verify reads everything back.
func (l *load) verify(ctx context.Context, rep *Report) error {
	for i, c := range l.clients {
		v, _, err := c.Get(ctx, key(i))
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		seen := map[int]int{}
		newest := -1
		for _, w := range strings.Split(strings.TrimSuffix(string(v), ","), ",") {
			n := -1
			fmt.Sscan(w, &n)
			if seen[n]++; n < newest {
				rep.Disorder++
			}
			newest = max(newest, n)
		}
		for n := range l.acked[i] {
			switch {
			case seen[n] == 0:
				rep.Lost++
			case seen[n] > 1:
				rep.Repeated++
			}
		}
		rep.Appends += l.acked[i]
		c.Close()
	}
	rep.Proved = rep.Lost == 0 && rep.Repeated == 0 && rep.Disorder == 0
	return nil
}
