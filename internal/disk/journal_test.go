package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/event"
)

var errCrash = errors.New("the host died")

// power is what a host has left before it dies: a byte written takes one unit, any other change of a file too.
type power struct {
	left  int
	rng   *rand.Rand
	steps []int // what was left at each change that is not a write
}

// use takes up to n units.
func (p *power) use(n int) (int, error) {
	if n == 1 {
		p.steps = append(p.steps, p.left)
	}
	if n <= p.left {
		p.left -= n
		return n, nil
	}
	n, p.left = p.left, 0
	return n, errCrash
}

// memFile is a file, or a disk, on a host that dies. What was written last is lost in part, sector by
// sector, whatever the order, unless it was synced.
type memFile struct {
	p       *power
	now     []byte
	durable []byte
	writes  int
	disk    *geometry // a disk's size, which is fixed
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.p.use(len(b))
	if f.disk != nil && off+int64(n) > int64(len(f.now)) {
		return 0, errors.New("a write behind the end of a disk")
	}
	f.now = append(f.now, make([]byte, max(0, int(off)+n-len(f.now)))...)
	copy(f.now[off:], b[:n])
	if f.writes++; f.writes%3 == 0 { // the host writes back when it likes
		f.durable = bytes.Clone(f.now)
	}
	return n, err
}

func (f *memFile) zero(off, n int64) error {
	_, err := f.WriteAt(make([]byte, n), off)
	return err
}

func (f *memFile) Truncate(size int64) error {
	if _, err := f.p.use(1); err != nil {
		return err
	}
	f.now = f.now[:size:size]
	return nil
}

func (f *memFile) Sync() error {
	if _, err := f.p.use(1); err != nil {
		return err
	}
	f.durable = bytes.Clone(f.now)
	return nil
}

func (f *memFile) Close() error       { return nil }
func (f *memFile) geometry() geometry { return *f.disk }
func (f *memFile) name() string       { return "disk" }

// restart is the file after the host's death and return.
func (f *memFile) restart(p *power) *memFile {
	lost := p.rng.IntN(11) // of 10 sectors
	size := len(f.durable)
	if p.rng.IntN(2) == 0 {
		size = len(f.now)
	}
	got := make([]byte, size)
	for off := 0; off < size; off += SectorBytes {
		from := f.now
		if p.rng.IntN(10) < lost {
			from = f.durable
		}
		if off < len(from) {
			copy(got[off:min(off+SectorBytes, size)], from[off:])
		}
	}
	return &memFile{p: p, now: got, durable: bytes.Clone(got), disk: f.disk}
}

// epochs is a run of a journal: what it staged, epoch by epoch, and the disks after each.
type epochs struct {
	journal *memFile
	disks   []*memFile
	states  [][2][]byte // by epoch; 0 is the beginning
	done    uint64      // the last epoch whose Commit returned
	tried   uint64      // the last one whose Commit was called
}

func journalDisks(disks []*memFile) []journalDisk {
	var d []journalDisk
	for _, m := range disks {
		d = append(d, m)
	}
	return d
}

// runEpochs stages and commits until the power ends or n epochs are committed.
func runEpochs(t *testing.T, seed uint64, units int) (e epochs, p *power) {
	t.Helper()
	work := rand.New(rand.NewPCG(seed, 1)) // the same work whatever the power
	p = &power{left: units}
	size := geometry{24}
	e = epochs{journal: &memFile{p: p}, states: make([][2][]byte, 1)}
	for i := range 2 {
		m := &memFile{p: p, disk: &size, now: make([]byte, size.bytes())}
		fill(m.now, seed+uint64(i))
		m.durable = bytes.Clone(m.now)
		e.disks = append(e.disks, m)
		e.states[0][i] = bytes.Clone(m.now)
	}
	j, err := newJournal("journal", e.journal, journalDisks(e.disks))
	if err != nil {
		return e, p
	}
	j.resetBytes = 9000 - int64(seed%2)*7500
	for epoch := uint64(1); epoch <= 6; epoch++ {
		next := [2][]byte{bytes.Clone(e.states[epoch-1][0]), bytes.Clone(e.states[epoch-1][1])}
		// What is discarded has the shape of what takes its place: its records may lie in the same places.
		shapes := work.Uint64()
		for discard := work.IntN(2) == 0; ; discard = false {
			shape := rand.New(rand.NewPCG(shapes, 2))
			for range shape.IntN(5) {
				d, s := shape.IntN(2), shape.Uint64N(size.sectors)
				n := 1 + shape.Uint64N(min(4, size.sectors-s))
				data := make([]byte, n*SectorBytes)
				fill(data, work.Uint64())
				if seed%2 == 1 { // few different records: the same ones come again
					d, s, data = 0, shape.Uint64N(2), sector(byte(work.IntN(2)))
				}
				part := next[d][s*SectorBytes:][:len(data)]
				if shape.IntN(4) == 0 {
					clear(data)
					err = j.Zero(uint8(d), s, uint32(len(data)/SectorBytes))
				} else {
					err = j.Write(uint8(d), s, data)
				}
				if err != nil {
					return e, p
				}
				copy(part, data)
			}
			if !discard {
				break
			}
			j.Discard()
			next = [2][]byte{bytes.Clone(e.states[epoch-1][0]), bytes.Clone(e.states[epoch-1][1])}
		}
		e.states = append(e.states, next)
		e.tried = epoch
		if j.Commit(epoch) != nil {
			return e, p
		}
		e.done = epoch
	}
	if j.Close() != nil {
		return e, p
	}
	return e, p
}

// TestJournalSurvivesEveryCrash lets the host die all along, again and again at the steps of a commit, and then
// in the recovery. The disks are always as at the end of the last committed epoch.
func TestJournalSurvivesEveryCrash(t *testing.T) {
	const plenty = 1 << 30
	stride, often := 151, 12
	if testing.Short() {
		stride, often = 601, 3
	}
	for seed := range uint64(8) {
		whole, p := runEpochs(t, seed, plenty)
		if whole.done != 6 {
			t.Fatal("the run without a crash did not end")
		}
		for units := int(seed); units < plenty-p.left; units += stride {
			e, _ := runEpochs(t, seed, units)
			e.dieInRecovery(t, seed, units, 0)
		}
		for _, left := range p.steps {
			for units := plenty - left; units < plenty-left+2; units++ {
				e, _ := runEpochs(t, seed, units)
				for variant := range often {
					e.dieInRecovery(t, seed, units, variant)
				}
			}
		}
	}
}

// dieInRecovery starts the host again, which dies twice more, and checks the disks.
func (e *epochs) dieInRecovery(t *testing.T, seed uint64, units, variant int) {
	t.Helper()
	p := &power{rng: rand.New(rand.NewPCG(seed<<32+uint64(variant), uint64(units)))}
	j, disks := e.journal, append([]*memFile(nil), e.disks...)
	for again := range 3 {
		p.left = 1 << 30
		if again < 2 {
			p.left = p.rng.IntN(9000)
		}
		j = j.restart(p)
		for i := range disks {
			disks[i] = disks[i].restart(p)
		}
		got, err := newJournal("journal", j, journalDisks(disks))
		if errors.Is(err, errCrash) && again < 2 {
			continue
		}
		if err != nil {
			t.Fatalf("seed %d, died after %d (%d): %v", seed, units, variant, err)
		}
		at := false
		for n := e.done; n <= e.tried; n++ {
			at = at || bytes.Equal(disks[0].durable, e.states[n][0]) && bytes.Equal(disks[1].durable, e.states[n][1])
		}
		if !at {
			t.Fatalf("seed %d, died after %d (%d): the disks are at no epoch of %d to %d", seed, units, variant, e.done, e.tried)
		}
		if n, known := got.Epoch(); known && n > e.tried {
			t.Fatalf("seed %d, died after %d (%d): epoch %d is said, %d was the last", seed, units, variant, n, e.tried)
		}
		return
	}
}

// TestJournal is the life of one on real files: staged writes are not seen, committed ones are, discarded ones
// never; a journal that was not closed is applied when it is opened.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	d, err := Create(filepath.Join(dir, "disk.raw"), 8000)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	open := func() *Journal {
		t.Helper()
		j, err := OpenJournal(path, []*Disk{d})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	want := make([]byte, 8000*SectorBytes)
	check := func(what string) {
		t.Helper()
		if !bytes.Equal(content(t, d.path), want) {
			t.Fatalf("%s: the disk differs", what)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	j := open()
	if _, err := OpenJournal(path, []*Disk{d}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("opened twice: %v", err)
	}
	big := make([]byte, 3<<20+SectorBytes) // several records
	fill(big, 1)
	must(j.Write(0, 5, big))
	must(j.Zero(0, 100, 50))
	check("staged")
	must(j.Commit(10))
	copy(want[5*SectorBytes:], big)
	clear(want[100*SectorBytes : 150*SectorBytes])
	check("committed")
	if n, known := j.Epoch(); n != 10 || !known {
		t.Errorf("epoch %d, %v", n, known)
	}
	must(j.Write(0, 0, sector(9)))
	j.Discard()
	must(j.Commit(11))
	check("discarded")
	if err := j.Commit(11); err == nil {
		t.Error("an epoch twice")
	}
	for name, err := range map[string]error{
		"no such disk":   j.Write(1, 0, sector(1)),
		"behind the end": j.Write(0, 7999, append(sector(1), sector(1)...)),
		"far behind":     j.Zero(0, ^uint64(0), 2),
		"half a sector":  j.Write(0, 0, make([]byte, 100)),
	} {
		if err == nil {
			t.Error(name)
		}
	}
	must(j.Write(0, 1, sector(1)))
	must(j.Commit(12))
	copy(want[SectorBytes:], sector(1))
	must(j.Write(0, 2, sector(2)))
	// The host dies: the disk's bytes were not synced and are as before, the journal's are there.
	j.file.Close()
	must(os.WriteFile(d.path, make([]byte, len(want)), 0o600))
	j = open()
	check("opened again")
	if n, known := j.Epoch(); n != 12 || !known {
		t.Errorf("epoch %d, %v", n, known)
	}
	must(j.Write(0, 3, sector(3)))
	must(j.Close())
	if err := j.Write(0, 3, sector(3)); err == nil {
		t.Error("a write to a closed journal")
	}
	check("closed")
	j = open()
	if _, known := j.Epoch(); known {
		t.Error("an epoch of an empty journal")
	}
	must(j.Commit(1))
	must(j.Close())
	if st, err := os.Stat(path); err != nil || st.Size() != 0 {
		t.Errorf("a closed journal: %v, %v", st.Size(), err)
	}
}

// TestForeignJournals: a journal of other disks is an error, and nonsense is no epoch.
func TestForeignJournals(t *testing.T) {
	small, large := geometry{4}, geometry{400}
	p := &power{left: 1 << 30}
	disk := func(g *geometry) *memFile { return &memFile{p: p, disk: g, now: make([]byte, g.bytes())} }
	file := &memFile{p: p}
	j, err := newJournal("journal", file, []journalDisk{disk(&large)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Write(0, 300, sector(1)), j.Commit(1)); err != nil {
		t.Fatal(err)
	}
	full := bytes.Clone(file.now)
	if _, err := newJournal("journal", file, []journalDisk{disk(&small)}); err == nil {
		t.Error("a journal of a larger disk")
	}
	for i := range full {
		file.now = bytes.Clone(full)
		file.now[i] ^= 0x10
		d := disk(&large)
		j, err := newJournal("journal", file, []journalDisk{d})
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, known := j.Epoch(); known || !isZero(d.now[:BlockBytes]) || !bytes.Equal(d.now, make([]byte, len(d.now))) {
			t.Fatalf("byte %d changed, and the epoch was applied", i)
		}
	}
}

// seal makes the checksums of b right, record by record, so that what is behind them is looked at.
func seal(b []byte) []byte {
	b = bytes.Clone(b)
	chain := uint32(journalSeed)
	for rest := b; len(rest) >= journalHeadBytes; {
		n := journalHeadBytes
		if rest[4] == journalWrite {
			n += int(binary.LittleEndian.Uint32(rest[8:])) * SectorBytes
		}
		if n > len(rest) {
			break
		}
		chain = crc32.Update(chain, castagnoli, rest[4:n])
		binary.LittleEndian.PutUint32(rest, chain)
		rest = rest[n:]
	}
	return b
}

// TestCommitIsOfItsOwnRecords: a record of a discarded epoch does not pass for the one that took its place,
// when the commit behind that reached the file and the record did not.
func TestCommitIsOfItsOwnRecords(t *testing.T) {
	g := geometry{8}
	p := &power{left: 1 << 30}
	with := func(b byte) []byte {
		file := &memFile{p: p}
		j, err := newJournal("journal", file, []journalDisk{&memFile{p: p, disk: &g, now: make([]byte, g.bytes())}})
		if err := errors.Join(err, j.Write(0, 3, sector(b)), j.Commit(1)); err != nil {
			t.Fatal(err)
		}
		return file.now
	}
	// Nor does an old record pass for what follows a new one that is the same: a journal that was emptied is
	// empty for good before it is written to.
	file := &memFile{p: p, now: with(1), durable: with(1)}
	if _, err := newJournal("journal", file, []journalDisk{&memFile{p: p, disk: &g, now: make([]byte, g.bytes())}}); err != nil || len(file.durable) != 0 {
		t.Errorf("emptied, it has %d bytes: %v", len(file.durable), err)
	}
	spliced := append(with(1)[:journalHeadBytes+SectorBytes:journalHeadBytes+SectorBytes], with(2)[journalHeadBytes+SectorBytes:]...)
	d := &memFile{p: p, disk: &g, now: make([]byte, g.bytes())}
	if _, err := newJournal("journal", &memFile{p: p, now: spliced}, []journalDisk{d}); err != nil || !isZero(d.now) {
		t.Errorf("it was applied: %v", err)
	}
}

func FuzzJournal(f *testing.F) {
	g := geometry{8}
	p := &power{left: 1 << 40}
	file := &memFile{p: p}
	j, _ := newJournal("journal", file, []journalDisk{&memFile{p: p, disk: &g, now: make([]byte, g.bytes())}})
	if err := errors.Join(j.Write(0, 3, sector(1)), j.Zero(0, 1, 7), j.Commit(4), j.Commit(5)); err != nil {
		f.Fatal(err)
	}
	f.Add(file.now)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &power{left: 1 << 40}
		d := &memFile{p: p, disk: &g, now: make([]byte, g.bytes())}
		_, _ = newJournal("journal", &memFile{p: p, now: seal(b)}, []journalDisk{d})
	})
}

// TestDiskBounds: requests that are not the disk's, a disk without a name of its own.
func TestDiskBounds(t *testing.T) {
	d := newSource(t, 8)
	for i, r := range []event.DiskRequest{
		{Op: event.DiskWrite, Sector: 7, Count: 2, Data: make([]byte, 2*SectorBytes)},
		{Op: event.DiskWrite, Sector: 0, Count: 2, Data: sector(1)},
		{Op: event.DiskDiscard, Sector: ^uint64(0), Count: 2},
		{Op: event.DiskRead, Sector: 1 << 60, Count: 1},
	} {
		r.ID = uint64(i)
		d.Submit(r)
		if got, _ := d.Await(r.ID); got.Status != event.DiskError {
			t.Errorf("%+v: status %d", r, got.Status)
		}
	}
	if b := content(t, d.path); len(b) != 8*SectorBytes || !isZero(b) {
		t.Error("the disk changed")
	}
	if _, err := Create(d.path, 8); err == nil {
		t.Error("a disk was made over another one")
	}
	if _, err := Create(d.path+"2", 0); err == nil {
		t.Error("a disk of nothing")
	}
	d.Preload([]event.DiskDone{{ID: 100}, {ID: 101, Data: sector(3)}})
	d.Submit(event.DiskRequest{ID: 102, Op: event.DiskRead, Count: 1})
	d.Quiesce()
	if got := d.Finished(); len(got) != 3 || got[0].ID != 100 || got[1].ID != 101 || got[2].ID != 102 {
		t.Errorf("results: %v", got)
	}
}

// BenchmarkJournal commits epochs of 64 writes of 4 KiB.
func BenchmarkJournal(b *testing.B) {
	dir := b.TempDir()
	d, err := Create(filepath.Join(dir, "disk.raw"), 1<<17)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	j, err := OpenJournal(filepath.Join(dir, "journal"), []*Disk{d})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	p := make([]byte, 4096)
	fill(p, 1)
	b.SetBytes(64 * 4096)
	epoch := uint64(0)
	for b.Loop() {
		for i := range uint64(64) {
			if err := j.Write(0, (epoch*64+i)*977%16000*8, p); err != nil {
				b.Fatal(err)
			}
		}
		epoch++
		if err := j.Commit(epoch); err != nil {
			b.Fatal(err)
		}
	}
}
