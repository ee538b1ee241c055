package disk

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/event"
)

// TestWrongStreamsAreRefused: a stream with something lost, changed, repeated or in another order never makes
// a disk.
func TestWrongStreamsAreRefused(t *testing.T) {
	d := newSource(t, 30*BlockBytes/SectorBytes+1)
	g := newGuest(d, 9)
	for range 40 {
		g.submit()
	}
	s, err := NewSource(d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Compare(appendEnd(nil, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(g.inFlight); err != nil {
		t.Fatal(err)
	}
	var stream [][]byte
	for done := false; !done; {
		var msg []byte
		if msg, done, err = s.Next(nil); err != nil {
			t.Fatal(err)
		}
		stream = append(stream, msg)
	}
	try := func(name string, msgs [][]byte, want bool) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "backup.raw")
		tg, err := NewTarget(path, d.size.sectors, false)
		if err != nil {
			t.Fatal(err)
		}
		defer tg.Close()
		if _, _, err := tg.Hashes(nil); err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if _, err = tg.Apply(m); err != nil {
				break
			}
		}
		c, finishErr := tg.Finish()
		if (finishErr == nil) != want || !want && err != nil && !errors.Is(err, errMessage) {
			t.Errorf("%s: %v, %v", name, err, finishErr)
		}
		if finishErr == nil {
			c.Close()
		}
	}
	try("as it is", stream, true)
	try("end only", [][]byte{appendEnd(nil, 0)}, false)
	try("same without an offer", [][]byte{appendRun(nil, recSame, 0, 1)}, false)
	try("hashes", [][]byte{append(appendRun(nil, recHashes, 0, 1), make([]byte, hashBytes)...)}, false)
	try("too many results", [][]byte{bytes.Repeat(appendResult(nil, event.DiskDone{ID: 1}), 1<<18), bytes.Repeat(appendResult(nil, event.DiskDone{ID: 1}), 1<<18)}, false)
	all := appendRun(nil, recSame, 0, d.size.blocks())
	try("all the same", [][]byte{appendEnd(all, crc32.Checksum(all, castagnoli))}, false)
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range stream {
		without := append(append([][]byte{}, stream[:i]...), stream[i+1:]...)
		try(fmt.Sprintf("without message %d", i), without, false)
		twice := append(append([][]byte{}, stream[:i+1]...), stream[i:]...)
		try(fmt.Sprintf("message %d twice", i), twice, false)
		if i > 0 {
			swapped := append([][]byte{}, stream...)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			try(fmt.Sprintf("message %d first", i), swapped, false)
		}
		for range 5 {
			flipped := append([][]byte{}, stream...)
			flipped[i] = bytes.Clone(stream[i])
			flipped[i][rng.IntN(len(stream[i]))] ^= 1 << rng.IntN(8)
			try(fmt.Sprintf("a bit of message %d", i), flipped, false)
		}
	}
}

// TestSourceHoldsTheContract: what breaks the contract of the cut is an error, not a wrong copy.
func TestSourceHoldsTheContract(t *testing.T) {
	d := newSource(t, 1000)
	start := func() *Source {
		t.Helper()
		s, err := NewSource(d)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	s := start()
	if _, err := NewSource(d); err == nil {
		t.Error("two sources of one disk")
	}
	if _, _, err := s.Next(nil); err == nil {
		t.Error("blocks before the hashes")
	}
	s.Close()

	for name, msg := range map[string][]byte{
		"blocks of a target": appendRun(nil, recSame, 0, 1),
		"twice":              append(appendRun(nil, recZeros, 0, 2), appendRun(nil, recZeros, 1, 1)...),
		"nonsense":           {200},
	} {
		s := start()
		if _, err := s.Compare(msg); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}

	write := event.DiskRequest{ID: 7, Op: event.DiskWrite, Count: 1, Data: sector(1)}
	s = start()
	if err := s.Cut([]event.DiskRequest{write}); err == nil || !strings.Contains(err.Error(), "request 7") {
		t.Errorf("a request that was not submitted: %v", err)
	}
	s.Close()

	s = start()
	if _, err := s.Compare(appendEnd(nil, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(nil); err != nil {
		t.Fatal(err)
	}
	d.Submit(write)
	d.Quiesce()
	var err error
	for done := false; !done && err == nil; {
		_, done, err = s.Next(nil)
	}
	if err == nil || !strings.Contains(err.Error(), "submitted before") {
		t.Errorf("a request after the cut: %v", err)
	}
	s.Close()

	// A read that a reset of the device has forgotten is in the cut, without its bytes.
	d.Submit(event.DiskRequest{ID: 8, Op: event.DiskRead, Count: 1000})
	s = start()
	if _, err := s.Compare(appendEnd(nil, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut([]event.DiskRequest{write}); err != nil {
		t.Fatal(err)
	}
	if len(s.results) != 2 || s.results[1].ID != 8 || s.results[1].Data != nil {
		t.Errorf("%d results in the cut", len(s.results))
	}
	if got, _ := d.Await(8); len(got.Data) != 1000*SectorBytes {
		t.Error("the disk's own result lost its bytes")
	}
	d.Shut()
	if err := s.Cut(nil); err == nil {
		t.Error("a cut of a closed disk")
	}
}

func TestTargetsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	used := newSource(t, 10)
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path    string
		sectors uint64
		want    string
	}{
		"in use":     {used.path, 10, "in use"},
		"directory":  {filepath.Join(dir, "dir"), 10, "directory"},
		"no folder":  {filepath.Join(dir, "none", "disk"), 10, "no such file"},
		"no sectors": {filepath.Join(dir, "a"), 0, "sectors"},
		"huge":       {filepath.Join(dir, "a"), 1 << 60, "sectors"},
	} {
		if _, err := NewTarget(c.path, c.sectors, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFullFileSystem: the error says what is full and what to do, and nothing is left in the way.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	d := newSource(t, 4<<20/SectorBytes)
	all := make([]byte, 4<<20)
	fill(all, 2)
	d.Submit(event.DiskRequest{Op: event.DiskWrite, Count: uint32(len(all) / SectorBytes), Data: all})
	d.Quiesce()
	path := filepath.Join(dir, "backup.raw")
	tg, err := NewTarget(path, d.size.sectors, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSource(d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	converse(t, s, tg)
	for err == nil {
		var msg []byte
		if msg, _, err = s.Next(nil); err == nil {
			_, err = tg.Apply(msg)
		}
	}
	var full *FullError
	if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) || full.Try() == "" {
		t.Errorf("the error: %v", err)
	}
	tg.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	disk, err := Create(filepath.Join(dir, "disk.raw"), 4<<20/SectorBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	j, err := OpenJournal(filepath.Join(dir, "journal"), []*Disk{disk})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Write(0, 0, all); !errors.As(err, &full) {
		t.Errorf("the journal: %v", err)
	}
}
