package rsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/internal/wal"
	"understudy/replica"
	"understudy/view"
)

// Files: with Options.Dir a node keeps its log on disk, so that a group whose servers all died comes back.
//
// The executor writes: a primary before it gives replies to the core, a follower before entries are acknowledged and executed.
// A mark in the log says in which view, as the arbiter records it, this server has its part from there on. What marks are
// worth, package replica says (files.go).
//
// A node that starts with files compares their mark with the arbiter's record. If they agree on the newest view it loads what
// the files hold and offers it to the view service, which may make it primary of the next view when nobody alive holds the
// state. Otherwise, the group has gone on without it: its files are worth nothing any more, and it starts empty.

// ErrFiles is wrapped by errors of the files in Options.Dir. Run ends with it when they cannot be written: what is not on disk
// must not be acknowledged.
var ErrFiles = errors.New("the log's files")

// filesError has a hint for users.
type filesError struct {
	err error
	try string
}

func (e *filesError) Error() string   { return e.err.Error() }
func (e *filesError) Unwrap() []error { return []error{ErrFiles, e.err} }
func (e *filesError) Try() string     { return e.try }

// openFiles is part of New.
func (n *Node) openFiles() error {
	policy := wal.EverySecond
	if n.opt.Fsync != "" {
		var err error
		if policy, err = wal.ParsePolicy(n.opt.Fsync); err != nil {
			return err
		}
	}
	w, err := wal.Open(wal.Options{
		Dir: n.opt.Dir, Group: n.opt.Group, Name: n.opt.Name, Format: n.opt.Format, Sync: policy,
		SnapshotBytes: n.opt.SnapshotBytes, Log: n.log,
	})
	switch {
	case errors.Is(err, wal.ErrInUse):
		return &filesError{err, "another directory: each server has its own; or end that process first"}
	case errors.Is(err, wal.ErrForeign):
		return &filesError{err, "another directory, or start the server that wrote these files"}
	case err != nil:
		return &filesError{err, "a directory that this program may write"}
	}
	n.files = w
	switch m, last := w.Held(); {
	case w.Damage() != nil:
		n.log.Error("the files cannot be used; this server starts empty", "dir", n.opt.Dir, "err", w.Damage())
	case m.Record.Number > 0:
		n.log.Info("found files", "dir", n.opt.Dir, "view", m.Record.Number, "part", m.Part, "newest entry", last)
	}
	return nil
}

// hasHistory tells whether the files show that the group has been there before, so that it must not begin anew.
func (n *Node) hasHistory() bool {
	if n.files == nil {
		return false
	}
	m, _ := n.files.Held()
	return n.files.Damage() != nil || m != (wal.Mark{})
}

// fail ends this life because of its files.
func (n *Node) fail(err error) {
	n.cancel(&filesError{fmt.Errorf("in %s: %w", n.opt.Dir, err), "free or repair the disk, and start this server again"})
}

// keep writes entries, and has them on disk if somebody is answered on the strength of them. Entries of the clock and of digests are
// synced with the next command: to lose them changes no answer.
func (n *Node) keep(entries []event.Entry, answers bool) error {
	if n.files == nil || len(entries) == 0 {
		return nil
	}
	n.stage.Lock()
	err := n.files.Append(entries)
	n.stage.Unlock()
	if err == nil && answers {
		err = n.files.Sync()
	}
	return err
}

// syncFiles has on disk what was written.
func (n *Node) syncFiles() error {
	if n.files == nil {
		return nil
	}
	return n.files.Sync()
}

// store writes what a follower has received and tells the core.
func (x *executor) store() error {
	n := x.n
	n.mu.Lock()
	entries := n.core.Unstored()
	n.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	answers := false
	for i := range entries {
		answers = answers || hasCommands(&entries[i])
	}
	if err := n.keep(entries, answers); err != nil {
		return err
	}
	n.do(func(now time.Duration) { n.core.StoredTo(now, entries[len(entries)-1].Seq) })
	return nil
}

// hasCommands tells whether anybody may have been answered on the strength of an entry.
func hasCommands(e *event.Entry) bool {
	if e.Kind != kindCommands || len(e.Data) == 0 {
		return false
	}
	_, n := binary.Uvarint(e.Data[1:])
	return len(e.Data) > 1+n+8
}

// learn takes a record that the arbiter or the view service has told. mu is held.
func (n *Node) learn(rec arbiter.Record) {
	if rec.Number > n.member.record.Number {
		n.member.record = rec
	}
}

// noteMark sees to it that the executor marks the log when this node has another part. mu is held.
func (n *Node) noteMark() {
	rec := n.member.record
	if n.files == nil || rec.Number != uint64(n.core.View()) {
		return // the record comes with the view service's next answer
	}
	m := wal.Mark{Record: rec, Part: wal.Backup}
	switch n.core.Role() {
	case replica.Primary:
		m.Part = wal.Primary
	case replica.Backup:
		if rec.Primary == n.opt.Name {
			m.Part = wal.Primary // as soon as it has executed what it holds
		}
	default:
		return
	}
	if m != n.member.mark {
		n.member.mark = m
		n.marking.Store(true)
		n.poke()
	}
}

// mark writes the mark that is due. The view service hears that a primary has taken its part only then, for a later view can
// follow only if it does.
func (x *executor) mark() error {
	n := x.n
	if !n.marking.Swap(false) {
		return nil
	}
	n.mu.Lock()
	m := n.member.mark
	last := n.core.Last()
	n.mu.Unlock()
	// A backup knows of its part by entries that are perhaps not stored yet. A mark without them would say more than is true.
	if err := x.store(); err != nil {
		return err
	}
	n.stage.Lock()
	var err error
	if n.files.Begun() {
		err = n.files.Mark(m)
	} else {
		err = n.found(uint64(last), m)
	}
	n.stage.Unlock()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.member.marked = m.Record.Number
	n.takePart()
	n.mu.Unlock()
	return nil
}

// found begins the files with the machine's first state. stage is held.
func (n *Node) found(last uint64, m wal.Mark) error {
	w, err := n.files.Begin()
	if err != nil {
		return err
	}
	defer w.Abort()
	snap := n.opt.Machine.Snapshot()
	defer snap.Close()
	var buf []byte
	for done := false; !done; {
		buf, done = snap.Next(buf[:0], stateBytes)
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return w.Commit(last, n.clock, m)
}

// rotate begins a snapshot when the log has grown far enough, and all of it is executed.
func (x *executor) rotate() {
	n := x.n
	if n.files == nil || !n.files.Grown() {
		return
	}
	n.mu.Lock()
	executed := n.core.Last()
	if n.core.Role() != replica.Primary {
		executed = n.core.Applied()
	}
	n.mu.Unlock()
	n.stage.Lock()
	defer n.stage.Unlock()
	_, last := n.files.Held()
	if uint64(executed) != last || x.preparing.Load() {
		return
	}
	due, prepare := n.files.Due()
	if prepare != nil {
		x.preparing.Store(true)
		n.workers.Go(func() {
			if err := prepare(); err != nil && n.runCtx.Err() == nil {
				n.log.Warn("cannot begin a new log: this one grows on", "name", n.opt.Name, "err", err)
				sleep(n.runCtx, prepareAgain)
			}
			x.preparing.Store(false)
		})
	}
	if !due {
		return
	}
	began, clock := time.Now(), n.clock
	w, err := n.files.Rotate(clock)
	if err != nil {
		n.log.Warn("cannot begin a snapshot", "name", n.opt.Name, "err", err) // the log's next write says whether it can go on
		return
	}
	snap := n.opt.Machine.Snapshot()
	stood := time.Since(began)
	n.workers.Go(func() {
		var buf []byte
		var err error
		for done := false; !done && err == nil; {
			buf, done = snap.Next(buf[:0], stateBytes)
			_, err = w.Write(buf)
			runtime.Gosched() // clients first
			if n.runCtx.Err() != nil {
				err = errors.Join(err, n.runCtx.Err())
			}
		}
		if err == nil {
			err = w.Finish(last, clock)
		}
		n.stage.Lock()
		defer n.stage.Unlock()
		snap.Close()
		if err = w.Chain(err); err != nil {
			if n.runCtx.Err() == nil {
				n.log.Warn("could not write a snapshot: the log grows on, the next is tried later", "name", n.opt.Name, "err", err)
			}
			return
		}
		size, _ := n.files.Bytes()
		n.log.Info("has written a snapshot", "name", n.opt.Name, "bytes", size, "after entry", last, "stood still", stood, "took", time.Since(began))
	})
}

// closeFiles is the end of a life.
func (n *Node) closeFiles() {
	if n.files == nil {
		return
	}
	n.stage.Lock()
	defer n.stage.Unlock()
	if n.void.Load() && n.files.Begun() {
		if err := n.files.Mark(wal.Mark{Record: n.member.mark.Record, Part: wal.Void}); err != nil {
			n.log.Error("cannot mark the files as wrong: remove them before this server starts again", "dir", n.opt.Dir, "err", err)
		}
	}
	if err := n.files.Close(); err != nil {
		n.log.Warn("cannot close the files", "dir", n.opt.Dir, "err", err)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

const (
	prepareAgain = 10 * time.Second
	consultEvery = 200 * time.Millisecond
	consultLimit = 2 * time.Second
)

// consult compares what the files hold, mark m and entries up to last, with the arbiter's record until this node has a part, or its files are worth nothing.
func (n *Node) consult(m wal.Mark, last uint64) {
	if !m.Holds() {
		return
	}
	t := time.NewTicker(consultEvery)
	defer t.Stop()
	told, loaded := false, false
	for n.role.Load() == uint32(replica.Spare) {
		rec, err := n.consultArbiter()
		switch {
		case n.runCtx.Err() != nil:
			return
		case err != nil:
			if !told {
				n.log.Warn("has files, and asks the arbiter until it says what they are worth", "name", n.opt.Name, "view", m.Record.Number, "err", err)
				told = true
			}
		case rec == m.Record:
			if !loaded {
				if loaded = n.load(m, last); !loaded {
					return
				}
			}
		case rec.Number == m.Record.Number+1 && rec.Primary == n.opt.Name:
			// Whoever was primary of the view before, or its backup in sync, holds all of this one, in which nobody else can
			// have acted.
			m = wal.Mark{Record: rec, Part: wal.Primary}
			if !n.remark(m) {
				return
			}
			continue
		case rec.Number <= m.Record.Number:
			n.cancel(&filesError{
				fmt.Errorf("%s holds view %d of group %q, made by %s, but for the arbiter the newest is view %d, made by %q",
					n.opt.Dir, m.Record.Number, n.opt.Group, m.Record.Claimant, rec.Number, rec.Claimant),
				"the arbiter that the group had; if that is lost, an empty directory for all but the server to start from",
			})
			return
		default:
			n.log.Info("the group has gone on without this server since it wrote its files; it starts empty", "name", n.opt.Name,
				"view", m.Record.Number, "newest", rec.Number, "primary", rec.Primary)
			n.member.pinger.Files(view.Files{})
			return
		}
		for wait := true; wait; {
			select {
			case <-t.C:
			case <-n.runCtx.Done():
				return
			}
			// When it is loaded, until there is another view.
			n.mu.Lock()
			wait = loaded && n.member.seen.View.Number <= view.Number(m.Record.Number) && n.core.Role() == replica.Spare
			n.mu.Unlock()
		}
	}
}

func (n *Node) consultArbiter() (arbiter.Record, error) {
	ctx, cancel := context.WithTimeout(n.runCtx, consultLimit)
	defer cancel()
	return n.opt.Arbiter.Get(ctx, n.opt.Group)
}

// load gives the machine what the files hold, and offers it to the view service. It reports false if that is in vain.
func (n *Node) load(m wal.Mark, last uint64) bool {
	if !n.restoring.CompareAndSwap(false, true) {
		return false // a primary is sending its state
	}
	defer n.restoring.Store(false)
	n.stage.Lock()
	defer n.stage.Unlock()
	began := time.Now()
	x := &executor{n: n}
	clock := int64(-1)
	base, err := n.files.Load(
		func(from io.Reader) error { return n.opt.Machine.Restore(from) },
		func(e event.Entry) error {
			if e.Kind != kindCommands {
				return nil // digests were compared when it was made
			}
			now, err := parse(e.Data, func(e Entry) { x.scratch = n.opt.Machine.Apply(x.scratch[:0], e) })
			if err == nil && now < clock {
				err = fmt.Errorf("%w: time steps back", errEntry)
			}
			clock = now
			return err
		})
	if err != nil {
		n.log.Error("cannot load the files; this server starts empty", "dir", n.opt.Dir, "err", err)
		return false
	}
	n.clock = max(base, clock)
	n.log.Info("has loaded its files, and waits to be made primary", "name", n.opt.Name, "view", m.Record.Number, "newest entry", last, "took", time.Since(began))
	n.offer(m, last)
	return true
}

// offer tells the core and the view service of the files. stage is held.
func (n *Node) offer(m wal.Mark, last uint64) {
	n.do(func(time.Duration) {
		n.member.offered = m.Record.Number
		n.core.Recoverable(replica.ViewNumber(m.Record.Number), event.Seq(last), uint64(n.clock))
	})
	n.member.pinger.Files(view.Files{View: view.Number(m.Record.Number), Claimant: m.Record.Claimant, Last: last})
}

// remark writes a mark while this node has no part.
func (n *Node) remark(m wal.Mark) bool {
	n.stage.Lock()
	defer n.stage.Unlock()
	if n.role.Load() != uint32(replica.Spare) {
		return false
	}
	if err := n.files.Mark(m); err != nil {
		n.fail(err)
		return false
	}
	_, last := n.files.Held()
	n.mu.Lock()
	offered := n.member.offered
	n.mu.Unlock()
	if offered > 0 {
		n.offer(m, last)
	}
	return true
}
