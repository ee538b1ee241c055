package torture

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	api "understudy/api/understudy/v1"
)

// watcher looks at replicas and at control's events throughout a run: never two primaries in one view, and the numbers of
// views only rise.
type watcher struct {
	mu        sync.Mutex
	primaries map[uint64]primaryOf // by view
	newest    map[string]uint64    // view, by incarnation
	last      uint64               // newest view that had a primary
	failovers int
	told      uint64 // newest view of an event
	failure   *Violation
}

type primaryOf struct{ host, incarnation string }

func newWatcher() *watcher {
	return &watcher{primaries: map[uint64]primaryOf{}, newest: map[string]uint64{}}
}

func (w *watcher) fail(v *Violation) {
	if w.failure == nil {
		w.failure = v
	}
}

func (w *watcher) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		return nil
	}
	return w.failure
}

// moves counts how often the primary's part has moved to another host.
func (w *watcher) moves() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failovers
}

// see takes what the replicas say.
func (w *watcher) see(s states) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for host, r := range s {
		if r.View < w.newest[r.Incarnation] {
			w.fail(violation(Unsafe, "host %s went back from view %d to %d", host, w.newest[r.Incarnation], r.View))
		}
		w.newest[r.Incarnation] = r.View
		if r.Role != "primary" {
			continue
		}
		is := primaryOf{host, r.Incarnation}
		was, known := w.primaries[r.View]
		switch {
		case known && was != is:
			w.fail(violation(Unsafe, "two primaries in view %d: hosts %s and %s", r.View, was.host, host))
		case !known:
			w.primaries[r.View] = is
		}
		if r.View > w.last {
			if w.last > 0 && w.primaries[w.last].host != host {
				w.failovers++
			}
			w.last = r.View
		}
	}
}

// event takes an event of control.
func (w *watcher) event(e *api.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind != "view.changed" {
		return
	}
	if e.View <= w.told {
		w.fail(violation(Unsafe, "control told of view %d after view %d: %s", e.View, w.told, e.Text))
	}
	w.told = e.View
}

// watch looks until the context ends.
func (w *watcher) watch(ctx context.Context, f *fleet) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.follow(ctx, f) })
	for ctx.Err() == nil {
		w.see(f.states(ctx))
		pause(ctx, 100*time.Millisecond)
	}
}

// follow reads control's events, across its restarts, and keeps them in the run's directory.
func (w *watcher) follow(ctx context.Context, f *fleet) {
	file, err := os.Create(filepath.Join(f.dir, "events.jsonl"))
	if err != nil {
		return
	}
	defer file.Close()
	var newest time.Time
	for ctx.Err() == nil {
		// A new life of control counts its events anew: the time tells which are new.
		stream, err := f.api.WatchEvents(ctx, &api.WatchEventsRequest{Follow: true})
		if err == nil {
			for stream.Receive() {
				e := stream.Msg()
				if at := e.At.AsTime(); e.Seq == 0 || at.After(newest) {
					newest = at
					w.event(e)
					_ = json.NewEncoder(file).Encode(map[string]any{
						"at": at, "kind": e.Kind, "machine": e.Machine, "host": e.Host, "view": e.View, "text": e.Text,
					})
				}
			}
			stream.Close()
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
