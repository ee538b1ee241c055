package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"understudy/internal/sim"
)

// storyTail is how much of a failing seed's story is shown without --trace.
const storyTail = 60

func simCommand() *cobra.Command {
	var (
		seeds, seed uint64
		trace       bool
		mutation    string
		world       string
	)
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run the replication core in simulated worlds that fail in every way",
		Long: `sim runs the replication core in a world made from a seed: processes that are killed and stopped at any step, a
network that loses, delays, repeats, reorders and cuts off, clocks of different speeds, an arbiter that cannot always be
reached, slow disks, and clients. Watchers look for broken rules. The same seed gives the same run everywhere.

There are three worlds. Unless --world does, the seed chooses one of two: a pair that claims its views itself, and a
group of three or four hosts that a view service gives their parts, with spare hosts that get the state, planned
changes of roles, and servers that start again with nothing. The third, kv, is such a group with the key-value store as its
machine; the histories of its clients are checked key by key.

With --mutate a rule is broken on purpose, to see the watchers find it. The mutations:
` + mutationList(),
		Example: `  understudy sim --seeds 20000
  understudy sim --seed 4711 --trace
  understudy sim --seeds 10000 --mutate release-before-ack`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("seed") && !c.Flags().Changed("seeds") {
				seeds = 1
			}
			if trace && seeds != 1 {
				return withHint(fmt.Errorf("--trace tells the story of one seed"), "understudy sim --seed %d --trace", seed)
			}
			return simulate(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), sim.Options{Seed: seed, World: world, Mutation: mutation, Trace: trace}, seeds)
		},
	}
	c.Flags().Uint64Var(&seeds, "seeds", 1000, "how many seeds to run, on all processors")
	c.Flags().Uint64Var(&seed, "seed", 1, "the first seed; alone, the only one")
	c.Flags().BoolVar(&trace, "trace", false, "tell the story of the seed")
	c.Flags().StringVar(&world, "world", "", "pair, group or kv; if not given the seed chooses pair or group")
	c.Flags().StringVar(&mutation, "mutate", "", "break a rule on purpose")
	return c
}

func mutationList() string {
	var b strings.Builder
	for _, m := range sim.Mutations {
		fmt.Fprintf(&b, "  %-26s %s\n", m.Name, m.About)
	}
	return strings.TrimRight(b.String(), "\n")
}

func simulate(ctx context.Context, stdout, stderr io.Writer, opt sim.Options, seeds uint64) error {
	begin := time.Now()
	if opt.Trace {
		r, err := sim.Run(opt)
		if err != nil {
			return err
		}
		for _, line := range r.Story {
			fmt.Fprintln(stdout, line)
		}
		return simFailed(stdout, &r, false)
	}
	var mu sync.Mutex
	shown := begin
	rate := func(done uint64) float64 { return float64(done) / time.Since(begin).Seconds() }
	failed, total, err := sim.RunMany(ctx, opt, seeds, func(done uint64) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(shown) >= time.Second {
			shown = now
			fmt.Fprintf(stderr, "%d of %d seeds, %.0f a second\n", done, seeds, rate(done))
		}
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return simFailed(stdout, failed, true)
	}
	fmt.Fprintf(stdout, "%d seeds, no rule broken: %.0f seeds a second\n", seeds, rate(seeds))
	fmt.Fprintf(stdout, "%d outputs released, %d answers to clients, %d backups went live, %d machines shut down, %d groups rightly dead\n",
		total.Outputs, total.Answers, total.LiveRuns, total.Ended, total.Dead)
	fmt.Fprintf(stdout, "in groups %d backups joined in sync, %d machines were handed over, %d backups were promoted by the view service\n",
		total.Synced, total.Handed, total.Promoted)
	fmt.Fprintf(stdout, "slowest recovery after the last fault %v; %d outputs late, as clocks or a broken channel allow\n", total.Slowest.Round(time.Millisecond), total.Late)
	if total.Operations > 0 {
		fmt.Fprintf(stdout, "%d operations of clients were answered, %d of them reads, %d repeated or given up; histories of %d operations checked: %.1f million a minute\n",
			total.Operations, total.Reads, total.Retries, total.Checked, float64(total.Checked)/1e6/time.Since(begin).Minutes())
		fmt.Fprintf(stdout, "%d states of two replicas compared, %d groups brought back from files, %d histories too long to check\n",
			total.Digests, total.Recovered, total.Unchecked)
	}
	return nil
}

// simFailed tells of a broken rule and how to see it again.
func simFailed(stdout io.Writer, r *sim.Result, tail bool) error {
	if r.Failure == nil {
		return nil
	}
	if tail {
		for _, line := range r.Story[max(0, len(r.Story)-storyTail):] {
			fmt.Fprintln(stdout, line)
		}
	}
	again := fmt.Sprintf("understudy sim --seed %d --trace", r.Seed)
	if r.World != "" {
		again += " --world " + r.World
	}
	if r.Mutation != "" {
		again += " --mutate " + r.Mutation
	}
	return &exitError{exitFailure, withHint(fmt.Errorf("seed %d breaks the rule %q: %s", r.Seed, r.Failure.Watcher, r.Failure.Text), "%s", again)}
}
