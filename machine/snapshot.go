package machine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"understudy/machine/mem"
	"understudy/machine/state"
)

// snapshotMagic opens a snapshot; its last byte is the version of the format.
const snapshotMagic = "USSNAP\x00\x01"

// maxStateBytes bounds the encoded state of hart and devices.
const maxStateBytes = 256 << 20

// otherMachine says that config digests differ.
const otherMachine = "it is of another machine: image, memory size, disks or command line differ"

// noPage ends the list of pages.
const noPage = ^uint32(0)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSnapshot is wrapped by every error of Restore and LoadState that is the fault of the bytes they read.
var ErrSnapshot = errors.New("unusable snapshot")

// Snapshot writes the whole machine: the magic, the config's digest, the state of hart and devices, every
// page that is not zero, and a CRC-32C of all that. Numbers are little endian. Outputs not yet taken are
// not part of it.
func (m *Machine) Snapshot(w io.Writer) error {
	sum := crc32.New(castagnoli)
	bw := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	var e state.Encoder
	m.save(&e)
	bw.WriteString(snapshotMagic)
	bw.Write(m.id[:])
	var n [4]byte
	u32 := func(v uint32) {
		binary.LittleEndian.PutUint32(n[:], v)
		bw.Write(n[:])
	}
	u32(uint32(len(e.B)))
	bw.Write(e.B)
	ram := m.ram.Bytes()
	for p := range m.ram.Pages() {
		page := ram[p*mem.PageBytes : (p+1)*mem.PageBytes]
		if !isZero(page) {
			u32(uint32(p))
			bw.Write(page)
		}
	}
	u32(noPage)
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return true
}

// Restore makes the machine that wrote the snapshot. cfg must be its config, and ram as New wants it. After
// an error ram holds rubbish and must not be used.
func Restore(cfg Config, ram []byte, r io.Reader) (*Machine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if uint64(len(ram)) != cfg.MemBytes {
		return nil, fmt.Errorf("restore machine: %d bytes of RAM were mapped for %d", len(ram), cfg.MemBytes)
	}
	sum := crc32.New(castagnoli)
	src := bufio.NewReaderSize(r, 1<<16)
	in := io.TeeReader(src, sum)
	bad := func(format string, args ...any) error {
		return fmt.Errorf("restore machine: %w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
	}
	var head [len(snapshotMagic) + 32 + 4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, bad("it ends in its head (%v)", err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, bad("not a snapshot of this version")
	}
	id := cfg.digest()
	if string(id[:]) != string(head[len(snapshotMagic):][:32]) {
		return nil, bad(otherMachine)
	}
	size := binary.LittleEndian.Uint32(head[len(head)-4:])
	if size > maxStateBytes {
		return nil, bad("state of %d bytes", size)
	}
	blob, err := io.ReadAll(io.LimitReader(in, int64(size)))
	if err != nil || len(blob) != int(size) {
		return nil, bad("it ends in the state")
	}
	m := &Machine{cfg: cfg, id: id, ram: mem.New(ram)}
	m.build()
	m.cfg.Kernel, m.cfg.Initrd = nil, nil
	next := 0
	for {
		var n [4]byte
		if _, err := io.ReadFull(in, n[:]); err != nil {
			return nil, bad("it ends among the pages")
		}
		p := binary.LittleEndian.Uint32(n[:])
		if p == noPage {
			break
		}
		if int(p) < next || int(p) >= m.ram.Pages() {
			return nil, bad("page %d out of order or range", p)
		}
		next = int(p) + 1
		m.ram.Touch(mem.Base+uint64(p)*mem.PageBytes, mem.PageBytes)
		if _, err := io.ReadFull(in, ram[int(p)*mem.PageBytes:][:mem.PageBytes]); err != nil {
			return nil, bad("it ends in page %d", p)
		}
	}
	var want [4]byte
	if _, err := io.ReadFull(src, want[:]); err != nil || binary.LittleEndian.Uint32(want[:]) != sum.Sum32() {
		return nil, bad("its checksum does not match")
	}
	d := state.NewDecoder(blob)
	m.loadState(d)
	if err := d.Err(); err != nil {
		return nil, bad("%v", err)
	}
	return m, nil
}
