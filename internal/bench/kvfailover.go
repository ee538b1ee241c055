package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy/internal/kvbench/compare"
	"understudy/rsm"
)

// KVFailover is one failure that one client saw.
type KVFailover struct {
	Service  string        `json:"service"`
	Failure  string        `json:"failure"`
	Suspect  time.Duration `json:"suspect_after_ns"`
	Client   string        `json:"client"`
	Blackout time.Duration `json:"blackout_ns"`
	Acked    int           `json:"acked"`
	Lost     int           `json:"lost"`
	View     time.Duration `json:"view_ns,omitempty"`           // after the failure, another server was primary
	Twice    time.Duration `json:"on_two_servers_ns,omitempty"` // after the failure, all data was on two servers again
}

// kvSentinel is the time-out that both sides have.
const kvSentinel = 500 * time.Millisecond

// kvArm is a service that loses its primary.
type kvArm struct {
	name    string
	suspect time.Duration
	redis   bool
}

// The clients of the arms.
const (
	clientSet  = "go-redis, SET"
	clientWait = "go-redis, SET + WAIT 1"
	clientOwn  = "kv/client"
)

// keyValueFailover loses the primary of fresh groups in turn and tells what clients saw of it.
func keyValueFailover(ctx context.Context, o Options) (s *Section, err error) {
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
	arms := []kvArm{{"understudy kv", kvSentinel, false}, {"understudy kv", rsm.DefaultSuspectAfter, false}}
	missing := compare.RedisAvailable()
	if missing == nil {
		arms = slices.Insert(arms, 0, kvArm{"Redis + Sentinel", kvSentinel, true})
	} else {
		fmt.Fprintf(o.Log, "no figures of Redis: %v\n", missing)
	}
	var all []KVFailover
	for range max(1, o.Rounds) {
		for _, how := range []compare.Failure{compare.Killed, compare.Killed, compare.Frozen} {
			for _, a := range arms {
				of, err := a.once(ctx, exe, how)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", a.name, how, err)
				}
				for _, f := range of {
					fmt.Fprintf(o.Log, "%-16s %v %-8s %-24s blackout %.1f ms, %d acknowledged, %d lost\n", f.Service, f.Suspect, f.Failure, f.Client,
						kvMs(f.Blackout), f.Acked, f.Lost)
				}
				all = append(all, of...)
			}
		}
	}
	s = kvFailoverTable(all, busy)
	if missing != nil {
		s.Notes = append(s.Notes, "Redis is not in the table: it was not installed there.")
	}
	return s, nil
}

// once starts a group and loses its primary.
func (a kvArm) once(ctx context.Context, exe string, how compare.Failure) (all []KVFailover, err error) {
	var on *compare.Service
	var second *compare.Writer
	if a.redis {
		on, err = compare.Redis(ctx, a.name, compare.RedisOptions{Replicas: 2, Sentinels: 3, DownAfter: a.suspect})
	} else {
		on, err = compare.Ours(ctx, a.name, compare.OursOptions{Exe: exe, Servers: 3, Suspect: a.suspect})
	}
	if err != nil {
		return nil, err
	}
	defer on.Close()
	if a.redis {
		second = compare.Follow(clientWait, on, true)
	} else if second, err = compare.FollowViews(clientOwn, on); err != nil {
		return nil, err
	}
	outcomes, steps, err := on.Fail(ctx, how, compare.Follow(clientSet, on, false), second)
	if err != nil {
		return nil, err
	}
	for _, x := range outcomes {
		all = append(all, KVFailover{a.name, string(how), a.suspect, x.Writer, x.Blackout, x.Acked, x.Lost, steps.View, steps.Twice})
	}
	return all, nil
}

// kvFailoverTable has a row for every service, failure and client, in the order in which they came.
func kvFailoverTable(all []KVFailover, busy string) *Section {
	s := &Section{Name: "kvfailover", Title: "The key-value service loses its primary, beside Redis Sentinel", Data: all}
	s.Table.Header = []string{
		"failure", "service, time-out", "client", "blackout, ms: median", "worst", "to reach", "new primary, ms: median", "on two servers again", "acknowledged", "of these lost",
	}
	type row struct {
		failure, service string
		suspect          time.Duration
		client           string
	}
	var order []row
	of := map[row][]KVFailover{}
	for _, f := range all {
		r := row{f.Failure, f.Service, f.Suspect, f.Client}
		if of[r] == nil {
			order = append(order, r)
		}
		of[r] = append(of[r], f)
	}
	slices.SortStableFunc(order, func(a, b row) int {
		if a.failure == b.failure {
			return 0
		}
		if a.failure == string(compare.Killed) {
			return -1
		}
		return 1
	})
	blackout := func(r row) (v []float64) {
		for _, f := range of[r] {
			v = append(v, kvMs(f.Blackout))
		}
		return v
	}
	for _, r := range order {
		acked, lost, views, twice := 0, 0, []float64{}, []float64{}
		for _, f := range of[r] {
			acked, lost = acked+f.Acked, lost+f.Lost
			if f.Twice > 0 {
				views, twice = append(views, kvMs(f.View)), append(twice, kvMs(f.Twice))
			}
		}
		mark, primary, again := "", "", ""
		if len(twice) > 0 {
			primary = fmt.Sprintf("%.0f", median(views))
			again = fmt.Sprintf("%.0f", median(twice))
			if base := of[row{r.failure, "Redis + Sentinel", r.suspect, clientSet}]; base != nil {
				mark = fmt.Sprintf("< %.0f", median(blackout(row{r.failure, "Redis + Sentinel", r.suspect, clientSet})))
			}
		}
		s.Table.Add(r.failure, fmt.Sprintf("%s, %d ms", r.service, r.suspect.Milliseconds()), r.client, fmt.Sprintf("%.0f", median(blackout(r))),
			fmt.Sprintf("%.0f", slices.Max(blackout(r))), mark, primary, again, fmt.Sprint(acked), fmt.Sprint(lost))
	}
	s.Notes = []string{
		"Three servers of either kind, started anew for each failure: a master with two replicas and three Sentinels, of which two must agree " +
			"(`down-after-milliseconds` is the time-out), and primary, backup and spare with one control. With two servers nobody could " +
			"acknowledge a WAIT after the failure. Two clients write side by side, one key after the other, each when the former was " +
			"acknowledged; the blackout is the longest time between two acknowledgements from the failure on.",
		"go-redis is its failover client, which asks Sentinel, or our control in Sentinel's place; its own pauses are off, a write that failed is " +
			"repeated after 1 ms. kv/client asks the view service, and gives a silent server up after the time-out. SET alone is " +
			"acknowledged by Redis when the master has it: that is its shortest blackout, and a promise that Redis may break. With WAIT 1, " +
			"which is repeated every 50 ms, it is acknowledged when a replica has it too; that is what our answer promises, unless the arbiter has made the " +
			"primary the only one. Ours is on two servers again when the spare has become the backup and is in sync.",
		fmt.Sprintf("After kill -9 connections break, and ours suspects at that; Sentinel waits for its time-out. A process that is frozen (SIGSTOP) is "+
			"silent: there both wait. %s, in turn, on one machine: %s.", kvTimes(all), machineShape(busy)),
	}
	return s
}

// kvTimes counts the failures of each kind that each service had.
func kvTimes(all []KVFailover) string {
	n := map[string]int{}
	for _, f := range all {
		if f.Service == all[0].Service && f.Suspect == all[0].Suspect && f.Client == all[0].Client {
			n[f.Failure]++
		}
	}
	return fmt.Sprintf("%d × kill -9 and %d × SIGSTOP of each", n[string(compare.Killed)], n[string(compare.Frozen)])
}
