package arbitertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"understudy/arbiter"
)

// Answer is what a claimant was told: the record that is current, and whether that is its claim.
type Answer struct {
	Current arbiter.Record
	Won     bool
}

// Contend claims number after number for a group until rounds are granted, and reports every answer. When it
// is told nothing it claims the same again, for as long as patience. It fails if the register ever steps back.
func Contend(ctx context.Context, r arbiter.Register, group, claimant string, rounds int, report func(Answer)) error {
	var cur arbiter.Record
	answered := time.Now()
	for n := 0; ; n++ {
		seen, err := r.Get(ctx, group)
		if err == nil {
			answered = time.Now()
			if seen.Number < cur.Number || seen.Number == cur.Number && seen != cur {
				return fmt.Errorf("%s: the register went from %+v to %+v", claimant, cur, seen)
			}
			cur = seen
			if cur.Number >= uint64(rounds) {
				return nil
			}
			runtime.Gosched() // let others see the same record, or one claimant would win a time slice's worth
			next := rec(cur.Number+1, claimant, fmt.Sprintf("%s/%d", claimant, n))
			var won bool
			for {
				if seen, won, err = r.CompareAndSet(ctx, group, next); err == nil {
					break
				}
				if !errors.Is(err, arbiter.ErrUnreachable) || ctx.Err() != nil || time.Since(answered) > patience {
					return fmt.Errorf("%s: claim %d: %w", claimant, next.Number, err)
				}
				time.Sleep(time.Millisecond)
			}
			if seen.Number < cur.Number || won && seen != next {
				return fmt.Errorf("%s: claimed %+v after %+v, told %+v, %t", claimant, next, cur, seen, won)
			}
			cur = seen
			report(Answer{Current: seen, Won: won})
			continue
		}
		if !errors.Is(err, arbiter.ErrUnreachable) || ctx.Err() != nil || time.Since(answered) > patience {
			return fmt.Errorf("%s: get: %w", claimant, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// Follow watches a group until rounds are granted, through failures, and reports every record it is shown. It fails
// if a watch ends with a number that is not news.
func (c *Contest) Follow(ctx context.Context, r arbiter.Register, group string, rounds int) error {
	after := uint64(0)
	answered := time.Now()
	for after < uint64(rounds) {
		seen, err := r.Watch(ctx, group, after)
		if err != nil {
			if !errors.Is(err, arbiter.ErrUnreachable) || ctx.Err() != nil || time.Since(answered) > patience {
				return fmt.Errorf("watch after %d: %w", after, err)
			}
			time.Sleep(time.Millisecond)
			continue
		}
		if seen.Number <= after {
			return fmt.Errorf("watch after %d: shown %+v", after, seen)
		}
		c.mu.Lock()
		c.sawLocked(seen)
		c.mu.Unlock()
		after, answered = seen.Number, time.Now()
	}
	return nil
}

// sawLocked takes a record that somebody was shown.
func (c *Contest) sawLocked(seen arbiter.Record) {
	n := seen.Number
	if h, ok := c.holder[n]; ok && h != seen {
		c.faults = append(c.faults, fmt.Sprintf("number %d was granted to %+v and to %+v", n, h, seen))
	}
	c.holder[n] = seen
}

// Contest collects the answers of claimants and judges them.
type Contest struct {
	mu     sync.Mutex
	holder map[uint64]arbiter.Record // by number: the record that somebody was shown
	won    map[uint64]bool           // numbers that somebody was told to have won
	lost   int                       // claims that were told so
	faults []string
}

// NewContest returns an empty contest.
func NewContest() *Contest {
	return &Contest{holder: make(map[uint64]arbiter.Record), won: make(map[uint64]bool)}
}

// Report takes an answer. It may be called from several goroutines.
func (c *Contest) Report(a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := a.Current.Number
	c.sawLocked(a.Current)
	if a.Won {
		if c.won[n] {
			c.faults = append(c.faults, fmt.Sprintf("number %d was won twice", n))
		}
		c.won[n] = true
	} else {
		c.lost++
	}
}

// Won returns how many numbers were won so far, and the highest.
func (c *Contest) Won() (count int, highest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.won {
		highest = max(highest, n)
	}
	return len(c.won), highest
}

// Check fails the test unless every number from 1 to rounds was won by one claimant, and at most maxUnclaimed
// by nobody who lived to tell.
func (c *Contest) Check(t *testing.T, rounds, maxUnclaimed int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		t.Error(f)
	}
	if c.lost < rounds/10 {
		t.Errorf("only %d claims were lost over %d numbers: that was no race", c.lost, rounds)
	}
	unclaimed := 0
	for n := uint64(1); n <= uint64(rounds); n++ {
		if !c.won[n] {
			unclaimed++
		}
	}
	if unclaimed > maxUnclaimed || len(c.won)+unclaimed != rounds {
		t.Errorf("%d numbers were won, %d of 1 to %d by nobody, want at most %d", len(c.won), unclaimed, rounds, maxUnclaimed)
	}
}
