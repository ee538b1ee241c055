package rsm

import (
	"errors"
	"log/slog"
	"time"

	"understudy/arbiter"
	"understudy/view/httpview"
)

// Defaults of Options.
const (
	DefaultSuspectAfter = 100 * time.Millisecond
	DefaultClockEvery   = 100 * time.Millisecond
)

// MaxCommandBytes bounds one command.
const MaxCommandBytes = 8 << 20

// Options describe a Node. Name, Group, Machine, Arbiter and Views are needed.
type Options struct {
	Name  string // of this server, in views; unique in the group
	Group string // see arbiter.ValidGroup

	// Machine is in the group's first state, with which this server may begin the group. CannotFound says that it may not.
	Machine     Machine
	CannotFound bool
	// Format names what Machine's commands and snapshots mean. Servers of different formats refuse each other.
	Format string

	Arbiter arbiter.Register
	Views   []httpview.Copy // every copy of the view service

	// Listen is where a primary sends state and log to when this server is its backup: host:port, by default a free port of
	// loopback. Advertise is where others reach it (default: Listen). ClientAddr is where clients reach this server; the view
	// service tells it to whoever asks.
	Listen, Advertise, ClientAddr string
	// TLSDir, if set, has ca.pem, NAME.pem and NAME-key.pem: the log channel is encrypted, and both ends must show certificates
	// with their names.
	TLSDir string

	// Dir, if set, is where the log is kept on disk: a group whose servers all died comes back when those of its newest view
	// start again with their directories. It is made if it does not exist, and holds the files of one server.
	Dir string
	// Fsync says when they are synced: "always", before a command is answered; "everysec" (the default), so that a crash of the
	// hosts loses a second; or "no", when the system likes. The death of processes loses nothing.
	Fsync string
	// SnapshotBytes is how far the log in Dir grows before a snapshot follows; 0: 64 MiB, or as much as the last one.
	SnapshotBytes int64

	SuspectAfter time.Duration // silence after which the other side is suspected to have failed
	PingInterval time.Duration // how often the view service hears from this server; 0 is its default
	// ClockEvery is how often the machine gets an entry that tells the time when it is primary; negative: never.
	ClockEvery time.Duration
	// DigestEvery is how often the backup's snapshot is compared with the primary's; 0: never. It asks that machines of the
	// same state have the same snapshots.
	DigestEvery time.Duration
	// MaxUnackedBytes bounds the log that waits for a backup, be it that its state is still on the way; then proposals wait.
	MaxUnackedBytes int

	Log *slog.Logger
}

func (o *Options) setDefaults() error {
	if o.SuspectAfter == 0 {
		o.SuspectAfter = DefaultSuspectAfter
	}
	if o.ClockEvery == 0 {
		o.ClockEvery = DefaultClockEvery
	}
	if o.MaxUnackedBytes == 0 {
		o.MaxUnackedBytes = 64 << 20
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Machine == nil || o.Arbiter == nil || len(o.Views) == 0:
		return errors.New("a node needs a machine, an arbiter and a view service")
	case o.SuspectAfter < 10*time.Millisecond:
		return errors.New("suspicion after less than 10 ms of silence would never end")
	case o.Fsync != "" && o.Dir == "":
		return errors.New("there are no files to sync without a directory")
	case o.MaxUnackedBytes > 128<<20:
		return errors.New("more than 128 MiB of log may not wait for a backup")
	}
	if err := arbiter.ValidGroup(o.Group); err != nil {
		return err
	}
	return (arbiter.Record{Number: 1, Primary: o.Name, Claimant: "x"}).Validate()
}
