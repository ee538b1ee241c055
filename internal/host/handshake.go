package host

import (
	"bufio"
	"bytes"
	"context"
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
	Life    string        `json:"life"`           // the primary's incarnation
	View    uint64        `json:"view,omitempty"` // in a group: the view whose backup is to receive the state
	Machine machineParams `json:"machine"`
}

type welcome struct {
	Life  string `json:"life,omitempty"`  // the backup's incarnation
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
	bare := c.Bare()
	p := machineParams{
		MemBytes: c.MemBytes, Kernel: hex.EncodeToString(bare.KernelHash[:]), Initrd: hex.EncodeToString(bare.InitrdHash[:]), Cmdline: c.Cmdline,
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

// dialBackup connects to the backup, waiting for it to appear until ctx ends. life is the backup's incarnation.
func dialBackup(ctx context.Context, addr string, id *pki.Identity, h hello) (ch *channel, life string, err error) {
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
			return nil, "", fmt.Errorf("reach backup %s at %s: %w", h.To, addr, err)
		case <-time.After(pause):
		}
	}
}

func greet(conn net.Conn, h hello) (*channel, string, error) {
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
		return nil, "", fmt.Errorf("greet backup %s: %w", h.To, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return newChannel(conn, in), w.Life, nil
}

// caller is a primary that has opened a connection and said hello.
type caller struct {
	hello
	conn net.Conn
	in   *bufio.Reader
}

// hear reads what a caller says first. id, if set, has it show a certificate; any name of the CA will do here.
func hear(conn net.Conn, id *pki.Identity, peer string) (*caller, error) {
	if id != nil {
		conn = tls.Server(conn, id.Server(peer))
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	c := &caller{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	if err := receiveJSON(c.in, frameHello, &c.hello); err != nil {
		conn.Close()
		return nil, refusal(conn, err)
	}
	return c, nil
}

func refusal(conn net.Conn, err error) error {
	return fmt.Errorf("refused a primary at %s: %w", conn.RemoteAddr(), err)
}

// refuse tells the caller why not, and hangs up.
func (c *caller) refuse(err error) error {
	_ = sendJSON(c.conn, frameWelcome, welcome{Error: err.Error()})
	c.conn.Close()
	return refusal(c.conn, err)
}

func (c *caller) accept(life string) (*channel, error) {
	if err := sendJSON(c.conn, frameWelcome, welcome{Life: life}); err != nil {
		c.conn.Close()
		return nil, refusal(c.conn, err)
	}
	_ = c.conn.SetDeadline(time.Time{})
	return newChannel(c.conn, c.in), nil
}

// check compares what the caller says with what is expected here.
func (c *caller) check(group, self string) error {
	switch {
	case c.Version != ProtocolVersion:
		return fmt.Errorf("protocol versions differ: the primary speaks %d, the backup %d", c.Version, ProtocolVersion)
	case c.Group != group:
		return fmt.Errorf("groups differ: the primary is of %q, the backup of %q", c.Group, group)
	case c.To != self:
		return fmt.Errorf("names differ: %q calls %q, but here is %q", c.From, c.To, self)
	}
	return nil
}

// acceptPrimary waits for the primary of a pair and checks what it says. build is called with its description of
// the machine; its error is the reason to refuse. A caller that is refused or that does not speak the protocol
// is turned away and the next one awaited.
func acceptPrimary(ln net.Listener, id *pki.Identity, group, self, peer, life string, refused func(error), build func(machineParams) error) (*channel, string, error) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil, "", fmt.Errorf("await primary: %w", err)
		}
		c, err := hear(conn, id, peer)
		if err == nil {
			err = c.check(group, self)
			if err == nil && c.From != peer {
				err = fmt.Errorf("names differ: %q calls %q, but here %q waits for %q", c.From, c.To, self, peer)
			}
			if err == nil {
				err = build(c.Machine)
			}
			if err == nil {
				ch, err := c.accept(life)
				if err == nil {
					return ch, c.Life, nil
				}
				refused(err)
				continue
			}
			err = c.refuse(err)
		}
		refused(err)
	}
}
