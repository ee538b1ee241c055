package sim

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The worlds: a pair that is named beforehand and claims its views itself, a group of hosts that the view
// service gives their parts, and a group of servers of the key-value service.
const worldPair, worldGroup, worldKV = "pair", "group", "kv"

// Worlds lists the names that Options.World takes.
var Worlds = []string{worldPair, worldGroup, worldKV}

func knownWorld(name string) error {
	if name != "" && !slices.Contains(Worlds, name) {
		return fmt.Errorf("no world is called %q: there are %s", name, strings.Join(Worlds, ", "))
	}
	return nil
}

// Options choose a run.
type Options struct {
	Seed     uint64
	World    string // a name in Worlds, or nothing: the one that the mutation is for, else the seed chooses pair or group
	Mutation string // a name in Mutations, or nothing
	Trace    bool   // tell the story
}

// Result is what came of a run.
type Result struct {
	Options
	Failure *Failure // nil: no rule was broken
	Story   []string // with Options.Trace: one line for each thing that happened, in order
	Counts  Counts
}

// Run runs the world of one seed. The error is about the options.
func Run(opt Options) (Result, error) {
	m, err := findMutation(opt.Mutation)
	if err != nil {
		return Result{}, err
	}
	if err := knownWorld(opt.World); err != nil {
		return Result{}, err
	}
	if opt.World == "" {
		opt.World = m.world
	}
	w := newWorld(opt.Seed, opt.World, m, opt.Trace)
	w.run()
	c := w.watch.counts
	c.Steps = w.steps
	c.Views = int(w.watch.highest)
	for _, cl := range w.clients {
		for i := range cl.past {
			if cl.past[i].done {
				c.Answers++
			}
		}
	}
	if w.over {
		c.Ended = 1
	} else if _, dead := w.rightlyDead(); dead {
		c.Dead = 1
	}
	return Result{Options: opt, Failure: w.failure, Story: w.story, Counts: c}, nil
}

// RunMany runs n seeds from opt.Seed on, on all processors, until one breaks a rule or ctx ends. It returns the
// failing result of the lowest seed that was found, with its story, or none; and the sum of what was run.
// progress, if not nil, is called with the number of seeds done, from several goroutines.
func RunMany(ctx context.Context, opt Options, n uint64, progress func(done uint64)) (failed *Result, total Counts, err error) {
	if _, err := findMutation(opt.Mutation); err != nil {
		return nil, Counts{}, err
	}
	if err := knownWorld(opt.World); err != nil {
		return nil, Counts{}, err
	}
	var (
		next, done atomic.Uint64
		stop       atomic.Bool
		mu         sync.Mutex
		wg         sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var sum Counts
			for !stop.Load() && ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= n {
					break
				}
				o := opt
				o.Seed += i
				r, _ := Run(o)
				sum.Add(r.Counts)
				if r.Failure != nil {
					stop.Store(true)
					mu.Lock()
					if failed == nil || r.Seed < failed.Seed {
						failed = &r
					}
					mu.Unlock()
				}
				if d := done.Add(1); progress != nil {
					progress(d)
				}
			}
			mu.Lock()
			total.Add(sum)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failed != nil && !opt.Trace {
		o := failed.Options
		o.Trace = true
		told, _ := Run(o)
		failed = &told
	}
	return failed, total, ctx.Err()
}
