package machine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"understudy/machine/mem"
	"understudy/machine/state"
)

// A machine is copied to another host in two parts: pages of RAM, which go while it runs, and its state,
// which goes last.
//
// The sender calls MarkAllDirty once, then, between two runs, TakeDirty as often as it likes, and copies
// each page that it gives (Page). The last time it copies them all before the machine runs on, and calls
// SaveState as well. Before that it may copy some, let the machine run, and copy more: a page that is written
// after TakeDirty gave it is given again. So the first round, which is nearly all of RAM, need not stop the
// machine for longer than a piece of it takes.
//
// The receiver makes a machine with NewBlank, installs the pages in the order in which they were copied, and
// calls LoadState. If it does that for every epoch, it holds the machine as it was at each epoch's end; from
// any of them it can run on.

// stateMagic opens a saved state; its last byte is the version of the format.
const stateMagic = "USSTAT\x00\x01"

// stateHead is the size of what comes before the state: magic, config's digest, length.
const stateHead = len(stateMagic) + 32 + 4

// NewBlank makes a machine to receive another one's pages and state. cfg is the other's config, which may
// be without the bytes of kernel and initrd (see Bare); ram is as New wants it. The machine must not run
// before LoadState has succeeded.
func NewBlank(cfg Config, ram []byte) (*Machine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if uint64(len(ram)) != cfg.MemBytes {
		return nil, fmt.Errorf("make machine: %d bytes of RAM were mapped for %d", len(ram), cfg.MemBytes)
	}
	m := &Machine{cfg: cfg, id: cfg.digest(), ram: mem.New(ram), blank: true}
	m.cfg.Kernel, m.cfg.Initrd = nil, nil
	m.build()
	return m, nil
}

// SaveState gives the machine's state without its RAM, see AppendState.
func (m *Machine) SaveState() []byte { return m.AppendState(nil) }

// AppendState appends to dst the machine's state without its RAM: a magic, the config's digest, the length
// of the state of hart and devices, that state, and a CRC-32C of all that. Numbers are little endian.
// Outputs not yet taken are not part of it.
func (m *Machine) AppendState(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, stateMagic...)
	dst = append(dst, m.id[:]...)
	e := state.Encoder{B: append(dst, 0, 0, 0, 0)}
	m.save(&e)
	p := e.B[from:]
	binary.LittleEndian.PutUint32(p[stateHead-4:], uint32(len(p)-stateHead))
	return binary.LittleEndian.AppendUint32(e.B, crc32.Checksum(p, castagnoli))
}

// LoadState puts a state that SaveState gave over the machine, whose config must be the same and whose RAM
// must hold the pages that go with it. It may be called at any time and again and again. Nothing cached is
// kept, and outputs not yet taken are dropped.
//
// An error wraps ErrSnapshot. If the bytes were damaged, or are another machine's, the machine is as it was;
// if they are what no machine can have written, it is blank and must not run.
func (m *Machine) LoadState(p []byte) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("load machine state: %w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
	}
	if len(p) < stateHead+4 {
		return bad("it ends in its head")
	}
	if string(p[:len(stateMagic)]) != stateMagic {
		return bad("not a state of this version")
	}
	body := p[:len(p)-4]
	if n := binary.LittleEndian.Uint32(p[stateHead-4:]); n > maxStateBytes || int(n) != len(body)-stateHead {
		return bad("%d bytes of state, %d announced", len(body)-stateHead, n)
	}
	if binary.LittleEndian.Uint32(p[len(body):]) != crc32.Checksum(body, castagnoli) {
		return bad("its checksum does not match")
	}
	if string(p[len(stateMagic):][:32]) != string(m.id[:]) {
		return bad(otherMachine)
	}
	m.blank = true
	m.outputs, m.urgent = nil, false
	d := state.NewDecoder(body[stateHead:])
	m.loadState(d)
	if err := d.Err(); err != nil {
		return bad("%v", err)
	}
	m.blank = false
	return nil
}

// Pages is the number of pages of RAM, of mem.PageBytes each.
func (m *Machine) Pages() int { return m.ram.Pages() }

// Page gives the bytes of page n of RAM, 0 ≤ n < Pages(), to be read before the machine runs on or an entry
// is delivered.
func (m *Machine) Page(n int) []byte {
	return m.ram.Bytes()[n*mem.PageBytes : (n+1)*mem.PageBytes : (n+1)*mem.PageBytes]
}

// InstallPage replaces page n of RAM by p, mem.PageBytes long, and drops what was cached of it. The page
// counts as dirty, as after any store.
func (m *Machine) InstallPage(n int, p []byte) error {
	if n < 0 || n >= m.ram.Pages() || len(p) != mem.PageBytes {
		return fmt.Errorf("install page %d of %d bytes: want a page below %d of %d bytes", n, len(p), m.ram.Pages(), mem.PageBytes)
	}
	m.ram.Write(mem.Base+uint64(n)*mem.PageBytes, p)
	return nil
}

// TouchAll is for a caller that writes to RAM behind the machine's back, instead of InstallPage: it must be
// called before the first such write after the machine ran or took a digest. All pages count as dirty then.
func (m *Machine) TouchAll() { m.ram.Touch(mem.Base, m.ram.Size()) }

// TakeDirty appends to dst the numbers of the pages written since the last call, rising, and forgets them.
// The first call gives every page written since the machine was made.
func (m *Machine) TakeDirty(dst []uint32) []uint32 {
	m.ram.ClearDirty(mem.DirtyEpoch, func(n int) { dst = append(dst, uint32(n)) })
	return dst
}

// MarkAllDirty has the next TakeDirty give every page that was ever written. The others are zero, as they
// are in a blank machine, so a transfer to one begins like this.
func (m *Machine) MarkAllDirty() { m.ram.MarkWritten(mem.DirtyEpoch) }
