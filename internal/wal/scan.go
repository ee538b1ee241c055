package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"understudy/event"
)

// damaged makes an error of ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Errorf(format, args...))
}

// scan finds out what the files hold, removes what a crash has left over, cuts off a torn tail, and opens the newest log.
func (w *WAL) scan() error {
	names, err := os.ReadDir(w.opt.Dir)
	if err != nil {
		return err
	}
	logs, snaps := map[uint64]bool{}, map[uint64]bool{}
	for _, n := range names {
		stem, kind, _ := strings.Cut(n.Name(), ".")
		gen, err := strconv.ParseUint(stem, 10, 63)
		if err != nil || gen == 0 {
			continue
		}
		switch {
		case kind == "log":
			logs[gen] = true
		case kind == "snap":
			snaps[gen] = true
			w.base = max(w.base, gen)
		case strings.HasSuffix(kind, damagedSuffix):
			continue
		default:
			os.Remove(filepath.Join(w.opt.Dir, n.Name()))
		}
		w.gen = max(w.gen, gen)
	}
	if w.base == 0 {
		// A first state that has not got its name yet was worth nothing.
		for gen := range logs {
			os.Remove(w.path(gen, "log"))
		}
		return nil
	}
	e, err := w.scanSnapshot(w.base)
	if err != nil {
		return err
	}
	w.last = e.Base
	if !logs[w.base] {
		return damaged("%s is missing", w.path(w.base, "log"))
	}
	newest := w.base
	for more := true; more; newest++ {
		more = logs[newest+1] && w.chained(newest+1)
		h, err := w.scanLog(newest, !more)
		if err != nil {
			return err
		}
		if newest == w.base && h.Base != e.Base {
			return damaged("the log of generation %d begins after entry %d, its snapshot is of entry %d", newest, h.Base, e.Base)
		}
	}
	newest--
	for gen := range logs {
		if gen < w.base || gen > newest {
			os.Remove(w.path(gen, "log"))
		}
	}
	for gen := range snaps {
		if gen < w.base {
			os.Remove(w.path(gen, "snap"))
		}
	}
	f, err := os.OpenFile(w.path(newest, "log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.file, w.size, w.gen = f, info.Size(), newest
	// What is there has survived: it counts as synced once it is.
	return w.sync()
}

// chained tells whether a log continues the one before. If not it was begun for a state that was never complete, or not even
// begun: its header is on disk before anything else.
func (w *WAL) chained(gen uint64) bool {
	f, _, h, err := w.open(w.path(gen, "log"), magicLog)
	if err != nil {
		return false
	}
	f.Close()
	return h.Chained
}

// open reads magic and header of a file.
func (w *WAL) open(path, magic string) (*os.File, *reader, header, error) {
	var h header
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, h, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, h, err
	}
	r := &reader{from: bufio.NewReaderSize(f, 1<<20), size: info.Size()}
	var m [8]byte
	if r.size >= int64(len(m)) {
		_, err = io.ReadFull(r.from, m[:])
		r.at = int64(len(m))
	}
	rec := record{}
	if err == nil {
		rec, err = r.next()
	}
	switch {
	case string(m[:]) != magic, errors.Is(err, errTorn), errors.Is(err, io.EOF):
		err = damaged("%s does not begin as it should", path)
	case err != nil:
	case rec.kind != typeHeader:
		err = damaged("%s has no header", path)
	default:
		if e := json.Unmarshal(rec.payload, &h); e != nil {
			err = damaged("header of %s: %w", path, e)
		} else if h.Version != version {
			err = fmt.Errorf("%w: %s is of version %d, this program writes version %d", ErrForeign, path, h.Version, version)
		} else if h.Group != w.opt.Group || h.Name != w.opt.Name || h.Format != w.opt.Format {
			err = fmt.Errorf("%w: %s is of server %q of group %q (%s), this is %q of %q (%s)", ErrForeign, path,
				h.Name, h.Group, h.Format, w.opt.Name, w.opt.Group, w.opt.Format)
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, h, err
	}
	return f, r, h, nil
}

// scanSnapshot reads a snapshot to its end and gives what is said there.
func (w *WAL) scanSnapshot(gen uint64) (e end, err error) {
	err = w.readSnapshot(gen, &e, func([]byte) error { return nil })
	return e, err
}

// readSnapshot calls each for every piece of a snapshot's state.
func (w *WAL) readSnapshot(gen uint64, e *end, each func([]byte) error) error {
	path := w.path(gen, "snap")
	f, r, _, err := w.open(path, magicSnap)
	if err != nil {
		return err
	}
	defer f.Close()
	for bytes := int64(0); ; {
		rec, err := r.next()
		switch {
		case errors.Is(err, errTorn), errors.Is(err, io.EOF):
			return damaged("%s at byte %d: %w", path, r.at, err)
		case err != nil:
			return err
		}
		switch rec.kind {
		case typeData:
			bytes += int64(len(rec.payload))
			if err := each(rec.payload); err != nil {
				return err
			}
		case typeEnd:
			if err := json.Unmarshal(rec.payload, e); err != nil || e.Bytes != bytes || r.at != r.size {
				return damaged("%s does not end as it should", path)
			}
			w.snapSize.Store(r.size)
			return nil
		default:
			return damaged("%s at byte %d: a record of type %q", path, r.at, rec.kind)
		}
	}
}

// scanLog reads a log behind what was read before. The newest may have a torn tail, which is cut off.
func (w *WAL) scanLog(gen uint64, newest bool) (header, error) {
	path := w.path(gen, "log")
	f, r, h, err := w.open(path, magicLog)
	if err != nil {
		return h, err
	}
	defer f.Close()
	switch {
	case gen == w.base:
		w.mark = h.Mark
		w.logSize.Store(0)
	case h.Base != w.last:
		return h, damaged("%s continues entry %d, but the log before it ends with %d", path, h.Base, w.last)
	}
	err = w.readLog(r, func(rec record) error {
		switch rec.kind {
		case typeEntry:
			return parseEntries(rec.payload, func(e event.Entry) error {
				if uint64(e.Seq) != w.last+1 {
					return fmt.Errorf("entry %d follows entry %d", e.Seq, w.last)
				}
				w.last++
				return nil
			})
		case typeMark:
			return json.Unmarshal(rec.payload, &w.mark)
		}
		return fmt.Errorf("a record of type %q", rec.kind)
	})
	if errors.Is(err, errTorn) && newest {
		err = w.cut(path, r.at, r.size, err)
		r.size = r.at
	}
	if errors.Is(err, errTorn) {
		err = damaged("%s at byte %d: %w", path, r.at, err)
	}
	w.logSize.Add(r.size)
	return h, err
}

// readLog calls each for every record behind the header. An error of each is damage, for the record was whole.
func (w *WAL) readLog(r *reader, each func(record) error) error {
	for {
		at := r.at
		rec, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(rec); err != nil {
			return damaged("generation %d at byte %d of the log: %w", w.gen, at, err)
		}
	}
}

// cut removes what is behind byte at of a log, unless a good record there knows that it was on disk.
func (w *WAL) cut(path string, at, size int64, why error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	tail := make([]byte, size-at)
	if _, err := f.ReadAt(tail, at); err != nil {
		return err
	}
	if found, synced := witness(tail, at); found >= 0 {
		return damaged("%s at byte %d: %w; it was on disk up to byte %d when byte %d was written", path, at, why, synced, found)
	}
	w.opt.Log.Warn("cut off the torn tail of the log: a crash has left it, and nothing was answered that needs it but what the time to sync allows",
		"file", path, "at byte", at, "bytes", size-at, "why", why, "newest entry", w.last)
	if err := f.Truncate(at); err != nil {
		return err
	}
	return f.Sync()
}

// witness looks in a tail, which begins at byte at of its file, for a whole record that says that more than at bytes were
// synced when it was written. It gives where it begins, or -1.
func witness(tail []byte, at int64) (found, synced int64) {
	types := []byte{typeEntry, typeMark}
	for i := 0; i+recordHead <= len(tail); i++ {
		if !bytes.ContainsRune(types, rune(tail[i+8])) {
			continue
		}
		synced := int64(binary.LittleEndian.Uint64(tail[i+9:]))
		n := int64(binary.LittleEndian.Uint32(tail[i:]))
		if synced <= at || synced > at+int64(i) || n > maxRecord || n > int64(len(tail)-i-recordHead) {
			continue
		}
		if crc32.Checksum(tail[i+8:i+recordHead+int(n)], castagnoli) == binary.LittleEndian.Uint32(tail[i+4:]) {
			return at + int64(i), synced
		}
	}
	return -1, 0
}

// Load gives the state to restore, and then every entry behind it to apply. clock is the machine's at the state. It is
// called before anything is appended.
func (w *WAL) Load(restore func(io.Reader) error, apply func(event.Entry) error) (clock int64, err error) {
	from, to := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := restore(from)
		if err == nil {
			_, _ = io.Copy(io.Discard, from)
		}
		from.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		done <- err
	}()
	var e end
	err = w.readSnapshot(w.base, &e, func(b []byte) error {
		_, err := to.Write(b)
		return err
	})
	to.CloseWithError(err) // nil is the end
	if bad := <-done; bad != nil && !errors.Is(err, ErrDamaged) {
		err = damaged("%s: %w", w.path(w.base, "snap"), bad)
	}
	for gen := w.base; err == nil && gen <= w.gen; gen++ {
		f, r, _, bad := w.open(w.path(gen, "log"), magicLog)
		if bad != nil {
			return 0, bad
		}
		err = w.readLog(r, func(rec record) error {
			if rec.kind != typeEntry {
				return nil
			}
			return parseEntries(rec.payload, apply)
		})
		f.Close()
	}
	return e.Clock, err
}
