package sim

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// seedCount is how many seeds the tests run: UNDERSTUDY_SIM_SEEDS, or few.
func seedCount(t *testing.T) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("UNDERSTUDY_SIM_SEEDS"), 10, 64); err == nil {
		return n
	}
	if testing.Short() {
		return 500
	}
	return 2000
}

func again(r *Result) string {
	cmd := "understudy sim --seed " + strconv.FormatUint(r.Seed, 10) + " --trace"
	if r.World != "" {
		cmd += " --world " + r.World
	}
	if r.Mutation != "" {
		cmd += " --mutate " + r.Mutation
	}
	return cmd
}

// TestNoRuleIsBroken is the simulation. It also looks whether the scenarios reach what they are there for. Of the
// seeds a pair gets half, and a group, which takes longer, half; those that choose for themselves are the same.
func TestNoRuleIsBroken(t *testing.T) {
	for _, world := range Worlds {
		t.Run(world, func(t *testing.T) {
			n := seedCount(t) / 2
			if world == worldKV {
				n /= 4 // one takes as long as several
			}
			begin := time.Now()
			failed, total, err := RunMany(context.Background(), Options{Seed: 1, World: world}, n, nil)
			if err != nil {
				t.Fatal(err)
			}
			if failed != nil {
				t.Fatalf("%v\n%s\nrepeat: %s", failed.Failure, strings.Join(failed.Story[max(0, len(failed.Story)-60):], "\n"), again(failed))
			}
			t.Logf("%d seeds, %.0f a second: %+v", n, float64(n)/time.Since(begin).Seconds(), total)
			runs := int(n)
			enough := map[string]bool{
				"outputs":             total.Outputs > 20*runs,
				"answers":             total.Answers+total.Operations > 10*runs,
				"backups that went":   total.LiveRuns > runs/10,
				"higher views":        total.Views > runs*5/4,
				"late outputs":        total.Late >= runs/1000,
				"machines that end":   total.Ended > runs/50 || world == worldKV,
				"groups that survive": total.Dead < runs*3/10,
				"histories checked":   total.Unchecked == 0,
			}
			if world == worldKV {
				enough["operations"] = total.Operations > 200*runs && total.Checked > 200*runs
				enough["reads"] = total.Reads > 100*runs
				enough["operations that are repeated"] = total.Retries > 100*runs
				enough["states compared"] = total.Digests > 5*runs
				enough["groups that files bring back"] = total.Recovered > runs/10
			}
			if world != worldPair {
				enough["backups that join"] = total.Synced > runs
				enough["machines that are handed over"] = total.Handed > runs/30
				enough["backups that the service promotes"] = total.Promoted > runs/12
			}
			for what, ok := range enough {
				if !ok {
					t.Errorf("the scenarios do not reach enough of: %s (%+v in %d runs)", what, total, runs)
				}
			}
		})
	}
}

// caughtBy says which watcher should find a mutation; more than one may.
var caughtBy = map[string][]string{
	"release-before-ack":  {ruleHeld},
	"claim-without-cas":   {ruleKnown, ruleOneVoice, ruleNoReturn, ruleNumbers},
	"act-without-claim":   {ruleHeld, ruleHeirs},
	"ack-dropped":         {ruleHeld},
	"ack-after-claim":     {ruleHeld},
	"live-too-early":      {ruleOnce},
	"forget-freshness":    {ruleNoReturn},
	"apply-twice":         {ruleOnce},
	"forget-kept-outputs": {ruleInOrder},
	"tell-before-release": {ruleInOrder},
	"repeat-all":          {ruleInOrder},
	"hasty-goodbye":       {ruleOrderly},
	"never-full":          {ruleBounded},
	"same-incarnation":    {ruleOneVoice, ruleKnown, ruleHeirs, ruleComesBack},
	"namesakes":           {ruleKnown, ruleHeld, ruleComesBack},
	"diverge":             {ruleDigests},
	"forget-requests":     {ruleLinear},
	"forget-the-end":      {ruleOrderly},
	"ask-once":            {ruleComesBack},

	"promote-unsynced":          {ruleHeirs, ruleComesBack},
	"sync-one-early":            {ruleKnown, ruleHeirs},
	"forget-acknowledgement":    {ruleHeirs, ruleComesBack},
	"join-without-log":          {ruleOnce, ruleDigests},
	"restored-old-state":        {ruleOnce, ruleDigests},
	"handover-without-stop":     {ruleOnce, ruleDigests, ruleInOrder},
	"handover-before-caught-up": {ruleHeld, ruleOnce, ruleComesBack},
	"handed-not-gated":          {ruleHeld},
	"told-before-gate":          {ruleInOrder},
	"cover-too-early":           {ruleKnown, ruleHeirs},

	"read-without-asking":       {ruleFresh, ruleLinear},
	"read-what-is-not-held":     {ruleHeld},
	"reply-one-early":           {ruleHeld},
	"answered-by-an-older":      {ruleFresh, ruleLinear},
	"read-while-frozen":         {ruleHeld, ruleFresh, ruleNoReturn},
	"read-at-backup":            {ruleOneVoice, ruleHeld},
	"replies-not-in-snapshot":   {ruleDigests},
	"replies-lost-with-primary": {ruleOnceEach, ruleLinear},
	"reply-cache-forgets":       {ruleOnceEach, ruleLinear},
	"refuse-what-is-logged":     {ruleOnceEach, ruleLinear},
	"own-clock":                 {ruleDigests},

	"reply-before-stored":       {ruleHeld},
	"acknowledge-before-stored": {ruleKnown, ruleHeld},
	"marked-before-stored":      {ruleHeirs, ruleKnown},
	"old-files-lead":            {ruleHeirs, ruleKnown},
}

// TestMutationsAreCaught breaks the rules one by one: each must be found within 10,000 seeds, by the watcher
// that is there for it.
func TestMutationsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten thousand seeds")
	}
	for _, m := range Mutations {
		t.Run(m.Name, func(t *testing.T) { caught(t, Options{Seed: 1, Mutation: m.Name}, 10_000, caughtBy[m.Name]) })
	}
}

// TestSameSeedSameStory: a seed is the whole run, told or not.
func TestSameSeedSameStory(t *testing.T) {
	for seed := range uint64(50) {
		one, err := Run(Options{Seed: seed, Trace: true})
		if err != nil {
			t.Fatal(err)
		}
		two, _ := Run(Options{Seed: seed, Trace: true})
		untold, _ := Run(Options{Seed: seed})
		if !slices.Equal(one.Story, two.Story) {
			t.Fatalf("seed %d told two stories", seed)
		}
		if one.Counts != untold.Counts {
			t.Fatalf("seed %d: told %+v, untold %+v", seed, one.Counts, untold.Counts)
		}
		if len(untold.Story) != 0 || len(one.Story) < 5 {
			t.Fatalf("seed %d: %d lines, untold %d", seed, len(one.Story), len(untold.Story))
		}
	}
}

// counterModel is the clients' service for the general checker.
var counterModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		value := state.(int64)
		if r := input.(request); r.op != opRead {
			value += r.amount
		}
		got, answered := output.(int64)
		return !answered || got == value, value
	},
}

func history(clients []*client) []porcupine.Operation {
	var ops []porcupine.Operation
	for _, c := range clients {
		for i := range c.past {
			o := &c.past[i]
			p := porcupine.Operation{ClientId: c.id, Input: o.request, Call: int64(o.asked), Return: 1 << 60}
			if o.done {
				p.Output, p.Return = o.value, int64(o.got)
			}
			ops = append(ops, p)
		}
	}
	return ops
}

// TestLinearAgreesWithPorcupine compares the quick check, which believes the machine's own order, with the
// general one, on histories as they are and spoilt.
func TestLinearAgreesWithPorcupine(t *testing.T) {
	spoilt := 0
	for seed := uint64(1); seed <= 150; seed++ {
		w := newWorld(seed, "", mutation{}, false)
		w.run()
		if linear(w.clients) != nil || !porcupine.CheckOperations(counterModel, history(w.clients)) {
			t.Fatalf("seed %d: linear: %v", seed, linear(w.clients))
		}
		// Spoil one answer.
		c := w.clients[seed%uint64(len(w.clients))]
		if len(c.past) < 2 || !c.past[len(c.past)/2].done {
			continue
		}
		o := &c.past[len(c.past)/2]
		was := *o
		o.value--
		if linear(w.clients) == nil && !porcupine.CheckOperations(counterModel, history(w.clients)) {
			t.Errorf("seed %d: a wrong answer passes the quick check", seed)
		}
		*o = was
		// An answer that was given before others asked, for an execution after theirs.
		o.version += 1000
		if linear(w.clients) == nil {
			t.Errorf("seed %d: a wrong order passes the quick check", seed)
		}
		spoilt++
	}
	if spoilt < 50 {
		t.Errorf("only %d histories were spoilt", spoilt)
	}
}

func TestUnknownOptions(t *testing.T) {
	for _, o := range []Options{{Mutation: "no-such"}, {World: "no-such"}} {
		if _, err := Run(o); err == nil {
			t.Errorf("no error from Run of %+v", o)
		}
		if _, _, err := RunMany(context.Background(), o, 1, nil); err == nil {
			t.Errorf("no error from RunMany of %+v", o)
		}
	}
}

// TestSeedChoosesWorld: what a seed chooses is the same run as when it is told.
func TestSeedChoosesWorld(t *testing.T) {
	groups := 0
	for seed := range uint64(40) {
		free, _ := Run(Options{Seed: seed})
		pair, _ := Run(Options{Seed: seed, World: worldPair})
		group, _ := Run(Options{Seed: seed, World: worldGroup})
		switch free.Counts {
		case group.Counts:
			groups++
		case pair.Counts:
		default:
			t.Errorf("seed %d: %+v, as a pair %+v, as a group %+v", seed, free.Counts, pair.Counts, group.Counts)
		}
	}
	if groups < 10 || groups > 30 {
		t.Errorf("%d of 40 are groups", groups)
	}
}
