package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "understudy/api/understudy/v1"
)

// maxEvents bounds the events in memory. Older ones are forgotten.
const maxEvents = 4096

// events is what has happened, newest last, since control began.
type events struct {
	mu   sync.Mutex
	ring []*api.Event  // Invariant: numbered without a gap
	next int64         // number of the next
	more chan struct{} // closed, and replaced, at each event
}

func newEvents() *events { return &events{next: 1, more: make(chan struct{})} }

func (e *events) add(v *api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v.Seq = e.next
	e.next++
	if e.ring = append(e.ring, v); len(e.ring) > maxEvents {
		e.ring = append([]*api.Event(nil), e.ring[len(e.ring)-maxEvents*3/4:]...)
	}
	close(e.more)
	e.more = make(chan struct{})
}

// since returns the events after number seq, and what is closed when there are more. A number from before a restart of
// control, higher than any, counts as 0.
func (e *events) since(seq int64) ([]*api.Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq >= e.next {
		seq = 0
	}
	first := e.next - int64(len(e.ring))
	from := max(seq+1, first) - first
	return append([]*api.Event(nil), e.ring[from:]...), e.more
}

// event tells of something that happened.
func (c *Control) event(kind, machine, host string, view uint64, format string, args ...any) {
	c.addEvent(&api.Event{
		At: timestamppb.New(time.Now()), Kind: kind, Machine: machine, Host: host, View: view, Text: fmt.Sprintf(format, args...),
	})
}

func (c *Control) addEvent(e *api.Event) {
	c.log.Info(e.Text, "kind", e.Kind, "machine", e.Machine, "host", e.Host, "view", e.View)
	c.events.add(e)
	c.metrics.events.WithLabelValues(knownKind(e.Kind)).Inc()
}

// WatchEvents implements the API.
func (c *Control) WatchEvents(ctx context.Context, req *api.WatchEventsRequest, stream *connect.ServerStream[api.Event]) error {
	seq := req.SinceSeq
	for {
		list, more := c.events.since(seq)
		for _, e := range list {
			seq = e.Seq
			if req.Machine != "" && e.Machine != req.Machine {
				continue
			}
			if err := stream.Send(e); err != nil {
				return err
			}
		}
		if !req.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return errEnding()
		case <-more:
		}
	}
}
