// Package oracle judges the hart: it makes random RV64GC programs, runs them under QEMU's user-mode emulator
// and in our own machine, and compares what both wrote down, register by register.
//
// Start with [Generate], then [QEMU] and [Hart]; [Compare] tells the first difference. A program depends on its
// seed alone, so a seed is all that a report needs.
package oracle

import "understudy/internal/oracle/asm"

// Where a program lies in guest memory. Both machines have it at the same addresses, so that registers that
// hold addresses can be compared.
const (
	CodeBase = 0x8020_0000
	DataBase = 0x8040_0000
)

// The layout of a program's data, from DataBase.
const (
	initOffset    = 0    // initial registers: 64 words in the layout of a record
	poolOffset    = 1024 // constants for loads: poolWords words
	poolWords     = 256
	scratchOffset = poolOffset + poolWords*8 // what the program's own loads and stores use; crosses a page
	scratchBytes  = 2048
	recordsOffset = 8192
)

// RecordBytes is the size of one record that a program writes down: word 0 is fcsr, words 1 to 31 are the
// integer registers, the other 32 the floating-point registers.
const RecordBytes = 512

// Program is a generated program.
type Program struct {
	Seed  uint64
	Lines []asm.Line // listing of the code
	Code  []byte     // at CodeBase; the first instruction is the entry
	Data  []byte     // at DataBase
	// RecordsMax bounds the records that the program writes behind its data.
	RecordsMax int
	// Link is the register whose value in a record is the address behind the call that wrote the record.
	Link uint8
}

// dataBytes is the memory that a program needs from DataBase.
func (p *Program) dataBytes() uint64 { return recordsOffset + uint64(p.RecordsMax+1)*RecordBytes }

// Options change how Generate works.
type Options struct {
	Steps int // how many steps the main part has; 0 means 300
	// RecordAll writes a record after every step. Otherwise the seed says how often.
	RecordAll bool
}
