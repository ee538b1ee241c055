// Package fdt builds flattened device trees, version 17 (Devicetree Specification, chapter 5): the
// description of the board that the guest's kernel gets at boot.
//
//	b := fdt.New()
//	b.BeginNode("") // the root
//	b.PropU32("#address-cells", 2)
//	b.BeginNode("memory@80000000")
//	b.PropString("device_type", "memory")
//	b.EndNode()
//	b.EndNode()
//	blob, err := b.Bytes()
package fdt

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Words of the format (sections 5.2 and 5.4).
const (
	magic          = 0xd00dfeed
	version        = 17
	compatible     = 16
	headerBytes    = 40
	reserveBytes   = 16 // an entry of the memory reservation block
	tokenBeginNode = 1
	tokenEndNode   = 2
	tokenProp      = 3
	tokenEnd       = 9
)

// Builder collects a tree. Its methods record the first mistake, which Bytes reports.
type Builder struct {
	structs  []byte
	strings  []byte
	offsets  map[string]uint32 // of property names in strings; never ranged over
	reserved []byte
	depth    int
	roots    int
	children []bool // for each open node: whether a child was begun, after which no property may come
	phandle  uint32
	bootCPU  uint32
	err      error
}

// New makes an empty builder.
func New() *Builder { return &Builder{offsets: map[string]uint32{}} }

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("build device tree: "+format, args...)
	}
}

func (b *Builder) token(t uint32) { b.structs = binary.BigEndian.AppendUint32(b.structs, t) }

func pad4(p []byte) []byte {
	for len(p)%4 != 0 {
		p = append(p, 0)
	}
	return p
}

// BeginNode opens a node, named "name@unit-address" or "name"; the root's name is empty. Every node but the
// root lies within another.
func (b *Builder) BeginNode(name string) {
	if b.depth == 0 {
		b.roots++
		if b.roots > 1 || name != "" {
			b.fail("node %q is outside of the root", name)
		}
	} else {
		b.children[b.depth-1] = true
		if name == "" {
			b.fail("a node without a name")
		}
	}
	b.depth++
	b.children = append(b.children, false)
	b.token(tokenBeginNode)
	b.structs = pad4(append(append(b.structs, name...), 0))
}

// EndNode closes the node opened last.
func (b *Builder) EndNode() {
	if b.depth == 0 {
		b.fail("more nodes ended than begun")
		return
	}
	b.depth--
	b.children = b.children[:b.depth]
	b.token(tokenEndNode)
}

// PropBytes gives the open node a property. Properties come before the node's children.
func (b *Builder) PropBytes(name string, value []byte) {
	if b.depth == 0 {
		b.fail("property %q is outside of a node", name)
		return
	}
	if b.children[b.depth-1] {
		b.fail("property %q comes after a child node", name)
	}
	off, ok := b.offsets[name]
	if !ok {
		off = uint32(len(b.strings))
		b.offsets[name] = off
		b.strings = append(append(b.strings, name...), 0)
	}
	b.token(tokenProp)
	b.token(uint32(len(value)))
	b.token(off)
	b.structs = pad4(append(b.structs, value...))
}

// PropEmpty gives the open node a property without a value, whose presence says "true".
func (b *Builder) PropEmpty(name string) { b.PropBytes(name, nil) }

// PropU32 gives the open node a property of one cell.
func (b *Builder) PropU32(name string, v uint32) { b.PropCells(name, v) }

// PropU64 gives the open node a property of two cells, the upper half first.
func (b *Builder) PropU64(name string, v uint64) { b.PropCells(name, uint32(v>>32), uint32(v)) }

// PropU64s gives the open node a property of two cells for each value: "reg" of a node below cells of 2 and
// 2, say.
func (b *Builder) PropU64s(name string, v ...uint64) {
	var p []byte
	for _, x := range v {
		p = binary.BigEndian.AppendUint64(p, x)
	}
	b.PropBytes(name, p)
}

// PropCells gives the open node a property of 32-bit cells.
func (b *Builder) PropCells(name string, cells ...uint32) {
	var p []byte
	for _, c := range cells {
		p = binary.BigEndian.AppendUint32(p, c)
	}
	b.PropBytes(name, p)
}

// PropString gives the open node a property of one string.
func (b *Builder) PropString(name, v string) { b.PropStrings(name, v) }

// PropStrings gives the open node a property that is a list of strings.
func (b *Builder) PropStrings(name string, v ...string) {
	var p []byte
	for _, s := range v {
		p = append(append(p, s...), 0)
	}
	b.PropBytes(name, p)
}

// NewPhandle gives a phandle that no node has yet, for a node that others refer to before it is begun.
func (b *Builder) NewPhandle() uint32 {
	b.phandle++
	return b.phandle
}

// PropPhandle gives the open node the phandle h, from NewPhandle.
func (b *Builder) PropPhandle(h uint32) { b.PropU32("phandle", h) }

// Reserve adds [addr, addr+n) to the memory reservation block: memory that the kernel must leave alone.
func (b *Builder) Reserve(addr, n uint64) {
	b.reserved = binary.BigEndian.AppendUint64(b.reserved, addr)
	b.reserved = binary.BigEndian.AppendUint64(b.reserved, n)
}

// SetBootCPU names the hart that boots (boot_cpuid_phys); it is 0 otherwise.
func (b *Builder) SetBootCPU(id uint32) { b.bootCPU = id }

// Bytes gives the blob. It fails when the tree is empty, a node is still open, or a method was misused.
func (b *Builder) Bytes() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if b.depth != 0 || b.roots == 0 {
		return nil, errors.New("build device tree: a node is still open, or there is none")
	}
	const reserveAt = headerBytes // a multiple of 8, as it must be
	structsAt := reserveAt + len(b.reserved) + reserveBytes
	structBytes := len(b.structs) + 4
	stringsAt := structsAt + structBytes
	total := stringsAt + len(b.strings)

	p := make([]byte, 0, total)
	for _, w := range [...]int{
		magic, total, structsAt, stringsAt, reserveAt, version, compatible,
		int(b.bootCPU), len(b.strings), structBytes,
	} {
		p = binary.BigEndian.AppendUint32(p, uint32(w))
	}
	p = append(p, b.reserved...)
	p = append(p, make([]byte, reserveBytes)...) // the end of the block
	p = append(p, b.structs...)
	p = binary.BigEndian.AppendUint32(p, tokenEnd)
	return append(p, b.strings...), nil
}
