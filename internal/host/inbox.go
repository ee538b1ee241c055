package host

import (
	"sync"
	"sync/atomic"

	"understudy/event"
)

// maxInboxBytes bounds what waits to be delivered to the guest. Beyond it frames and keystrokes are
// dropped, as a network card with a full ring drops them. Answers to the guest's own requests, which it
// bounds itself, are never dropped.
const maxInboxBytes = 4 << 20

// inbox gathers input for the guest from many goroutines until the executor takes it.
type inbox struct {
	wake    func()
	mu      sync.Mutex
	entries []event.Entry
	bytes   int
	dropped uint64
	some    atomic.Bool
}

func (b *inbox) put(e event.Entry) {
	b.mu.Lock()
	if b.bytes > maxInboxBytes && e.Kind != event.KindEntropy {
		b.dropped++
		b.mu.Unlock()
		return
	}
	b.entries = append(b.entries, e)
	b.bytes += len(e.Data) + 64
	b.mu.Unlock()
	if !b.some.Swap(true) {
		b.wake()
	}
}

// clear throws away what waits: it came for a machine that we do not lead any more.
func (b *inbox) clear() {
	b.mu.Lock()
	clear(b.entries)
	b.entries, b.bytes = b.entries[:0], 0
	b.mu.Unlock()
}

// take appends what waits to dst.
func (b *inbox) take(dst []event.Entry) []event.Entry {
	if !b.some.Load() {
		return dst
	}
	b.mu.Lock()
	b.some.Store(false)
	dst = append(dst, b.entries...)
	clear(b.entries)
	b.entries = b.entries[:0]
	b.bytes = 0
	b.mu.Unlock()
	return dst
}
