package oracle

import "encoding/binary"

// ELF is the program as a static RISC-V executable for Linux with two segments, code and data, both writable
// and executable.
func (p *Program) ELF() []byte {
	const header, entry = 64, 56
	le := binary.LittleEndian
	codeAt := uint64(4096)
	dataAt := (codeAt + uint64(len(p.Code)) + 4095) &^ 4095
	b := make([]byte, dataAt+uint64(len(p.Data)))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)   // executable
	le.PutUint16(b[18:], 243) // RISC-V
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], CodeBase)
	le.PutUint64(b[32:], header)
	le.PutUint32(b[48:], 5) // compressed instructions, double-precision registers
	le.PutUint16(b[52:], header)
	le.PutUint16(b[54:], entry)
	le.PutUint16(b[56:], 2)
	le.PutUint16(b[58:], 64)
	segment := func(i int, at, addr, file, mem uint64) {
		h := b[header+i*entry:]
		le.PutUint32(h, 1) // loadable
		le.PutUint32(h[4:], 7)
		le.PutUint64(h[8:], at)
		le.PutUint64(h[16:], addr)
		le.PutUint64(h[24:], addr)
		le.PutUint64(h[32:], file)
		le.PutUint64(h[40:], mem)
		le.PutUint64(h[48:], 4096)
	}
	segment(0, codeAt, CodeBase, uint64(len(p.Code)), uint64(len(p.Code)))
	segment(1, dataAt, DataBase, uint64(len(p.Data)), p.dataBytes())
	copy(b[codeAt:], p.Code)
	copy(b[dataAt:], p.Data)
	return b
}
