package machine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"understudy/machine/mem"
)

// Where things go. Linux wants its Image on a 2 MiB boundary at text_offset (0x200000) from the start of
// RAM (Documentation/arch/riscv/boot-image-header.rst).
const (
	imageHeaderBytes = 64
	imageMagic2      = "RSC\x05"
	kernelAlign      = 2 << 20
	dtbRoom          = 64 << 10
)

// ErrKernel is wrapped by errors about a kernel that this machine cannot start.
var ErrKernel = errors.New("unusable kernel")

// load puts kernel, device tree and initrd into RAM and gives the entry point and the device tree's address.
func (m *Machine) load() (entry, dtb uint64, err error) {
	k := m.cfg.Kernel
	var end uint64
	switch {
	case len(k) >= 4 && string(k[:4]) == elf.ELFMAG:
		entry, end, err = m.loadELF(k)
	case len(k) >= imageHeaderBytes && string(k[0x38:0x3c]) == imageMagic2:
		entry, end, err = m.loadImage(k)
	default:
		err = fmt.Errorf("%w: neither a RISC-V Linux Image nor a RISC-V ELF file", ErrKernel)
	}
	if err != nil {
		return 0, 0, err
	}
	dtb = alignUp(end, kernelAlign)
	initrd := dtb + dtbRoom
	if !m.ram.Contains(initrd, uint64(len(m.cfg.Initrd))) || initrd < end {
		return 0, 0, fmt.Errorf("kernel (%d MiB with its data) and initrd (%d MiB) do not fit %d MiB of memory",
			(end-mem.Base)>>20, len(m.cfg.Initrd)>>20, m.cfg.MemBytes>>20)
	}
	m.ram.Write(initrd, m.cfg.Initrd)
	tree, err := m.deviceTree(initrd)
	if err != nil {
		return 0, 0, err
	}
	if len(tree) > dtbRoom {
		return 0, 0, fmt.Errorf("device tree of %d bytes: at most %d", len(tree), dtbRoom)
	}
	m.ram.Write(dtb, tree)
	return entry, dtb, nil
}

func alignUp(v, a uint64) uint64 { return (v + a - 1) &^ (a - 1) }

func (m *Machine) loadImage(k []byte) (entry, end uint64, err error) {
	textOffset := binary.LittleEndian.Uint64(k[8:])
	imageSize := binary.LittleEndian.Uint64(k[16:])
	if imageSize == 0 {
		imageSize = uint64(len(k))
	}
	start, c1 := bits.Add64(mem.Base, textOffset, 0)
	end, c2 := bits.Add64(start, max(imageSize, uint64(len(k))), 0)
	if c1|c2 != 0 || start%kernelAlign != 0 || !m.ram.Contains(start, end-start) {
		return 0, 0, fmt.Errorf("%w: %d MiB at offset %#x do not fit %d MiB of memory",
			ErrKernel, imageSize>>20, textOffset, m.cfg.MemBytes>>20)
	}
	m.ram.Write(start, k)
	return start, end, nil
}

func (m *Machine) loadELF(k []byte) (entry, end uint64, err error) {
	f, err := elf.NewFile(bytes.NewReader(k))
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %v", ErrKernel, err)
	}
	if f.Machine != elf.EM_RISCV || f.Class != elf.ELFCLASS64 {
		return 0, 0, fmt.Errorf("%w: an ELF file for %v %v, want 64-bit RISC-V", ErrKernel, f.Class, f.Machine)
	}
	if f.Type != elf.ET_EXEC {
		return 0, 0, fmt.Errorf("%w: ELF type %v, want an executable linked at a fixed address", ErrKernel, f.Type)
	}
	entry = f.Entry
	end = mem.Base
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if p.Filesz > p.Memsz || p.Off > uint64(len(k)) || p.Filesz > uint64(len(k))-p.Off ||
			!m.ram.Contains(p.Paddr, p.Memsz) {
			return 0, 0, fmt.Errorf("%w: segment at %#x of %d bytes does not fit file or memory", ErrKernel, p.Paddr, p.Memsz)
		}
		m.ram.Write(p.Paddr, k[p.Off:p.Off+p.Filesz])
		if f.Entry >= p.Vaddr && f.Entry-p.Vaddr < p.Memsz {
			entry = f.Entry - p.Vaddr + p.Paddr
		}
		end = max(end, p.Paddr+p.Memsz)
	}
	if !m.ram.Contains(entry, 2) {
		return 0, 0, fmt.Errorf("%w: entry point %#x is outside memory", ErrKernel, entry)
	}
	return entry, end, nil
}
