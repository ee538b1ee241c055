package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Following is how a backup follows.
type Following uint8

// The ways to follow.
const (
	// Lockstep: the backup executes the same instructions and is given the same entries.
	Lockstep Following = iota
	// Checkpoint: the backup receives what changed in every epoch, and executes nothing.
	Checkpoint
)

// String names it as users do.
func (f Following) String() string {
	if f == Checkpoint {
		return "checkpoint"
	}
	return "lockstep"
}

// Mode is the data of a KindMode entry.
type Mode struct {
	Following Following
	EpochNs   uint64 // Checkpoint: the length of an epoch; 0: as load and outputs want it
}

// AppendMode appends the encoding of m.
func AppendMode(b []byte, m Mode) []byte {
	return binary.LittleEndian.AppendUint64(append(b, byte(m.Following)), m.EpochNs)
}

// ParseMode reads what AppendMode wrote.
func ParseMode(b []byte) (Mode, error) {
	if len(b) != 9 || b[0] > byte(Checkpoint) {
		return Mode{}, errors.New("malformed mode entry")
	}
	return Mode{Following(b[0]), binary.LittleEndian.Uint64(b[1:])}, nil
}

// The first byte of an epoch's part says what follows.
const (
	PartPages   = 'P' // a batch of pages, see package pages
	PartWrite   = 'W' // sectors written: disk (one byte), sector (uvarint), the bytes
	PartDiscard = 'Z' // sectors that read as zeros now: disk (one byte), sector, count (uvarints)
	PartOutput  = 'O' // what the machine said to the world: kind and device (a byte each), the bytes
)

// AppendDiskPart appends a part for a write or discard that was carried out on a disk.
func AppendDiskPart(b []byte, disk uint8, r DiskRequest) []byte {
	if r.Op == DiskDiscard {
		b = binary.AppendUvarint(append(b, PartDiscard, disk), r.Sector)
		return binary.AppendUvarint(b, uint64(r.Count))
	}
	b = binary.AppendUvarint(append(b, PartWrite, disk), r.Sector)
	return append(b, r.Data...)
}

// ParseDiskPart reads what AppendDiskPart wrote. Data is part of b.
func ParseDiskPart(b []byte) (disk uint8, r DiskRequest, err error) {
	bad := errors.New("malformed disk part")
	if len(b) < 3 {
		return 0, r, bad
	}
	kind, disk, rest := b[0], b[1], b[2:]
	sector, n := binary.Uvarint(rest)
	if n <= 0 {
		return 0, r, bad
	}
	r.Sector, rest = sector, rest[n:]
	switch kind {
	case PartWrite:
		if len(rest)%512 != 0 || len(rest) == 0 {
			return 0, r, bad
		}
		r.Op, r.Data, r.Count = DiskWrite, rest, uint32(len(rest)/512)
	case PartDiscard:
		count, n := binary.Uvarint(rest)
		if n <= 0 || n != len(rest) || count > 1<<31 {
			return 0, r, bad
		}
		r.Op, r.Count = DiskDiscard, uint32(count)
	default:
		return 0, r, bad
	}
	return disk, r, nil
}

// AppendOutputPart appends a part for an output to the world.
func AppendOutputPart(b []byte, o Output) []byte {
	return append(append(b, PartOutput, byte(o.Kind), o.Device), o.Data...)
}

// ParseOutputPart reads what AppendOutputPart wrote. Data is part of b.
func ParseOutputPart(b []byte) (Output, error) {
	if len(b) < 3 || b[0] != PartOutput {
		return Output{}, errors.New("malformed output part")
	}
	o := Output{Kind: OutputKind(b[1]), Device: b[2], Data: b[3:]}
	if o.Kind != OutNet && o.Kind != OutConsole {
		return Output{}, fmt.Errorf("output part of kind %d", o.Kind)
	}
	return o, nil
}
