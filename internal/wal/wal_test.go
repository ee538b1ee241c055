package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy/arbiter"
	"understudy/event"
)

func options(dir string) Options {
	return Options{Dir: dir, Group: "g", Name: "a", Format: "test", Sync: Always}
}

func open(t *testing.T, o Options) *WAL {
	t.Helper()
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mark(n uint64, p Part) Mark {
	return Mark{Record: arbiter.Record{Number: n, Primary: "a", Claimant: "x"}, Part: p}
}

// begin makes a state that is just the number of its newest entry.
func begin(t *testing.T, w *WAL, base uint64, m Mark) {
	t.Helper()
	s, err := w.Begin()
	if err != nil {
		t.Fatal(err)
	}
	writeState(t, s, base)
	if err := s.Commit(base, int64(base), m); err != nil {
		t.Fatal(err)
	}
}

func writeState(t *testing.T, s *Writer, base uint64) {
	t.Helper()
	if _, err := s.Write(bytes.Repeat(binary.BigEndian.AppendUint64(nil, base), 10_000)); err != nil {
		t.Fatal(err)
	}
}

func entry(seq uint64) event.Entry {
	r := rand.New(rand.NewPCG(seq, 1))
	b := make([]byte, r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return event.Entry{Seq: event.Seq(seq), Kind: event.Kind(64 + seq%3), Data: b}
}

// load checks that the state and the entries are what they should be, up to the newest.
func load(t *testing.T, w *WAL) {
	t.Helper()
	_, last := w.Held()
	var base, seq uint64
	clock, err := w.Load(func(from io.Reader) error {
		all, err := io.ReadAll(from)
		if err != nil || len(all) != 80_000 {
			return fmt.Errorf("%d bytes of state, %w", len(all), err)
		}
		base = binary.BigEndian.Uint64(all)
		if !bytes.Equal(all, bytes.Repeat(all[:8], 10_000)) {
			return errors.New("another state")
		}
		seq = base
		return nil
	}, func(e event.Entry) error {
		seq++
		if want := entry(seq); e.Seq != want.Seq || e.Kind != want.Kind || !bytes.Equal(e.Data, want.Data) {
			return fmt.Errorf("entry %d is %+v", seq, e)
		}
		return nil
	})
	if err != nil || seq != last || clock != int64(base) {
		t.Fatalf("state after %d, entries up to %d, held %d, clock %d: %v", base, seq, last, clock, err)
	}
}

func appendTo(t *testing.T, w *WAL, last uint64) {
	t.Helper()
	for seq := w.last + 1; seq <= last; seq++ {
		if err := w.Append([]event.Entry{entry(seq)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
}

func shut(t *testing.T, w *WAL) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestComesBack(t *testing.T) {
	for _, policy := range []Policy{Always, EverySecond, Never} {
		o := options(filepath.Join(t.TempDir(), "new"))
		o.Sync = policy
		w := open(t, o)
		if m, last := w.Held(); m != (Mark{}) || last != 0 {
			t.Fatalf("an empty directory holds %+v, %d", m, last)
		}
		if err := w.Append([]event.Entry{entry(1)}); err == nil {
			t.Fatal("wrote without a state to start from")
		}
		shut(t, w)
		w = open(t, o)
		begin(t, w, 0, mark(1, Primary))
		appendTo(t, w, 10)
		if err := w.Mark(mark(2, Backup)); err != nil {
			t.Fatal(err)
		}
		appendTo(t, w, 20)
		if err := w.Append([]event.Entry{entry(22)}); err == nil {
			t.Fatal("wrote with a gap")
		}
		shut(t, w)
		for range 2 {
			w = open(t, o)
			if m, last := w.Held(); m != mark(2, Backup) || last != 20 {
				t.Fatalf("%+v, %d", m, last)
			}
			load(t, w)
			shut(t, w)
		}
		// Another state takes its place.
		w = open(t, o)
		begin(t, w, 1000, mark(5, Joining))
		appendTo(t, w, 1003)
		shut(t, w)
		w = open(t, o)
		if m, last := w.Held(); m != mark(5, Joining) || last != 1003 {
			t.Fatalf("%+v, %d", m, last)
		}
		load(t, w)
		shut(t, w)
		if files, _ := filepath.Glob(filepath.Join(o.Dir, "*")); len(files) != 3 {
			t.Errorf("left over: %v", files)
		}
	}
}

func TestRotates(t *testing.T) {
	o := options(t.TempDir())
	o.SnapshotBytes = 20_000
	w := open(t, o)
	begin(t, w, 0, mark(1, Primary))
	w.snapSize.Store(0) // else the log may grow as large
	rotations := 0
	for last := uint64(10); last < 1000; last += 10 {
		appendTo(t, w, last)
		due, prepare := w.Due()
		if prepare != nil {
			if err := prepare(); err != nil {
				t.Fatal(err)
			}
			due, _ = w.Due()
		}
		if !due {
			continue
		}
		rotations++
		s, err := w.Rotate(int64(w.last))
		if err != nil {
			t.Fatal(err)
		}
		at := w.last
		writeState(t, s, at)
		appendTo(t, w, last+5)
		switch rotations % 3 {
		case 0: // the snapshot was in vain
			if err := s.Chain(errors.New("no space")); err == nil {
				t.Fatal("no error")
			}
			if due, prepare := w.Due(); due || prepare != nil {
				t.Fatal("tries again at once")
			}
		case 1: // killed before it was complete
			s.Abort()
			w.rotating = false
		default:
			if err := s.Finish(at, int64(at)); err != nil {
				t.Fatal(err)
			}
			if err := s.Chain(nil); err != nil {
				t.Fatal(err)
			}
		}
		w.snapSize.Store(0)
		shut(t, w)
		w = open(t, o)
		if _, got := w.Held(); got != last+5 {
			t.Fatalf("%d entries of %d came back", got, last+5)
		}
		load(t, w)
		w.snapSize.Store(0)
	}
	if _, last := w.Held(); last < 985 || rotations < 6 {
		t.Errorf("%d entries, %d rotations", last, rotations)
	}
	if files, _ := filepath.Glob(filepath.Join(o.Dir, "*.log")); len(files) > 3 {
		t.Errorf("left over: %v", files)
	}
	shut(t, w)
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestPowerLoss lets the disk keep what was synced, and of the rest anything: nothing, a part, noise.
func TestPowerLoss(t *testing.T) {
	o := options(t.TempDir())
	w := open(t, o)
	begin(t, w, 0, mark(1, Primary))
	appendTo(t, w, 5)
	var warned bytes.Buffer
	cuts := 0
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 150 {
		synced, from := w.last, w.size
		for range r.IntN(6) {
			if err := w.Append([]event.Entry{entry(w.last + 1)}); err != nil {
				t.Fatal(err)
			}
		}
		if w.synced != from {
			t.Fatal("was synced by itself")
		}
		c := o
		c.Dir = copyDir(t, o.Dir)
		c.Log = slog.New(slog.NewTextHandler(&warned, nil))
		log := filepath.Join(c.Dir, filepath.Base(w.path(w.gen, "log")))
		all, err := os.ReadFile(log)
		if err != nil || int64(len(all)) != w.size {
			t.Fatal(len(all), w.size, err)
		}
		tail := all[from:]
		if len(tail) > 0 {
			switch r.IntN(4) {
			case 0:
				all = all[:from+int64(r.IntN(len(tail)))]
			case 1:
				clear(tail[r.IntN(len(tail)):])
			case 2:
				at := r.IntN(len(tail))
				clear(tail[at:min(len(tail), at+100)]) // a page that came too late
			case 3:
				tail[r.IntN(len(tail))] ^= 1 << r.IntN(8)
			}
		}
		if err := os.WriteFile(log, all, 0o600); err != nil {
			t.Fatal(err)
		}
		warned.Reset()
		back := open(t, c)
		if back.Damage() != nil {
			t.Fatalf("round %d: %v", round, back.Damage())
		}
		if _, last := back.Held(); last < synced {
			t.Fatalf("round %d: %d entries of %d synced ones", round, last, synced)
		}
		if strings.Contains(warned.String(), "torn tail") {
			cuts++
		}
		load(t, back)
		appendTo(t, back, back.last+3) // and goes on
		shut(t, back)
		back = open(t, c)
		load(t, back)
		shut(t, back)
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if cuts < 30 {
		t.Errorf("%d tails were cut off", cuts)
	}
	shut(t, w)
}

// TestLostOnDisk: what was synced and is gone is no torn tail.
func TestLostOnDisk(t *testing.T) {
	o := options(t.TempDir())
	w := open(t, o)
	begin(t, w, 0, mark(1, Primary))
	appendTo(t, w, 5)
	at := w.size
	appendTo(t, w, 10)
	end := w.size
	appendTo(t, w, 15)
	log, snap := filepath.Base(w.path(w.gen, "log")), filepath.Base(w.path(w.base, "snap"))
	shut(t, w)
	for name, spoil := range map[string]func(dir string) error{
		"a byte of the log": func(dir string) error { return flip(filepath.Join(dir, log), (at+end)/2) },
		"the log's header":  func(dir string) error { return flip(filepath.Join(dir, log), 20) },
		"the log":           func(dir string) error { return os.Remove(filepath.Join(dir, log)) },
		"the state":         func(dir string) error { return flip(filepath.Join(dir, snap), 40_000) },
		"the state's end":   func(dir string) error { return os.Truncate(filepath.Join(dir, snap), 50_000) },
		"all of the state":  func(dir string) error { return os.Truncate(filepath.Join(dir, snap), 0) },
	} {
		c := o
		c.Dir = copyDir(t, o.Dir)
		if err := spoil(c.Dir); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			back := open(t, c)
			if m, last := back.Held(); !errors.Is(back.Damage(), ErrDamaged) || m.Holds() || last != 0 {
				t.Errorf("%s is damaged: %v; holds %+v, %d", name, back.Damage(), m, last)
			}
			shut(t, back)
		}
		// A new state is no worse for it, and the damaged files are kept.
		back := open(t, c)
		begin(t, back, 7, mark(3, Backup))
		appendTo(t, back, 9)
		shut(t, back)
		back = open(t, c)
		if m, last := back.Held(); back.Damage() != nil || m != mark(3, Backup) || last != 9 {
			t.Errorf("%s: %v, %+v, %d", name, back.Damage(), m, last)
		}
		load(t, back)
		shut(t, back)
		kept, _ := filepath.Glob(filepath.Join(c.Dir, "*"+damagedSuffix))
		if want := 2; len(kept) != want && name != "the log" {
			t.Errorf("%s: kept %v", name, kept)
		}
	}
}

func flip(path string, at int64) error {
	all, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	all[at] ^= 4
	return os.WriteFile(path, all, 0o600)
}

func TestForeignAndInUse(t *testing.T) {
	o := options(t.TempDir())
	w := open(t, o)
	begin(t, w, 0, mark(1, Primary))
	if _, err := Open(o); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	shut(t, w)
	for _, change := range []func(*Options){
		func(o *Options) { o.Name = "b" },
		func(o *Options) { o.Group = "h" },
		func(o *Options) { o.Format = "test 2" },
	} {
		c := o
		change(&c)
		if _, err := Open(c); !errors.Is(err, ErrForeign) {
			t.Errorf("%+v opened these files: %v", c, err)
		}
	}
	w = open(t, o)
	shut(t, w)
	if _, err := Open(options("/dev/null/x")); err == nil {
		t.Error("no error")
	}
}

// TestCutBetween kills the process at every step by which one state takes another's place: one of the two is there.
func TestCutBetween(t *testing.T) {
	o := options(t.TempDir())
	w := open(t, o)
	begin(t, w, 0, mark(1, Primary))
	appendTo(t, w, 5)
	s, err := w.Begin()
	if err != nil {
		t.Fatal(err)
	}
	writeState(t, s, 50)
	check := func(what string, last uint64) {
		t.Helper()
		c := o
		c.Dir = copyDir(t, o.Dir)
		back := open(t, c)
		if _, got := back.Held(); back.Damage() != nil || got != last {
			t.Errorf("%s: %v, %d", what, back.Damage(), got)
		}
		load(t, back)
		shut(t, back)
	}
	check("half a state", 5)
	if err := s.finish(50, 50); err != nil {
		t.Fatal(err)
	}
	check("a state without a name", 5)
	h := w.header()
	h.Base = 50
	f, err := w.newLog(s.gen)
	if err != nil {
		t.Fatal(err)
	}
	check("an empty log", 5)
	if _, err := f.Write(appendJSON([]byte(magicLog), typeHeader, 0, h)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	check("its log", 5)
	// A torn tail of the old log at that moment.
	appendTo(t, w, 6)
	if err := os.Truncate(w.path(1, "log"), w.size-3); err != nil {
		t.Fatal(err)
	}
	check("its log, and a torn tail", 5)
	if _, err := s.publish(); err != nil {
		t.Fatal(err)
	}
	check("its name", 50)
	w.Close()
}

func FuzzLog(f *testing.F) {
	log := appendJSON([]byte(magicLog), typeHeader, 0, header{Version: 1, Group: "g", Name: "a", Format: "test", Mark: mark(1, Primary)})
	log = appendRecord(log, typeEntry, int64(len(log)), func(b []byte) []byte { return appendEntries(b, []event.Entry{entry(1), entry(2)}) })
	log = appendJSON(log, typeMark, int64(len(log)), mark(2, Backup))
	snap := appendJSON([]byte(magicSnap), typeHeader, 0, header{Version: 1, Group: "g", Name: "a", Format: "test"})
	snap = appendRecord(snap, typeData, 0, func(b []byte) []byte { return append(b, "state"...) })
	snap = appendJSON(snap, typeEnd, 0, end{Bytes: 5})
	f.Add(log, snap)
	f.Add(slices.Concat(log, log[20:]), snap)
	f.Add([]byte(magicLog), snap[:40])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, log, snap []byte) {
		o := options(dir)
		for kind, b := range map[string][]byte{"log": log, "snap": snap} {
			if err := os.WriteFile(filepath.Join(dir, "000000000001."+kind), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w, err := Open(o)
		if err != nil {
			return
		}
		defer w.Close()
		m, last := w.Held()
		if w.Damage() != nil {
			return
		}
		n := uint64(0)
		if _, err := w.Load(func(from io.Reader) error { _, err := io.Copy(io.Discard, from); return err }, func(event.Entry) error { n++; return nil }); err != nil {
			t.Fatalf("%+v, %d: %v", m, last, err)
		}
		if err := w.Append([]event.Entry{{Seq: event.Seq(last + 1)}}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnotherStateComesWhileALogIsPrepared: what was prepared belonged to the state before.
func TestAnotherStateComesWhileALogIsPrepared(t *testing.T) {
	for _, late := range []bool{false, true} {
		o := options(t.TempDir())
		o.SnapshotBytes = 1000
		w := open(t, o)
		begin(t, w, 0, mark(1, Primary))
		w.snapSize.Store(0)
		appendTo(t, w, 20)
		_, prepare := w.Due()
		s, err := w.Begin()
		if err != nil {
			t.Fatal(err)
		}
		writeState(t, s, 100)
		if !late {
			if err := prepare(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Commit(100, 100, mark(3, Joining)); err != nil {
			t.Fatal(err)
		}
		if late {
			if err := prepare(); err != nil {
				t.Fatal(err)
			}
		}
		w.snapSize.Store(0)
		appendTo(t, w, 120)
		for range 3 { // and its own are chained to it
			due, prepare := w.Due()
			if due || prepare == nil {
				t.Fatal("there is a log already")
			}
			if err := prepare(); err != nil {
				t.Fatal(err)
			}
			s, err := w.Rotate(int64(w.last))
			if err != nil {
				t.Fatal(err)
			}
			if s.Chain(errors.New("no space")) == nil {
				t.Fatal("no error")
			}
			appendTo(t, w, w.last+20)
		}
		shut(t, w)
		w = open(t, o)
		if m, last := w.Held(); w.Damage() != nil || last != 180 || m != mark(3, Joining) {
			t.Fatalf("%v, %+v, %d", w.Damage(), m, last)
		}
		load(t, w)
		shut(t, w)
	}
}
