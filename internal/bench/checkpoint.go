package bench

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

func init() { Register(Definition{Name: "checkpoint", Run: checkpoint}) }

// compileLoad is a shell script; it says "compiled N" after each unit, and "compiled 0" when it ends.
//
//go:embed guest/compile.sh
var compileLoad string

var saidCompiled = regexp.MustCompile(`compiled (\d+)$`)

// protection is one way to run the machine.
type protection struct {
	name   string
	mode   string // of the group; empty: it runs alone
	epoch  time.Duration
	beside bool    // a machine whose guest is busy runs on the same host
	remus  float64 // published slowdown of a kernel compilation, in percent
	idle   bool    // measured while idle too
}

const (
	alone      = "unprotected"
	aloneBusy  = "unprotected beside a busy machine"
	inLockstep = "lockstep"
	adaptive   = "checkpoint adaptive"
)

// protections in the order of a round. The first is measured again at its end.
func protections() []protection {
	p := []protection{
		{name: alone},
		{name: aloneBusy, beside: true},
		{name: inLockstep, mode: "lockstep", idle: true},
		{name: adaptive, mode: "checkpoint", idle: true},
	}
	for _, c := range []struct{ rate, remus int }{{10, 31}, {20, 52}, {30, 80}, {40, 103}, {100, 0}} {
		p = append(p, protection{
			name: fmt.Sprintf("checkpoint %d/s", c.rate), mode: "checkpoint",
			epoch: time.Second / time.Duration(c.rate), remus: float64(c.remus),
		})
	}
	return p
}

// Usage is what the machine and its protection took while a load ran.
type Usage struct {
	Seconds      float64 `json:"seconds"`
	LinkBytes    uint64  `json:"link_bytes"`
	Epochs       uint64  `json:"epochs"`
	EpochPages   uint64  `json:"epoch_pages"`
	EpochBytes   uint64  `json:"epoch_bytes"`
	EpochStopMs  float64 `json:"epoch_stop_ms"` // all together
	PrimaryCPU   float64 `json:"primary_cpu"`   // processors
	BackupCPU    float64 `json:"backup_cpu"`
	GuestSeconds float64 `json:"guest_seconds"`
}

// RedisUsage is one run of Redis clients.
type RedisUsage struct {
	Rate  float64 `json:"ops_per_second"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
	Usage
}

// CompileUsage is one run of the compile-like load.
type CompileUsage struct {
	Rate float64 `json:"units_per_second"`
	Usage
}

// CheckpointResult is one protection in one round.
type CheckpointResult struct {
	Protection string       `json:"protection"`
	Round      int          `json:"round"`
	Compile    CompileUsage `json:"compile"`
	One        RedisUsage   `json:"redis_1_client"`
	Fifty      RedisUsage   `json:"redis_50_clients"`
	Idle       *Usage       `json:"idle,omitempty"`
}

// checkpoint measures what each way of protecting a machine costs: one boot serves all of them, because two
// processes that run the same guest differ by the luck of their caches. A round begins and ends unprotected, so
// that what is in between has a measure before and after it.
func checkpoint(ctx context.Context, o Options) (*Section, error) {
	im, err := pairImage(ctx)
	if err != nil {
		return nil, err
	}
	exe, remove, err := understudy(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	g, err := startGroup(ctx, exe, im)
	if err != nil {
		return nil, err
	}
	defer g.close()
	neighbour, err := demo.StartPair(ctx, demo.PairOptions{Image: im, Exe: exe, Alone: true, NoDisk: true, Append: `understudy.run="while :; do :; done"`})
	if err != nil {
		return nil, err
	}
	defer neighbour.Close()
	time.Sleep(3 * time.Second) // it boots, and is busy with that too
	c, err := openConsole(ctx, g.primary)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if err := c.say(ctx, "cat >/tmp/compile.sh <<'END'\n"+compileLoad+"END"); err != nil {
		return nil, err
	}
	b := &checkpointBench{group: g, console: c, busy: neighbour.A, o: o}
	var all []CheckpointResult
	for round := range max(1, o.Rounds) {
		list := protections()
		if round%2 == 1 {
			slices.Reverse(list[2:]) // what drifts hits each from both sides
		}
		list = append(list, list[0])
		for _, p := range list {
			if p.name != alone && !o.Wants(p.name) {
				continue
			}
			r, err := b.measure(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, p.name, err)
			}
			r.Round = round + 1
			all = append(all, *r)
			fmt.Fprintf(o.Log, "round %d: %-35s %6.2f units/s, %5.1f MB/s; redis %6.1f op/s p50 %5.1f p99 %5.1f ms, %7.1f op/s p50 %5.1f p99 %5.1f ms\n", r.Round, p.name,
				r.Compile.Rate, r.Compile.mbits()/8, r.One.Rate, r.One.P50Ms, r.One.P99Ms, r.Fifty.Rate, r.Fifty.P50Ms, r.Fifty.P99Ms)
		}
	}
	return checkpointSection(all, max(1, o.Rounds), im.MemBytes), nil
}

// checkpointBench measures on one machine.
type checkpointBench struct {
	*group
	console *console
	busy    *demo.Process // the neighbour; it is stopped unless it is wanted
	o       Options
}

// measure has the machine protected so, and runs all loads.
func (b *checkpointBench) measure(ctx context.Context, p protection) (*CheckpointResult, error) {
	if err := b.protect(ctx, p); err != nil {
		return nil, err
	}
	defer b.busy.Signal(syscall.SIGSTOP)
	d := time.Duration(float64(3*time.Second) * b.o.Scale)
	r := &CheckpointResult{Protection: p.name}
	var err error
	if r.Compile, err = b.compile(ctx, d); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if r.One, err = b.redis(ctx, 1, d/2); err != nil {
		return nil, fmt.Errorf("redis, 1 client: %w", err)
	}
	if r.Fifty, err = b.redis(ctx, 50, d); err != nil {
		return nil, fmt.Errorf("redis, 50 clients: %w", err)
	}
	if p.idle {
		u, err := b.usage(func() error { return sleep(ctx, d/2) })
		if err != nil {
			return nil, err
		}
		r.Idle = &u
	}
	// What was measured must have been protected to the end.
	if s, err := demo.StatusOf(b.primary); err != nil || s.InSync != (p.mode != "") {
		return nil, fmt.Errorf("the machine was not protected as it should be: %+v, %v; %s", s, err, b.primary.LastWords())
	}
	return r, nil
}

// protect gives the machine its backup and its mode, or takes the backup away.
func (b *checkpointBench) protect(ctx context.Context, p protection) error {
	signal := syscall.SIGSTOP
	if p.beside {
		signal = syscall.SIGCONT
	}
	if err := b.busy.Signal(signal); err != nil {
		return err
	}
	if p.mode == "" {
		if b.backup == nil {
			return nil
		}
		// In lockstep mode a machine without a backup does nothing for its protection.
		if err := b.mode(ctx, "lockstep", 0); err != nil {
			return err
		}
		return b.loseBackup(ctx)
	}
	if b.backup == nil {
		if _, err := b.join(ctx, nil); err != nil {
			return err
		}
	}
	return b.mode(ctx, p.mode, p.epoch)
}

// compile runs the compile-like load for about d.
func (b *checkpointBench) compile(ctx context.Context, d time.Duration) (u CompileUsage, err error) {
	if err := b.console.say(ctx, "touch /tmp/compile; sh /tmp/compile.sh &"); err != nil {
		return u, err
	}
	// The first units make pages known that no epoch has carried yet, and the page cache warm.
	var n, first int
	var at, began time.Time
	until := func(d time.Duration) error {
		for began := time.Now(); time.Since(began) < d; {
			if n, at, err = b.console.await(ctx, saidCompiled); err != nil {
				return err
			}
		}
		return nil
	}
	if err := until(d / 3); err != nil {
		return u, err
	}
	first, began = n, at
	if u.Usage, err = b.usage(func() error { return until(d) }); err != nil {
		return u, err
	}
	u.Rate = float64(n-first) / at.Sub(began).Seconds()
	if err := b.console.say(ctx, "rm /tmp/compile"); err != nil {
		return u, err
	}
	for n != 0 {
		if n, _, err = b.console.await(ctx, saidCompiled); err != nil {
			return u, err
		}
	}
	return u, nil
}

// redis has clients SET for d.
func (b *checkpointBench) redis(ctx context.Context, clients int, d time.Duration) (u RedisUsage, err error) {
	c, err := demo.Connect(b.addr, clients)
	if err != nil {
		return u, err
	}
	defer c.Close()
	if _, _, err := c.Run(ctx, d/4, redisSet); err != nil {
		return u, err
	}
	var latencies []time.Duration
	var took time.Duration
	u.Usage, err = b.usage(func() error { latencies, took, err = c.Time(ctx, d, redisSet); return err })
	if err == nil && len(latencies) == 0 {
		err = fmt.Errorf("no answer within %v", d)
	}
	if err != nil {
		return u, err
	}
	slices.Sort(latencies)
	part := func(q float64) float64 { return float64(latencies[int(q*float64(len(latencies)-1))]) / 1e6 }
	u.Rate, u.P50Ms, u.P99Ms = float64(len(latencies))/took.Seconds(), part(0.5), part(0.99)
	return u, nil
}

// usage tells what was used while do ran.
func (b *checkpointBench) usage(do func() error) (u Usage, err error) {
	type reading struct {
		status          host.Status
		at              time.Time
		primary, backup float64
	}
	read := func() (r reading, err error) {
		if r.status, err = demo.StatusOf(b.primary); err != nil {
			return r, err
		}
		if r.primary, err = cpuSeconds(b.primary.PID()); err == nil && b.backup != nil {
			r.backup, err = cpuSeconds(b.backup.PID())
		}
		r.at = time.Now()
		return r, err
	}
	from, err := read()
	if err != nil {
		return u, err
	}
	if err := do(); err != nil {
		return u, err
	}
	to, err := read()
	if err != nil {
		return u, err
	}
	s, old := &to.status, &from.status
	u.Seconds = to.at.Sub(from.at).Seconds()
	u.LinkBytes = s.LogBytes - old.LogBytes
	u.Epochs, u.EpochPages, u.EpochBytes = s.Epochs-old.Epochs, s.EpochPages-old.EpochPages, s.EpochBytes-old.EpochBytes
	u.EpochStopMs = float64(s.EpochStopNs-old.EpochStopNs) / 1e6
	u.PrimaryCPU, u.BackupCPU = (to.primary-from.primary)/u.Seconds, (to.backup-from.backup)/u.Seconds
	u.GuestSeconds = float64(s.GuestNs-old.GuestNs) / 1e9
	return u, nil
}

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may hold blanks; utime and stime are the 14th and 15th.
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	var user, system int
	if len(f) > 12 {
		_, err = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	}
	const ticksPerSecond = 100 // USER_HZ, on every architecture that Go runs on
	return float64(user+system) / ticksPerSecond, err
}
