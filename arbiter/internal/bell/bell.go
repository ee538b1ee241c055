// Package bell wakes those who watch a group's register when a number is granted. It is what the stores that
// live in one process build Watch on.
package bell

import (
	"context"
	"fmt"
	"sync"

	"understudy/arbiter"
)

// Bell is one bell per group. The zero Bell is ready. It holds memory only for groups that somebody listens
// to.
type Bell struct {
	mu     sync.Mutex
	groups map[string]*listeners
}

type listeners struct {
	rung  chan struct{} // closed when the bell rings; then nobody new joins
	count int
}

// listen returns a channel that is closed when the group's bell rings next, and what to call when nobody
// waits for it any more.
func (b *Bell) listen(group string) (rung <-chan struct{}, leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.groups[group]
	if l == nil {
		l = &listeners{rung: make(chan struct{})}
		if b.groups == nil {
			b.groups = make(map[string]*listeners)
		}
		b.groups[group] = l
	}
	l.count++
	return l.rung, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if l.count--; l.count == 0 && b.groups[group] == l {
			delete(b.groups, group)
		}
	}
}

// Ring wakes all that watch the group. Call it after the grant can be read.
func (b *Bell) Ring(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.groups[group]; l != nil {
		close(l.rung)
		delete(b.groups, group)
	}
}

// RingAll wakes everybody, to find that the store is closed.
func (b *Bell) RingAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.groups {
		close(l.rung)
	}
	b.groups = nil
}

// Watch implements arbiter.Register's Watch over the store's Get.
func (b *Bell) Watch(ctx context.Context, group string, after uint64, get func(context.Context, string) (arbiter.Record, error)) (arbiter.Record, error) {
	for {
		// Listen before looking, or a grant between the two would go unheard.
		rung, leave := b.listen(group)
		rec, err := get(ctx, group)
		if err != nil || rec.Number > after {
			leave()
			return rec, err
		}
		select {
		case <-rung:
			leave()
		case <-ctx.Done():
			leave()
			return arbiter.Record{}, fmt.Errorf("%w: watch group %q: %w", arbiter.ErrUnreachable, group, ctx.Err())
		}
	}
}
