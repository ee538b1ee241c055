package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/event"
)

func testDisk(t *testing.T, sectors int) *Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, sectors*SectorBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	d.Start(func() {})
	t.Cleanup(d.Close)
	return d
}

func sector(b byte) []byte { return bytes.Repeat([]byte{b}, SectorBytes) }

// TestOverlappingRequestsKeepTheirOrder: what is read depends on the order in which requests left the
// machine, never on when the host carried them out.
func TestOverlappingRequestsKeepTheirOrder(t *testing.T) {
	d := testDisk(t, 8)
	id := uint64(0)
	ask := func(r event.DiskRequest) uint64 {
		id++
		r.ID = id
		d.Submit(r)
		return id
	}
	for b := byte(1); b <= 100; b++ {
		ask(event.DiskRequest{Op: event.DiskWrite, Sector: 3, Count: 1, Data: sector(b)})
		read := ask(event.DiskRequest{Op: event.DiskRead, Sector: 2, Count: 2})
		got, ok := d.Await(read)
		if !ok || got.Status != event.DiskOK || !bytes.Equal(got.Data, append(sector(0), sector(b)...)) {
			t.Fatalf("write %d and a read behind it: %v, %v", b, got.Status, ok)
		}
	}
	ask(event.DiskRequest{Op: event.DiskDiscard, Sector: 3, Count: 1})
	read := ask(event.DiskRequest{Op: event.DiskRead, Sector: 3, Count: 1})
	flush := ask(event.DiskRequest{Op: event.DiskFlush})
	if got, _ := d.Await(read); !bytes.Equal(got.Data, sector(0)) {
		t.Fatal("a discarded sector does not read as zeros")
	}
	if got, ok := d.Await(flush); !ok || got.Status != event.DiskOK {
		t.Fatal("flush failed")
	}
	beyond := ask(event.DiskRequest{Op: event.DiskRead, Sector: 1 << 40, Count: 1})
	if got, _ := d.Await(beyond); got.Status != event.DiskError || got.Data != nil {
		t.Fatalf("a read beyond the end: %v", got.Status)
	}
}

func TestDisksThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "odd")
	if err := os.WriteFile(odd, make([]byte, 700), 0o600); err != nil {
		t.Fatal(err)
	}
	used := testDisk(t, 1)
	for name, c := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(dir, "none"), "no such file"},
		"odd size":  {odd, "multiple of 512"},
		"directory": {dir, "directory"},
		"in use":    {used.path, "in use by another machine"},
	} {
		if _, err := Open(c.path, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettle(t *testing.T) {
	ok := event.DiskDone{ID: 1, Data: sector(1)}
	bad := event.DiskDone{ID: 1, Status: event.DiskError}
	for name, c := range map[string]struct {
		logged, here event.DiskDone
		status       event.DiskStatus
		fails        bool
	}{
		"both fine":           {event.DiskDone{ID: 1}, ok, event.DiskOK, false},
		"the primary's fails": {bad, ok, event.DiskError, false},
		"ours fails":          {event.DiskDone{ID: 1}, bad, 0, true},
		"both fail":           {bad, bad, event.DiskError, false},
	} {
		got, err := Settle(c.logged, c.here)
		if (err != nil) != c.fails || got.Status != c.status || got.Status != event.DiskOK && got.Data != nil {
			t.Errorf("%s: %v, %v", name, got.Status, err)
		}
	}
}
