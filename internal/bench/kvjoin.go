package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/internal/kvbench/compare"
)

// KVJoin is one server that joined under probes.
type KVJoin struct {
	Service string        `json:"service"`
	Took    time.Duration `json:"took_ns"` // from the start of its process until it was in sync
	Before  KVProbes      `json:"before"`  // as long a time before
	During  KVProbes      `json:"during"`  // while it joined
	After   KVProbes      `json:"after"`   // in the second thereafter
}

// KVProbes is how long commands took.
type KVProbes struct {
	N       int           `json:"n"`
	P999    time.Duration `json:"p999_ns"`
	Longest time.Duration `json:"longest_ns"`
}

const (
	kvKeys   = 1_000_000
	kvProbes = 4 // connections
	kvQuiet  = 5 * time.Second
)

// kvJoins has servers join a primary with a million keys, again and again: ours, then Redis's, which is there to compare.
func kvJoins(ctx context.Context, o Options, exe string) (joins []KVJoin, part Part, err error) {
	keys := max(1000, int(kvKeys*o.Scale))
	s, err := compare.Ours(ctx, "understudy kv", compare.OursOptions{Exe: exe, Servers: 1, Suspect: benchSuspect})
	if err != nil {
		return nil, part, err
	}
	if joins, err = kvJoin(ctx, o, s, keys); err != nil {
		return nil, part, err
	}
	if compare.RedisAvailable() == nil {
		if s, err = compare.Redis(ctx, "Redis", compare.RedisOptions{}); err != nil {
			return nil, part, err
		}
		of, err := kvJoin(ctx, o, s, keys)
		if err != nil {
			return nil, part, err
		}
		joins = append(joins, of...)
	}
	return joins, kvJoinPart(joins, keys), nil
}

// kvJoin closes the service.
func kvJoin(ctx context.Context, o Options, s *compare.Service, keys int) (joins []KVJoin, err error) {
	defer s.Close()
	began := time.Now()
	if err := compare.Fill(ctx, s.Addr, keys); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Log, "join: %s: %d keys written in %.1f s\n", s.Name, keys, time.Since(began).Seconds())
	p, err := compare.StartProber(ctx, s.Addr, kvProbes, keys)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Stop() }()
	probes := func(from, to time.Time) (r KVProbes) {
		if took := p.Took(from, to); len(took) > 0 {
			r = KVProbes{len(took), took[len(took)*999/1000], took[len(took)-1]}
		}
		return r
	}
	for range max(1, o.Rounds) {
		if err := sleep(ctx, kvQuiet); err != nil {
			return nil, err
		}
		from := time.Now()
		backup, err := s.Join(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.AwaitCopy(ctx, true); err != nil {
			return nil, err
		}
		to := time.Now()
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
		j := KVJoin{s.Name, to.Sub(from), probes(from.Add(-min(to.Sub(from), kvQuiet)), from), probes(from, to), probes(to, to.Add(time.Second))}
		joins = append(joins, j)
		fmt.Fprintf(o.Log, "join: %s: in sync after %.2f s; a command took at most %.2f ms before, %.2f ms meanwhile, %.2f ms in the second thereafter\n",
			s.Name, j.Took.Seconds(), kvMs(j.Before.Longest), kvMs(j.During.Longest), kvMs(j.After.Longest))
		if err := backup.Kill(); err != nil {
			return nil, err
		}
		if err := s.AwaitCopy(ctx, false); err != nil {
			return nil, err
		}
	}
	return joins, p.Stop()
}

func kvJoinPart(joins []KVJoin, keys int) Part {
	part := Part{Title: "A backup joins"}
	part.Table.Header = []string{"how long a command took, ms", "service", "99.9 %: median", "longest: median", "longest: worst", "to reach"}
	row := func(name, service, mark string, f func(KVJoin) KVProbes) {
		var tail, longest []float64
		for _, j := range joins {
			if j.Service == service {
				tail, longest = append(tail, kvMs(f(j).P999)), append(longest, kvMs(f(j).Longest))
			}
		}
		part.Table.Add(name, service, fmt.Sprintf("%.1f", median(tail)), fmt.Sprintf("%.1f", median(longest)), fmt.Sprintf("%.1f", slices.Max(longest)), mark)
	}
	var services, times []string
	took := map[string][]float64{}
	for _, j := range joins {
		if took[j.Service] == nil {
			services = append(services, j.Service)
		}
		took[j.Service] = append(took[j.Service], j.Took.Seconds())
	}
	for i, s := range services {
		mark := ""
		if i == 0 {
			mark = "≤ 20"
		}
		row("in as long a time before, the primary alone", s, "", func(j KVJoin) KVProbes { return j.Before })
		row("from the start of the backup until it is in sync", s, mark, func(j KVJoin) KVProbes { return j.During })
		row("in the second thereafter", s, "", func(j KVJoin) KVProbes { return j.After })
		times = append(times, fmt.Sprintf("%s after %.1f s (median; at most %.1f s)", s, median(took[s]), slices.Max(took[s])))
	}
	part.Notes = []string{fmt.Sprintf("A primary with %d keys, 64 bytes each, and no backup; %d connections send a command every millisecond, SET and GET in turn. "+
		"%d times a second server is started, gets all of it, and is killed again. It was in sync: %s. The clients, the primary and the new server share the "+
		"processors, so on a machine with few of them a command also waits for its turn.",
		keys, kvProbes, len(took[services[0]]), strings.Join(times, ", "))}
	return part
}
