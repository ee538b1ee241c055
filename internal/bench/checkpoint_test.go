package bench

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestCheckpointTablesCompareWithinARound: a round on a host of half the speed changes no ratio.
func TestCheckpointTablesCompareWithinARound(t *testing.T) {
	var all []CheckpointResult
	for round, speed := range []float64{1, 0.5, 1} {
		add := func(name string, rate float64, epochs uint64) {
			r := CheckpointResult{Protection: name, Round: round + 1}
			r.Compile = CompileUsage{Rate: rate * speed, Usage: Usage{
				Seconds: 2, LinkBytes: 1_000_000, Epochs: epochs, EpochPages: 300 * epochs, EpochBytes: 5000 * epochs, EpochStopMs: 2 * float64(epochs),
			}}
			r.One = RedisUsage{Rate: 100, P50Ms: 100/rate + 1, P99Ms: 50, Usage: r.Compile.Usage}
			r.Fifty = RedisUsage{Rate: 10 * rate * speed, P50Ms: 2, P99Ms: 3, Usage: r.Compile.Usage}
			u := r.Compile.Usage
			r.Idle = &u
			all = append(all, r)
		}
		add(alone, 9, 0)
		add("checkpoint 40/s", 8, 80)
		add(adaptive, 5, 40)
		add(inLockstep, 10, 0)
		add(alone, 11, 0)
	}
	s := checkpointSection(all, 3, 256<<20)
	var b strings.Builder
	if err := s.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| unprotected | 9.0 |  |",
		"| lockstep | 10.0 | +0 % |  |  |  |  |  |  | 4.0 |",
		"| checkpoint adaptive | 5.0 | +100 % |  |  | 20.0 | 300 | 5 | 2.00 | 4.0 |",
		"| checkpoint 40/s | 8.0 | +25 % | ≤ +20 % | +103 % | 40.0 | 300 | 5 | 2.00 | 4.0 |",
		"≤ 30 | 80.0 | 80 % |",
		"| Redis, 50 clients: throughput of unprotected | 100 % | 50 % |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestProtectionsAreSelectable(t *testing.T) {
	for _, p := range protections() {
		if strings.Contains(p.name, ",") {
			t.Errorf("%q cannot be named in a list", p.name)
		}
	}
	for _, l := range cloneLoads() {
		if strings.Contains(l.name, ",") {
			t.Errorf("%q cannot be named in a list", l.name)
		}
	}
}

func TestCPUSeconds(t *testing.T) {
	before, err := cpuSeconds(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for used := cpuTime(); cpuTime()-used < 50*time.Millisecond; {
	}
	after, err := cpuSeconds(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// It counts in hundredths, for each of user and system.
	if d := after - before; d < 0.02 || after > cpuTime().Seconds()+0.05 {
		t.Errorf("50 ms of processor time count as %v s", d)
	}
}
