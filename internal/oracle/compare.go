package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
)

// Compare tells the first difference between what the oracle wrote and what we wrote; it is nil when there is
// none. The error's text names the registers that differ, before and after, and lists the code that ran
// between the two records.
func (p *Program) Compare(want, got []byte) error {
	if bytes.Equal(want, got) {
		return nil
	}
	for at := recordsOffset; at < len(want) || at < len(got); at += RecordBytes {
		if at+RecordBytes > len(want) || at+RecordBytes > len(got) {
			return fmt.Errorf("wrote %d bytes, the oracle %d", len(got), len(want))
		}
		w, g := want[at:at+RecordBytes], got[at:at+RecordBytes]
		if bytes.Equal(w, g) {
			continue
		}
		var before []byte
		if at > recordsOffset {
			before = want[at-RecordBytes : at]
		}
		return fmt.Errorf("record %d differs:\n%s%s", (at-recordsOffset)/RecordBytes,
			p.registers(before, w, g), p.between(before, w))
	}
	for i := range want[:recordsOffset] {
		if want[i] != got[i] {
			return fmt.Errorf("all registers agree, but memory differs at %#x: %#02x, the oracle has %#02x",
				DataBase+i, got[i], want[i])
		}
	}
	return fmt.Errorf("differs")
}

// words reads a record.
func words(record []byte) (w [RecordBytes / 8]uint64) {
	if record == nil {
		return w
	}
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(record[i*8:])
	}
	return w
}

func name(i int) string {
	switch {
	case i == 0:
		return "fcsr"
	case i < 32:
		return fmt.Sprintf("x%d", i)
	}
	return fmt.Sprintf("f%d", i-32)
}

// registers lists what differs, and what the oracle's values were before.
func (p *Program) registers(before, want, got []byte) string {
	var b strings.Builder
	o, w, g := words(before), words(want), words(got)
	for i := range w {
		if w[i] != g[i] {
			fmt.Fprintf(&b, "  %-4s before %016x  oracle %016x  we %016x\n", name(i), o[i], w[i], g[i])
		}
	}
	b.WriteString("  before:")
	for i := range o {
		if i%8 == 0 {
			b.WriteString("\n   ")
		}
		fmt.Fprintf(&b, " %s=%x", name(i), o[i])
	}
	b.WriteString("\n")
	return b.String()
}

// between lists the code from the call that wrote one record to the call that wrote the next.
func (p *Program) between(before, after []byte) string {
	to := words(after)[p.Link]
	from := words(before)[p.Link]
	if from > to || to-from > 400 {
		from = to - 160
	}
	return p.list(from, to)
}

// around lists the code near an address.
func (p *Program) around(addr uint64) string { return "\n" + p.list(addr-40, addr+12) }

func (p *Program) list(from, to uint64) string {
	var b strings.Builder
	i := sort.Search(len(p.Lines), func(i int) bool { return p.Lines[i].Addr >= from })
	for ; i < len(p.Lines) && p.Lines[i].Addr < to; i++ {
		fmt.Fprintf(&b, "    %v\n", p.Lines[i])
	}
	return b.String()
}
