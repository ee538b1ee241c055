package disk

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/event"
)

// SectorBytes is the unit of addresses on a disk.
const SectorBytes = 512

// Disk carries out the requests of one block device on this host's own copy, one after the other in the
// order in which they left the machine: so requests that overlap give the same bytes on both sides.
type Disk struct {
	path string
	file *os.File
	size geometry
	wake func() // told when a request is done

	mu        sync.Mutex
	changed   sync.Cond
	queue     []event.DiskRequest
	results   []event.DiskDone
	submitted uint64  // requests so far
	busy      bool    // the worker has a request in hand
	unsent    *bitmap // while the disk is copied: the blocks that the copy has not, or not as they are now
	closed    bool
	stopped   sync.WaitGroup
}

// Open opens a raw disk file, whose size must be a positive multiple of 512 bytes, and locks it against
// other replicas on this host.
func Open(path string, readOnly bool) (*Disk, error) {
	if strings.HasSuffix(path, incomingSuffix) {
		return nil, fmt.Errorf("open disk %s: a name that ends in %s is that of a half-received disk", path, incomingSuffix)
	}
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		switch {
		case (errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS)) && !readOnly:
			return nil, fmt.Errorf("open disk: %w (make it writable, or attach it read-only with %s:ro)", err, path)
		case errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("open disk: %w (an empty one: truncate --size=1G %s)", err, path)
		}
		return nil, fmt.Errorf("open disk: %w", err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() == 0 || st.Size()%SectorBytes != 0) {
		err = fmt.Errorf("open disk %s: want a regular file whose size is a positive multiple of %d bytes", path, SectorBytes)
	}
	if err == nil && !readOnly && !lock(f, path) {
		err = errInUse(path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return newDisk(path, f, uint64(st.Size())/SectorBytes), nil
}

func errInUse(path string) error { return fmt.Errorf("open disk %s: in use by another machine", path) }

func newDisk(path string, f *os.File, sectors uint64) *Disk {
	d := &Disk{path: path, file: f, size: geometry{sectors}}
	d.changed.L = &d.mu
	return d
}

// Create makes and opens an empty disk, of zeros, that takes no room until it is written to. The name must be
// free.
func Create(path string, sectors uint64) (*Disk, error) {
	if sectors == 0 || sectors > maxSectors {
		return nil, fmt.Errorf("create disk %s: want 1 to %d sectors, not %d", path, uint64(maxSectors), sectors)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create disk: %w", err)
	}
	if !lock(f, path) {
		f.Close()
		return nil, errInUse(path)
	}
	if err = f.Truncate(int64(sectors) * SectorBytes); err == nil {
		if err = f.Sync(); err == nil {
			err = syncDir(path)
		}
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, writeError(path, err)
	}
	return newDisk(path, f, sectors), nil
}

// Path is the name that Open was given.
func (d *Disk) Path() string { return d.path }

// Sectors is the size of the disk.
func (d *Disk) Sectors() uint64 { return d.size.sectors }

// Hash is the SHA-256 of the whole content.
func (d *Disk) Hash() (sum [32]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d.file, 0, d.size.bytes())); err != nil {
		return sum, fmt.Errorf("read disk %s: %w", d.path, err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Start begins to work; wake is told of every request that is done.
func (d *Disk) Start(wake func()) {
	d.wake = wake
	d.stopped.Add(1)
	go d.work()
}

// Submit queues a request. The device's ring bounds how many there can be.
func (d *Disk) Submit(r event.DiskRequest) {
	d.mu.Lock()
	d.queue = append(d.queue, r)
	d.submitted++
	d.mu.Unlock()
	d.changed.Broadcast()
}

func (d *Disk) work() {
	defer d.stopped.Done()
	for {
		d.mu.Lock()
		for len(d.queue) == 0 && !d.closed {
			d.changed.Wait()
		}
		if d.closed {
			d.mu.Unlock()
			return
		}
		r := d.queue[0]
		d.queue = d.queue[1:]
		d.busy = true
		d.mu.Unlock()

		done := d.carryOut(r)

		d.mu.Lock()
		d.busy = false
		if d.unsent != nil && (r.Op == event.DiskWrite || r.Op == event.DiskDiscard) {
			d.noteChangeLocked(r)
		}
		d.results = append(d.results, done)
		d.mu.Unlock()
		d.changed.Broadcast()
		d.wake()
	}
}

// Do carries out a request at once. It is for a disk that has not started, and one caller at a time.
func (d *Disk) Do(r event.DiskRequest) event.DiskDone { return d.carryOut(r) }

func (d *Disk) carryOut(r event.DiskRequest) event.DiskDone {
	done := event.DiskDone{ID: r.ID}
	off, n := int64(r.Sector)*SectorBytes, int64(r.Count)*SectorBytes
	if !d.inRange(r) {
		done.Status = event.DiskError
		return done
	}
	var err error
	switch r.Op {
	case event.DiskRead:
		done.Data = make([]byte, n)
		_, err = d.file.ReadAt(done.Data, off)
	case event.DiskWrite:
		_, err = d.file.WriteAt(r.Data, off)
	case event.DiskFlush:
		err = unix.Fdatasync(int(d.file.Fd()))
	case event.DiskDiscard:
		// What is read afterwards must not depend on the host's file system, so it is zeros everywhere.
		err = zero(d.file, off, n)
	default:
		done.Status = event.DiskUnsupported
	}
	if err != nil {
		done.Status, done.Data = event.DiskError, nil
	}
	return done
}

// inRange tells whether the sectors of r are the disk's, and a write has the bytes for them.
func (d *Disk) inRange(r event.DiskRequest) bool {
	n := d.size.sectors
	return r.Sector <= n && uint64(r.Count) <= n-r.Sector &&
		(r.Op != event.DiskWrite || len(r.Data) == int(r.Count)*SectorBytes)
}

// noteChangeLocked notes which blocks a request changed. It does so after the change, and after one that went
// wrong half-way: a copy of a block that was read while it changed is made again.
func (d *Disk) noteChangeLocked(r event.DiskRequest) {
	if r.Count == 0 || !d.inRange(r) {
		return
	}
	first := r.Sector * SectorBytes / BlockBytes
	last := (r.Sector + uint64(r.Count) - 1) * SectorBytes / BlockBytes
	d.unsent.set(first, last-first+1)
}

// Quiesce waits until every request that was submitted is carried out. It reports false when the disk was
// closed.
func (d *Disk) Quiesce() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for (len(d.queue) > 0 || d.busy) && !d.closed {
		d.changed.Wait()
	}
	return !d.closed
}

// Preload puts the results of requests that were carried out elsewhere before those of this disk's own. It is
// for a disk that has not started.
func (d *Disk) Preload(results []event.DiskDone) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.results = append(append([]event.DiskDone(nil), results...), d.results...)
}

// Finished takes every result that waits, in order.
func (d *Disk) Finished() []event.DiskDone {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.results
	d.results = nil
	return r
}

// Await takes the result of request id, waiting for it. It reports false when the disk was closed.
func (d *Disk) Await(id uint64) (event.DiskDone, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		for i, r := range d.results {
			if r.ID == id {
				d.results = append(d.results[:i], d.results[i+1:]...)
				return r, true
			}
		}
		if d.closed {
			return event.DiskDone{}, false
		}
		d.changed.Wait()
	}
}

// Shut waits for the request in hand and drops the others.
func (d *Disk) Shut() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.changed.Broadcast()
	d.stopped.Wait()
}

// Close ends the disk's work and closes the file.
func (d *Disk) Close() {
	d.Shut()
	d.file.Close()
}

// Settle decides how a request ends on a backup: as the log has it, with what this host's own disk gave. A
// failure of the primary's disk is one for the guest here too, whatever this disk did. A failure of this
// disk alone cannot be hidden: the backup's guest would see another world than the primary's.
func Settle(logged, here event.DiskDone) (event.DiskDone, error) {
	switch {
	case logged.Status != event.DiskOK:
		return event.DiskDone{ID: logged.ID, Status: logged.Status}, nil
	case here.Status != event.DiskOK:
		return event.DiskDone{}, fmt.Errorf("request %d failed here and not on the primary: replace the failing disk and start the backup again", logged.ID)
	}
	return here, nil
}
