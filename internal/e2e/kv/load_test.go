package kv

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"understudy/kv/client"
)

// load is clients that each append 0, 1, 2, … to a key of their own, one at a time.
type load struct {
	clients []*client.Client
	acked   []int
	total   atomic.Int64
	stop    context.CancelFunc
	all     sync.WaitGroup
	failed  atomic.Pointer[error]
}

func newLoad(clients []*client.Client) *load {
	life, stop := context.WithCancel(context.Background())
	l := &load{clients: clients, acked: make([]int, len(clients)), stop: stop}
	for i, c := range clients {
		l.all.Go(func() {
			for life.Err() == nil {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := c.Append(ctx, loadKey(i), fmt.Appendf(nil, "%d,", l.acked[i]))
				cancel()
				if err != nil {
					l.failed.Store(&err)
					return
				}
				l.acked[i]++
				l.total.Add(1)
			}
		})
	}
	return l
}

func loadKey(i int) []byte { return fmt.Appendf(nil, "load-%d", i) }

// verify ends the load and reads everything back: exactly what was acknowledged, in its order.
func (l *load) verify() error {
	l.stop()
	l.all.Wait()
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("the load failed: %w", *err)
	}
	for i, c := range l.clients {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		got, _, err := c.Get(ctx, loadKey(i))
		cancel()
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		var want []byte
		for n := range l.acked[i] {
			want = fmt.Appendf(want, "%d,", n)
		}
		if string(got) != string(want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			return fmt.Errorf("client %d: %d appends were acknowledged, %d bytes; there are %d bytes, which differ at %d: %.60q", i, l.acked[i], len(want), len(got), at,
				got[min(at, len(got)):])
		}
	}
	return nil
}

// running is a load of a test.
type running struct {
	*load
	t *testing.T
}

func (g *group) load(clients int) *running {
	g.t.Helper()
	var all []*client.Client
	for range clients {
		all = append(all, g.client())
	}
	l := &running{newLoad(all), g.t}
	g.t.Cleanup(func() { l.stop(); l.all.Wait() })
	return l
}

// more waits for n further acknowledged appends.
func (l *running) more(n int64) {
	l.t.Helper()
	from := l.total.Load()
	wait(l.t, fmt.Sprintf("%d more acknowledged appends", n), func() (bool, string) {
		if err := l.failed.Load(); err != nil {
			l.t.Fatal(*err)
		}
		return l.total.Load() >= from+n, fmt.Sprint(l.total.Load()-from, " so far")
	})
}

func (l *running) check() {
	l.t.Helper()
	if err := l.verify(); err != nil {
		l.t.Error(err)
	}
}
