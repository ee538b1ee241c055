package riscv

// op says what an instruction record does. The values are dense so that the interpreter's switch
// becomes a jump table.
type op uint16

// The operations. "a op b" reads registers rs1 and rs2, "i" forms take imm as second operand, "w" forms
// work on 32 bits and sign-extend.
const (
	opEnd     op = iota // end of a block that falls through
	opIllegal           // imm: the instruction's bits
	opSystem            // imm: raw; ecall, ebreak, sret, wfi, sfence.vma, CSR access
	opFloat             // imm: raw, above it the fpOp; floating point except loads and stores
	opAtomic            // imm: raw; LR, SC and AMO

	opLI    // rd = imm
	opMV    // rd = rs1
	opAUIPC // rd = block's pc + imm

	opADDI
	opSLTI
	opSLTIU
	opXORI
	opORI
	opANDI
	opSLLI
	opSRLI
	opSRAI
	opADDIW
	opSLLIW
	opSRLIW
	opSRAIW

	opADD
	opSUB
	opSLL
	opSLT
	opSLTU
	opXOR
	opSRL
	opSRA
	opOR
	opAND
	opADDW
	opSUBW
	opSLLW
	opSRLW
	opSRAW

	opMUL
	opMULH
	opMULHSU
	opMULHU
	opDIV
	opDIVU
	opREM
	opREMU
	opMULW
	opDIVW
	opDIVUW
	opREMW
	opREMUW

	opLB
	opLH
	opLW
	opLD
	opLBU
	opLHU
	opLWU
	opSB
	opSH
	opSW
	opSD
	opFLW
	opFLD
	opFSW
	opFSD

	// Floating point that the interpreter executes itself while nothing is unusual. imm: as for opFloat
	opFADDS
	opFADDD
	opFSUBS
	opFSUBD
	opFMULS
	opFMULD
	opFDIVS
	opFDIVD
	opFSQRTD
	opFMADDS
	opFMADDD
	opFMSUBD
	opFNMSUBD
	opFNMADDD
	opFSGNJS
	opFSGNJD
	opFSGNJND
	opFSGNJXD
	opFLES
	opFLED
	opFLTS
	opFLTD
	opFEQS
	opFEQD
	opFMVXW
	opFMVXD
	opFMVWX
	opFMVDX
	opFCVTWD
	opFCVTLD
	opFCVTDW
	opFCVTDL
	opFCVTDS
	opFCVTSD

	// Two instructions in one, see fuse; fields as in pair.
	opLDPC   // rd = memory at block's pc + imm
	opLDLD   // rd = memory at rs1 + a; rs2 = memory at c + b
	opSDSD   // memory at rs1 + a = rs2; memory at c + b = rd
	opADDI2  // rd = rs1 + a; rs2 = c + b
	opSLLSRL // rd = rs1 << a >> b
	opSLLADD // rd = rs1 << a; rs2 = rd + c

	// Conditional branches: to the block's pc + a when rs1 and rs2 compare so. In a block, what follows is
	// executed when they do not.
	opADDIBEQ // rd = c + b first
	opADDIBNE
	opADDIBLT
	opADDIBGE
	opADDIBLTU
	opADDIBGEU
	opADDIWBNE // rd = sext32(rd + b) first
	opADDBNE   // rd += c first
	opADDBLTU
	opANDIBEQ // rd = c & b first
	opANDIBNE
	opBEQ
	opBNE
	opBLT
	opBGE
	opBLTU
	opBGEU
	// Jumps.
	opADDIJAL // rs2 = c + b first
	opJAL     // rd = end of block, pc += a
	opTAIL    // rd = block's pc + a, pc = rd + b
	opJALR    // rd = end of block, pc = rs1 + imm
	opJR      // pc = rs1 + imm
	opADDIJR  // rd = rs1 + a, pc = rs2 + b

	opCount // number of operations
)

// ins is one predecoded instruction.
//
// Invariant: rd, rs1, rs2 < 64; a record that must not change x0 has rd = dummy.
type ins struct {
	op  op
	rd  uint8
	rs1 uint8
	rs2 uint8
	off uint8 // halfwords from the block's start to the instruction
	idx uint8 // instructions of the block before this one
	len uint8 // bytes of the instruction, or of all instructions that were fused
	imm int64
}

// dummy is the register that takes writes to x0.
const dummy = 32

// memKind describes the memory operand of an operation, for the slow path.
type memKind struct {
	size   uint8 // bytes; 0: the operation does not access memory
	store  bool
	signed bool
	float  bool
}

var memKinds = [opCount]memKind{
	opLB:  {size: 1, signed: true},
	opLH:  {size: 2, signed: true},
	opLW:  {size: 4, signed: true},
	opLD:  {size: 8},
	opLBU: {size: 1},
	opLHU: {size: 2},
	opLWU: {size: 4},
	opSB:  {size: 1, store: true},
	opSH:  {size: 2, store: true},
	opSW:  {size: 4, store: true},
	opSD:  {size: 8, store: true},
	opFLW: {size: 4, float: true},
	opFLD: {size: 8, float: true},
	opFSW: {size: 4, store: true, float: true},
	opFSD: {size: 8, store: true, float: true},
}

// branches tells whether the operation is a conditional branch that is not fused.
func (o op) branches() bool { return o >= opBEQ && o <= opBGEU }

// ends tells whether the operation ends a block.
func (o op) ends() bool { return o == opIllegal || o == opSystem || o >= opADDIJAL }
