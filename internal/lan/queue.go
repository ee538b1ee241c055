package lan

import (
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// DefaultQueueBytes bounds what waits for one slow peer.
const DefaultQueueBytes = 4 << 20

// keepBytes is the largest buffer that an idle queue holds on to.
const keepBytes = 256 << 10

// outQueue holds frames, already in wire form, for one connection. push never waits; run writes whatever
// has gathered in one call, so that a burst costs one system call and a lone frame no delay.
type outQueue struct {
	maxBytes int // a frame that would make pending longer is dropped

	mu      sync.Mutex
	pending []byte
	spare   []byte // the buffer that run is not writing
	count   uint64 // frames in pending
	closed  bool
	wake    chan struct{} // capacity 1: pending is not empty, or closed

	sent, dropped atomic.Uint64 // frames
}

func newOutQueue(maxBytes int) *outQueue {
	if maxBytes <= 0 {
		maxBytes = DefaultQueueBytes
	}
	return &outQueue{maxBytes: max(maxBytes, MaxFrame+4), wake: make(chan struct{}, 1)}
}

// push queues a copy of frame, or drops it if the queue is full or closed; it says which.
func (q *outQueue) push(frame []byte) bool { return q.pushUpTo(q.maxBytes, frame) }

// pushRegardless queues a copy of frame unless the queue is closed. Its users send few.
func (q *outQueue) pushRegardless(frame []byte) bool { return q.pushUpTo(math.MaxInt, frame) }

func (q *outQueue) pushUpTo(maxBytes int, frame []byte) bool {
	q.mu.Lock()
	if q.closed || len(q.pending) > maxBytes-len(frame)-4 {
		q.mu.Unlock()
		q.dropped.Add(1)
		return false
	}
	first := len(q.pending) == 0
	q.pending = AppendFrame(q.pending, frame)
	q.count++
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return true
}

func (q *outQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close makes run return and push drop. What still waits is dropped.
func (q *outQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.dropped.Add(q.count)
	q.pending, q.count = nil, 0
	q.mu.Unlock()
	q.signal()
}

// run writes what is pushed to w until close or an error of w. Nobody else may call it meanwhile.
func (q *outQueue) run(w io.Writer) error {
	for range q.wake {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return nil
		}
		batch, count := q.pending, q.count
		q.pending, q.count = q.spare[:0], 0
		q.spare = nil
		q.mu.Unlock()
		if len(batch) > 0 {
			if _, err := w.Write(batch); err != nil {
				q.dropped.Add(count)
				return err
			}
			q.sent.Add(count)
		}
		if cap(batch) <= keepBytes {
			q.mu.Lock()
			q.spare = batch[:0]
			q.mu.Unlock()
		}
	}
	return nil
}
