package machine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"understudy/event"
	"understudy/machine/mem"
)

// DefaultRate is 2 ns of guest time per instruction, near the speed of the interpreter.
const DefaultRate = 2 << event.RateShift

// MinMemBytes and MaxMemBytes bound Config.MemBytes.
const (
	MinMemBytes = 16 << 20
	MaxMemBytes = 64 << 30
)

// Config is everything that a machine is made of. Two machines made of equal configs are equal.
type Config struct {
	MemBytes    uint64 // RAM; a multiple of 2 MiB between MinMemBytes and MaxMemBytes
	Kernel      []byte // a RISC-V Linux Image, or an ELF that starts in S mode
	Initrd      []byte // may be empty
	Cmdline     string
	NICs        []NIC
	Disks       []Disk
	WallClockNs uint64   // real time at guest time 0, ns since 1970
	Seed        [32]byte // given to the guest's random generator at boot
	Rate        uint32   // first rate of guest time, see event.Clock; 0 means DefaultRate
}

// NIC is a network device.
type NIC struct {
	MAC [6]byte
}

// Disk is a block device. Its bytes are the shell's; Hash names them.
type Disk struct {
	Sectors  uint64 // of 512 bytes
	ReadOnly bool
	Serial   string   // up to 20 bytes
	Hash     [32]byte // SHA-256 of the first content, so that a pair with different disks is refused
}

func (c *Config) check() error {
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	switch {
	case c.MemBytes < MinMemBytes || c.MemBytes > MaxMemBytes:
		return fmt.Errorf("memory of %d MiB: want %d MiB to %d GiB", c.MemBytes>>20, MinMemBytes>>20, MaxMemBytes>>30)
	case c.MemBytes%(2<<20) != 0:
		return fmt.Errorf("memory of %d bytes: want a multiple of 2 MiB", c.MemBytes)
	case c.MemBytes > ^uint64(0)-mem.Base:
		return errors.New("memory does not fit the address space")
	case 2+len(c.NICs)+len(c.Disks) > maxVirtioSlots:
		return fmt.Errorf("%d network devices and %d disks: at most %d together", len(c.NICs), len(c.Disks), maxVirtioSlots-2)
	case len(c.Cmdline) > 2047:
		return fmt.Errorf("kernel command line of %d bytes: at most 2047", len(c.Cmdline))
	}
	return nil
}

// Digest names the config: replicas whose digests differ must not be paired.
func (c *Config) Digest() [32]byte {
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	h := sha256.New()
	field := func(p []byte) {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	num := func(v uint64) { field(binary.LittleEndian.AppendUint64(nil, v)) }
	field([]byte("understudy machine 1"))
	num(c.MemBytes)
	field(c.Kernel)
	field(c.Initrd)
	field([]byte(c.Cmdline))
	num(uint64(len(c.NICs)))
	for _, n := range c.NICs {
		field(n.MAC[:])
	}
	num(uint64(len(c.Disks)))
	for _, d := range c.Disks {
		num(d.Sectors)
		if d.ReadOnly {
			num(1)
		} else {
			num(0)
		}
		field([]byte(d.Serial))
		field(d.Hash[:])
	}
	num(c.WallClockNs)
	field(c.Seed[:])
	num(uint64(c.Rate))
	return [32]byte(h.Sum(nil))
}
