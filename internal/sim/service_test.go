package sim

import (
	"context"
	"testing"

	"github.com/anishathalye/porcupine"
)

// serviceCaughtBy says which watcher finds a mutation that is not of the key-value service alone in its world.
var serviceCaughtBy = map[string][]string{
	"release-before-ack":        {ruleHeld},
	"claim-without-cas":         {ruleNumbers, ruleHeirs},
	"act-without-claim":         {ruleHeirs, ruleHeld},
	"ack-dropped":               {ruleHeld},
	"ack-after-claim":           {ruleHeld},
	"live-too-early":            {ruleOnce},
	"forget-freshness":          {ruleNoReturn, ruleFresh, ruleLinear},
	"apply-twice":               {ruleOnce},
	"diverge":                   {ruleDigests},
	"promote-unsynced":          {ruleHeirs, ruleComesBack},
	"join-without-log":          {ruleOnce, ruleDigests},
	"restored-old-state":        {ruleOnce, ruleDigests},
	"handover-before-caught-up": {ruleHeld, ruleOnce, ruleComesBack},
	"handed-not-gated":          {ruleHeld},
}

// TestServiceMutationsAreCaught breaks rules of the core under the key-value service: each must be found within 2000 seeds.
func TestServiceMutationsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some hundred seeds")
	}
	for name, rules := range serviceCaughtBy {
		t.Run(name, func(t *testing.T) { caught(t, Options{Seed: 1, World: worldKV, Mutation: name}, 2000, rules) })
	}
}

// TestSpoiltHistoriesAreFound: the checker of histories finds an answer that is changed afterwards, and takes operations of which
// nobody knows the outcome for executed or not.
func TestSpoiltHistoriesAreFound(t *testing.T) {
	spoilt := 0
	for seed := uint64(1); seed <= 10; seed++ {
		w := newWorld(seed, worldKV, mutation{}, false)
		w.run()
		if w.failure != nil {
			t.Fatal(w.failure)
		}
		for k := range w.keys {
			ops := keyHistory(w.users, k)
			if !porcupine.CheckOperations(keyModel, ops) {
				t.Fatalf("seed %d, key %d: not linearizable", seed, k)
			}
			for i := len(ops) / 2; i < len(ops); i++ {
				op := ops[i].Input.(*kvOperation)
				if op.fate != fateKnown || op.verb != verbAppend && op.verb != verbIncr {
					continue
				}
				r := op.result
				r.n++
				ops[i].Output = r
				if porcupine.CheckOperations(keyModel, ops) {
					t.Errorf("seed %d, key %d: a wrong answer is not found", seed, k)
				}
				// The same operation with an unknown outcome, if nothing that was seen depends on it, is fine.
				ops[i].Output, ops[i].Return = nil, 1<<62
				if !porcupine.CheckOperations(keyModel, ops) {
					t.Errorf("seed %d, key %d: an unknown outcome is taken for a wrong one", seed, k)
				}
				spoilt++
				break
			}
		}
	}
	if spoilt < 10 {
		t.Errorf("only %d histories were spoilt", spoilt)
	}
}

// caught runs seeds until one breaks a rule, which must be one of those given.
func caught(t *testing.T, opt Options, seeds uint64, rules []string) {
	t.Helper()
	failed, _, err := RunMany(context.Background(), opt, seeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	if failed == nil {
		t.Fatal("not caught")
	}
	t.Logf("seed %d: %v", failed.Seed, failed.Failure)
	for _, r := range rules {
		if failed.Failure.Watcher == r {
			return
		}
	}
	t.Errorf("caught by %q, expected one of %q: %s\nrepeat: %s", failed.Failure.Watcher, rules, failed.Failure.Text, again(failed))
}
