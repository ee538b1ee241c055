package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"understudy/internal/kvbench"
	"understudy/internal/kvbench/compare"
)

func init() {
	Register(Definition{Name: "kv", Run: keyValue})
	Register(Definition{Name: "kvfailover", Run: keyValueFailover})
}

// KVResult is one load of one service.
type KVResult struct {
	Service  string           `json:"service"`
	Clients  int              `json:"clients"`
	Pipeline int              `json:"pipeline"`
	Read     bool             `json:"read,omitempty"`
	Files    string           `json:"files,omitempty"` // how they are synced
	Rounds   []kvbench.Result `json:"rounds"`
	CPU      []time.Duration  `json:"cpu_ns"` // of all servers, for each operation; a round each
}

// contender is a way to load one service.
type contender struct {
	name  string
	on    *compare.Service
	files string // how files are synced; empty: none
	ours  bool
	wait  bool // WAIT 1 after every write
	once  bool // WAIT 1 after every pipeline
	etcd  bool
}

// shape is a load that contenders are compared under.
type shape struct {
	clients, pipeline int
	read              bool
	files             string
	mark              float64 // to reach, as a multiple of Redis with WAIT after every write; 0: none
}

func (s shape) String() string { return fmt.Sprintf("%d × %d", s.clients, s.pipeline) }

// label names the service that a contender loads.
func (c *contender) label() string {
	if c.files == "" {
		return c.on.Name
	}
	return c.on.Name + " (" + c.files + ")"
}

// takes tells whether a contender takes part in a load.
func (c *contender) takes(s shape) bool {
	switch {
	case c.files != s.files:
		return false
	case s.read:
		return !c.wait && !c.etcd // plain Redis and ours
	case c.once:
		return s.pipeline > 1
	}
	return c.wait || c.ours || c.etcd
}

// base tells whether the others are compared with this contender.
func (c *contender) base(s shape) bool { return !c.ours && !c.etcd && !c.once && (c.wait || s.read) }

// kvShapes has those with files of one kind side by side, in the order of kvFiles.
var kvShapes = []shape{
	{clients: 1, pipeline: 1},
	{clients: 1, pipeline: 16, mark: 1},
	{clients: 50, pipeline: 1, mark: 1.5},
	{clients: 50, pipeline: 16, mark: 1},
	{clients: 50, pipeline: 1, read: true},
	{clients: 1, pipeline: 1, files: "everysec"},
	{clients: 50, pipeline: 1, files: "everysec"},
	{clients: 1, pipeline: 1, files: "always"},
	{clients: 50, pipeline: 1, files: "always"},
}

// kvLoad is how long each load runs.
const kvLoad = 1500 * time.Millisecond

// keyValue compares the key-value service with Redis and etcd, in turn.
func keyValue(ctx context.Context, o Options) (s *Section, err error) {
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // what failed, failed because of that
		}
	}()
	busy := loadAverage()
	exe, remove, err := understudy(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	var all []*contender
	var results []*KVResult
	var notes, idle []string
	for _, files := range kvFiles(exe) {
		// Those of one kind at a time: who idles takes a little too.
		some, r, words, err := kvRounds(ctx, o, exe, files, &notes)
		if err != nil {
			return nil, err
		}
		all, results, idle = append(all, some...), append(results, r...), append(idle, words...)
	}
	s = kvTables(all, results)
	s.Notes = append(append(s.Notes, kvNote(o, all, busy),
		"Processor time of all their servers together in a second in which nobody asks anything: "+strings.Join(idle, ", ")+"."), notes...)
	data := map[string]any{"loads": results}
	if o.Wants("join") {
		joins, part, err := kvJoins(ctx, o, exe)
		if err != nil {
			return nil, err
		}
		s.Parts = append(s.Parts, part)
		data["joins"] = joins
	}
	s.Data = data
	return s, nil
}

// kvContenders starts what is compared with files of one kind. What cannot be started is left out, and notes say so.
func kvContenders(ctx context.Context, o Options, exe, files string, notes *[]string) (all []*contender, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
			all = nil
		}
	}()
	missing := func(what string, err error) {
		if files == "" {
			fmt.Fprintf(o.Log, "no figures of %s: %v\n", what, err)
			*notes = append(*notes, fmt.Sprintf("%s is not in the tables: it could not be started there.", what))
		}
	}
	if err := compare.RedisAvailable(); err != nil {
		missing("Redis", err)
	} else if o.Wants("redis") {
		on, err := compare.Redis(ctx, "Redis", compare.RedisOptions{Replicas: 1, Fsync: files})
		if err != nil {
			return all, err
		}
		all = append(all,
			&contender{name: "Redis + WAIT", on: on, wait: true, files: files},
			&contender{name: "Redis, WAIT once a pipeline", on: on, wait: true, once: true, files: files},
			&contender{name: "Redis", on: on, files: files})
	}
	if files == "" && o.Wants("etcd") {
		if err := kvEtcd(ctx, &all); ctx.Err() != nil {
			return all, err
		} else if err != nil {
			missing("etcd", err)
		}
	}
	on, err := compare.Ours(ctx, "understudy kv", compare.OursOptions{Exe: exe, Servers: 2, Suspect: benchSuspect, Fsync: files})
	if err != nil {
		return all, err
	}
	return append(all, &contender{name: on.Name, on: on, ours: true, files: files}), nil
}

func closeAll(all []*contender) {
	for _, c := range all {
		c.on.Close()
	}
}

func kvEtcd(ctx context.Context, all *[]*contender) error {
	dir, err := os.MkdirTemp("", "understudy-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	exe, err := compare.BuildEtcd(ctx, dir)
	if err != nil {
		return err
	}
	on, err := compare.Etcd(ctx, "etcd", exe)
	if err == nil {
		*all = append(*all, &contender{name: "etcd, one server", on: on, etcd: true})
	}
	return err
}

// kvFiles are the ways to keep data in files that are compared; the first, empty, is none.
func kvFiles(exe string) []string {
	help, _ := exec.Command(exe, "kv", "serve", "--help").CombinedOutput()
	if strings.Contains(string(help), "--fsync") {
		return []string{"", "everysec", "always"}
	}
	return []string{""}
}

// kvIdle tells what the contenders take while nobody loads them.
func kvIdle(ctx context.Context, all []*contender) (words []string, err error) {
	var before []time.Duration
	for _, c := range all {
		before = append(before, c.on.CPU())
	}
	const d = 2 * time.Second
	if err := sleep(ctx, d); err != nil {
		return nil, err
	}
	for i, c := range all {
		if i == 0 || c.on != all[i-1].on {
			words = append(words, fmt.Sprintf("%s %.0f ms", c.label(), kvMs(c.on.CPU()-before[i])/d.Seconds()))
		}
	}
	return words, nil
}

// kvRounds has every contender with files of one kind take each load once a round. They are closed when it returns.
func kvRounds(ctx context.Context, o Options, exe, files string, notes *[]string) (all []*contender, results []*KVResult, idle []string, err error) {
	if all, err = kvContenders(ctx, o, exe, files, notes); err != nil {
		return nil, nil, nil, err
	}
	defer closeAll(all)
	if idle, err = kvIdle(ctx, all); err != nil {
		return nil, nil, nil, err
	}
	for round := range max(1, o.Rounds) {
		i := 0
		for _, s := range kvShapes {
			for _, c := range all {
				if !c.takes(s) {
					continue
				}
				if round == 0 {
					results = append(results, &KVResult{Service: c.name, Clients: s.clients, Pipeline: s.pipeline, Read: s.read, Files: s.files})
				}
				r, perOp, err := kvOnce(ctx, o, c, s)
				if err != nil && c.ours && ctx.Err() == nil {
					// On a busy machine a primary may be suspected that is not dead.
					fmt.Fprintf(o.Log, "%s, %v: %v; once more\n", c.name, s, err)
					if err = c.on.AwaitCopy(ctx, true); err == nil {
						r, perOp, err = kvOnce(ctx, o, c, s)
					}
				}
				if err != nil {
					return nil, nil, nil, fmt.Errorf("%s, %v: %w", c.name, s, err)
				}
				fmt.Fprintf(o.Log, "%s %-7v %-28s %8.0f/s p50 %.2f ms p99 %.2f ms, %.1f µs of processor each\n", kvKind(s), s, c.name,
					r.PerSecond, kvMs(r.P50), kvMs(r.P99), float64(perOp.Nanoseconds())/1000)
				results[i].Rounds, results[i].CPU = append(results[i].Rounds, r), append(results[i].CPU, perOp)
				i++
			}
		}
	}
	return all, results, idle, nil
}

func kvKind(s shape) string {
	switch {
	case s.read:
		return "read "
	case s.files != "":
		return "write, files " + s.files
	}
	return "write"
}

// kvOnce is one load of one contender.
func kvOnce(ctx context.Context, o Options, c *contender, s shape) (r kvbench.Result, perOp time.Duration, err error) {
	l := kvbench.Load{
		Addr: c.on.Addr, Clients: s.clients, Pipeline: s.pipeline, Wait: c.wait, Once: c.once, Read: s.read, Bytes: 64, Keys: 100_000,
		For: time.Duration(o.Scale * float64(kvLoad)),
	}
	run := kvbench.Run
	if c.etcd {
		run = compare.LoadEtcd
	}
	before := c.on.CPU()
	if r, err = run(ctx, l); err != nil {
		return r, 0, err
	}
	return r, (c.on.CPU() - before) / time.Duration(r.Operations), nil
}
