package compare

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/kv/client"
	"understudy/view"
	"understudy/view/httpview"
)

// Writer writes one key after the other, each when the former was acknowledged, and follows the service when another server takes
// the writes.
type Writer struct {
	Name string
	// write sets a key. acked: the service has promised to keep it.
	write func(ctx context.Context, key, value string) (acked bool, err error)
	close func()

	mu    sync.Mutex
	acks  int
	began time.Time     // when the newest acknowledged write began
	last  time.Time     // newest acknowledgement
	gap   time.Duration // longest time between two since it was reset
}

// following is how go-redis is set up: as it is, but that it leaves the pauses to the loop of a Writer, 1 ms each, so that its own are
// not what is measured. A pool that has failed to connect PoolSize times in a row tries only once a second from then on.
func following(s *Service) *redis.Client {
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: s.Group, SentinelAddrs: s.Sentinels, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, PoolSize: 100_000,
	})
}

// Follow is a writer that finds the server by Sentinel's protocol, with go-redis. With wait, a write is acknowledged when WAIT says
// that a replica has it.
func Follow(name string, s *Service, wait bool) *Writer {
	c := following(s)
	w := &Writer{Name: name, close: func() { _ = c.Close() }}
	w.write = func(ctx context.Context, key, value string) (bool, error) {
		if !wait {
			err := c.Set(ctx, key, value, 0).Err()
			return err == nil, err
		}
		// One pipeline is one connection: WAIT speaks of the writes of its own.
		pipe := c.Pipeline()
		pipe.Set(ctx, key, value, 0)
		held := pipe.Do(ctx, "WAIT", 1, waitAtMost.Milliseconds())
		if _, err := pipe.Exec(ctx); err != nil {
			return false, err
		}
		n, err := held.Int()
		return n >= 1, err
	}
	return w
}

// waitAtMost is how long one WAIT waits. A replica that comes does not wake those that wait already: ask again.
const waitAtMost = 50 * time.Millisecond

// FollowViews is a writer that finds the server by the view service, with kv/client, which gives a silent server up after the
// suspicion time-out of the group.
func FollowViews(name string, s *Service) (*Writer, error) {
	c, err := client.New(client.Options{Group: s.Group, Views: []httpview.Copy{s.Views}, Timeout: s.o.Suspect})
	if err != nil {
		return nil, err
	}
	return &Writer{Name: name, close: c.Close, write: func(ctx context.Context, key, value string) (bool, error) {
		err := c.Put(ctx, []byte(key), []byte(value))
		return err == nil, err
	}}, nil
}

func (w *Writer) key(i int) string { return fmt.Sprintf("%s:%d", w.Name, i) }

func (w *Writer) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; {
		at := time.Now()
		acked, _ := w.write(ctx, w.key(i), strconv.Itoa(i))
		if !acked {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		i++
		now := time.Now()
		w.mu.Lock()
		if w.acks > 0 {
			w.gap = max(w.gap, now.Sub(w.last))
		}
		w.acks, w.began, w.last = i, at, now
		w.mu.Unlock()
	}
}

// Failure is a way to lose the primary.
type Failure string

// The failures of Fail.
const (
	Killed Failure = "kill -9"
	Frozen Failure = "SIGSTOP"
)

// Outcome is what one writer saw of a failure.
type Outcome struct {
	Writer   string
	Blackout time.Duration // the longest time between two acknowledged writes, from the failure on
	Acked    int           // writes, in all
	Lost     int           // of these, not there at the end
}

// recovery is how long a service may take to take writes again.
const recovery = 60 * time.Second

// Steps are the times from the failure until what the view service said of a group of ours; 0 for Redis.
type Steps struct {
	View  time.Duration // another server is primary
	Twice time.Duration // the data is on two servers again
}

// Fail has the writers write, loses the primary, waits until all write again, and counts. The writers are closed.
func (s *Service) Fail(ctx context.Context, how Failure, writers ...*Writer) (outcomes []Outcome, steps Steps, err error) {
	life, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() {
		stop()
		running.Wait()
		for _, w := range writers {
			w.close()
		}
	}()
	for _, w := range writers {
		running.Go(func() { w.run(life) })
	}
	if err := each(ctx, writers, "write", func(w *Writer) bool { return w.acks >= 200 }); err != nil {
		return nil, steps, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return nil, steps, err
	}
	for _, w := range writers {
		w.mu.Lock()
		w.gap = 0
		w.mu.Unlock()
	}
	var before view.Answer
	if s.Views != nil {
		before, err = s.Await(ctx, "a protected group", Protected)
	} else {
		err = s.askSentinel(ctx)
	}
	if err != nil {
		return nil, steps, err
	}
	lost := s.Primary()
	failed := time.Now()
	if how == Killed {
		err = lost.Kill()
	} else {
		err = lost.Freeze()
	}
	if err != nil {
		return nil, steps, err
	}
	gone := time.Now()
	if s.Views != nil {
		newer := func(a view.Answer) bool { return a.View.Number > before.View.Number }
		if _, err = s.Await(ctx, "a view after the failure", newer); err != nil {
			return nil, steps, err
		}
		steps.View = time.Since(failed)
		if _, err = s.Await(ctx, "a protected group after the failure", func(a view.Answer) bool { return newer(a) && Protected(a) }); err != nil {
			return nil, steps, err
		}
		steps.Twice = time.Since(failed)
	}
	if err := each(ctx, writers, "write again", func(w *Writer) bool { return w.began.After(gone) }); err != nil {
		return nil, steps, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return nil, steps, err
	}
	stop()
	running.Wait()
	for _, w := range writers {
		missing, err := s.missing(ctx, w)
		if err != nil {
			return nil, steps, err
		}
		outcomes = append(outcomes, Outcome{w.Name, w.gap, w.acks, missing})
	}
	return outcomes, steps, nil
}

// each waits until all writers are as they should be.
func each(ctx context.Context, writers []*Writer, what string, ok func(*Writer) bool) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for _, w := range writers {
		for {
			w.mu.Lock()
			good := ok(w)
			w.mu.Unlock()
			if good {
				break
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return fmt.Errorf("wait for %s to %s: %w", w.Name, what, err)
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// missing counts the acknowledged writes of a writer that are not there.
func (s *Service) missing(ctx context.Context, w *Writer) (n int, err error) {
	c := following(s)
	defer c.Close()
	const batch = 500
	for from := 0; from < w.acks; from += batch {
		var keys []string
		for i := from; i < min(w.acks, from+batch); i++ {
			keys = append(keys, w.key(i))
		}
		values, err := c.MGet(ctx, keys...).Result()
		for end := time.Now().Add(recovery); err != nil; values, err = c.MGet(ctx, keys...).Result() {
			// On a busy machine a server may be suspected that is not dead, and another one is asked to take over.
			if time.Now().After(end) {
				return 0, fmt.Errorf("read back: %w", err)
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return 0, err
			}
		}
		if len(values) != len(keys) {
			return 0, errors.New("read back: not as many values as keys")
		}
		for i, v := range values {
			if v != strconv.Itoa(from+i) {
				n++
			}
		}
	}
	return n, nil
}
