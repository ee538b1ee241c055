package host

import (
	"context"
	"fmt"
	"time"

	"understudy/event"
	"understudy/internal/shareddisk"
	"understudy/machine"
	"understudy/replica"
)

// A shared disk is outside of both machines (VMware FT, section 4.1). So a request is an output like a frame: it waits at
// the gate until the backup would make it too. Only the primary's is carried out; what comes of it is in the log,
// what was read included, unless the backup reads that by itself (Options.BackupReads; reread.go). A new primary issues again what its machine has in flight: it cannot know how far the former
// one came, and the fence of the disk's server makes sure that this one comes no further.

// openShared makes a client of shared disk number i of the machine.
func (r *Replica) openShared(ctx context.Context, i int, addr string) error {
	o := r.sharedOptions(addr)
	o.BackupReads = r.opt.BackupReads
	info, err := shareddisk.Look(ctx, o)
	if err != nil {
		return err
	}
	r.shared = append(r.shared, shareddisk.NewClient(o, info))
	r.opt.Machine.Disks = append(r.opt.Machine.Disks, machine.Disk{Sectors: info.Sectors, Hash: info.ID, Serial: fmt.Sprintf("disk%d", i)})
	return nil
}

// sharedDisk makes a client of the shared disk that a primary's machine has.
func (r *Replica) sharedDisk(ctx context.Context, addr string, want machine.Disk, backupReads bool) (*shareddisk.Client, error) {
	o := r.sharedOptions(addr)
	o.BackupReads = backupReads
	info, err := shareddisk.Look(ctx, o)
	if err != nil {
		return nil, err
	}
	if info.ID != want.Hash || info.Sectors != want.Sectors || want.ReadOnly {
		return nil, fmt.Errorf("the shared disk at %s is another one as seen from here: name it by an address that leads all hosts to the same", addr)
	}
	return shareddisk.NewClient(o, info), nil
}

func (r *Replica) sharedOptions(addr string) shareddisk.Options {
	return shareddisk.Options{
		Addr: addr, Group: r.opt.Group, Host: r.opt.Name, Life: r.life, Takes: r.opt.TakeShared, Identity: r.opt.Identity, Log: r.log,
	}
}

// isShared tells whether an output is a request of a shared disk.
func (r *Replica) isShared(o event.Output) bool {
	i := int(o.Device) - len(r.disks)
	return o.Kind == event.OutDisk && i >= 0 && i < len(r.shared)
}

// leadShared announces our view to the shared disks, and issues every request that the machine has in flight again. It
// gives the number of this stint as primary, or reports false if we do not lead. It is called before the machine runs.
func (r *Replica) leadShared() (stint uint64, ok bool) {
	// A request that the last entry made is among those in flight.
	for _, o := range r.m.TakeOutputs() {
		if o.Kind == event.OutDisk && !r.isShared(o) {
			r.local(o)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.core.Role() != replica.Primary {
		return 0, false // the number of the view may be another's
	}
	for i, c := range r.shared {
		c.Lead(uint64(r.core.View()), r.m.PendingDisk(len(r.disks)+i))
	}
	r.tellShared()
	return r.stints.Load(), true
}

// restShared ends that. It is called when the role changes, with r.mu held: what the disks say of our view later is no
// news to whoever has handed it over.
func (r *Replica) restShared() {
	for _, c := range r.shared {
		c.Rest()
	}
}

// sharedIdle tells whether every request that has left is answered.
func (r *Replica) sharedIdle() bool {
	for _, c := range r.shared {
		if c.Status().Waiting > 0 {
			return false
		}
	}
	return true
}

// checkFence halts a primary that a shared disk does not take for one any more. One that is handing over may hear from
// the disk before the arbiter that it has succeeded; what becomes of it the arbiter tells. r.mu is held.
func (r *Replica) checkFence(now time.Duration) {
	for _, c := range r.shared {
		if why := c.Fenced(); why != "" && r.core.Role() == replica.Primary && !r.core.HandingOver() {
			r.core.Halt(now, fmt.Sprintf("fenced: view %d is over: %s", uint64(r.core.View()), why))
			return
		}
	}
}
