package bench

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/kvbench"
	"understudy/internal/kvbench/compare"
)

func kvResults(all []*contender, rate func(c *contender, round int) float64) (results []*KVResult) {
	for _, s := range kvShapes {
		for _, c := range all {
			if !c.takes(s) {
				continue
			}
			r := &KVResult{Service: c.name}
			for round := range 3 {
				r.Rounds = append(r.Rounds, kvbench.Result{PerSecond: rate(c, round), P50: time.Millisecond, P99: 2 * time.Millisecond})
				r.CPU = append(r.CPU, 3*time.Microsecond)
			}
			results = append(results, r)
		}
	}
	return results
}

// The ratio is with Redis + WAIT of the same round and load, and the mark is at ours.
func TestKVTables(t *testing.T) {
	ours, redis, etcd := &compare.Service{Name: "understudy kv"}, &compare.Service{Name: "Redis", Version: "7"}, &compare.Service{Name: "etcd"}
	all := []*contender{
		{name: "Redis + WAIT", on: redis, wait: true},
		{name: "Redis, WAIT once a pipeline", on: redis, wait: true, once: true},
		{name: "Redis", on: redis},
		{name: "etcd", on: etcd, etcd: true},
		{name: "understudy kv", on: ours, ours: true},
	}
	// A machine that gets slower with each round.
	results := kvResults(all, func(c *contender, round int) float64 {
		rate := 1000.0 / float64(round+1)
		if c.ours {
			rate *= 1.75
		}
		return rate
	})
	s := kvTables(all, results)
	var b strings.Builder
	if err := s.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 50 × 1 | understudy kv | 875 | 583 | 1750 | 1.00 | 2.00 | 3.0 | 1.75 | ≥ 1.5 |\n",
		"| 1 × 16 | understudy kv | 875 | 583 | 1750 | 1.00 | 2.00 | 3.0 | 1.75 | ≥ 1.0 |\n",
		"| 50 × 16 | Redis, WAIT once a pipeline | 500 | 333 | 1000 | 1.00 | 2.00 | 3.0 | 1.00 |  |\n",
		"| 50 × 1 | Redis + WAIT | 500 | 333 | 1000 | 1.00 | 2.00 | 3.0 |  |  |\n",
		"### Reads\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "files") || strings.Count(b.String(), "WAIT once a pipeline |") != 2 {
		t.Errorf("rows of loads that nobody took:\n%s", &b)
	}
	if n := kvNote(Options{Scale: 1}, all, "0.1"); !strings.Contains(n, "Redis 7 with one replica") || strings.Count(n, "Redis 7") != 1 {
		t.Error(n)
	}

	// Without Redis there are figures, and no ratios.
	b.Reset()
	if err := kvTables(all[3:], kvResults(all[3:], func(*contender, int) float64 { return 10 })).WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	if want := "| 50 × 1 | understudy kv | 10 | 10 | 10 | 1.00 | 2.00 | 3.0 |  |  |\n"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, &b)
	}
}

func TestKVFailoverTable(t *testing.T) {
	var all []KVFailover
	for round := range 3 {
		for _, how := range []compare.Failure{compare.Frozen, compare.Killed} {
			all = append(all,
				KVFailover{Service: "Redis + Sentinel", Failure: string(how), Suspect: kvSentinel, Client: clientSet, Blackout: time.Second, Acked: 10, Lost: round},
				KVFailover{
					Service: "understudy kv", Failure: string(how), Suspect: kvSentinel, Client: clientSet, Acked: 20,
					Blackout: time.Duration(round+1) * 10 * time.Millisecond, View: 7 * time.Millisecond, Twice: 90 * time.Millisecond,
				})
		}
	}
	s := kvFailoverTable(all, "0.1")
	var b strings.Builder
	if err := s.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n| kill -9 | Redis + Sentinel, 500 ms | go-redis, SET | 1000 | 1000 |  |  |  | 30 | 3 |\n",
		"| kill -9 | understudy kv, 500 ms | go-redis, SET | 20 | 30 | < 1000 | 7 | 90 | 60 | 0 |\n| SIGSTOP |",
		"3 × kill -9 and 3 × SIGSTOP of each",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestKVJoinPart(t *testing.T) {
	p := kvJoinPart([]KVJoin{
		{Service: "ours", Took: time.Second, During: KVProbes{P999: 2 * time.Millisecond, Longest: 5 * time.Millisecond}},
		{Service: "ours", Took: 3 * time.Second, During: KVProbes{P999: 4 * time.Millisecond, Longest: 25 * time.Millisecond}},
		{Service: "Redis", Took: 7 * time.Second, During: KVProbes{Longest: 50 * time.Millisecond}},
	}, 1_000_000)
	if r := strings.Join(p.Table.Rows[1], "|"); !strings.HasSuffix(r, "|ours|3.0|15.0|25.0|≤ 20") {
		t.Error(r)
	}
	if r := strings.Join(p.Table.Rows[4], "|"); !strings.HasSuffix(r, "|Redis|0.0|50.0|50.0|") {
		t.Error(r)
	}
	if !strings.Contains(p.Notes[0], "2 times a second server") || !strings.Contains(p.Notes[0], "ours after 2.0 s (median; at most 3.0 s), Redis after 7.0 s") {
		t.Error(p.Notes)
	}
}
