package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrKernel is wrapped by every refusal of CheckKernel.
var ErrKernel = errors.New("not a kernel that this machine can start")

// CheckKernel tells whether data is a RISC-V Linux Image (Documentation/arch/riscv/boot-image-header.rst) whose parts
// lie within it, and when it is not, what it is instead. The first 4 KiB of a file are enough, given with its size.
func CheckKernel(data []byte, sizeBytes int64) error {
	is := func(what string) error { return fmt.Errorf("%w: it is %s", ErrKernel, what) }
	at := func(off int, magic string) bool {
		return len(data) >= off+len(magic) && string(data[off:off+len(magic)]) == magic
	}
	switch {
	case len(data) == 0:
		return is("empty")
	case at(0x38, "RSC\x05"):
		return checkImageHeader(data, sizeBytes)
	case at(0x38, "ARM\x64"):
		return is("an arm64 Linux Image; a riscv64 one is needed")
	case at(0x202, "HdrS"):
		return is("an x86 bzImage; a riscv64 Image is needed")
	case at(0, "\x1f\x8b"):
		return is("compressed with gzip; decompress it first (gunzip)")
	case at(0, "\xfd7zXZ\x00"):
		return is("compressed with xz; decompress it first (unxz)")
	case at(0, "\x28\xb5\x2f\xfd"):
		return is("compressed with zstd; decompress it first (unzstd)")
	case at(0, "\x7fELF"):
		return is("an ELF file" + elfMachine(data) + "; the flat Image is needed (arch/riscv/boot/Image, Debian's /boot/vmlinux-*)")
	case at(0, "MZ") && bytes.Contains(data[:min(len(data), 4096)], []byte("zimg")):
		return is("a compressed EFI kernel (vmlinuz.efi); the flat Image is needed (arch/riscv/boot/Image)")
	case at(0, "MZ"):
		return is("an EFI program without a RISC-V Image header")
	}
	return is(fmt.Sprintf("no Linux kernel image (it starts with % x)", data[:min(len(data), 8)]))
}

func elfMachine(data []byte) string {
	if len(data) < 20 {
		return ""
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if data[5] == 2 {
		order = binary.BigEndian
	}
	machine := order.Uint16(data[18:])
	if name, ok := map[uint16]string{3: "x86", 40: "ARM", 62: "x86-64", 183: "arm64", 243: "RISC-V"}[machine]; ok {
		return " for " + name
	}
	return fmt.Sprintf(" for machine %d", machine)
}

func checkImageHeader(data []byte, sizeBytes int64) error {
	const headerBytes = 64
	if len(data) < headerBytes || sizeBytes < headerBytes {
		return fmt.Errorf("%w: its header is cut off", ErrKernel)
	}
	textOffset := binary.LittleEndian.Uint64(data[8:])
	imageSize := binary.LittleEndian.Uint64(data[16:])
	flags := binary.LittleEndian.Uint64(data[24:])
	switch {
	case flags&1 != 0:
		return fmt.Errorf("%w: it is big-endian", ErrKernel)
	case imageSize > 1<<32 || textOffset > 1<<32:
		return fmt.Errorf("%w: header says %d bytes at offset %#x", ErrKernel, imageSize, textOffset)
	case imageSize != 0 && uint64(sizeBytes) > imageSize+1<<20:
		// image_size counts the zeroed data behind the file as well: a file that is larger is not what was linked.
		return fmt.Errorf("%w: it has %d bytes, its header says %d", ErrKernel, sizeBytes, imageSize)
	}
	return nil
}
