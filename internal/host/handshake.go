package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"

	"understudy/internal/logchannel"
	"understudy/internal/pki"
	"understudy/machine"
)

// ProtocolVersion is the version of the log channel. Sides of different versions refuse each other.
const ProtocolVersion = 3

// The frames of a state transfer, in this order where it matters; see docs/formats.md.
const (
	framePages   = 'P' // a batch of package pages
	frameDisk    = 'D' // both ways: index of the disk (one byte), message of package disk
	frameConsole = 'C' // offset behind the newest byte said on consoles (64 bits, big endian), the bytes before it
	frameState   = 'S' // sequence number (uvarint), state of package machine: all the rest has come
	frameSorry   = 'X' // to the primary: why the state could not be taken
)

// ErrRefused is wrapped by the error that a primary gets when its backup is not made for its machine.
var ErrRefused = logchannel.ErrRefused

// hello says what a primary's machine is made of. The backup of a pair makes its machine from its own files and refuses if
// they differ.
type (
	hello  = logchannel.Hello[machineParams]
	caller = logchannel.Caller[machineParams]
)

// machineParams describe a machine.Config without its bulk. WallClockNs, Seed and Rate are the primary's
// to choose; the others must be equal.
type machineParams struct {
	MemBytes    uint64       `json:"mem_bytes"`
	Kernel      string       `json:"kernel_sha256"`
	Initrd      string       `json:"initrd_sha256"`
	Cmdline     string       `json:"cmdline"`
	NICs        []string     `json:"nics"`
	Disks       []diskParams `json:"disks"`
	WallClockNs uint64       `json:"wall_clock_ns"`
	Seed        string       `json:"seed"`
	Rate        uint32       `json:"rate"`
	BackupReads bool         `json:"backup_reads,omitempty"` // backups read shared disks by themselves
}

type diskParams struct {
	Sectors  uint64 `json:"sectors"`
	ReadOnly bool   `json:"read_only"`
	Serial   string `json:"serial"`
	Hash     string `json:"sha256"`
	Shared   string `json:"shared,omitempty"` // where a shared disk is; Hash is its identity then
}

func describe(c *machine.Config) machineParams {
	bare := c.Bare()
	p := machineParams{
		MemBytes: c.MemBytes, Kernel: hex.EncodeToString(bare.KernelHash[:]), Initrd: hex.EncodeToString(bare.InitrdHash[:]), Cmdline: c.Cmdline,
		WallClockNs: c.WallClockNs, Seed: hex.EncodeToString(c.Seed[:]), Rate: c.Rate,
	}
	for _, n := range c.NICs {
		p.NICs = append(p.NICs, net.HardwareAddr(n.MAC[:]).String())
	}
	for _, d := range c.Disks {
		p.Disks = append(p.Disks, diskParams{Sectors: d.Sectors, ReadOnly: d.ReadOnly, Serial: d.Serial, Hash: hex.EncodeToString(d.Hash[:])})
	}
	return p
}

// config is what describe was given, as far as a backup needs it that receives the machine's state.
func (p *machineParams) config() (machine.Config, error) {
	c := machine.Config{MemBytes: p.MemBytes, Cmdline: p.Cmdline, WallClockNs: p.WallClockNs, Rate: p.Rate}
	for text, to := range map[string][]byte{p.Kernel: c.KernelHash[:], p.Initrd: c.InitrdHash[:], p.Seed: c.Seed[:]} {
		if b, err := hex.DecodeString(text); err != nil || copy(to, b) != len(to) || len(b) != len(to) {
			return c, errMalformed
		}
	}
	for _, n := range p.NICs {
		mac, err := net.ParseMAC(n)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return c, errMalformed
		}
		c.NICs = append(c.NICs, machine.NIC{MAC: [6]byte(mac)})
	}
	for _, d := range p.Disks {
		hash, err := hex.DecodeString(d.Hash)
		if err != nil || len(hash) != 32 {
			return c, errMalformed
		}
		c.Disks = append(c.Disks, machine.Disk{Sectors: d.Sectors, ReadOnly: d.ReadOnly, Serial: d.Serial, Hash: [32]byte(hash)})
	}
	return c, nil
}

var errMalformed = errors.New("the primary's description of its machine is malformed")

// adopt checks that the primary's machine is the one that c describes and takes over what is the primary's
// to choose.
func adopt(c *machine.Config, theirs machineParams) error {
	ours := describe(c)
	seed, err := hex.DecodeString(theirs.Seed)
	if err != nil || len(seed) != len(c.Seed) || theirs.Rate == 0 {
		return errMalformed
	}
	differ := func(what string, a, b any) error {
		return fmt.Errorf("%s differ: the primary has %v, the backup %v", what, a, b)
	}
	switch {
	case theirs.MemBytes != ours.MemBytes:
		return differ("memory sizes", fmt.Sprintf("%d MiB", theirs.MemBytes>>20), fmt.Sprintf("%d MiB", ours.MemBytes>>20))
	case theirs.Kernel != ours.Kernel:
		return differ("kernels", theirs.Kernel, ours.Kernel)
	case theirs.Initrd != ours.Initrd:
		return differ("initial RAM disks", theirs.Initrd, ours.Initrd)
	case theirs.Cmdline != ours.Cmdline:
		return differ("kernel command lines", theirs.Cmdline, ours.Cmdline)
	case fmt.Sprint(theirs.NICs) != fmt.Sprint(ours.NICs):
		return differ("network devices", theirs.NICs, ours.NICs)
	case len(theirs.Disks) != len(ours.Disks):
		return differ("numbers of disks", len(theirs.Disks), len(ours.Disks))
	}
	for i := range ours.Disks {
		theirs.Disks[i].Shared = "" // each side has its own way to a shared disk
		if ours.Disks[i] != theirs.Disks[i] {
			return differ(fmt.Sprintf("disks %d", i), theirs.Disks[i], ours.Disks[i])
		}
	}
	c.WallClockNs, c.Rate = theirs.WallClockNs, theirs.Rate
	copy(c.Seed[:], seed)
	return nil
}

// acceptPrimary waits for the primary of a pair and checks what it says. build is called with its description of
// the machine; its error is the reason to refuse. A caller that is refused or that does not speak the protocol
// is turned away and the next one awaited.
func acceptPrimary(ln net.Listener, id *pki.Identity, group, self, peer, life string, refused func(error), build func(machineParams) error) (*logchannel.Channel, string, error) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil, "", fmt.Errorf("await primary: %w", err)
		}
		c, err := logchannel.Hear[machineParams](conn, id, peer)
		if err == nil {
			err = c.Check(ProtocolVersion, group, self)
			if err == nil && c.From != peer {
				err = fmt.Errorf("names differ: %q calls %q, but here %q waits for %q", c.From, c.To, self, peer)
			}
			if err == nil {
				err = build(c.Machine)
			}
			if err == nil {
				ch, err := c.Accept(life)
				if err == nil {
					return ch, c.Life, nil
				}
				refused(err)
				continue
			}
			err = c.Refuse(err)
		}
		refused(err)
	}
}
