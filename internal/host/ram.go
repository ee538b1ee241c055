package host

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapRAM maps zeroed memory outside the Go heap. Pages that the guest never touches cost nothing.
func mapRAM(bytes uint64) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB of guest memory: %w", bytes>>20, err)
	}
	// Huge pages save host TLB misses; where the host refuses nothing is lost.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	return b, nil
}

// collectorPercent is how much garbage, in percent of what lives, gathers before a collection. A collection
// stops all goroutines twice, and on a host without a free processor each stop waits until the executor's
// thread is scheduled, with the heartbeats behind it. The guest's RAM is not in the Go heap: it is small.
const collectorPercent = 400

// calmCollector sets the garbage collector for a process that runs a machine, unless the user has.
func calmCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectorPercent)
		runtime.GC() // the kernel and the initial RAM disk, which were read into the heap
	}
}

func unmapRAM(b []byte) { _ = unix.Munmap(b) }
