package host

import (
	"context"
	"errors"
	"sync/atomic"

	"understudy/replica"
)

// favour is something that a transfer asks of the executor, to be done between two slices.
type favour struct {
	do    func(l *leader) error
	state atomic.Uint32 // favourOpen, favourTaken, favourDropped
	done  chan error
}

const (
	favourOpen = iota
	favourTaken
	favourDropped
)

var errNotLeading = errors.New("not the primary any more")

// atStop has the executor call f while the machine stands still, this replica leads, and everything that the
// machine said is with the core. One favour at a time.
func (r *Replica) atStop(ctx context.Context, f func(l *leader) error) error {
	v := &favour{do: f, done: make(chan error, 1)}
	r.favour.Store(v)
	r.poke()
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
	}
	if v.state.CompareAndSwap(favourOpen, favourDropped) {
		return context.Cause(ctx)
	}
	return <-v.done
}

// grant does what is asked.
func (l *leader) grant() {
	v := l.r.favour.Swap(nil)
	if v == nil || !v.state.CompareAndSwap(favourOpen, favourTaken) {
		return
	}
	if replica.Role(l.r.role.Load()) != replica.Primary {
		v.done <- errNotLeading
		return
	}
	v.done <- v.do(l)
}
