package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

func init() { Register(Definition{Name: "clone", Run: clone}) }

// cloneTimes is how often a backup joins under each load, and how often the machine is handed over.
const cloneTimes = 5

// cloneLoad is what the guest does meanwhile.
type cloneLoad struct {
	name  string
	mark  string // bound of the stop
	start func(ctx context.Context, g *group, c *console) (stop func() error, err error)
}

const (
	loadIdle  = "idle"
	loadRedis = "Redis 50 clients"
	loadWrite = "memory writer"
)

// memoryWriter writes 24 MiB of a file in memory again and again, with one of two random contents in turn: as fast as the
// guest can, never what was there, and nothing that could be compressed within a page.
const memoryWriter = `cd /dev/shm
for i in 1 2; do dd if=/dev/urandom of=s bs=1M count=1 2>/dev/null; for j in $(seq 24); do cat s; done >r$i; done
touch /tmp/write
(n=0; while [ -e /tmp/write ]; do for i in 1 2; do dd if=r$i of=x bs=1M conv=notrunc 2>/dev/null; done; n=$((n+1)); [ $n = 2 ] && echo wrote $n; done
rm s r1 r2 x; echo wrote $((n*0))) &
`

func cloneLoads() []cloneLoad {
	return []cloneLoad{
		{loadIdle, "≤ 50 ms", func(context.Context, *group, *console) (func() error, error) { return func() error { return nil }, nil }},
		{loadRedis, "≤ 100 ms", func(ctx context.Context, g *group, _ *console) (func() error, error) { return redisLoad(ctx, g) }},
		{loadWrite, "", func(ctx context.Context, _ *group, c *console) (func() error, error) {
			if err := c.say(ctx, memoryWriter); err != nil {
				return nil, err
			}
			if _, _, err := c.await(ctx, saidWrote); err != nil {
				return nil, err
			}
			return func() error {
				if err := c.say(ctx, "rm /tmp/write"); err != nil {
					return err
				}
				_, _, err := c.await(ctx, saidWrote)
				return err
			}, nil
		}},
	}
}

// redisLoad has 50 clients SET until it is stopped.
func redisLoad(ctx context.Context, g *group) (stop func() error, err error) {
	c, err := demo.Connect(g.addr, 50)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, _, err := c.Run(ctx, time.Hour, redisSet)
		done <- err
	}()
	return func() error {
		cancel()
		err := <-done
		c.Close()
		return err
	}, nil
}

// redisSet is the n-th command of the Redis loads: 100 bytes to one of a thousand keys.
func redisSet(n int64) []string {
	return []string{"SET", fmt.Sprintf("bench:%d", n%1000), strings.Repeat("v", 100)}
}

// CloneResult is one backup's joining.
type CloneResult struct {
	Load      string  `json:"load"`
	TotalMs   float64 `json:"total_ms"` // from the view that names it until it is in sync
	StopMs    float64 `json:"stop_ms"`  // of the machine
	SentBytes uint64  `json:"sent_bytes"`
	Rounds    int     `json:"rounds"` // of copying memory
	SlowedPct int     `json:"slowed_percent"`
}

// HandOverResult is one planned change of roles.
type HandOverResult struct {
	Load    string  `json:"load"`
	Mode    string  `json:"mode"`
	PauseMs float64 `json:"pause_ms"`
}

// CloneData are the section's numbers.
type CloneData struct {
	Clones    []CloneResult    `json:"clones"`
	HandOvers []HandOverResult `json:"handovers"`
}

// clone measures how a running machine gets a backup, and how it is handed over to it.
func clone(ctx context.Context, o Options) (*Section, error) {
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
	c, err := openConsole(ctx, g.primary)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	var data CloneData
	times := max(1, int(cloneTimes*o.Scale))
	for _, l := range cloneLoads() {
		if !o.Wants(l.name) {
			continue
		}
		stop, err := l.start(ctx, g, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		for range times {
			r, err := g.cloneOnce(ctx, l.name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			data.Clones = append(data.Clones, r)
			fmt.Fprintf(o.Log, "%-20s in sync after %7.0f ms, stop %6.1f ms, %6.1f MB in %d rounds, slowed by %d %%\n", l.name, r.TotalMs, r.StopMs,
				float64(r.SentBytes)/1e6, r.Rounds, r.SlowedPct)
			if err := g.loseBackup(ctx); err != nil {
				return nil, err
			}
		}
		if err := stop(); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	// Its console is followed on the first primary only, so the loads of this part need none.
	if _, err := g.join(ctx, nil); err != nil {
		return nil, err
	}
	for _, l := range cloneLoads()[:2] {
		for _, mode := range []string{"lockstep", "checkpoint"} {
			if !o.Wants(l.name) {
				continue
			}
			pauses, err := g.handOvers(ctx, l, mode, times)
			if err != nil {
				return nil, fmt.Errorf("hand over, %s, %s: %w", mode, l.name, err)
			}
			fmt.Fprintf(o.Log, "%-20s handed over in %s mode: %.1f ms\n", l.name, mode, pauses)
			for _, p := range pauses {
				data.HandOvers = append(data.HandOvers, HandOverResult{l.name, mode, p})
			}
		}
	}
	return cloneSection(&data, times, im.MemBytes), nil
}

// cloneOnce has a backup join.
func (g *group) cloneOnce(ctx context.Context, load string) (CloneResult, error) {
	before, err := demo.StatusOf(g.primary)
	if err != nil {
		return CloneResult{}, err
	}
	r := CloneResult{Load: load}
	var last host.Status
	took, err := g.join(ctx, func(s host.Status) {
		last = s
		if t := s.Transfer; t != nil {
			r.Rounds, r.SlowedPct = max(r.Rounds, t.Round), max(r.SlowedPct, t.SlowedPct)
		}
	})
	if err != nil {
		return r, err
	}
	r.TotalMs, r.StopMs = float64(took)/1e6, float64(last.StopLastNs)/1e6
	r.SentBytes = last.LogBytes - before.LogBytes
	return r, nil
}

// handOvers hands the machine over a number of times and gives the pauses in ms.
func (g *group) handOvers(ctx context.Context, l cloneLoad, mode string, times int) (pauses []float64, err error) {
	if err := g.mode(ctx, mode, 0); err != nil {
		return nil, err
	}
	stop, err := l.start(ctx, g, nil)
	if err != nil {
		return nil, err
	}
	for range times {
		p, err := g.handOver(ctx)
		if err != nil {
			return nil, err
		}
		pauses = append(pauses, float64(p)/1e6)
	}
	return pauses, stop()
}

// cloneSection makes tables of the numbers.
func cloneSection(d *CloneData, times int, memBytes uint64) *Section {
	s := &Section{Name: "clone", Title: "A running machine gets a backup", Data: d}
	s.Table.Header = []string{
		"load of the guest", "in sync after, s: median", "worst", "stop, ms: median", "worst", "to reach", "sent, MB: median", "worst", "rounds", "slowed by",
	}
	for _, l := range cloneLoads() {
		var total, stop, sent, rounds, slowed []float64
		for _, r := range d.Clones {
			if r.Load == l.name {
				total, stop, sent = append(total, r.TotalMs/1e3), append(stop, r.StopMs), append(sent, float64(r.SentBytes)/1e6)
				rounds, slowed = append(rounds, float64(r.Rounds)), append(slowed, float64(r.SlowedPct))
			}
		}
		if len(total) == 0 {
			continue
		}
		s.Table.Add(l.name, fmt.Sprintf("%.2f", median(total)), fmt.Sprintf("%.2f", slices.Max(total)), fmt.Sprintf("%.1f", median(stop)),
			fmt.Sprintf("%.1f", slices.Max(stop)), l.mark, fmt.Sprintf("%.1f", median(sent)), fmt.Sprintf("%.1f", slices.Max(sent)),
			fmt.Sprintf("%.0f", slices.Max(rounds)), fmt.Sprintf("%.0f %%", slices.Max(slowed)))
	}
	s.Notes = []string{fmt.Sprintf("A machine of %d MiB from the redis image, booted once, that runs alone; %d times under each load a spare is started, joins, "+
		"and is killed. The time is from the first status of the primary that names the backup to the one that says in sync, disk included (64 MiB, "+
		"nearly empty); sent is all that went over the log channel until then. The memory writer fills 24 MiB again and again with incompressible "+
		"bytes that differ from those before. Rounds, and the share of its time that the machine had to give up so that the transfer "+
		"converges, are the most that were seen.", memBytes>>20, times)}
	p := Part{Title: "Planned failover"}
	p.Table.Header = []string{"load of the guest", "mode", "pause, ms: median", "worst", "to reach"}
	for _, l := range cloneLoads() {
		for _, mode := range []string{"lockstep", "checkpoint"} {
			var v []float64
			for _, h := range d.HandOvers {
				if h.Load == l.name && h.Mode == mode {
					v = append(v, h.PauseMs)
				}
			}
			if len(v) > 0 {
				p.Table.Add(l.name, mode, fmt.Sprintf("%.1f", median(v)), fmt.Sprintf("%.1f", slices.Max(v)), "≤ 100 ms")
			}
		}
	}
	p.Notes = []string{fmt.Sprintf("%d hand-overs each, to and fro. The pause is how long the machine stood still, from its last instruction on one side to the "+
		"news that the other leads.", times)}
	s.Parts = []Part{p}
	return s
}
