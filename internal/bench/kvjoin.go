package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy/internal/kvbench/compare"
)

// KVJoin is one backup that joined under probes.
type KVJoin struct {
	Took   time.Duration `json:"took_ns"`        // from the start of its process until it was in sync
	Before time.Duration `json:"before_ns"`      // the longest that a command took in as long a time before
	During time.Duration `json:"during_ns"`      // the longest that a command took meanwhile
	After  time.Duration `json:"after_ns"`       // the longest that a command took in the second thereafter
	Probes int           `json:"probes_during"`  // commands
	Keys   int           `json:"keys,omitempty"` // that the primary had
}

const (
	kvKeys   = 1_000_000
	kvProbes = 4 // connections
	kvQuiet  = 5 * time.Second
)

// kvJoin has a backup join a primary with a million keys, again and again.
func kvJoin(ctx context.Context, o Options, exe string) (joins []KVJoin, part Part, err error) {
	keys := max(1000, int(kvKeys*o.Scale))
	s, err := compare.Ours(ctx, "understudy", compare.OursOptions{Exe: exe, Servers: 1, Suspect: benchSuspect})
	if err != nil {
		return nil, part, err
	}
	defer s.Close()
	began := time.Now()
	if err := compare.Fill(ctx, s.Addr, keys); err != nil {
		return nil, part, err
	}
	fmt.Fprintf(o.Log, "join: %d keys written in %.1f s\n", keys, time.Since(began).Seconds())
	p, err := compare.StartProber(ctx, s.Addr, kvProbes, keys)
	if err != nil {
		return nil, part, err
	}
	defer func() { _ = p.Stop() }()
	for range max(1, o.Rounds) {
		if err := sleep(ctx, kvQuiet); err != nil {
			return nil, part, err
		}
		from := time.Now()
		backup, err := s.Join(ctx)
		if err != nil {
			return nil, part, err
		}
		if _, err := s.Await(ctx, "a backup in sync", compare.Protected); err != nil {
			return nil, part, err
		}
		to := time.Now()
		if err := sleep(ctx, time.Second); err != nil {
			return nil, part, err
		}
		j := KVJoin{Took: to.Sub(from), Keys: keys}
		j.Before, _ = p.Longest(from.Add(-min(j.Took, kvQuiet)), from)
		j.During, j.Probes = p.Longest(from, to)
		j.After, _ = p.Longest(to, to.Add(time.Second))
		joins = append(joins, j)
		fmt.Fprintf(o.Log, "join: in sync after %.2f s; a command took at most %.2f ms before, %.2f ms meanwhile, %.2f ms in the second thereafter\n",
			j.Took.Seconds(), kvMs(j.Before), kvMs(j.During), kvMs(j.After))
		if err := backup.Kill(); err != nil {
			return nil, part, err
		}
		if _, err := s.Await(ctx, "the primary alone again", compare.Alone); err != nil {
			return nil, part, err
		}
	}
	if err := p.Stop(); err != nil {
		return nil, part, err
	}
	return joins, kvJoinPart(joins, keys), nil
}

func kvJoinPart(joins []KVJoin, keys int) Part {
	part := Part{Title: "A backup joins"}
	part.Table.Header = []string{"the longest that a command took, ms", "median", "worst", "to reach"}
	row := func(name, mark string, f func(KVJoin) time.Duration) {
		var v []float64
		for _, j := range joins {
			v = append(v, kvMs(f(j)))
		}
		part.Table.Add(name, fmt.Sprintf("%.1f", median(v)), fmt.Sprintf("%.1f", slices.Max(v)), mark)
	}
	row("in as long a time before, the primary alone", "", func(j KVJoin) time.Duration { return j.Before })
	row("from the start of the backup until it is in sync", "≤ 20", func(j KVJoin) time.Duration { return j.During })
	row("in the second thereafter", "", func(j KVJoin) time.Duration { return j.After })
	var took []float64
	for _, j := range joins {
		took = append(took, j.Took.Seconds())
	}
	part.Notes = []string{fmt.Sprintf("A primary with %d keys, 64 bytes each, and no backup; %d connections send a command every millisecond, SET and GET in turn. %d "+
		"times a second server is started, gets all of it, and is killed again. It was in sync after %.1f s (median; at most %.1f s).",
		keys, kvProbes, len(joins), median(took), slices.Max(took))}
	return part
}
