package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// errModuleForm: a module is not of the form that slimModule knows.
var errModuleForm = errors.New("ELF form not known")

// ELF64 section header and symbol, as the System V ABI (gABI, chapter 4) has them.
type elfSection struct {
	Name, Type             uint32
	Flags, Addr, Off, Size uint64
	Link, Info             uint32
	Align, Entsize         uint64
}

type elfSymbol struct {
	Name        uint32
	Info, Other byte
	Section     uint16
	Value, Size uint64
}

const (
	shtProgbits, shtSymtab, shtStrtab, shtRela, shtNote, shtNobits = 1, 2, 3, 4, 7, 8
	shtInitArray, shtFiniArray, shtRiscvAttributes                 = 14, 15, 0x70000003
	shfLinkOrder                                                   = 0x80
	shnLoReserve                                                   = 0xff00
	elfHeaderBytes, elfSectionBytes, elfSymbolBytes, elfRelaBytes  = 64, 64, 24, 24
)

// slimModule drops from a kernel module what loading it does not need: the appended signature, type data (BTF) for
// tracing, and local labels that no relocation refers to. RISC-V modules have an enormous number of those: Debian's
// ext4.ko goes from 7.0 MB with 215,000 symbols to 1.7 MB, and the kernel walks through and hashes all of it.
// The code, its relocations and the names of functions stay as they are. Without its signature the kernel marks itself
// tainted ("E"); what the image holds is vouched for by the archive's signature and the image's hashes instead.
func slimModule(data []byte) ([]byte, error) {
	data = dropModuleSignature(data)
	le := binary.LittleEndian
	if len(data) < elfHeaderBytes || string(data[:7]) != "\x7fELF\x02\x01\x01" || le.Uint16(data[58:]) != elfSectionBytes {
		return nil, errModuleForm
	}
	sectionsOff, count, namesIndex := le.Uint64(data[40:]), int(le.Uint16(data[60:])), int(le.Uint16(data[62:]))
	table := slice(data, sectionsOff, uint64(count)*elfSectionBytes)
	if table == nil || count < 2 || namesIndex >= count || le.Uint16(data[56:]) != 0 {
		return nil, errModuleForm
	}
	sections := make([]elfSection, count)
	if _, err := binary.Decode(table, le, sections); err != nil {
		return nil, errModuleForm
	}
	content := make([][]byte, count)
	symtab := -1
	for i, s := range sections[1:] {
		i++
		if s.Type != shtNobits {
			if content[i] = slice(data, s.Off, s.Size); content[i] == nil {
				return nil, errModuleForm
			}
		}
		switch s.Type {
		case shtSymtab:
			if symtab >= 0 {
				return nil, errModuleForm
			}
			symtab = i
		case shtProgbits, shtStrtab, shtRela, shtNote, shtNobits, shtInitArray, shtFiniArray, shtRiscvAttributes:
		default:
			return nil, errModuleForm
		}
	}
	if symtab < 0 || int(sections[symtab].Link) >= count || int(sections[symtab].Link) == namesIndex {
		return nil, errModuleForm
	}
	strtab := int(sections[symtab].Link)
	names := content[namesIndex]
	name := func(i int) string { return cString(names, sections[i].Name) }

	// Which sections stay, and their new numbers.
	renumbered := make([]uint32, count)
	var kept []int
	for i := range sections {
		if i > 0 && (name(i) == ".BTF" || name(i) == ".comment" || name(i) == ".note.GNU-stack") {
			continue
		}
		if i > 0 && sections[i].Type == shtRela && int(sections[i].Info) < count && renumbered[sections[i].Info] == 0 {
			return nil, errModuleForm // relocations of a dropped or later section
		}
		renumbered[i] = uint32(len(kept))
		kept = append(kept, i)
	}

	// Which symbols stay: those with a use.
	raw := content[symtab]
	symbols := make([]elfSymbol, len(raw)/elfSymbolBytes)
	if _, err := binary.Decode(raw[:len(symbols)*elfSymbolBytes], le, symbols); err != nil || len(symbols) == 0 {
		return nil, errModuleForm
	}
	used := make([]bool, len(symbols))
	for _, i := range kept {
		if sections[i].Type != shtRela {
			continue
		}
		if int(sections[i].Link) != symtab || len(content[i])%elfRelaBytes != 0 {
			return nil, errModuleForm
		}
		for r := content[i]; len(r) > 0; r = r[elfRelaBytes:] {
			symbol := le.Uint32(r[12:])
			if int(symbol) >= len(symbols) {
				return nil, errModuleForm
			}
			used[symbol] = true
		}
	}
	newSymbol := make([]uint32, len(symbols))
	newSymtab, newStrtab := make([]byte, 0, len(raw)/4), []byte{0}
	firstGlobal, keptSymbols := uint32(0), uint32(0)
	for i, s := range symbols {
		local, kind := s.Info>>4 == 0, s.Info&0xf
		if i > 0 && local && !used[i] && (kind == 0 || kind == 3 || kind == 4) { // no type, section, file
			continue
		}
		if s.Section != 0 && s.Section < shnLoReserve {
			if int(s.Section) >= count {
				return nil, errModuleForm
			}
			if renumbered[s.Section] == 0 {
				if used[i] || !local {
					return nil, errModuleForm
				}
				continue
			}
			s.Section = uint16(renumbered[s.Section])
		} else if s.Section == 0xffff { // extended section numbers
			return nil, errModuleForm
		}
		if text := cString(content[strtab], s.Name); text != "" {
			s.Name = uint32(len(newStrtab))
			newStrtab = append(append(newStrtab, text...), 0)
		} else {
			s.Name = 0
		}
		newSymbol[i] = keptSymbols
		keptSymbols++
		if local {
			firstGlobal = keptSymbols
		}
		newSymtab, _ = binary.Append(newSymtab, le, s)
	}
	content[symtab], content[strtab] = newSymtab, newStrtab
	sections[symtab].Info = firstGlobal

	return assembleModule(data[:elfHeaderBytes], sections, content, kept, renumbered, newSymbol, namesIndex)
}

// assembleModule lays the kept sections out behind a copy of the ELF header.
func assembleModule(header []byte, sections []elfSection, content [][]byte, kept []int, renumbered, newSymbol []uint32, namesIndex int) ([]byte, error) {
	le := binary.LittleEndian
	out := bytes.Clone(header)
	var table []byte
	for _, i := range kept {
		s := sections[i]
		if int(s.Link) >= len(renumbered) {
			return nil, errModuleForm
		}
		if s.Type == shtRela || s.Type == shtSymtab || s.Flags&shfLinkOrder != 0 {
			s.Link = renumbered[s.Link]
		}
		body := content[i]
		if s.Type == shtRela {
			if int(s.Info) >= len(renumbered) {
				return nil, errModuleForm
			}
			s.Info = renumbered[s.Info]
			body = slices.Clone(body)
			for r := body; len(r) > 0; r = r[elfRelaBytes:] {
				le.PutUint32(r[12:], newSymbol[le.Uint32(r[12:])])
			}
		}
		if s.Type != shtNobits {
			if s.Align > 4096 || s.Align&(s.Align-1) != 0 {
				return nil, errModuleForm
			}
			for s.Align > 1 && uint64(len(out))%s.Align != 0 {
				out = append(out, 0)
			}
			s.Size = uint64(len(body))
		}
		if i != 0 {
			s.Off = uint64(len(out))
		}
		out = append(out, body...)
		table, _ = binary.Append(table, le, s)
	}
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	le.PutUint64(out[40:], uint64(len(out)))
	le.PutUint16(out[60:], uint16(len(kept)))
	le.PutUint16(out[62:], uint16(renumbered[namesIndex]))
	return append(out, table...), nil
}

// dropModuleSignature cuts the signature that scripts/sign-file appends: PKCS#7 data, struct module_signature (12 bytes,
// the data's length in the last four, big-endian), and a magic line.
func dropModuleSignature(data []byte) []byte {
	const magic = "~Module signature appended~\n"
	const trailerBytes = 12
	body, ok := bytes.CutSuffix(data, []byte(magic))
	if !ok || len(body) < trailerBytes {
		return data
	}
	size := int64(binary.BigEndian.Uint32(body[len(body)-4:]))
	if size > int64(len(body)-trailerBytes) {
		return data
	}
	return body[:int64(len(body))-trailerBytes-size]
}

// slice gives data[off:off+size], nil when that is not within data.
func slice(data []byte, off, size uint64) []byte {
	if off > uint64(len(data)) || size > uint64(len(data))-off {
		return nil
	}
	return data[off : off+size : off+size]
}

// cString gives the zero-terminated string at off, "" when there is none.
func cString(data []byte, off uint32) string {
	if uint64(off) >= uint64(len(data)) {
		return ""
	}
	text, _, _ := bytes.Cut(data[off:], []byte{0})
	return string(text)
}
