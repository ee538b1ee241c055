package host

import (
	"fmt"

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

func unmapRAM(b []byte) { _ = unix.Munmap(b) }
