// Package arbitertest holds what every arbiter.Register must pass, and the contest in which claimants race
// for numbers while the arbiter is killed under them.
package arbitertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/arbiter"
)

// rec is a record with the fields that a test varies.
func rec(number uint64, primary, claimant string) arbiter.Record {
	return arbiter.Record{Number: number, Primary: primary, Backup: "spare", Claimant: claimant}
}

// Run holds a register to the rules. open returns an empty one and cleans up after the test. rounds is how
// many numbers 16 claimants race for.
func Run(t *testing.T, rounds int, open func(t *testing.T) arbiter.Register) {
	ctx := t.Context()
	claim := func(t *testing.T, r arbiter.Register, group string, next arbiter.Record, wantCurrent arbiter.Record, wantWon bool) {
		t.Helper()
		cur, won, err := r.CompareAndSet(ctx, group, next)
		if err != nil || won != wantWon || cur != wantCurrent {
			t.Fatalf("claim %+v: %+v, %t, %v; want %+v, %t", next, cur, won, err, wantCurrent, wantWon)
		}
		if got, err := r.Get(ctx, group); err != nil || got != wantCurrent {
			t.Fatalf("get: %+v, %v; want %+v", got, err, wantCurrent)
		}
	}
	t.Run("a new group holds nothing", func(t *testing.T) {
		r := open(t)
		if got, err := r.Get(ctx, "g"); err != nil || got != (arbiter.Record{}) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	t.Run("only the next number is granted", func(t *testing.T) {
		r := open(t)
		one, two := rec(1, "a", "x"), rec(2, "b", "y")
		claim(t, r, "g", two, arbiter.Record{}, false)
		claim(t, r, "g", one, one, true)
		claim(t, r, "g", rec(1, "b", "y"), one, false)
		claim(t, r, "g", rec(3, "b", "y"), one, false)
		claim(t, r, "g", rec(math.MaxUint64, "b", "y"), one, false)
		claim(t, r, "g", two, two, true)
		claim(t, r, "g", rec(1, "c", "z"), two, false)
	})
	t.Run("a claim may be repeated until another follows", func(t *testing.T) {
		r := open(t)
		one, two := rec(1, "a", "x"), rec(2, "b", "y")
		for range 3 {
			claim(t, r, "g", one, one, true)
		}
		claim(t, r, "g", rec(1, "a", "another incarnation"), one, false)
		other := one
		other.Backup = ""
		claim(t, r, "g", other, one, false)
		claim(t, r, "g", two, two, true)
		claim(t, r, "g", one, two, false)
	})
	t.Run("groups are independent", func(t *testing.T) {
		r := open(t)
		long := strings.Repeat("g", arbiter.MaxGroupBytes)
		for _, g := range []string{"g", "h", "0.a_b-c", long} {
			claim(t, r, g, rec(1, g, "x"), rec(1, g, "x"), true)
		}
		claim(t, r, "h", rec(2, "b", "y"), rec(2, "b", "y"), true)
		claim(t, r, "g", rec(3, "b", "y"), rec(1, "g", "x"), false)
	})
	t.Run("names travel unchanged", func(t *testing.T) {
		r := open(t)
		odd := arbiter.Record{Number: 1, Primary: `<&"\>é日本` + "\u2028\ufffd", Claimant: strings.Repeat("~", arbiter.MaxClaimantBytes)}
		claim(t, r, "g", odd, odd, true)
		full := arbiter.Record{Number: 2, Primary: strings.Repeat("<", arbiter.MaxNameBytes), Backup: strings.Repeat(">", arbiter.MaxNameBytes), Claimant: strings.Repeat("&", arbiter.MaxClaimantBytes)}
		claim(t, r, "g", full, full, true)
	})
	t.Run("nonsense is refused and changes nothing", func(t *testing.T) {
		r := open(t)
		for _, g := range []string{"", "G", "a/b", "a b", "-a", ".", "..", "_", "é", "a\n", strings.Repeat("g", arbiter.MaxGroupBytes+1)} {
			if _, err := r.Get(ctx, g); !errors.Is(err, arbiter.ErrInvalid) {
				t.Errorf("get %q: %v", g, err)
			}
			if _, won, err := r.CompareAndSet(ctx, g, rec(1, "a", "x")); !errors.Is(err, arbiter.ErrInvalid) || won {
				t.Errorf("claim %q: %t, %v", g, won, err)
			}
		}
		for name, bad := range map[string]arbiter.Record{
			"number 0":       rec(0, "a", "x"),
			"no primary":     rec(1, "", "x"),
			"no claimant":    rec(1, "a", ""),
			"own backup":     rec(1, "spare", "x"),
			"long primary":   rec(1, strings.Repeat("a", arbiter.MaxNameBytes+1), "x"),
			"long claimant":  rec(1, "a", strings.Repeat("a", arbiter.MaxClaimantBytes+1)),
			"not UTF-8":      rec(1, "a\xff", "x"),
			"control":        rec(1, "a\x1b[2J", "x"),
			"C1 control":     rec(1, "a\u0085", "x"),
			"newline in id":  rec(1, "a", "x\r\ny: z"),
			"zero in backup": {Number: 1, Primary: "a", Backup: "\x00", Claimant: "x"},
		} {
			if _, won, err := r.CompareAndSet(ctx, "g", bad); !errors.Is(err, arbiter.ErrInvalid) || won {
				t.Errorf("%s: %t, %v", name, won, err)
			}
		}
		if got, err := r.Get(ctx, "g"); err != nil || got != (arbiter.Record{}) {
			t.Errorf("the register changed: %+v, %v", got, err)
		}
	})
	t.Run("an ended context is unknown, not refused", func(t *testing.T) {
		r := open(t)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, won, err := r.CompareAndSet(ended, "g", rec(1, "a", "x")); !errors.Is(err, arbiter.ErrUnreachable) || won {
			t.Errorf("claim: %t, %v", won, err)
		}
		if _, err := r.Get(ended, "g"); !errors.Is(err, arbiter.ErrUnreachable) {
			t.Errorf("get: %v", err)
		}
	})
	t.Run("16 claimants at once", func(t *testing.T) {
		r := open(t)
		c := NewContest()
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				id := fmt.Sprintf("claimant-%d", i)
				if err := Contend(ctx, r, "g", id, rounds, c.Report); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		c.Check(t, rounds, 0)
	})
}

// Answer is what a claimant was told: the record that is current, and whether that is its claim.
type Answer struct {
	Current arbiter.Record
	Won     bool
}

// Contend claims number after number for a group until rounds are granted, and reports every answer. When it
// is told nothing it claims the same again. It fails if the register ever steps back.
func Contend(ctx context.Context, r arbiter.Register, group, claimant string, rounds int, report func(Answer)) error {
	var cur arbiter.Record
	for n := 0; ; n++ {
		seen, err := r.Get(ctx, group)
		if err == nil {
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
				if !errors.Is(err, arbiter.ErrUnreachable) || ctx.Err() != nil {
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
		if !errors.Is(err, arbiter.ErrUnreachable) || ctx.Err() != nil {
			return fmt.Errorf("%s: get: %w", claimant, err)
		}
		time.Sleep(time.Millisecond)
	}
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
	if h, ok := c.holder[n]; ok && h != a.Current {
		c.faults = append(c.faults, fmt.Sprintf("number %d was granted to %+v and to %+v", n, h, a.Current))
	}
	c.holder[n] = a.Current
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
