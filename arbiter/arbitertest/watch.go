package arbitertest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"understudy/arbiter"
)

// quiet is how long a test looks whether something happens that must not. It cannot prove that it never does.
const quiet = 50 * time.Millisecond

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

type watched struct {
	rec arbiter.Record
	err error
}

// watch watches in the background.
func watch(ctx context.Context, r arbiter.Register, group string, after uint64) <-chan watched {
	c := make(chan watched, 1)
	go func() {
		rec, err := r.Watch(ctx, group, after)
		c <- watched{rec, err}
	}()
	return c
}

// runWatch holds a register to the rules of Watch.
func runWatch(t *testing.T, s Suite) {
	claim := func(t *testing.T, r arbiter.Register, group string, n uint64) arbiter.Record {
		t.Helper()
		next := rec(n, "a", "x")
		if _, won, err := r.CompareAndSet(t.Context(), group, next); !won || err != nil {
			t.Fatalf("claim %d: %t, %v", n, won, err)
		}
		return next
	}
	shows := func(t *testing.T, c <-chan watched, want arbiter.Record) {
		t.Helper()
		select {
		case got := <-c:
			if got.err != nil || got.rec != want {
				t.Fatalf("watch: %+v, %v; want %+v", got.rec, got.err, want)
			}
		case <-time.After(patience):
			t.Fatalf("watch did not show %+v", want)
		}
	}
	waits := func(t *testing.T, c <-chan watched) {
		t.Helper()
		select {
		case got := <-c:
			t.Fatalf("watch ended: %+v, %v", got.rec, got.err)
		case <-time.After(quiet):
		}
	}
	t.Run("watch shows what is there", func(t *testing.T) {
		r := s.Open(t)
		claim(t, r, "g", 1)
		two := claim(t, r, "g", 2)
		shows(t, watch(t.Context(), r, "g", 0), two)
		shows(t, watch(t.Context(), r, "g", 1), two)
	})
	t.Run("watch waits for the next number", func(t *testing.T) {
		r := s.Open(t)
		first := watch(t.Context(), r, "g", 0)
		waits(t, first)
		one := claim(t, r, "g", 1)
		shows(t, first, one)
		second := watch(t.Context(), r, "g", 1)
		if _, won, err := r.CompareAndSet(t.Context(), "g", rec(1, "b", "y")); won || err != nil {
			t.Fatal(won, err)
		}
		claim(t, r, "g", 1) // the same again
		claim(t, r, "other", 1)
		claim(t, r, "other", 2)
		waits(t, second)
		two := claim(t, r, "g", 2)
		shows(t, second, two)
	})
	t.Run("watch passes over numbers up to its own", func(t *testing.T) {
		r := s.Open(t)
		c := watch(t.Context(), r, "g", 3)
		for n := uint64(1); n <= 3; n++ {
			claim(t, r, "g", n)
		}
		waits(t, c)
		shows(t, c, claim(t, r, "g", 4))
	})
	t.Run("a grant wakes all that watch", func(t *testing.T) {
		r := s.Open(t)
		var all []<-chan watched
		for range 20 {
			all = append(all, watch(t.Context(), r, "g", 0))
		}
		waits(t, all[0])
		one := claim(t, r, "g", 1)
		for _, c := range all {
			shows(t, c, one)
		}
	})
	t.Run("watch ends with its context", func(t *testing.T) {
		r := s.Open(t)
		claim(t, r, "g", 1)
		for _, after := range []uint64{1, math.MaxUint64} {
			ctx, cancel := context.WithCancel(t.Context())
			c := watch(ctx, r, "g", after)
			waits(t, c)
			cancel()
			select {
			case got := <-c:
				if !errors.Is(got.err, arbiter.ErrUnreachable) || got.rec != (arbiter.Record{}) {
					t.Errorf("%+v, %v", got.rec, got.err)
				}
			case <-time.After(patience):
				t.Fatal("watch goes on")
			}
			if _, err := r.Watch(ctx, "g", 0); !errors.Is(err, arbiter.ErrUnreachable) {
				t.Errorf("watch with an ended context: %v", err)
			}
		}
	})
	t.Run("watch ends with its store", func(t *testing.T) {
		r := s.Open(t)
		store, ok := r.(arbiter.Store)
		if !ok {
			t.Skip("this register's owner closes it")
		}
		c := watch(t.Context(), r, "g", 0)
		waits(t, c)
		_ = store.Close()
		select {
		case got := <-c:
			if !errors.Is(got.err, arbiter.ErrUnreachable) {
				t.Errorf("%+v, %v", got.rec, got.err)
			}
		case <-time.After(patience):
			t.Fatal("watch goes on")
		}
	})
}
