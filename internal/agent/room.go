package agent

import (
	"fmt"
	"sync"
)

// defaultMemBytes is a guest's memory where neither the machine nor its image says another: that of `understudy replica`.
const defaultMemBytes = 256 << 20

// room bounds the memory of all guests of this host.
type room struct {
	mu    sync.Mutex
	limit uint64 // 0: none
	used  uint64
	by    map[string]uint64 // machine's id
}

// take reserves memory for a machine in place of what it had.
func (r *room) take(id string, bytes uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	others := r.used - r.by[id]
	if r.limit != 0 && (bytes > r.limit || others > r.limit-bytes) {
		return withTry(fmt.Errorf("the machine needs %s of memory, and %s of this host's %s for guests are in use", mib(bytes), mib(others), mib(r.limit)),
			"a larger --mem of the host, a smaller machine, or fewer machines on it")
	}
	if r.by == nil {
		r.by = map[string]uint64{}
	}
	r.by[id], r.used = bytes, others+bytes
	return nil
}

// give gives a machine's memory back; it tells whether there was any.
func (r *room) give(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes, ok := r.by[id]
	r.used -= bytes
	delete(r.by, id)
	return ok
}

func (r *room) reserved() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}

func mib(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
