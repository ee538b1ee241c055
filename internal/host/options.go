package host

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/internal/pki"
	"understudy/machine"
	"understudy/view/httpview"
)

// Defaults of Options.
const (
	DefaultSuspectAfter = 100 * time.Millisecond
	DefaultLagMax       = time.Second
	DefaultDigestEvery  = time.Second
	DefaultPeerTimeout  = 30 * time.Second
)

// Bounds of a fixed epoch.
const (
	minEpoch = time.Millisecond
	maxEpoch = 10 * time.Second
)

// DiskSpec names a raw disk file, or a disk that all hosts reach.
type DiskSpec struct {
	Path     string
	ReadOnly bool
	// Shared, if set, is the address of a disk server (package shareddisk) as all hosts reach it, host:port or the path
	// of a unix socket, in place of a file. Shared disks come after all others.
	Shared string
}

// Options describe a replica.
type Options struct {
	Name  string // this replica's name in views
	Peer  string // the other's name; empty runs the machine alone
	Group string // the group's name at the arbiter

	// PeerAddr is where the backup listens, for the side that begins as primary. Listener is where a side
	// that begins as backup awaits its primary; exactly one of the two is set unless Peer is empty.
	PeerAddr string
	Listener net.Listener

	// Views are the copies of the view service of a group with spares; Peer and PeerAddr are empty then, and
	// Listener is where this replica receives the state when a view makes it the backup. MayFound says that
	// Machine and Disks are the group's first state, with which this replica may begin it. Without it they are
	// the primary's to tell, and disks are made in StateDir.
	Views     []httpview.Copy
	MayFound  bool
	StateDir  string
	Advertise string // where the primary finds Listener; empty: its address
	// PingInterval is how often the view service hears from this replica; 0 is its default.
	PingInterval time.Duration
	// MaxMemBytes bounds the machine that this replica lets a primary send it; 0 means 16 GiB.
	MaxMemBytes uint64
	// Bandwidth bounds the sending of state, in bytes per second; 0 means no bound.
	Bandwidth uint64

	Machine machine.Config // Disks is filled in from Disks below
	Disks   []DiskSpec
	// TakeShared is how the names of groups begin from which this one may take its shared disks: those of the same
	// machine's former starts. Empty: from none.
	TakeShared string
	// BackupReads says that backups read shared disks by themselves: the log has only a checksum of what was read, and a
	// write that replaces it waits until the backup has read it too. It rests in checkpoint mode. In a pair both sides
	// say the same; of a member the primary says it.
	BackupReads bool
	LANAddr     string // where the virtual LAN listens; empty: the network devices are not plugged in

	// Identity, if set, is this replica's certificate: the log channel is encrypted and both ends must show
	// certificates with their names.
	Identity *pki.Identity

	Arbiter arbiter.Register // nil, only without a peer: an arbiter in memory

	// Mode is how the backup follows, and what its epochs last in checkpoint mode, 0 as load and outputs want it. It
	// counts for whoever begins the group; later the mode comes with the state, and SetMode changes it.
	Mode event.Mode

	SuspectAfter time.Duration // silence that raises suspicion
	LagMax       time.Duration // guest time that the backup may be behind before the primary is slowed
	DigestEvery  time.Duration // real time between two digests; negative: none
	PeerTimeout  time.Duration // how long to wait for the other side at the start

	// Tap, if set, sees every entry that this replica delivers while it leads, in order, with what disk
	// reads gave (the log of a pair leaves that out). It is called by the executor and must not keep Data.
	// With it, digests are taken without a backup too. A machine of the same Config that is given these
	// entries at their positions goes through the same states.
	Tap func(event.Entry)

	readPatience time.Duration // see Replica.readsOn; 0: sharedReadPatience
	noHold       bool          // of a test that shows what comes of that: writes do not wait for the backup's reads

	Console io.Writer // what the guest says on its consoles once it may be heard; nil: nowhere
	Log     *slog.Logger
}

func (o *Options) setDefaults() error {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.SuspectAfter, DefaultSuspectAfter)
	def(&o.LagMax, DefaultLagMax)
	def(&o.DigestEvery, DefaultDigestEvery)
	def(&o.PeerTimeout, DefaultPeerTimeout)
	if o.Console == nil {
		o.Console = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxMemBytes == 0 {
		o.MaxMemBytes = 16 << 30
	}
	if o.Advertise == "" && o.Listener != nil {
		o.Advertise = o.Listener.Addr().String()
	}
	if o.Views != nil {
		if err := arbiter.ValidGroup(o.Group); err != nil {
			return err
		}
		if err := (arbiter.Record{Number: 1, Primary: o.Name, Claimant: "x"}).Validate(); err != nil {
			return err
		}
	}
	if o.Peer != "" {
		if err := arbiter.ValidGroup(o.Group); err != nil {
			return err
		}
		if err := (arbiter.Record{Number: 1, Primary: o.Name, Backup: o.Peer, Claimant: "x"}).Validate(); err != nil {
			return err
		}
	}
	for i, d := range o.Disks {
		switch {
		case d.Shared == "" && i > 0 && o.Disks[i-1].Shared != "":
			return errors.New("shared disks come after all others")
		case d.Shared == "":
		case d.Path != "" || d.ReadOnly:
			return errors.New("a shared disk has no file here, and is not read-only")
		case o.Arbiter == nil:
			return errors.New("a shared disk needs an arbiter: its server goes by the views that it grants")
		}
	}
	switch {
	case o.BackupReads && (o.Views == nil || o.MayFound) && (len(o.Disks) == 0 || o.Disks[len(o.Disks)-1].Shared == ""):
		return errors.New("there is no shared disk for a backup to read")
	case o.Mode.EpochNs != 0 && (o.Mode.EpochNs < uint64(minEpoch) || o.Mode.EpochNs > uint64(maxEpoch)):
		return fmt.Errorf("epochs of %v: want %v to %v", time.Duration(o.Mode.EpochNs), minEpoch, maxEpoch)
	case o.SuspectAfter < 10*time.Millisecond:
		return errors.New("suspicion after less than 10 ms of silence would never end")
	case o.Views != nil && (o.Peer != "" || o.PeerAddr != ""):
		return errors.New("a replica finds its peer by the view service or by its address, not by both")
	case o.Views != nil && (o.Arbiter == nil || o.Listener == nil || o.StateDir == "" && !o.MayFound):
		return errors.New("a member of a group needs an arbiter, a listener and a place for disks")
	case o.Views != nil:
	case o.Peer == "" && (o.PeerAddr != "" || o.Listener != nil):
		return errors.New("a peer's address without the peer's name")
	case o.Peer != "" && (o.PeerAddr == "") == (o.Listener == nil):
		return errors.New("a replica either dials its backup or listens for its primary")
	case o.Peer != "" && o.Arbiter == nil:
		return errors.New("a pair needs an arbiter")
	case o.Peer == o.Name:
		return errors.New("a replica cannot be its own peer")
	}
	return nil
}
