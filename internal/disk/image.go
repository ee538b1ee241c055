package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BlockBytes is the unit in which a disk is tracked, compared and copied. The last block may be shorter.
const BlockBytes = 64 << 10

// maxSectors bounds the disks that are copied: 16 TiB, so that a set of blocks takes 32 MiB at most.
const maxSectors = 16 << 40 / SectorBytes

var zeros [BlockBytes]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// FullError says that there is no room left for a disk or a journal.
type FullError struct {
	Path string
	Err  error // ENOSPC, EDQUOT or EFBIG
}

func (e *FullError) Error() string { return fmt.Sprintf("write %s: %v", e.Path, e.Err) }
func (e *FullError) Unwrap() error { return e.Err }

// Try says what to do next.
func (e *FullError) Try() string {
	if errors.Is(e.Err, unix.EFBIG) {
		return "raise the limit on file sizes, or use a file system that takes larger files"
	}
	return "free space on the file system of " + e.Path + ", or put the disk elsewhere"
}

// writeError names the file that could not be written.
func writeError(path string, err error) error {
	for _, full := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(err, full) {
			return &FullError{path, full}
		}
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// zero makes n bytes from off on read as zeros, and frees their room where the file system can.
func zero(f *os.File, off, n int64) error {
	const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if unix.Fallocate(int(f.Fd()), mode, off, n) == nil {
		return nil
	}
	for n > 0 {
		w, err := f.WriteAt(zeros[:min(n, BlockBytes)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(w), n-int64(w)
	}
	return nil
}

// nextData gives the first offset from off on where f may hold something other than zeros, or its end. A file
// system that does not know answers off.
func nextData(f *os.File, off, size int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return at
}

// lock keeps other machines of this host away from a disk. It reports false where another one has the file,
// or the name belongs to another file by now.
func lock(f *os.File, path string) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	here, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(here, named)
}

// syncDir makes what was done to path's name durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// geometry is a disk's size, seen in blocks.
type geometry struct{ sectors uint64 }

func (g geometry) bytes() int64   { return int64(g.sectors) * SectorBytes }
func (g geometry) blocks() uint64 { return uint64(g.bytes()+BlockBytes-1) / BlockBytes }

// span is where block i lies, and how long it is.
func (g geometry) span(i uint64) (off int64, n int) {
	off = int64(i) * BlockBytes
	return off, int(min(BlockBytes, g.bytes()-off))
}

// rangeOf is where n blocks from first on lie.
func (g geometry) rangeOf(first, n uint64) (off, length int64) {
	off = int64(first) * BlockBytes
	return off, min(int64(n)*BlockBytes, g.bytes()-off)
}

// readBlock reads block i into buf, which has room for any block.
func (g geometry) readBlock(f io.ReaderAt, i uint64, buf []byte) ([]byte, error) {
	off, n := g.span(i)
	got, err := f.ReadAt(buf[:n], off)
	if got < n {
		return nil, err
	}
	return buf[:n], nil
}
