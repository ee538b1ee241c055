package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	api "understudy/api/understudy/v1"
)

// blow carries out one harm. What undoes it (a restart, a SIGCONT) goes on beside the run until wait.
type blow struct {
	f      *fleet
	bound  time.Duration
	undo   sync.WaitGroup
	mu     sync.Mutex
	hit    []string
	failed error // of what undoes it, or of a planned move
}

// note says what was hit.
func (b *blow) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hit = append(b.hit, fmt.Sprintf(format, args...))
}

func (b *blow) hits() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.hit, ", ")
}

func (b *blow) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
}

// wait returns when everything is undone.
func (b *blow) wait() error {
	b.undo.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// later does something after d, also if the run ends before: nothing stays stopped.
func (b *blow) later(ctx context.Context, d time.Duration, do func() error) {
	b.undo.Go(func() {
		pause(ctx, d)
		if err := do(); err != nil && ctx.Err() == nil {
			b.fail(err)
		}
	})
}

// strike carries out a harm and what comes with it. at is the view in which the roles hold.
func (b *blow) strike(ctx context.Context, h Harm, at place) error {
	if err := b.one(ctx, h, at); err != nil {
		return err
	}
	if h.Then == nil {
		return nil
	}
	pause(ctx, h.Then.Calm)
	return b.strike(ctx, *h.Then, at)
}

func (b *blow) one(ctx context.Context, h Harm, at place) error {
	f, name := b.f, at.host(h.Role)
	switch h.Kind {
	case KillHost:
		b.note("host %s", name)
		if err := f.killHost(name); err != nil {
			return err
		}
		b.later(ctx, h.Lasts, func() error { return f.startHost(ctx, name) })
	case KillReplica:
		b.note("replica on %s", name)
		return f.killReplica(name)
	case StopHost:
		b.note("host %s", name)
		return b.stopHost(ctx, name, h.Lasts)
	case KillControl:
		b.note("control")
		if err := f.controlProcess().Kill(); err != nil {
			return err
		}
		b.later(ctx, h.Lasts, func() error { return f.startControl(ctx) })
	case StopControl:
		b.note("control")
		p := f.controlProcess()
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		b.later(ctx, h.Lasts, func() error { return p.Signal(syscall.SIGCONT) })
	case Failover:
		b.note("from %s to %s", at.Primary, at.Backup)
		b.undo.Go(func() {
			if h.Then != nil {
				// What is harmed beside it may be in the way: then it is refused, which is no fault.
				_, _ = b.f.api.Failover(ctx, &api.FailoverRequest{Name: machineName})
			} else if err := b.failover(ctx, at); err != nil && ctx.Err() == nil {
				b.fail(err)
			}
		})
	case Drain:
		b.note("host %s", name)
		return b.drain(ctx, name)
	case KillJoining, StopJoining:
		return b.joining(ctx, h, at)
	case CutHost, CutOneWay, CutPeers:
		return b.cut(ctx, h, name, at)
	default:
		return fmt.Errorf("harm %q cannot be done here", h.Kind)
	}
	return nil
}

func (b *blow) stopHost(ctx context.Context, name string, d time.Duration) error {
	if err := b.f.signalHost(name, syscall.SIGSTOP); err != nil {
		return err
	}
	b.later(ctx, d, func() error { return b.f.signalHost(name, syscall.SIGCONT) })
	return nil
}

// cut cuts links, for a while.
func (b *blow) cut(ctx context.Context, h Harm, name string, at place) error {
	l := b.f.links
	if l == nil {
		return errors.New("links cannot be cut on loopback")
	}
	type way struct{ from, to string }
	var ways []way
	switch h.Kind {
	case CutHost:
		b.note("host %s", name)
		if err := l.cut(name); err != nil {
			return err
		}
		b.later(ctx, h.Lasts, func() error { return l.join(name) })
		return nil
	case CutOneWay:
		b.note("what %s says", name)
		for _, to := range l.others(name) {
			ways = append(ways, way{name, to})
		}
	default:
		b.note("%s and %s", at.Primary, at.Backup)
		ways = []way{{at.Primary, l.address(at.Backup)}, {at.Backup, l.address(at.Primary)}}
	}
	for _, w := range ways {
		if err := l.deafen(w.from, w.to); err != nil {
			return err
		}
		b.later(ctx, h.Lasts, func() error { return l.hear(w.from, w.to) })
	}
	return nil
}

// machineName is the name of the guest.
const machineName = "web"

// failover has control move the machine. Control may know later than the replicas that it may.
func (b *blow) failover(ctx context.Context, at place) error {
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		_, err = b.f.api.Failover(ctx, &api.FailoverRequest{Name: machineName})
		if err == nil {
			return nil
		}
		if p, _ := b.f.states(ctx).place(); p.View > at.View {
			return nil // it has moved all the same
		}
	}
	return violation(Failed, "failover from view %v: %v", at, err)
}

// drain relieves a host of its part, and then takes it back.
func (b *blow) drain(ctx context.Context, name string) error {
	undo := func() error {
		_, err := b.f.api.Drain(context.WithoutCancel(ctx), &api.DrainRequest{Host: name})
		return err
	}
	for end := time.Now().Add(b.bound); ; pause(ctx, 100*time.Millisecond) {
		r, err := b.f.api.Drain(ctx, &api.DrainRequest{Host: name, On: true})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && len(r.Holding) == 0:
			return undo()
		case time.Now().After(end):
			return errors.Join(violation(Failed, "host %s is not drained after %v (%v)", name, b.bound, err), undo())
		}
	}
}

// joining takes the backup away, waits for another host to receive the state, and harms that one too.
func (b *blow) joining(ctx context.Context, h Harm, at place) error {
	b.note("host %s", at.Backup)
	if err := b.f.killHost(at.Backup); err != nil {
		return err
	}
	b.later(ctx, h.Lasts, func() error { return b.f.startHost(ctx, at.Backup) })
	for end := time.Now().Add(b.bound); ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
		s := b.f.states(ctx)
		for name, r := range s {
			if r.Role == "joining" && name != at.Primary {
				if h.Kind == KillJoining {
					b.note("joining replica on %s", name)
					return b.f.killReplica(name)
				}
				b.note("joining host %s", name)
				return b.stopHost(ctx, name, h.Lasts)
			}
		}
		if _, protected := s.place(); protected {
			b.note("and nobody: it was in sync before it could be hit")
			return nil
		}
		if time.Now().After(end) {
			return violation(Unshielded, "no replica begins to receive the state within %v of the backup's death", b.bound)
		}
	}
	return ctx.Err()
}
