package bell

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/arbiter"
)

// Whoever stops watching leaves nothing behind, woken or not.
func TestNothingStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bell
		var number atomic.Uint64
		get := func(context.Context, string) (arbiter.Record, error) {
			return arbiter.Record{Number: number.Load()}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var woken atomic.Int64
		for range 3 {
			go func() {
				if _, err := b.Watch(ctx, "g", 0, get); err == nil {
					woken.Add(1)
				}
			}()
			go func() { _, _ = b.Watch(ctx, "g", 7, get) }()
			go func() { _, _ = b.Watch(ctx, "h", 7, get) }()
		}
		synctest.Wait()
		if len(b.groups) != 2 || b.groups["g"].count != 6 {
			t.Fatalf("listeners: %v", b.groups)
		}
		number.Store(1)
		b.Ring("g")
		synctest.Wait()
		if woken.Load() != 3 || b.groups["g"].count != 3 {
			t.Errorf("%d woken, %v", woken.Load(), b.groups["g"])
		}
		b.RingAll()
		synctest.Wait()
		if len(b.groups) != 2 {
			t.Errorf("they do not wait again: %v", b.groups)
		}
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		if len(b.groups) != 0 {
			t.Errorf("left behind: %v", b.groups)
		}
	})
}
