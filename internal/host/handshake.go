package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"understudy/internal/pki"
	"understudy/machine"
)

// handshakeTimeout bounds the exchange of hello and welcome.
const handshakeTimeout = 5 * time.Second

// ErrRefused is wrapped by the error that a primary gets when its backup is not made for its machine.
var ErrRefused = errors.New("the backup refused")

// hello is how a primary opens the log channel: who it is and what its machine is made of. The backup makes
// its machine from its own files and refuses if they differ.
type hello struct {
	Version int           `json:"version"`
	Group   string        `json:"group"`
	From    string        `json:"from"`
	To      string        `json:"to"`
	Machine machineParams `json:"machine"`
}

type welcome struct {
	Error string `json:"error,omitempty"` // why the backup refuses; empty: it does not
}

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
}

type diskParams struct {
	Sectors  uint64 `json:"sectors"`
	ReadOnly bool   `json:"read_only"`
	Serial   string `json:"serial"`
	Hash     string `json:"sha256"`
}

func describe(c *machine.Config) machineParams {
	sum := func(p []byte) string { h := sha256.Sum256(p); return hex.EncodeToString(h[:]) }
	p := machineParams{
		MemBytes: c.MemBytes, Kernel: sum(c.Kernel), Initrd: sum(c.Initrd), Cmdline: c.Cmdline,
		WallClockNs: c.WallClockNs, Seed: hex.EncodeToString(c.Seed[:]), Rate: c.Rate,
	}
	for _, n := range c.NICs {
		p.NICs = append(p.NICs, net.HardwareAddr(n.MAC[:]).String())
	}
	for _, d := range c.Disks {
		p.Disks = append(p.Disks, diskParams{d.Sectors, d.ReadOnly, d.Serial, hex.EncodeToString(d.Hash[:])})
	}
	return p
}

// adopt checks that the primary's machine is the one that c describes and takes over what is the primary's
// to choose.
func adopt(c *machine.Config, theirs machineParams) error {
	ours := describe(c)
	seed, err := hex.DecodeString(theirs.Seed)
	if err != nil || len(seed) != len(c.Seed) || theirs.Rate == 0 {
		return errors.New("the primary's description of its machine is malformed")
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
		if ours.Disks[i] != theirs.Disks[i] {
			return differ(fmt.Sprintf("disks %d", i), theirs.Disks[i], ours.Disks[i])
		}
	}
	c.WallClockNs, c.Rate = theirs.WallClockNs, theirs.Rate
	copy(c.Seed[:], seed)
	return nil
}

func sendJSON(conn net.Conn, kind byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = conn.Write(endFrame(append(beginFrame(nil, kind), body...), 0))
	return err
}

func receiveJSON(r *bufio.Reader, want byte, v any) error {
	var buf []byte
	kind, body, err := readFrame(r, &buf)
	if err != nil {
		return err
	}
	if kind != want {
		return fmt.Errorf("%w: kind %#x during the handshake", errFrame, kind)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %v", errFrame, err)
	}
	return nil
}

// dialBackup connects to the backup, waiting for it to appear until ctx ends.
func dialBackup(ctx context.Context, addr string, id *pki.Identity, h hello) (*channel, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			if id != nil {
				conn = tls.Client(conn, id.Client(h.To))
			}
			return greet(conn, h)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach backup %s at %s: %w", h.To, addr, err)
		case <-time.After(pause):
		}
	}
}

func greet(conn net.Conn, h hello) (*channel, error) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	in := bufio.NewReaderSize(conn, 256<<10)
	err := sendJSON(conn, frameHello, h)
	var w welcome
	if err == nil {
		err = receiveJSON(in, frameWelcome, &w)
	}
	if err == nil && w.Error != "" {
		err = fmt.Errorf("%w: %s", ErrRefused, w.Error)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet backup %s: %w", h.To, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return newChannel(conn, in), nil
}

// acceptPrimary waits for the primary and checks what it says. build is called with its description of the
// machine; its error is the reason to refuse. A caller that is refused or that does not speak the protocol
// is turned away and the next one awaited.
func acceptPrimary(ln net.Listener, id *pki.Identity, group, self, peer string, refused func(error), build func(machineParams) error) (*channel, error) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil, fmt.Errorf("await primary: %w", err)
		}
		if id != nil {
			conn = tls.Server(conn, id.Server(peer))
		}
		_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
		in := bufio.NewReaderSize(conn, 256<<10)
		var h hello
		err = receiveJSON(in, frameHello, &h)
		if err == nil {
			switch {
			case h.Version != ProtocolVersion:
				err = fmt.Errorf("protocol versions differ: the primary speaks %d, the backup %d", h.Version, ProtocolVersion)
			case h.Group != group:
				err = fmt.Errorf("groups differ: the primary is of %q, the backup of %q", h.Group, group)
			case h.From != peer || h.To != self:
				err = fmt.Errorf("names differ: %q calls %q, but here %q waits for %q", h.From, h.To, self, peer)
			default:
				err = build(h.Machine)
			}
			if err != nil {
				_ = sendJSON(conn, frameWelcome, welcome{Error: err.Error()})
			} else if err = sendJSON(conn, frameWelcome, welcome{}); err == nil {
				_ = conn.SetDeadline(time.Time{})
				return newChannel(conn, in), nil
			}
		}
		refused(fmt.Errorf("refused a primary at %s: %w", conn.RemoteAddr(), err))
		conn.Close()
	}
}
