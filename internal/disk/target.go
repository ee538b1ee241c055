package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy/event"
)

const (
	// incomingSuffix is behind the name of a disk that is not complete yet.
	incomingSuffix = ".incoming"
	// nudgeBytes is after how much the host is told to begin writing, so that little is left for the end.
	nudgeBytes = 16 << 20
	// Bounds of the results that a cut carries: of the data, what a machine can have in flight.
	maxResults     = 1 << 18
	maxResultBytes = 32 << 20
)

// Target receives a copy of a disk. It is for one goroutine.
type Target struct {
	path string // the disk's name once it is complete
	file *os.File
	old  *os.File // the disk that has the name now, locked; nil where there is none
	size geometry

	from    *os.File // whose blocks are told to the source: old, or file itself; nil for none
	told    uint64   // blocks looked at in from
	allTold bool

	offered *bitmap // blocks that file has as the source was told
	covered *bitmap // blocks that file has as the source wants them
	zero    *bitmap // blocks that are known to be zeros in file

	results     []event.DiskDone
	resultBytes int
	sum         uint32
	complete    bool
	toNudge     int
	buf         []byte
	err         error
	closed      bool
}

// NewTarget makes room for a copy of a disk of so many sectors, beside path. Where reuse is set, what an
// earlier transfer left there, or else the disk that has the name, gives the blocks that are the same; an
// existing disk is not changed, and is replaced only when the copy is complete. A disk in use, and a transfer
// to the same name, are errors.
func NewTarget(path string, sectors uint64, reuse bool) (*Target, error) {
	if sectors == 0 || sectors > maxSectors {
		return nil, fmt.Errorf("receive disk %s: want 1 to %d sectors, not %d", path, uint64(maxSectors), sectors)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	t := &Target{path: path, size: geometry{sectors}, buf: make([]byte, BlockBytes)}
	if err := t.open(reuse); err != nil {
		t.Close()
		return nil, err
	}
	n := t.size.blocks()
	t.offered, t.covered, t.zero = newBitmap(n), newBitmap(n), newBitmap(n)
	if t.from != t.file {
		t.zero.set(0, n)
	}
	return t, nil
}

func (t *Target) incoming() string { return t.path + incomingSuffix }

func (t *Target) open(reuse bool) error {
	mode := os.FileMode(0o600)
	old, err := os.OpenFile(t.path, os.O_RDWR, 0)
	if err == nil {
		t.old = old
		st, err := old.Stat()
		if err != nil || !st.Mode().IsRegular() {
			return fmt.Errorf("receive disk %s: something else than a regular file has the name", t.path)
		}
		if !lock(old, t.path) {
			return errInUse(t.path)
		}
		mode = st.Mode().Perm()
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("receive disk: %w", err)
	}
	if t.file, err = os.OpenFile(t.incoming(), os.O_RDWR|os.O_CREATE, mode); err != nil {
		return fmt.Errorf("receive disk: %w", err)
	}
	if !lock(t.file, t.incoming()) {
		return fmt.Errorf("receive disk %s: another transfer to it goes on", t.path)
	}
	st, err := t.file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("receive disk %s: something else than a regular file has the name %s", t.path, t.incoming())
	}
	switch {
	case reuse && st.Size() > 0:
		t.from = t.file
	case reuse && t.old != nil:
		t.from = t.old
		if unix.IoctlFileClone(int(t.file.Fd()), int(t.old.Fd())) == nil {
			t.from = t.file
		}
	}
	if t.from != t.file {
		if err := t.file.Truncate(0); err != nil {
			return writeError(t.incoming(), err)
		}
	}
	if err := t.file.Truncate(t.size.bytes()); err != nil {
		return writeError(t.incoming(), err)
	}
	return nil
}

// Close ends the transfer. What was received stays for another one, unless the file system is full; after
// Finish, Close does nothing.
func (t *Target) Close() {
	if t.closed {
		return
	}
	t.closed = true
	var full *FullError
	if t.file != nil && errors.As(t.err, &full) {
		os.Remove(t.incoming())
	}
	t.release()
	t.fail(errors.New("receive disk: the target is closed"))
}

func (t *Target) release() {
	for _, f := range []*os.File{t.file, t.old} {
		if f != nil {
			f.Close()
		}
	}
}

// RemoveIncoming removes what a transfer to path left behind, if there is something and no transfer goes on.
func RemoveIncoming(path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := os.OpenFile(path+incomingSuffix, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer f.Close()
		if !lock(f, f.Name()) {
			return fmt.Errorf("remove %s: a transfer goes on", f.Name())
		}
		err = os.Remove(f.Name())
	}
	if err != nil {
		return fmt.Errorf("remove half-received disk: %w", err)
	}
	return nil
}

func (t *Target) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return t.err
}

// Hashes appends the next message about what is there already to dst[:0]. It reports true with the last one:
// then the source's messages may be applied.
func (t *Target) Hashes(dst []byte) (msg []byte, complete bool, err error) {
	msg = dst[:0]
	if t.err != nil || t.allTold {
		return msg, t.allTold, t.err
	}
	var run record // hashes, in r.data, or zeros
	flush := func() {
		if run.count > 0 {
			msg = append(appendRun(msg, run.kind, run.first, run.count), run.data...)
		}
		run = record{data: run.data[:0]}
	}
	add := func(kind recordKind, n uint64, hash []byte) {
		if run.kind != kind {
			flush()
			run.kind, run.first = kind, t.told
		}
		run.count += n
		run.data = append(run.data, hash...)
		t.told += n
	}
	blocks := t.size.blocks()
	if t.from == nil {
		t.told = blocks
	}
	for looked := 0; t.told < blocks && looked < burstBytes; {
		hole, b, err := t.look()
		if err != nil {
			return dst[:0], false, t.fail(err)
		}
		if hole > 0 {
			add(recZeros, hole, nil)
			continue
		}
		looked += BlockBytes
		sum := blockHash(b)
		add(recHashes, 1, sum[:])
	}
	flush()
	if t.told == blocks {
		t.allTold = true
		msg = appendEnd(msg, 0)
	}
	return msg, t.allTold, nil
}

// look takes what is there at block told: a row of blocks of zeros, or the block's bytes, which the incoming
// file has afterwards. What is behind the end of an old disk that was smaller counts as zeros.
func (t *Target) look() (hole uint64, b []byte, err error) {
	i, blocks := t.told, t.size.blocks()
	off, n := t.size.span(i)
	st, err := t.from.Stat()
	if err != nil {
		return 0, nil, fmt.Errorf("receive disk: %w", err)
	}
	at := nextData(t.from, off, t.size.bytes())
	if at >= t.size.bytes() || off >= st.Size() {
		hole = blocks - i
	} else if hole = uint64(at-off) / BlockBytes; hole == 0 {
		b = t.buf[:n]
		clear(b)
		if _, err := t.from.ReadAt(b, off); err != nil && off+int64(n) <= st.Size() {
			return 0, nil, fmt.Errorf("receive disk: %w", err)
		}
		if isZero(b) {
			hole = 1
		}
	}
	t.offered.set(i, max(hole, 1))
	if hole > 0 {
		t.zero.set(i, hole)
		return hole, nil, nil
	}
	if t.from != t.file {
		if err := t.write(i, b); err != nil {
			return 0, nil, err
		}
	}
	return 0, b, nil
}

func (t *Target) write(i uint64, b []byte) error {
	off, _ := t.size.span(i)
	if _, err := t.file.WriteAt(b, off); err != nil {
		return writeError(t.incoming(), err)
	}
	t.zero.clear(i, 1)
	if t.toNudge += len(b); t.toNudge >= nudgeBytes {
		t.toNudge = 0
		// A hint: where it is refused, the end takes longer.
		_ = unix.SyncFileRange(int(t.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	return nil
}

// Apply takes the next message of the source. It reports true when the copy is complete.
func (t *Target) Apply(msg []byte) (complete bool, err error) {
	switch {
	case t.err != nil:
		return false, t.err
	case !t.allTold:
		return false, t.fail(fmt.Errorf("%w: it came before the source was told what is here", errMessage))
	case t.complete && len(msg) > 0:
		return false, t.fail(fmt.Errorf("%w: something follows the end", errMessage))
	}
	p := newParser(msg, t.size)
	for r, ok := p.next(); ok; r, ok = p.next() {
		if err := t.take(r, msg); err != nil {
			return false, t.fail(err)
		}
	}
	if p.err != nil {
		return false, t.fail(p.err)
	}
	if !t.complete {
		t.sum = crc32.Update(t.sum, castagnoli, msg)
	}
	return t.complete, nil
}

func (t *Target) take(r record, msg []byte) error {
	switch r.kind {
	case recBlock, recPacked:
		if err := t.write(r.first, r.data); err != nil {
			return err
		}
	case recZeros:
		for i := r.first; i < r.first+r.count; {
			left := r.first + r.count - i
			n := t.zero.run(i, left, false)
			if n > 0 {
				off, length := t.size.rangeOf(i, n)
				if err := zero(t.file, off, length); err != nil {
					return writeError(t.incoming(), err)
				}
			}
			i += n
			i += t.zero.run(i, left-n, true)
		}
		t.zero.set(r.first, r.count)
	case recSame:
		if t.offered.run(r.first, r.count, true) != r.count {
			return fmt.Errorf("%w: blocks %d and %d more are not here already", errMessage, r.first, r.count)
		}
	case recResult:
		t.resultBytes += len(r.done.Data)
		if len(t.results) == maxResults || t.resultBytes > maxResultBytes {
			return fmt.Errorf("%w: more results than a machine has requests", errMessage)
		}
		t.results = append(t.results, r.done)
		return nil
	case recEnd:
		if sum := crc32.Update(t.sum, castagnoli, msg[:len(msg)-endBytes]); sum != r.sum {
			return fmt.Errorf("%w: something was lost or changed on the way", errMessage)
		}
		if t.covered.count != t.covered.size {
			return fmt.Errorf("%w: the end comes before %d blocks", errMessage, t.covered.size-t.covered.count)
		}
		t.complete = true
		return nil
	default:
		return fmt.Errorf("%w: kind %#x from a source", errMessage, byte(r.kind))
	}
	t.covered.set(r.first, r.count)
	return nil
}

// Finish makes a complete copy durable, gives it its name in place of what had it, and opens it: a disk, not
// started, where the results of the requests in flight wait. The machine must not run from the copy before. It
// waits for the host's disk; the primary need not wait for it.
func (t *Target) Finish() (*Disk, error) {
	if t.err != nil {
		return nil, t.err
	}
	if !t.complete {
		return nil, t.fail(fmt.Errorf("receive disk %s: the copy is not complete", t.path))
	}
	if err := t.file.Sync(); err != nil {
		return nil, t.fail(writeError(t.incoming(), err))
	}
	if err := os.Rename(t.incoming(), t.path); err != nil {
		return nil, t.fail(fmt.Errorf("receive disk: %w", err))
	}
	if err := syncDir(t.path); err != nil {
		return nil, t.fail(fmt.Errorf("receive disk %s: %w", t.path, err))
	}
	d := newDisk(t.path, t.file, t.size.sectors)
	d.Preload(t.results)
	t.file, t.closed = nil, true
	t.release()
	t.fail(errors.New("receive disk: the target is closed"))
	return d, nil
}
