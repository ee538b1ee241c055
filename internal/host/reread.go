package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/event"
	"understudy/internal/shareddisk"
	"understudy/replica"
)

// With Options.BackupReads a read of a shared disk is completed by an entry that has a checksum in place of the data (VMware
// FT, section 4.2), and the backup reads the sectors when it comes to the entry. That they are still as the primary read
// them is the work of package shareddisk, which holds the primary's writes: hold.go there has the invariant. The checksum
// makes sure that a mistake in that, or somebody else's write, stops the backup rather than let it differ.

// sharedReadPatience is how long a backup tries to read what its primary, of which it still hears, has read. Then it
// leaves: the primary's writes wait for it.
const sharedReadPatience = 30 * time.Second

// ParseReads reads who reads shared disks: log (the primary; what it read travels in the log) or disk (the backup too).
func ParseReads(s string) (backupReads bool, err error) {
	switch s {
	case "", "log":
		return false, nil
	case "disk":
		return true, nil
	}
	return false, fmt.Errorf("reads of shared disks from %q: want log or disk", s)
}

// ReadsName is what ParseReads reads.
func ReadsName(backupReads bool) string {
	if backupReads {
		return "disk"
	}
	return "log"
}

// sumOf gives the checksum of what a read of a shared disk gave that completes with e, if there may be a backup that reads by
// itself.
func (r *Replica) sumOf(e event.Entry) (sum uint64, ok bool) {
	if !r.opt.BackupReads || e.Kind != event.KindDisk || int(e.Device) < len(r.disks) || !r.ships.Load() {
		return 0, false
	}
	d, err := event.ParseDiskDone(e.Data)
	if err != nil || len(d.Data) == 0 {
		return 0, false
	}
	return shareddisk.Sum(d.Data), true
}

// read is an entry of leader.entries that completes a read.
type read struct {
	i   int
	sum uint64
}

// leaveOut takes the data out of entries whose sectors stay as they are until the backup has read them. It is called just
// before they are appended, with r.mu held, so that no entry gets in between and nobody's part changes.
func (l *leader) leaveOut() {
	for _, d := range l.reads {
		e := &l.entries[d.i]
		done, err := event.ParseDiskDone(e.Data)
		if err != nil {
			continue
		}
		sum, ok := l.r.shared[int(e.Device)-len(l.r.disks)].Pin(done.ID, l.r.core.Last()+1+event.Seq(d.i))
		if !ok {
			continue
		}
		sum.Sum = d.sum
		e.Kind, e.Data = event.KindDiskSum, event.AppendDiskSum(nil, sum)
		l.r.stats.leftOut.Add(uint64(len(done.Data)))
	}
}

// urgeEvery is how often a primary writes an entry while a write waits for the backup.
const urgeEvery = time.Millisecond

// urge tells whether an entry is to be made although nothing has happened, as a write waits for the backup. It executes no
// further than the newest entry: without one it would begin with a stretch of the guest's work only when the primary is
// through with it, and the write would wait for as long again. For the same reason leader.slow takes no lag
// for granted then.
func (l *leader) urge(now time.Time) bool {
	r := l.r
	l.holds = false
	if !r.opt.BackupReads || !r.ships.Load() {
		return false
	}
	for _, c := range r.shared {
		l.holds = l.holds || c.Holds()
	}
	if !l.holds || now.Sub(l.urged) < urgeEvery {
		return false
	}
	l.urged = now
	return true
}

// tellShared tells the shared disks of a primary how its backup follows. r.mu is held.
func (r *Replica) tellShared() {
	applied := r.core.Applied()
	if r.opt.noHold {
		applied = 1 << 62
	}
	for _, c := range r.shared {
		c.Follow(r.core.Ships(), r.mode.Following == event.Lockstep, applied)
	}
}

func follows(role replica.Role) bool { return role == replica.Backup || role == replica.Joining }

// readAhead begins with the reads of entries that have just come. r.mu is held.
func (r *Replica) readAhead(entries []event.Entry) {
	if !follows(r.core.Role()) {
		return
	}
	for i := range entries {
		e := &entries[i]
		dev := int(e.Device) - len(r.disks)
		if e.Kind != event.KindDiskSum || dev < 0 || dev >= len(r.shared) {
			continue
		}
		if d, err := event.ParseDiskSum(e.Data); err == nil { // else the executor will say so
			r.shared[dev].Fetch(e.Seq, d)
		}
	}
}

// reread makes the entry of what the primary read from one that has its sum.
func (r *Replica) reread(ctx context.Context, e event.Entry) (event.Entry, error) {
	d, err := event.ParseDiskSum(e.Data)
	dev := int(e.Device) - len(r.disks)
	if err != nil || dev < 0 || dev >= len(r.shared) {
		return e, r.diverged("entry %d completes a read of a shared disk that is not here", e.Seq)
	}
	e.Kind = event.KindDisk
	asked := false
	for _, q := range r.m.PendingDisk(int(e.Device)) {
		if q.ID != d.ID {
			continue
		}
		if q.Op != event.DiskRead || q.Sector != d.Sector || q.Count != d.Count {
			return e, r.diverged("entry %d completes a read of %d sectors from %d on, request %d here is another", e.Seq, d.Count, d.Sector, d.ID)
		}
		asked = true
	}
	if !asked {
		// The guest has reset the device since, and is told nothing: neither was the primary's.
		e.Data = event.AppendDiskDone(nil, event.DiskDone{ID: d.ID})
		return e, nil
	}
	data, err := r.shared[dev].Reread(ctx, e.Seq, d, r.readsOn)
	if errors.Is(err, shareddisk.ErrDiffers) {
		return e, r.diverged("entry %d: %v: another than the machine has written there, or what it wrote was lost", e.Seq, err)
	}
	if err != nil {
		return e, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	e.Data = event.AppendDiskDone(nil, event.DiskDone{ID: d.ID, Data: data})
	return e, nil
}

// readsOn tells whether a backup that has tried for so long to read what the primary read tries on. If the primary is
// there it goes on without us, and its writes wait no longer. If it is not, nobody else has the machine.
func (r *Replica) readsOn(tried time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := r.opt.readPatience
	if limit == 0 {
		limit = sharedReadPatience
	}
	return tried < limit || r.core.Granted() || time.Since(r.heardAt) > r.opt.SuspectAfter
}
