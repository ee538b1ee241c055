package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/event"
)

// fill makes p bytes that do not compress.
func fill(p []byte, seed uint64) {
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = rng.Read(p)
}

// guest makes requests as a machine does, on a disk and on a model of it.
type guest struct {
	rng      *rand.Rand
	disk     *Disk
	model    []byte
	nextID   uint64
	inFlight []event.DiskRequest
	want     map[uint64][]byte // what reads in flight must give
}

func newGuest(d *Disk, seed uint64) *guest {
	g := &guest{rng: rand.New(rand.NewPCG(seed, 3)), disk: d, model: make([]byte, d.size.bytes()), want: map[uint64][]byte{}}
	if _, err := d.file.ReadAt(g.model, 0); err != nil {
		panic(err)
	}
	return g
}

// request makes a random one, and lets it happen to the model.
func (g *guest) request() event.DiskRequest {
	sectors := g.disk.size.sectors
	r := event.DiskRequest{ID: g.nextID, Sector: g.rng.Uint64N(sectors)}
	g.nextID++
	r.Count = uint32(min(1+g.rng.Uint64N(1+g.rng.Uint64N(300)), sectors-r.Sector))
	off, n := r.Sector*SectorBytes, uint64(r.Count)*SectorBytes
	switch k := g.rng.IntN(10); {
	case k < 5:
		r.Op, r.Data = event.DiskWrite, make([]byte, n)
		if g.rng.IntN(4) > 0 {
			fill(r.Data, g.rng.Uint64())
		}
		copy(g.model[off:], r.Data)
	case k < 8:
		r.Op = event.DiskRead
		g.want[r.ID] = bytes.Clone(g.model[off : off+n])
	case k < 9:
		r.Op = event.DiskDiscard
		if g.rng.IntN(2) == 0 { // whole blocks
			r.Sector = off / BlockBytes * BlockBytes / SectorBytes
			r.Count = uint32(min(BlockBytes/SectorBytes, sectors-r.Sector))
			off, n = r.Sector*SectorBytes, uint64(r.Count)*SectorBytes
		}
		clear(g.model[off : off+n])
	default:
		r.Op, r.Sector, r.Count = event.DiskFlush, 0, 0
	}
	return r
}

func (g *guest) submit() {
	r := g.request()
	g.inFlight = append(g.inFlight, r)
	g.disk.Submit(r)
}

// complete takes the oldest result from d and checks it.
func (g *guest) complete(t *testing.T, d *Disk, r event.DiskRequest) {
	t.Helper()
	got, ok := d.Await(r.ID)
	if !ok || got.Status != event.DiskOK || !bytes.Equal(got.Data, g.want[r.ID]) {
		t.Fatalf("request %d (%d): status %d, %v, %d bytes", r.ID, r.Op, got.Status, ok, len(got.Data))
	}
}

// step submits a request and perhaps takes results.
func (g *guest) step(t *testing.T) {
	g.submit()
	for len(g.inFlight) > 0 && (len(g.inFlight) > 20 || g.rng.IntN(3) == 0) {
		g.complete(t, g.disk, g.inFlight[0])
		g.inFlight = g.inFlight[1:]
	}
}

func newSource(t *testing.T, sectors uint64) *Disk {
	t.Helper()
	d, err := Create(filepath.Join(t.TempDir(), "primary.raw"), sectors)
	if err != nil {
		t.Fatal(err)
	}
	d.Start(func() {})
	t.Cleanup(d.Close)
	return d
}

// converse gives the target's hashes to the source.
func converse(t *testing.T, s *Source, tg *Target) {
	t.Helper()
	for told := false; !told; {
		msg, last, err := tg.Hashes(nil)
		if err != nil {
			t.Fatal(err)
		}
		if told, err = s.Compare(msg); err != nil || told != last {
			t.Fatal(told, last, err)
		}
	}
}

// drain moves messages until the source has nothing to send. each sees every message first, and reports false
// to end it.
func drain(t *testing.T, s *Source, tg *Target, each func(msg []byte) bool) {
	t.Helper()
	var buf []byte
	for {
		msg, done, err := s.Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		if len(msg) == 0 || each != nil && !each(msg) {
			return
		}
		if len(msg) > MaxMessageBytes {
			t.Fatalf("a message of %d bytes", len(msg))
		}
		complete, err := tg.Apply(msg)
		if err != nil || complete != done {
			t.Fatal(complete, done, err)
		}
		if done {
			return
		}
		buf = msg
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copyWhole copies d, which nobody writes to.
func copyWhole(t *testing.T, d *Disk, tg *Target, each func([]byte) bool) Progress {
	t.Helper()
	s, err := NewSource(d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	converse(t, s, tg)
	if err := s.Cut(nil); err != nil {
		t.Fatal(err)
	}
	drain(t, s, tg, each)
	return s.Progress()
}

// TestCopyOfARunningDisk: a guest works on a disk while that is copied. At the cut the copy is the disk, and the
// results of the requests in flight, reads that later writes went over among them, wait at both.
func TestCopyOfARunningDisk(t *testing.T) {
	const sectors = 5000 // not whole blocks
	for seed := range uint64(12) {
		d := newSource(t, sectors)
		g := newGuest(d, seed)
		for range g.rng.IntN(60) {
			g.step(t)
		}
		path := filepath.Join(t.TempDir(), "backup.raw")
		if seed%4 > 0 { // what was there before: an old state with something else in it, another size, half a copy
			old := bytes.Clone(g.model)
			fill(old[300000:400000], seed)
			name := path
			switch seed % 4 {
			case 2:
				old = old[:len(old)-7*BlockBytes]
			case 3:
				name += incomingSuffix
			}
			if err := os.WriteFile(name, old, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		tg, err := NewTarget(path, sectors, true)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSource(d)
		if err != nil {
			t.Fatal(err)
		}
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			converse(t, s, tg)
			for round := 0; round < 5 && !t.Failed(); round++ {
				drain(t, s, tg, nil)
			}
		}()
		for running := true; running; {
			select {
			case <-copied:
				running = false
			default:
				g.step(t)
			}
		}
		for range g.rng.IntN(30) {
			g.submit()
		}
		if err := s.Cut(g.inFlight); err != nil {
			t.Fatal(err)
		}
		drain(t, s, tg, nil)
		s.Close()
		copyDisk, err := tg.Finish()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(content(t, path), g.model) {
			t.Fatalf("seed %d: the copy differs from the disk at the cut", seed)
		}
		// Both go on with the same requests.
		copyDisk.Start(func() {})
		for range 50 {
			r := g.request()
			g.inFlight = append(g.inFlight, r)
			d.Submit(r)
			copyDisk.Submit(r)
		}
		for _, r := range g.inFlight {
			g.complete(t, d, r)
			g.complete(t, copyDisk, r)
		}
		if !bytes.Equal(content(t, path), g.model) || !bytes.Equal(content(t, d.path), g.model) {
			t.Fatalf("seed %d: the disks went apart after the cut", seed)
		}
		copyDisk.Close()
	}
}

// TestReuseSendsWhatDiffers counts the blocks that are sent to a target with an old copy.
func TestReuseSendsWhatDiffers(t *testing.T) {
	const blocks = 40
	d := newSource(t, blocks*BlockBytes/SectorBytes)
	all := make([]byte, 20*BlockBytes)
	fill(all, 1)
	d.Submit(event.DiskRequest{Op: event.DiskWrite, Count: uint32(len(all) / SectorBytes), Data: all})
	d.Quiesce()
	d.Finished()
	whole := content(t, d.path)

	dir := t.TempDir()
	path := filepath.Join(dir, "backup.raw")
	old := bytes.Clone(whole)
	old[5*BlockBytes+100] ^= 1             // a bit
	clear(old[8*BlockBytes:][:BlockBytes]) // zeros for bytes
	old[30*BlockBytes] = 1                 // bytes for zeros
	if err := os.WriteFile(path, old, 0o640); err != nil {
		t.Fatal(err)
	}
	receive := func(reuse bool) (blocks map[uint64]bool, p Progress) {
		tg, err := NewTarget(path, d.size.sectors, reuse)
		if err != nil {
			t.Fatal(err)
		}
		defer tg.Close()
		blocks = map[uint64]bool{}
		p = copyWhole(t, d, tg, func(msg []byte) bool {
			pr := newParser(msg, d.size)
			for r, ok := pr.next(); ok; r, ok = pr.next() {
				if r.kind == recBlock || r.kind == recPacked {
					blocks[r.first] = true
				}
			}
			if p, want := content(t, path), old; !bytes.Equal(p, want) {
				t.Fatal("the old disk changed before the copy was complete")
			}
			return true
		})
		c, err := tg.Finish()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if !bytes.Equal(content(t, path), whole) {
			t.Fatal("the copy differs")
		}
		return blocks, p
	}
	sent, p := receive(true)
	if !reflect.DeepEqual(sent, map[uint64]bool{5: true, 8: true}) || p.SentBytes > 2*BlockBytes+100 || p.LeftBytes != 0 {
		t.Errorf("blocks %v, %+v", sent, p)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("the copy's mode: %v, %v", st.Mode(), err)
	}
	old = whole
	if sent, p := receive(true); len(sent) != 0 || p.SentBytes > 100 {
		t.Errorf("the same disk: blocks %v, %+v", sent, p)
	}
	if sent, _ := receive(false); len(sent) != 20 {
		t.Errorf("without reuse %d blocks were sent", len(sent))
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 21*BlockBytes {
		t.Errorf("the copy of a sparse disk takes %d bytes", st.Blocks*512)
	}
}

// TestAbortedCopy: an end at any message leaves no disk, and the next transfer sends only what is missing.
func TestAbortedCopy(t *testing.T) {
	d := newSource(t, 40*BlockBytes/SectorBytes)
	g := newGuest(d, 1)
	all := make([]byte, len(g.model))
	fill(all, 1)
	d.Submit(event.DiskRequest{Op: event.DiskWrite, Count: uint32(len(all) / SectorBytes), Data: all})
	d.Quiesce()
	for after, more := 0, true; more; after++ {
		path := filepath.Join(t.TempDir(), "backup.raw")
		tg, err := NewTarget(path, d.size.sectors, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewTarget(path, d.size.sectors, true); err == nil || !strings.Contains(err.Error(), "another transfer") {
			t.Fatalf("two transfers at once: %v", err)
		}
		n, kept := 0, 0
		copyWhole(t, d, tg, func(msg []byte) bool {
			if n++; n <= after {
				kept += len(msg)
			}
			return n <= after
		})
		if more = n > after; !more {
			break
		}
		if _, err := tg.Finish(); err == nil {
			t.Fatal("a half-received disk was finished")
		}
		if err := RemoveIncoming(path); err == nil {
			t.Fatal("the file of a transfer that goes on was removed")
		}
		tg.Close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("there is a disk after half a transfer")
		}
		if _, err := Open(path+incomingSuffix, false); err == nil {
			t.Fatal("a half-received disk was opened")
		}
		if tg, err = NewTarget(path, d.size.sectors, true); err != nil {
			t.Fatal(err)
		}
		if p := copyWhole(t, d, tg, nil); p.SentBytes > uint64(len(all)-kept+3000) {
			t.Fatalf("aborted after %d bytes, then %d were sent", kept, p.SentBytes)
		}
		c, err := tg.Finish()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if !bytes.Equal(content(t, path), all) {
			t.Fatal("the copy differs")
		}
	}
	path := filepath.Join(t.TempDir(), "backup.raw")
	if err := os.WriteFile(path+incomingSuffix, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := RemoveIncoming(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path + incomingSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("it is still there")
	}
}

// TestHugeSparseDisk: what is not there costs nothing, neither the first time nor with an old copy.
func TestHugeSparseDisk(t *testing.T) {
	const sectors = 1<<40/SectorBytes + 1
	d := newSource(t, sectors)
	for i, at := range []uint64{0, 1 << 30, sectors - 1} {
		d.Submit(event.DiskRequest{ID: uint64(i), Op: event.DiskWrite, Sector: at, Count: 1, Data: sector(byte(i + 1))})
	}
	d.Quiesce()
	d.Finished()
	path := filepath.Join(t.TempDir(), "backup.raw")
	for range 2 {
		tg, err := NewTarget(path, sectors, true)
		if err != nil {
			t.Fatal(err)
		}
		if msg, err := tg.Apply(appendRun(nil, recZeros, 0, 1)); err == nil {
			t.Fatal("applied before the source was told what is here", msg)
		}
		tg.Close()
		if tg, err = NewTarget(path, sectors, true); err != nil {
			t.Fatal(err)
		}
		messages := 0
		p := copyWhole(t, d, tg, func([]byte) bool { messages++; return messages < 10 })
		c, err := tg.Finish()
		if err != nil || messages > 1 || p.SentBytes > 20000 {
			t.Fatalf("%d messages, %+v: %v", messages, p, err)
		}
		for i, at := range []int64{0, 1 << 30, sectors - 1} {
			got := make([]byte, SectorBytes)
			if _, err := c.file.ReadAt(got, at*SectorBytes); err != nil || !bytes.Equal(got, sector(byte(i+1))) {
				t.Fatalf("sector %d differs: %v", at, err)
			}
		}
		c.Close()
	}
}

// TestLargeResults: as much as a machine can have in flight passes, in messages within their bound; more is
// refused.
func TestLargeResults(t *testing.T) {
	const sectors = MaxDataBytes / SectorBytes
	d := newSource(t, sectors)
	all := make([]byte, MaxDataBytes)
	fill(all, 3)
	d.Submit(event.DiskRequest{Op: event.DiskWrite, Count: sectors, Data: all})
	inFlight := []event.DiskRequest{}
	for id := uint64(1); id <= 5; id++ {
		d.Submit(event.DiskRequest{ID: id, Op: event.DiskRead, Count: sectors})
		inFlight = append(inFlight, event.DiskRequest{ID: id})
	}
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere.raw")
	if err := os.Symlink(elsewhere, filepath.Join(dir, "backup.raw")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(elsewhere, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3, 5} {
		s, err := NewSource(d)
		if err != nil {
			t.Fatal(err)
		}
		tg, err := NewTarget(filepath.Join(dir, "backup.raw"), sectors, true)
		if err != nil {
			t.Fatal(err)
		}
		converse(t, s, tg)
		if err := s.Cut(inFlight[:n]); err != nil {
			t.Fatal(err)
		}
		if n == 5 {
			for err == nil {
				var msg []byte
				if msg, _, err = s.Next(nil); err == nil {
					_, err = tg.Apply(msg)
				}
			}
			if !errors.Is(err, errMessage) {
				t.Errorf("40 MiB of results: %v", err)
			}
			tg.Close()
			break
		}
		drain(t, s, tg, nil)
		s.Close()
		c, err := tg.Finish()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range inFlight[:n] {
			if got, ok := c.Await(r.ID); !ok || !bytes.Equal(got.Data, all) {
				t.Errorf("result %d differs", r.ID)
			}
		}
		if !bytes.Equal(content(t, elsewhere), all) {
			t.Error("the copy is not where the link points")
		}
		c.Close()
	}
}
