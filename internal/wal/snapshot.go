package wal

import (
	"bufio"
	"errors"
	"fmt"
	"os"
)

// Writer puts a snapshot on disk, in a generation of its own. It ends with Commit, Chain or Abort.
type Writer struct {
	w     *WAL
	gen   uint64
	file  *os.File
	buf   *bufio.Writer
	bytes int64
	rec   []byte
	err   error
}

// damagedSuffix is what names of files get that are damaged and kept.
const damagedSuffix = ".damaged"

// dataBytes is up to where a record of a snapshot grows.
const dataBytes = 256 << 10

func (w *WAL) header() header {
	return header{Version: version, Group: w.opt.Group, Name: w.opt.Name, Format: w.opt.Format}
}

func (w *WAL) newWriter(gen uint64) (*Writer, error) {
	s := &Writer{w: w, gen: gen}
	f, err := os.OpenFile(w.path(s.gen, "snap.part"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write a snapshot: %w", err)
	}
	s.file, s.buf = f, bufio.NewWriterSize(f, 1<<20)
	_, _ = s.buf.WriteString(magicSnap)
	s.put(appendJSON(nil, typeHeader, 0, w.header()))
	return s, nil
}

func (s *Writer) put(rec []byte) {
	if s.err == nil {
		_, s.err = s.buf.Write(rec)
	}
}

// Write adds to the state.
func (s *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && s.err == nil; {
		part := rest[:min(len(rest), dataBytes)]
		rest = rest[len(part):]
		s.bytes += int64(len(part))
		s.rec = appendRecord(s.rec[:0], typeData, 0, func(b []byte) []byte { return append(b, part...) })
		s.put(s.rec)
	}
	if s.err != nil {
		return 0, fmt.Errorf("write a snapshot: %w", s.err)
	}
	return len(p), nil
}

// Abort removes what was written. After Commit or Chain it does nothing.
func (s *Writer) Abort() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
		s.file = nil
	}
}

// finish syncs the snapshot of the state after entry base.
func (s *Writer) finish(base uint64, clock int64) error {
	s.put(appendJSON(nil, typeEnd, 0, end{Base: base, Clock: clock, Bytes: s.bytes}))
	if s.err == nil {
		s.err = s.buf.Flush()
	}
	if s.err == nil {
		s.err = s.file.Sync()
	}
	return s.err
}

// publish gives the snapshot its name.
func (s *Writer) publish() (size int64, err error) {
	info, err := s.file.Stat()
	if err == nil {
		err = os.Rename(s.file.Name(), s.w.path(s.gen, "snap"))
	}
	if err != nil {
		return 0, err
	}
	s.file.Close()
	s.file = nil
	return info.Size(), s.w.syncDir()
}

// newLog makes an empty file for a log, whose name is on disk.
func (w *WAL) newLog(gen uint64) (*os.File, error) {
	f, err := os.OpenFile(w.path(gen, "log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin a log: %w", err)
	}
	if err := w.syncDir(); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, fmt.Errorf("begin a log: %w", err)
	}
	return f, nil
}

// Begin begins a state that has nothing to do with what is there: it takes its place with Commit. There is one at a time.
func (w *WAL) Begin() (*Writer, error) {
	w.gen++
	return w.newWriter(w.gen)
}

// Commit makes the state, which is that after entry base at the machine's time clock, the one that the files hold, with mark m.
// What they held before is removed; if it was damaged, it is kept under other names. Nothing else is called meanwhile.
func (s *Writer) Commit(base uint64, clock int64, m Mark) error {
	w := s.w
	defer s.Abort()
	if err := s.finish(base, clock); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	h := w.header()
	h.Base, h.Clock, h.Mark = base, clock, m
	f, err := w.newLog(s.gen)
	if err != nil {
		return err
	}
	head := appendJSON([]byte(magicLog), typeHeader, 0, h)
	size := int64(len(head))
	if _, err = f.Write(head); err == nil {
		err = f.Sync()
	}
	var snap int64
	if err == nil {
		snap, err = s.publish()
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("write a snapshot: %w", err)
	}
	w.mu.Lock()
	for _, old := range []*os.File{w.file, w.next} {
		if old != nil {
			old.Close()
		}
	}
	w.file, w.next, w.size, w.synced, w.err = f, nil, size, size, nil
	w.nextGen = 0
	w.mu.Unlock()
	w.mark, w.last = m, base
	w.snapSize.Store(snap)
	w.logSize.Store(size)
	w.base, w.gen = s.gen, s.gen
	w.rotating, w.quietTo = false, 0
	w.tidy(w.damage != nil)
	w.damage = nil
	return nil
}

// Grown tells whether it is worth while to ask whether a snapshot is Due. It may be called at any time.
func (w *WAL) Grown() bool { return w.logSize.Load() > max(w.opt.SnapshotBytes, w.snapSize.Load()) }

// Due tells that the log has grown so far that a snapshot is worth its while. If prepare is not nil it is to be called beside the
// work, one at a time, and Due to be asked again when it is done.
func (w *WAL) Due() (due bool, prepare func() error) {
	if w.rotating || w.base == 0 || w.logSize.Load() <= max(w.opt.SnapshotBytes, w.snapSize.Load(), w.quietTo) {
		return false, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next != nil {
		return true, nil
	}
	if w.nextGen == 0 {
		w.gen++
		w.nextGen = w.gen
	}
	gen := w.nextGen
	return false, func() error {
		// What gathered until now does not hold up Rotate.
		err := w.sync()
		if err != nil {
			return err
		}
		f, err := w.newLog(gen)
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.nextGen != gen || w.err != nil { // another state has come meanwhile, say
			return errors.Join(f.Close(), os.Remove(f.Name()), w.err)
		}
		w.next = f
		return nil
	}
}

// Rotate, when it is Due, begins the log of the next generation behind the newest entry, at which the machine's time is clock, and
// a snapshot of the state there. The log goes on while the snapshot is written.
func (w *WAL) Rotate(clock int64) (*Writer, error) {
	if err := w.sync(); err != nil {
		return nil, err
	}
	h := w.header()
	h.Base, h.Clock, h.Mark, h.Chained = w.last, clock, w.mark, true
	head := appendJSON([]byte(magicLog), typeHeader, 0, h)
	w.mu.Lock()
	f := w.next
	if _, err := f.Write(head); err != nil {
		w.err = errors.Join(w.err, err)
		w.mu.Unlock()
		return nil, fmt.Errorf("begin a log: %w", err)
	}
	w.file.Close()
	// The header is on disk with the first entry that has to be.
	gen := w.nextGen
	w.file, w.next, w.nextGen, w.size, w.synced = f, nil, 0, int64(len(head)), 0
	w.mu.Unlock()
	w.logSize.Add(int64(len(head)))
	s, err := w.newWriter(gen)
	if err != nil {
		w.quiet()
		return nil, err
	}
	w.rotating = true
	return s, nil
}

// quiet puts the next snapshot off.
func (w *WAL) quiet() { w.rotating, w.quietTo = false, w.logSize.Load()+w.opt.SnapshotBytes }

// Finish syncs the snapshot that Rotate began, of the state after entry base at the machine's time clock. It may be called beside
// the work, Chain then ends it.
func (s *Writer) Finish(base uint64, clock int64) error {
	if err := s.finish(base, clock); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

// Chain makes the finished snapshot, and the logs from its generation on, all that the files hold. After an error of Finish it
// removes the snapshot, and the next is tried later: err says so.
func (s *Writer) Chain(err error) error {
	w := s.w
	defer s.Abort()
	if w.base > s.gen {
		return nil // another state has come
	}
	if err != nil {
		w.quiet()
		return err
	}
	size, err := s.publish()
	if err != nil {
		w.quiet()
		return fmt.Errorf("write a snapshot: %w", err)
	}
	w.rotating = false
	w.base = s.gen
	w.snapSize.Store(size)
	w.tidy(false)
	return nil
}

// tidy removes the generations that are not needed any more, or gives their files other names.
func (w *WAL) tidy(keep bool) {
	names, err := os.ReadDir(w.opt.Dir)
	if err != nil {
		return
	}
	logs := int64(0)
	for _, n := range names {
		var gen uint64
		var kind string
		if k, _ := fmt.Sscanf(n.Name(), "%d.%s", &gen, &kind); k != 2 || kind != "log" && kind != "snap" {
			continue
		}
		path := w.path(gen, kind)
		switch {
		case gen >= w.base:
			if info, err := n.Info(); err == nil && kind == "log" {
				logs += info.Size()
			}
		case keep:
			_ = os.Rename(path, path+damagedSuffix)
		default:
			os.Remove(path)
		}
	}
	w.logSize.Store(logs)
}
