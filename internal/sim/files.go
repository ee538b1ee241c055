package sim

import (
	"slices"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/kv"
	"understudy/replica"
	"understudy/view"
)

// filing is whether servers keep their log on disk.
type filing uint8

const (
	filesNone   filing = iota
	filesAlways        // synced before a command is answered
	filesNo            // synced when the system likes: only the death of processes is survived
)

// part is what a mark in the files says of a server.
type part uint8

const (
	partNone part = iota
	partJoining
	partBackup
	partPrimary
)

// filesMark says which part a server has from there on, in a view as the arbiter recorded it.
type filesMark struct {
	rec  arbiter.Record
	part part
}

// holds tells whether all that was released in the mark's view, or before, is in the files.
func (m filesMark) holds() bool { return m.part == partBackup || m.part == partPrimary }

// files are a host's, and outlive its servers: what package rsm writes with internal/wal. They have a state, and what was written
// behind it, of which a power failure leaves what was synced and perhaps some more.
type files struct {
	begun  bool
	base   [][]byte // snapshot in pieces
	past   past     // of the snapshot
	items  []filed
	synced int // items on disk
}

// filed is an entry or a mark.
type filed struct {
	entry event.Entry
	mark  filesMark
}

func (f *files) begin(base [][]byte, p past, m filesMark) {
	*f = files{begun: true, base: base, past: p, items: []filed{{mark: m}}, synced: 1}
}

func (f *files) append(entries []event.Entry) {
	for _, e := range entries {
		f.items = append(f.items, filed{entry: e})
	}
}

// held is the newest mark and the newest entry.
func (f *files) held() (m filesMark, last event.Seq) {
	last = f.past.seq
	for _, i := range f.items {
		if i.mark.part != partNone {
			m = i.mark
		} else {
			last++
		}
	}
	return m, last
}

// powerFails loses what was not synced, or most of it.
func (f *files) powerFails(r *rng) {
	if lost := len(f.items) - f.synced; lost > 0 {
		f.items = slices.Clip(f.items[:f.synced+r.intn(lost+1)])
	}
	f.synced = len(f.items)
}

// load makes the state that the files hold.
func (f *files) load() (*store, error) {
	r := kv.NewRestorer()
	for _, piece := range f.base {
		if err := r.Write(piece); err != nil {
			return nil, err
		}
	}
	state, err := r.Finish()
	if err != nil {
		return nil, err
	}
	s := &store{kv: state, past: f.past.copy()}
	for _, i := range f.items {
		if i.mark.part != partNone {
			continue
		}
		if err := s.replay(i.entry, func(now int64) int64 { return now }); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// record is membership as package rsm has it, for the marks.
type record struct {
	newest  arbiter.Record // heard of
	due     filesMark      // the newest that the files have, or are to have
	marking bool           // it is not written yet
	marked  uint64         // view of the newest that is
	offered filesMark      // what the files say that were offered
}

// files are those of the host, nil if everything is in memory.
func (s *server) files() *files {
	if s.p.w.s.filing == filesNone {
		return nil
	}
	return &s.p.w.files[s.p.slot]
}

// learn takes a record that the arbiter or the view service has told.
func (s *server) learn(rec arbiter.Record) {
	if rec.Number > s.rec.newest.Number {
		s.rec.newest = rec
	}
}

// noteMark sees to it that the files are marked when this server has another part.
func (s *server) noteMark() {
	rec := s.rec.newest
	if s.files() == nil || rec.Number != uint64(s.p.core.View()) {
		return // the record comes with the view service's next answer
	}
	m := filesMark{rec, partBackup}
	switch s.p.core.Role() {
	case replica.Primary:
		m.part = partPrimary
	case replica.Backup:
		if rec.Primary == s.p.name {
			m.part = partPrimary // as soon as it has executed what it holds
		}
	default:
		return
	}
	if m != s.rec.due {
		s.rec.due, s.rec.marking = m, true
	}
}

// mark writes the mark that is due, behind all that was received: that it is a backup, a server knows of entries that are perhaps
// not stored yet. It tells whether there was a mark to write.
func (s *server) mark() bool {
	f, w, p := s.files(), s.p.w, s.p
	if !s.rec.marking {
		return false
	}
	s.rec.marking = false
	m := s.rec.due
	entries := slices.Clone(p.core.Unstored())
	if w.mutation.markFirst {
		entries = nil
	}
	f.append(entries)
	if f.begun {
		f.items = append(f.items, filed{mark: m})
	} else {
		f.begin(pieces(s.st.kv), s.st.past.copy(), m)
		f.synced = 0
	}
	s.sync(true, func() {
		s.rec.marked = m.rec.Number
		s.storedTo(entries)
		w.tell(p, "has marked its files: %s of view %d", [...]string{"", "joining", "backup", "primary"}[m.part], m.rec.Number)
		if w.s.strikes && m.part == partBackup && w.healed == 0 && w.rng.chance(3) {
			w.onlyBackupReturns(p)
		}
	})
	return true
}

// onlyBackupReturns is the end of both members of a view, of which but the backup's host comes again: all depends on what its
// files hold at this moment.
func (w *World) onlyBackupReturns(p *process) {
	q := p.mate
	w.tell(p, "and its primary lose power")
	p.kill(true)
	if q != nil && !q.dead {
		q.gone = true
		q.kill(true)
	}
}

func pieces(state *kv.Store) (all [][]byte) {
	snap := state.BeginSnapshot()
	defer snap.Close()
	for done := false; !done; {
		var piece []byte
		piece, done = snap.Next(nil, 1<<10)
		all = append(all, piece)
	}
	return all
}

// sync has on disk what was written, if somebody is to be answered, and goes on then. The executor waits for it.
func (s *server) sync(answers bool, then func()) {
	f, w := s.files(), s.p.w
	if f == nil || !answers || w.s.filing == filesNo {
		then()
		return
	}
	n := len(f.items)
	s.busy = true
	w.plan(s.takes(w.s.fsync), s.p, func() {
		s.busy = false
		f.synced = max(f.synced, n)
		then()
		s.wake()
	})
}

// store writes what a follower has received and tells the core. It tells whether there was anything.
func (s *server) store() bool {
	p, f := s.p, s.files()
	if f == nil {
		return false
	}
	entries := slices.Clone(p.core.Unstored())
	if len(entries) == 0 {
		return false
	}
	answers := slices.ContainsFunc(entries, hasCommands) && !p.w.mutation.ackUnsynced
	f.append(entries)
	s.sync(answers, func() { s.storedTo(entries) })
	return true
}

func (s *server) storedTo(entries []event.Entry) {
	if len(entries) > 0 {
		last := entries[len(entries)-1].Seq
		s.p.stores(last)
		s.p.do(func(now time.Duration) { s.p.core.StoredTo(now, last) })
	}
}

// stores notes for the watchers what is in the files.
func (p *process) stores(last event.Seq) { p.kept = max(p.kept, last) }

func hasCommands(e event.Entry) bool { return len(e.Data) > headBytes }

const consultEvery = 20 * time.Millisecond

// consult compares what the files hold with the arbiter's record until this server has a part, or they are worth nothing.
func (s *server) consult(m filesMark, loaded bool) {
	p, w, f := s.p, s.p.w, s.files()
	if !m.holds() || p.role != replica.Spare || s.in != nil && !loaded {
		return
	}
	again := func() { w.plan(consultEvery, p, func() { s.consult(m, loaded) }) }
	if loaded && p.member.View().Number <= view.Number(m.rec.Number) {
		again() // until there is another view
		return
	}
	if w.now < w.reg.down || w.now < w.reg.cut[p.slot] || w.now < w.reg.mute && !w.rng.chance(4) {
		again()
		return
	}
	w.plan(w.arbiterDelay(), p, func() {
		rec := w.reg.record
		w.plan(w.arbiterDelay(), p, func() {
			switch {
			case p.role != replica.Spare:
			case rec == m.rec || w.mutation.oldFiles && !loaded:
				if w.mutation.oldFiles {
					m.rec = rec
				}
				if !loaded {
					st, err := f.load()
					if err != nil {
						w.fail(ruleKnown, "%s cannot load its files: %v", p.title, err)
						return
					}
					s.st, loaded = st, true
					s.offer(m)
				}
				again()
			case rec.Number == m.rec.Number+1 && rec.Primary == p.name:
				// Nobody else can have acted in this view.
				m = filesMark{rec, partPrimary}
				f.items = append(f.items, filed{mark: m})
				f.synced = len(f.items)
				if loaded {
					s.offer(m)
				}
				again()
			case rec.Number <= m.rec.Number:
				w.fail(ruleNumbers, "%s holds view %d in its files, but for the arbiter the newest is view %d", p.title, m.rec.Number, rec.Number)
			default:
				w.tell(p, "has files of view %d, but the newest is view %d: it starts empty", m.rec.Number, rec.Number)
				p.member.Files(view.Files{})
			}
		})
	})
}

// offer tells the core and the view service of the files.
func (s *server) offer(m filesMark) {
	p := s.p
	last := s.st.seq
	p.w.tell(p, "offers its files: %d entries of view %d", last, m.rec.Number)
	s.rec.offered = m
	p.stores(last)
	p.do(func(time.Duration) {
		p.core.Recoverable(replica.ViewNumber(m.rec.Number), last, uint64(s.st.clock))
	})
	p.member.Files(view.Files{View: view.Number(m.rec.Number), Claimant: m.rec.Claimant, Last: uint64(last)})
}

// mayRecover tells whether a host's files can bring back a group whose newest record is r.
func (f *files) mayRecover(name string, r arbiter.Record) bool {
	m, _ := f.held()
	return m.holds() && (m.rec == r || m.rec.Number+1 == r.Number && r.Primary == name)
}
