package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

func init() { Register(Definition{Name: "blackout", Run: blackout}) }

// kills is how often the primary is killed for the section.
const kills = 20

// blackout kills the primary of a fresh pair again and again and tells what the client saw of it.
func blackout(ctx context.Context, o Options) (*Section, error) {
	im, err := pairImage(ctx)
	if err != nil {
		return nil, err
	}
	exe, remove, err := understudy(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	n := max(1, int(kills*o.Scale))
	var all []*demo.Report
	for i := range n {
		rep, err := demo.Run(ctx, demo.Options{
			Pair: demo.PairOptions{Image: im, Exe: exe, SuspectAfter: host.DefaultSuspectAfter},
			Kill: "primary", Load: 2 * time.Second, Boot: 5 * time.Minute,
		})
		if err != nil {
			return nil, fmt.Errorf("kill %d: %w", i+1, err)
		}
		if !rep.OK() {
			return nil, fmt.Errorf("kill %d: %d lost, %d duplicated, same connection %v: %s", i+1, rep.Lost, rep.Duplicated, rep.SameConnection, rep.Error)
		}
		fmt.Fprintf(o.Log, "kill %2d: blackout %.0f ms (detect %.1f, grant %.1f, first frame %.1f)\n", i+1, rep.BlackoutMs, rep.DetectMs, rep.GrantMs, rep.GoLiveMs)
		all = append(all, rep)
	}
	s := &Section{Name: "blackout", Title: "kill -9 of the primary under load"}
	s.Table.Header = []string{"ms", "median", "worst"}
	column := func(name string, f func(*demo.Report) float64) {
		var v []float64
		for _, r := range all {
			v = append(v, f(r))
		}
		s.Table.Add(name, fmt.Sprintf("%.1f", median(v)), fmt.Sprintf("%.1f", slices.Max(v)))
	}
	column("blackout, as the client saw it", func(r *demo.Report) float64 { return r.BlackoutMs })
	column("from the kill to the claim", func(r *demo.Report) float64 { return r.DetectMs })
	column("from the claim to the grant", func(r *demo.Report) float64 { return r.GrantMs })
	column("from the grant to the first frame", func(r *demo.Report) float64 { return r.GoLiveMs })
	s.Data = all
	s.Notes = []string{fmt.Sprintf("%d kills, each of a fresh pair with the default time-outs, two seconds into a load of one client (INCR and SET "+
		"in turn). No acknowledged write was lost, no effect doubled, and the connection lived, in any of them. To reach: a median of "+
		"at most 250 ms.", n)}
	return s, nil
}
