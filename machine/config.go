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

	// KernelHash and InitrdHash are the SHA-256 of the two. They name them where the bytes are not at hand,
	// as on a host that receives a running machine (see Bare). Where the bytes are, they may be zero; if they
	// are not, New holds the bytes to them.
	KernelHash, InitrdHash [32]byte
}

// hashOf is the hash of image, or the one given where there is no image.
func hashOf(image []byte, given [32]byte) [32]byte {
	if len(image) == 0 && given != [32]byte{} {
		return given
	}
	return sha256.Sum256(image)
}

// Bare gives c with kernel and initrd replaced by their hashes: a config of the same Digest, small enough to
// be sent. NewBlank and Restore take it, New does not.
func (c Config) Bare() Config {
	c.KernelHash, c.InitrdHash = hashOf(c.Kernel, c.KernelHash), hashOf(c.Initrd, c.InitrdHash)
	c.Kernel, c.Initrd = nil, nil
	return c
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

// check sets what is implied and reports what cannot be. Afterwards the hashes are there.
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
	for _, i := range []struct {
		name  string
		image []byte
		hash  *[32]byte
	}{{"kernel", c.Kernel, &c.KernelHash}, {"initial RAM disk", c.Initrd, &c.InitrdHash}} {
		is := hashOf(i.image, *i.hash)
		if *i.hash != [32]byte{} && *i.hash != is {
			return fmt.Errorf("%s has the hash %x, not %x", i.name, is, *i.hash)
		}
		*i.hash = is
	}
	return nil
}

// Digest names the config: replicas whose digests differ must not be paired. It is that of Bare.
func (c *Config) Digest() [32]byte {
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	bare := c.Bare()
	return bare.digest()
}

// digest is Digest of a config that was checked: its hashes are there.
func (c *Config) digest() [32]byte {
	h := sha256.New()
	field := func(p []byte) {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	num := func(v uint64) { field(binary.LittleEndian.AppendUint64(nil, v)) }
	field([]byte("understudy machine 2"))
	num(c.MemBytes)
	field(c.KernelHash[:])
	field(c.InitrdHash[:])
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
