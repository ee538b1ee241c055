package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"understudy/internal/demo"
	"understudy/internal/image"
	"understudy/internal/image/progress"
)

func init() {
	Register(Definition{Name: "protected", Run: protected})
}

// load is one kind of work for the guest, measured through Redis. rate gives work done per second.
type load struct {
	name string
	unit string
	rate func(ctx context.Context, c *demo.Clients, d time.Duration) (float64, error)
	many bool // 50 clients instead of one
	prep [][]string
	mark string // what is to be reached
}

// luaLoop keeps the guest's CPU busy without input or output.
const luaLoop = "local x = 0 for i = 1, tonumber(ARGV[1]) do x = x + i % 7 end return x"

func loads() []load {
	ops := func(command func(n int64) []string) func(context.Context, *demo.Clients, time.Duration) (float64, error) {
		return func(ctx context.Context, c *demo.Clients, d time.Duration) (float64, error) {
			n, took, err := c.Run(ctx, d, command)
			return float64(n) / took.Seconds(), err
		}
	}
	value := strings.Repeat("v", 100)
	block := strings.Repeat("b", 4096)
	set := func(v string) func(n int64) []string {
		return func(n int64) []string { return []string{"SET", fmt.Sprintf("bench:%d", n%1000), v} }
	}
	noSync := []string{"CONFIG", "SET", "appendfsync", "everysec"}
	return []load{
		{name: "CPU loop (Lua)", unit: "M iterations/s", mark: "≥ 0.95", prep: [][]string{noSync}, rate: func(_ context.Context, c *demo.Clients, d time.Duration) (float64, error) {
			// The first call finds out how many iterations fill the time.
			n := 200_000
			for {
				start := time.Now()
				if _, err := c.Do(10*time.Minute, "EVAL", luaLoop, "0", fmt.Sprint(n)); err != nil {
					return 0, err
				}
				took := time.Since(start)
				if took > d/2 {
					return float64(n) / took.Seconds() / 1e6, nil
				}
				n = int(float64(n) * min(20, 1.2*float64(d)/float64(took)))
			}
		}},
		{name: "Redis SET, 1 client", unit: "op/s", prep: [][]string{noSync}, rate: ops(set(value))},
		{name: "Redis SET, 50 clients", unit: "op/s", many: true, mark: "≥ 0.85", prep: [][]string{noSync}, rate: ops(set(value))},
		{
			name: "disk: 4 KiB SET, fsync for each, 50 clients", unit: "op/s", many: true, mark: "≥ 0.95",
			prep: [][]string{{"CONFIG", "SET", "appendfsync", "always"}}, rate: ops(set(block)),
		},
	}
}

// ProtectedResult is one load unprotected and protected.
type ProtectedResult struct {
	Load        string  `json:"load"`
	Unit        string  `json:"unit"`
	Unprotected float64 `json:"unprotected"`
	Protected   float64 `json:"protected"`
	Ratio       float64 `json:"ratio"`
	LogMbitS    float64 `json:"log_mbit_s"`
}

func pairImage(ctx context.Context) (*image.Image, error) {
	r, err := image.FindRecipe("redis")
	if err != nil {
		return nil, err
	}
	p := progress.New(os.Stderr)
	defer p.Close()
	return image.Build(ctx, r, image.BuildOptions{}, p)
}

// understudy builds the program that the processes of a pair run.
func understudy(ctx context.Context) (exe string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "understudy-bench-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	exe = dir + "/understudy"
	if err := goBuild(ctx, exe, "understudy/cmd/understudy"); err != nil {
		remove()
		return "", nil, err
	}
	return exe, remove, nil
}

// benchSuspect is the time-out of pairs that are not measured for failover: the machine is shared.
const benchSuspect = 2 * time.Second

// protected measures what protection costs: the same loads on one machine alone and on one in a pair,
// alternating, both with their disk, LAN and forward.
func protected(ctx context.Context, o Options) (*Section, error) {
	im, err := pairImage(ctx)
	if err != nil {
		return nil, err
	}
	exe, remove, err := understudy(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	machines := map[string]*demo.Pair{}
	for _, name := range []string{"alone", "pair"} {
		fmt.Fprintf(o.Log, "booting: %s\n", name)
		p, err := demo.StartPair(ctx, demo.PairOptions{Image: im, Exe: exe, Alone: name == "alone", SuspectAfter: benchSuspect})
		if err != nil {
			return nil, err
		}
		defer p.Close()
		l, err := demo.Await(ctx, p.Addr, "bench")
		if err != nil {
			return nil, err
		}
		l.Close()
		machines[name] = p
	}
	time.Sleep(3 * time.Second) // let both settle

	measure := func(name string, l load) (rate, mbits float64, err error) {
		p := machines[name]
		n := 1
		if l.many {
			n = 50
		}
		c, err := demo.Connect(p.Addr, n)
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		for _, cmd := range l.prep {
			if _, err := c.Do(time.Minute, cmd...); err != nil {
				return 0, 0, err
			}
		}
		before, err := demo.StatusOf(p.A)
		if err != nil {
			return 0, 0, err
		}
		start := time.Now()
		rate, err = l.rate(ctx, c, time.Duration(float64(4*time.Second)*o.Scale))
		if err != nil {
			return 0, 0, err
		}
		took := time.Since(start)
		after, err := demo.StatusOf(p.A)
		if err != nil {
			return 0, 0, err
		}
		if name == "pair" && after.Solo {
			return 0, 0, fmt.Errorf("the pair lost its backup during %q: %s", l.name, p.B.LastWords())
		}
		return rate, float64(after.LogBytes-before.LogBytes) * 8 / took.Seconds() / 1e6, nil
	}

	s := &Section{Name: "protected", Title: "Protected against unprotected, and the log's bandwidth"}
	s.Table.Header = []string{"load", "unit", "unprotected", "protected", "ratio", "to reach", "log Mbit/s"}
	var data []ProtectedResult
	for _, l := range loads() {
		if !o.Wants(l.name) {
			continue
		}
		var ratios, alone, pair, logs []float64
		for round := range max(1, o.Rounds) {
			a, _, err := measure("alone", l)
			if err != nil {
				return nil, err
			}
			b, mbits, err := measure("pair", l)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(o.Log, "round %d: %-45s %10.1f alone %10.1f protected  %.3f  %.2f Mbit/s\n", round+1, l.name, a, b, b/a, mbits)
			ratios, alone, pair, logs = append(ratios, b/a), append(alone, a), append(pair, b), append(logs, mbits)
		}
		r := ProtectedResult{Load: l.name, Unit: l.unit, Unprotected: median(alone), Protected: median(pair), Ratio: median(ratios), LogMbitS: median(logs)}
		data = append(data, r)
		s.Table.Add(r.Load, r.Unit, fmt.Sprintf("%.1f", r.Unprotected), fmt.Sprintf("%.1f", r.Protected), fmt.Sprintf("%.2f", r.Ratio), l.mark, fmt.Sprintf("%.2f", r.LogMbitS))
	}
	idle, err := idleLog(ctx, machines["pair"], time.Duration(float64(20*time.Second)*o.Scale))
	if err != nil {
		return nil, err
	}
	s.Table.Add("idle guest", "", "", "", "", "≤ 0.1 Mbit/s", fmt.Sprintf("%.3f", idle))
	data = append(data, ProtectedResult{Load: "idle", LogMbitS: idle})
	s.Data = data
	s.Notes = []string{
		fmt.Sprintf("Two machines of 256 MiB from the redis image, one alone, one in a pair, measured in turn on one host; medians of %d rounds. "+
			"Primary, backup, virtual LAN and client share the host's processors, and the guest executes on two of them at once, so with fewer than "+
			"four processors the ratio of the many-client loads includes the wait for a processor: on two it cannot exceed 2/(2+x), x being the "+
			"processor time that LAN, client and log take for each second of guest, 0.4 to 0.5 at 50 clients. Both copies of the disk, too, are on "+
			"one physical disk.", max(1, o.Rounds)),
		"Published for VMware FT (Scales et al. 2010, tables 1 and 2): performance ratio 0.94 to 0.99; log 0.68 Mbit/s idle at 250 Hz, " +
			"1.5 (SPECjbb), 3.0 (kernel compile), 12 to 18 Mbit/s (database).",
	}
	return s, nil
}

func idleLog(ctx context.Context, p *demo.Pair, d time.Duration) (float64, error) {
	before, err := demo.StatusOf(p.A)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := demo.StatusOf(p.A)
	if err != nil {
		return 0, err
	}
	return float64(after.LogBytes-before.LogBytes) * 8 / time.Since(start).Seconds() / 1e6, nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// goBuild builds a package of this module.
func goBuild(ctx context.Context, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}
