package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
)

// Policy says when the log is synced to disk. What is written survives the death of the process in any case; what is synced,
// that of the machine.
type Policy string

const (
	// Always syncs before anything is answered or acknowledged on the strength of it.
	Always Policy = "always"
	// EverySecond syncs once a second: of what was answered, a crash of the whole machine loses a second or so.
	EverySecond Policy = "everysec"
	// Never leaves it to the system, which writes within half a minute as a rule.
	Never Policy = "no"
)

// ParsePolicy reads a policy as users write it.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Always, EverySecond, Never:
		return p, nil
	}
	return "", fmt.Errorf("%q is no time to sync: use always, everysec or no", s)
}

// DefaultSnapshotBytes is how far a log grows before a snapshot follows, or as far as the snapshot before was large.
const DefaultSnapshotBytes = 64 << 20

// Options describe a WAL. Dir, Group, Name and Format are needed.
type Options struct {
	Dir           string // made if it does not exist
	Group, Name   string // of the server
	Format        string // of entries and snapshots
	Sync          Policy // default EverySecond
	SnapshotBytes int64  // see DefaultSnapshotBytes
	Log           *slog.Logger
}

// ErrInUse reports a directory that another process uses.
var ErrInUse = errors.New("another process uses these files")

// ErrForeign reports files of another server, group or format.
var ErrForeign = errors.New("these files are not this server's")

// ErrDamaged reports files that have lost something that was on disk. They are left as they are, until a new state comes.
var ErrDamaged = errors.New("the files are damaged")

// WAL is the log in one directory. Its methods are called one at a time, but for those of a Writer, which goes on beside them.
type WAL struct {
	opt    Options
	lock   *os.File
	damage error

	// What the files hold.
	gen      uint64 // newest generation
	base     uint64 // generation of the newest snapshot; 0: there is none
	mark     Mark
	last     uint64
	snapSize atomic.Int64 // bytes of the newest snapshot's file
	logSize  atomic.Int64 // bytes of all logs behind it
	rotating bool         // a snapshot is being written
	quietTo  int64        // logSize below which no snapshot is tried, after one could not be written

	buf []byte

	mu      sync.Mutex // guards what follows
	file    *os.File   // the newest log, open for writing; nil: none yet
	size    int64
	synced  int64
	next    *os.File // the next generation's log, still empty; nil: it is not there yet
	nextGen uint64   // its generation, or the one that it is to have; 0: none
	err     error    // of a write or sync: from then on nothing can be relied upon
	stop    chan struct{}
	stopped sync.WaitGroup
}

// Open locks a directory and reads what is there. Damaged files are no error: see Damage.
func Open(opt Options) (*WAL, error) {
	if opt.Sync == "" {
		opt.Sync = EverySecond
	}
	if opt.SnapshotBytes <= 0 {
		opt.SnapshotBytes = DefaultSnapshotBytes
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the files: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(opt.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the files: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, opt.Dir)
	}
	w := &WAL{opt: opt, lock: lock, stop: make(chan struct{})}
	switch err := w.scan(); {
	case errors.Is(err, ErrDamaged):
		w.damage = err
		w.mark, w.last = Mark{}, 0
	case err != nil:
		lock.Close()
		return nil, fmt.Errorf("read %s: %w", opt.Dir, err)
	}
	if opt.Sync == EverySecond {
		w.stopped.Go(w.syncEverySecond)
	}
	return w, nil
}

// Damage says what is wrong with the files that were found; nil: nothing. What they hold is not used.
func (w *WAL) Damage() error { return w.damage }

// Held is what the files hold: the newest mark and the newest entry. Without a mark they hold nothing.
func (w *WAL) Held() (m Mark, last uint64) { return w.mark, w.last }

// Bytes are those of the snapshot and of the logs behind it. It may be called at any time.
func (w *WAL) Bytes() (snapshot, log int64) { return w.snapSize.Load(), w.logSize.Load() }

// Begun tells whether there is a log to append to.
func (w *WAL) Begun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.file != nil
}

func (w *WAL) path(gen uint64, kind string) string {
	return filepath.Join(w.opt.Dir, fmt.Sprintf("%012d.%s", gen, kind))
}

// Append writes entries, which follow those that are there. They are on disk after Sync.
func (w *WAL) Append(entries []event.Entry) error {
	for len(entries) > 0 {
		n, bytes := 0, 0
		for n < len(entries) && (n == 0 || bytes+len(entries[n].Data) <= entryBytes) {
			bytes += len(entries[n].Data)
			n++
		}
		part := entries[:n]
		if uint64(part[0].Seq) != w.last+1 {
			return fmt.Errorf("write the log: entry %d cannot follow entry %d", part[0].Seq, w.last)
		}
		if err := w.write(func(b []byte, synced int64) []byte {
			return appendRecord(b, typeEntry, synced, func(b []byte) []byte { return appendEntries(b, part) })
		}); err != nil {
			return err
		}
		w.last += uint64(n)
		entries = entries[n:]
	}
	return nil
}

// Mark writes what part this server has from here on, and syncs.
func (w *WAL) Mark(m Mark) error {
	if err := w.write(func(b []byte, synced int64) []byte { return appendJSON(b, typeMark, synced, m) }); err != nil {
		return err
	}
	w.mark = m
	return w.sync()
}

// write appends to the newest log.
func (w *WAL) write(fill func(b []byte, synced int64) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return errors.New("write the log: there is none yet")
	}
	if w.err != nil {
		return fmt.Errorf("write the log: %w", w.err)
	}
	w.buf = fill(w.buf[:0], w.synced)
	n, err := w.file.Write(w.buf)
	if err != nil {
		// Whether the rest comes off again is no matter: it is a torn tail.
		if n > 0 {
			_ = w.file.Truncate(w.size)
		}
		w.err = err
		return fmt.Errorf("write the log: %w", err)
	}
	w.size += int64(n)
	w.logSize.Add(int64(n))
	if cap(w.buf) > 4<<20 {
		w.buf = nil
	}
	return nil
}

// Sync does what the policy asks for before something is answered or acknowledged on the strength of what was appended.
func (w *WAL) Sync() error {
	if w.opt.Sync == Always {
		return w.sync()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// sync has on disk what was written before it was called.
func (w *WAL) sync() error {
	w.mu.Lock()
	f, size, synced, err := w.file, w.size, w.synced, w.err
	w.mu.Unlock()
	if err != nil || f == nil || size == synced {
		return err
	}
	err = fdatasync(f)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f != w.file: // a new log was begun meanwhile, which synced this one
	case err != nil:
		// The system may have given up what it could not write: to sync again would tell nothing.
		w.err = err
		return fmt.Errorf("sync the log: %w", err)
	default:
		w.synced = max(w.synced, size)
	}
	return nil
}

// fdatasync is safe beside Close: it then says so.
func fdatasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	gone := c.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Fdatasync(int(fd))
		}
	})
	return errors.Join(gone, err)
}

func (w *WAL) syncEverySecond() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := w.sync(); err != nil {
				return // the next write tells
			}
		case <-w.stop:
			return
		}
	}
}

// Close syncs and unlocks the files.
func (w *WAL) Close() error {
	close(w.stop)
	w.stopped.Wait()
	err := w.sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range []*os.File{w.file, w.next} {
		if f != nil {
			f.Close()
		}
	}
	w.file, w.next = nil, nil
	w.err = errors.Join(w.err, os.ErrClosed)
	w.lock.Close()
	return err
}

func (w *WAL) syncDir() error {
	d, err := os.Open(w.opt.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
