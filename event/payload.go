package event

import (
	"encoding/binary"
	"fmt"
)

// Clock is the payload of a KindClock entry. From the entry's position on, guest time in nanoseconds is
//
//	NowNs + (position - entry.Pos) * Rate / 2^RateShift
//
// Guest time never steps back: NowNs is at least what the former clock entry gives at that position.
type Clock struct {
	NowNs uint64 // guest time at the entry's position, ns since the machine was created
	Rate  uint32 // guest ns per instruction in units of 2^-RateShift; at least 1
}

// RateShift is the number of fraction bits in Clock.Rate: a Rate of 1<<RateShift is 1 ns per instruction.
const RateShift = 20

// AppendClock appends the encoding of c to b.
func AppendClock(b []byte, c Clock) []byte {
	b = binary.AppendUvarint(b, c.NowNs)
	return binary.AppendUvarint(b, uint64(c.Rate))
}

// ParseClock reads what AppendClock wrote.
func ParseClock(b []byte) (Clock, error) {
	now, n := binary.Uvarint(b)
	if n <= 0 {
		return Clock{}, fmt.Errorf("parse clock entry: bad time")
	}
	rate, m := binary.Uvarint(b[n:])
	if m <= 0 || n+m != len(b) || rate == 0 || rate > 1<<32-1 {
		return Clock{}, fmt.Errorf("parse clock entry: bad rate")
	}
	return Clock{NowNs: now, Rate: uint32(rate)}, nil
}

// DiskDone is the payload of a KindDisk entry. With separate disks Data is nil in the log: each replica
// fills it from its own disk before it delivers the entry.
type DiskDone struct {
	ID     uint64
	Status DiskStatus
	Data   []byte // DiskRead that ended in DiskOK: Count*512 bytes
}

// AppendDiskDone appends the encoding of d to b.
func AppendDiskDone(b []byte, d DiskDone) []byte {
	b = binary.AppendUvarint(b, d.ID)
	b = append(b, byte(d.Status))
	return append(b, d.Data...)
}

// ParseDiskDone reads what AppendDiskDone wrote. Data aliases b.
func ParseDiskDone(b []byte) (DiskDone, error) {
	id, n := binary.Uvarint(b)
	if n <= 0 || n >= len(b) || b[n] > byte(DiskUnsupported) {
		return DiskDone{}, fmt.Errorf("parse disk entry: malformed")
	}
	d := DiskDone{ID: id, Status: DiskStatus(b[n])}
	if n+1 < len(b) {
		d.Data = b[n+1:]
	}
	return d, nil
}

// DiskSum is the payload of a KindDiskSum entry: a read that succeeded. A machine is given a KindDisk entry in its
// place, with the sectors' bytes.
type DiskSum struct {
	ID     uint64
	Sector uint64 // of 512 bytes
	Count  uint32 // sectors
	Sum    uint64 // xxHash64 of the bytes that the primary read
}

// AppendDiskSum appends the encoding of d to b.
func AppendDiskSum(b []byte, d DiskSum) []byte {
	b = binary.AppendUvarint(b, d.ID)
	b = binary.AppendUvarint(b, d.Sector)
	b = binary.AppendUvarint(b, uint64(d.Count))
	return binary.LittleEndian.AppendUint64(b, d.Sum)
}

// ParseDiskSum reads what AppendDiskSum wrote.
func ParseDiskSum(b []byte) (d DiskSum, err error) {
	bad := fmt.Errorf("parse entry of a disk's sum: malformed")
	var n int
	if d.ID, n = binary.Uvarint(b); n <= 0 {
		return DiskSum{}, bad
	}
	b = b[n:]
	if d.Sector, n = binary.Uvarint(b); n <= 0 {
		return DiskSum{}, bad
	}
	b = b[n:]
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > MaxEntryBytes/512 || len(b) != n+8 {
		return DiskSum{}, bad
	}
	d.Count = uint32(count)
	d.Sum = binary.LittleEndian.Uint64(b[n:])
	return d, nil
}
