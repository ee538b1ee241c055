// Package event defines what crosses the border of a deterministic machine: the entries of the log that
// carry every non-deterministic input in, and the outputs that leave.
//
// The package is pure: it knows encodings, not sockets or files.
package event

// Position is a count of instructions executed by a machine since it was created. An instruction that
// traps counts as one, so that every step of a guest makes progress.
type Position uint64

// Seq is an entry's place in the log of a group. The first entry is 1; 0 means "none".
type Seq uint64

// Kind says how an entry's data is to be read.
type Kind uint8

// The kinds of log entry. The numbers are part of the log's format and never change meaning.
const (
	KindInvalid Kind = iota
	// KindClock sets guest time and its rate from the entry's position on (see Clock). It also ends an idle
	// wait whose timer it makes due.
	KindClock
	// KindNet delivers one Ethernet frame to a network device.
	KindNet
	// KindConsole delivers bytes typed at a console.
	KindConsole
	// KindDisk completes a disk request (see DiskDone).
	KindDisk
	// KindEntropy delivers random bytes that the entropy device asked for.
	KindEntropy
	// KindCommit delivers nothing. It marks the position of an output: a replica that holds it can
	// reproduce everything the machine said up to there.
	KindCommit
	// KindDigest carries the primary's digest of the machine's state at the entry's position (8 bytes,
	// little endian); a backup whose own digest differs has diverged and stops.
	KindDigest
	// KindMode changes how the backup follows, from the entry's position on (see Mode).
	KindMode
	// KindEpochPart is a part of what changed in an epoch of checkpoint mode (see the Part constants).
	KindEpochPart
	// KindEpochEnd ends an epoch: its data is the machine's state apart from RAM. Only with it do the parts before
	// it count, and they all do.
	KindEpochEnd
	// KindDiskSum completes a read of a disk that both sides reach, without what was read: whoever replays it reads
	// the sectors there (see DiskSum).
	KindDiskSum
)

// Entry is one record of the log: at position Pos, deliver this.
type Entry struct {
	Seq    Seq
	Pos    Position
	Kind   Kind
	Device uint8 // index among the devices of the kind that the entry is for
	Data   []byte
}

// OutputKind says where an output goes.
type OutputKind uint8

// The kinds of output.
const (
	OutInvalid OutputKind = iota
	// OutNet is one Ethernet frame.
	OutNet
	// OutConsole is bytes for a console.
	OutConsole
	// OutDisk asks for a disk operation (Disk holds it). With separate disks it is carried out at once by
	// each replica on its own copy and is not held by the output rule.
	OutDisk
	// OutEntropy asks for Want random bytes. It is a request to the shell, never held.
	OutEntropy
)

// Output is something that leaves the machine, produced at position Pos.
type Output struct {
	Kind   OutputKind
	Device uint8
	Pos    Position
	Data   []byte       // OutNet, OutConsole; owned by the receiver
	Want   int          // OutEntropy: bytes asked for
	Disk   *DiskRequest // OutDisk
}

// DiskOp is the operation of a DiskRequest.
type DiskOp uint8

// The disk operations.
const (
	DiskRead DiskOp = iota + 1
	DiskWrite
	DiskFlush
	DiskDiscard
)

// DiskRequest is one request of a block device. Requests of one device are carried out in the order in
// which they left the machine, so that overlapping ones cannot race.
type DiskRequest struct {
	ID     uint64 // unique per device over the machine's life
	Op     DiskOp
	Sector uint64 // of 512 bytes
	Count  uint32 // sectors; 0 for DiskFlush
	Data   []byte // DiskWrite: the bytes to write, a copy that the guest can no longer change
}

// DiskStatus is how a disk request ended.
type DiskStatus uint8

// The ways a disk request ends.
const (
	DiskOK DiskStatus = iota
	DiskError
	DiskUnsupported
)
