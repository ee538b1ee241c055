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
	Beside      float64 `json:"unprotected_beside_busy_machine"`
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

// protected measures what protection costs: the same loads on one machine while it has a backup, and again
// after the backup was killed. It is one process in one place of memory both times; two processes that run
// the same guest differ by more than protection costs, from the luck of their caches. Each round boots a
// fresh pair.
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
	var chosen []load
	for _, l := range loads() {
		if o.Wants(l.name) {
			chosen = append(chosen, l)
		}
	}
	results := make([]struct{ ratios, alone, beside, pair, logs []float64 }, len(chosen))
	var idles []float64
	for round := range max(1, o.Rounds) {
		idle, err := protectedRound(ctx, o, demo.PairOptions{Image: im, Exe: exe, SuspectAfter: benchSuspect}, chosen, func(i int, with, mbits, without, beside float64) {
			r := &results[i]
			r.ratios, r.alone, r.pair, r.logs = append(r.ratios, with/beside), append(r.alone, without), append(r.pair, with), append(r.logs, mbits)
			r.beside = append(r.beside, beside)
			fmt.Fprintf(o.Log, "round %d: %-45s %9.1f alone %9.1f beside %9.1f protected  %.3f  %.2f Mbit/s\n", round+1, chosen[i].name, without, beside, with, with/beside, mbits)
		})
		if err != nil {
			return nil, err
		}
		idles = append(idles, idle)
	}

	s := &Section{Name: "protected", Title: "Protected against unprotected, and the log's bandwidth"}
	s.Table.Header = []string{"load", "unit", "unprotected", "unprotected, a busy machine beside", "protected", "ratio", "to reach", "log Mbit/s"}
	var data []ProtectedResult
	for i, l := range chosen {
		m := &results[i]
		r := ProtectedResult{Load: l.name, Unit: l.unit, Unprotected: median(m.alone), Beside: median(m.beside), Protected: median(m.pair), Ratio: median(m.ratios), LogMbitS: median(m.logs)}
		data = append(data, r)
		s.Table.Add(r.Load, r.Unit, fmt.Sprintf("%.1f", r.Unprotected), fmt.Sprintf("%.1f", r.Beside), fmt.Sprintf("%.1f", r.Protected), fmt.Sprintf("%.2f", r.Ratio), l.mark, fmt.Sprintf("%.2f", r.LogMbitS))
	}
	s.Table.Add("idle guest", "", "", "", "", "", "≤ 0.1 Mbit/s", fmt.Sprintf("%.3f", median(idles)))
	data = append(data, ProtectedResult{Load: "idle", LogMbitS: median(idles)})
	s.Data = data
	s.Notes = []string{
		fmt.Sprintf("A machine of 256 MiB from the redis image with its backup, and the same process after the backup was killed; medians of %d "+
			"rounds, each with a fresh pair. Primary, backup, virtual LAN and client share one host with two processors, so the backup takes the "+
			"one that an unprotected machine leaves to its LAN and clients (and may share its core). The ratio is therefore to the unprotected machine "+
			"beside another machine whose guest is busy; the first column has no neighbour. Both copies of the disk are on one physical disk. The "+
			"speed of this shared host varies by a third within minutes.", max(1, o.Rounds)),
		"Published for VMware FT (Scales et al. 2010, tables 1 and 2): performance ratio 0.94 to 0.99; log 0.68 Mbit/s idle at 250 Hz, " +
			"1.5 (SPECjbb), 3.0 (kernel compile), 12 to 18 Mbit/s (database).",
	}
	return s, nil
}

// protectedRound measures all loads on a fresh pair, then again without its backup, and gives the log's
// bandwidth while the guest is idle.
func protectedRound(ctx context.Context, o Options, options demo.PairOptions, loads []load, each func(i int, with, mbits, without, beside float64)) (idle float64, err error) {
	p, err := demo.StartPair(ctx, options)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	first, err := demo.Await(ctx, p.Addr, "bench")
	if err != nil {
		return 0, err
	}
	first.Close()
	time.Sleep(2 * time.Second) // let the guest settle
	d := time.Duration(float64(3*time.Second) * o.Scale)
	with, mbits := make([]float64, len(loads)), make([]float64, len(loads))
	for i, l := range loads {
		if with[i], mbits[i], err = measure(ctx, p, l, d); err != nil {
			return 0, err
		}
	}
	if idle, err = idleLog(ctx, p, 2*d); err != nil {
		return 0, err
	}
	if s, err := demo.StatusOf(p.A); err != nil || s.Solo {
		return 0, fmt.Errorf("the pair lost its backup: %s", p.B.LastWords())
	}
	if err := p.B.Kill(); err != nil {
		return 0, err
	}
	for solo := false; !solo; {
		s, err := demo.StatusOf(p.A)
		if err != nil {
			return 0, err
		}
		solo = s.Solo
	}
	without := make([]float64, len(loads))
	for i, l := range loads {
		if without[i], _, err = measure(ctx, p, l, d); err != nil {
			return 0, err
		}
	}
	options.Alone, options.Append = true, `understudy.run="while :; do :; done"`
	neighbour, err := demo.StartPair(ctx, options)
	if err != nil {
		return 0, err
	}
	defer neighbour.Close()
	time.Sleep(3 * time.Second) // it boots, and is busy with that too
	for i, l := range loads {
		beside, _, err := measure(ctx, p, l, d)
		if err != nil {
			return 0, err
		}
		each(i, with[i], mbits[i], without[i], beside)
	}
	return idle, nil
}

// measure runs one load on a machine for about d and gives its rate and the log's bandwidth.
func measure(ctx context.Context, p *demo.Pair, l load, d time.Duration) (rate, mbits float64, err error) {
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
	if rate, err = l.rate(ctx, c, d); err != nil {
		return 0, 0, err
	}
	took := time.Since(start)
	after, err := demo.StatusOf(p.A)
	if err != nil {
		return 0, 0, err
	}
	return rate, float64(after.LogBytes-before.LogBytes) * 8 / took.Seconds() / 1e6, nil
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
