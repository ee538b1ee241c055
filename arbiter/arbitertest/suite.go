// Package arbitertest holds what every arbiter.Register must pass ([Run]), and the contest in which claimants, some
// in processes of their own, race for numbers while they and the arbiter are killed ([Race]).
package arbitertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"

	"understudy/arbiter"
)

// rec is a record with the fields that a test varies.
func rec(number uint64, primary, claimant string) arbiter.Record {
	return arbiter.Record{Number: number, Primary: primary, Backup: "spare", Claimant: claimant}
}

// Suite is what Run needs to know of a kind of store.
type Suite struct {
	Rounds int // how many numbers 16 claimants race for, see Rounds
	// Open returns an empty register and cleans up after the test.
	Open func(t *testing.T) arbiter.Register
	// Pair returns two registers that lead to one empty store by separate ways, as two hosts would have them.
	// Nil if a store cannot have two.
	Pair func(t *testing.T) (a, b arbiter.Register)
}

// Rounds returns 10,000, the full contest, when UNDERSTUDY_LONG is 1 in the environment; else short for a short
// test run and usual for others.
func Rounds(short, usual int) int {
	switch {
	case os.Getenv("UNDERSTUDY_LONG") == "1":
		return 10_000
	case testing.Short():
		return short
	}
	return usual
}

// Run holds a kind of register to the rules.
func Run(t *testing.T, s Suite) {
	ctx, open, rounds := t.Context(), s.Open, s.Rounds
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
			if _, err := r.Watch(ctx, g, 0); !errors.Is(err, arbiter.ErrInvalid) {
				t.Errorf("watch %q: %v", g, err)
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
		wg.Go(func() {
			if err := c.Follow(ctx, r, "g", rounds); err != nil {
				t.Error(err)
			}
		})
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
	runWatch(t, s)
	if s.Pair != nil {
		runPair(t, s)
	}
}

// runPair holds a store to what two hosts see of it.
func runPair(t *testing.T, s Suite) {
	t.Run("what one was told the other reads", func(t *testing.T) {
		ctx := t.Context()
		a, b := s.Pair(t)
		for n := uint64(1); n <= 100; n++ {
			next := rec(n, "p", "x")
			if _, won, err := a.CompareAndSet(ctx, "g", next); !won || err != nil {
				t.Fatalf("claim %d: %t, %v", n, won, err)
			}
			if got, err := b.Get(ctx, "g"); err != nil || got != next {
				t.Fatalf("after the grant of %d the other reads %+v, %v", n, got, err)
			}
			a, b = b, a
		}
	})
	t.Run("a claim on a stale read is refused", func(t *testing.T) {
		ctx := t.Context()
		a, b := s.Pair(t)
		stale, err := b.Get(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		var last arbiter.Record
		for n := uint64(1); n <= 5; n++ {
			last = rec(n, "a", "x")
			if _, won, err := a.CompareAndSet(ctx, "g", last); !won || err != nil {
				t.Fatalf("claim %d: %t, %v", n, won, err)
			}
			if cur, won, err := b.CompareAndSet(ctx, "g", rec(stale.Number+1, "b", "y")); won || err != nil || cur != last {
				t.Errorf("claim of 1 after the grant of %d: %+v, %t, %v", n, cur, won, err)
			}
		}
		if cur, won, err := b.CompareAndSet(ctx, "g", last); !won || err != nil || cur != last {
			t.Errorf("the winner's claim repeated by another way: %+v, %t, %v", cur, won, err)
		}
	})
	t.Run("a watch by another way", func(t *testing.T) {
		a, b := s.Pair(t)
		c := NewContest()
		const numbers = 50
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Follow(t.Context(), b, "g", numbers); err != nil {
				t.Error(err)
			}
		})
		for n := uint64(1); n <= numbers; n++ {
			cur, won, err := a.CompareAndSet(t.Context(), "g", rec(n, "a", "x"))
			if !won || err != nil {
				t.Fatal(n, won, err)
			}
			c.Report(Answer{Current: cur, Won: won})
		}
		wg.Wait()
		for _, f := range c.faults {
			t.Error(f)
		}
	})
}
