package riscv

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"understudy/internal/oracle/asm"
	"understudy/machine/riscv/softfloat/softfloattest"
)

// The oracle program is a static RISC-V executable that QEMU's user-mode emulation runs. It reads
// groups from standard input: an instruction word, a count and as many cases. It patches the
// instruction into itself, executes it once per case and writes everything back to standard output
// with the results in place of the operands. A count of zero ends the input.
const (
	oracleName = "qemu-riscv64-static"
	oracleCode = 0x10000
	oracleData = 0x1000000
	oracleMem  = 256 << 20
)

// fpCase is one execution: operands in f11, f12, f13 and x11; the destination is number 10.
type fpCase struct {
	fcsr       uint64
	f1, f2, f3 uint64
	x1         uint64
}

const fpCaseBytes = 40

// fpPoison is in the destination registers beforehand.
const fpPoison = 0xfedcba9876543210 - 1<<64

func oracleProgram() []byte {
	type a = asm.Args
	c := &asm.Code{Base: oracleCode}
	more, group, next, patch, done, write := c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel(), c.NewLabel()
	exit := c.NewLabel()
	c.Li(8, oracleData) // cursor
	c.Li(9, oracleData) // end of the input
	c.Place(more)
	c.I("addi", a{Rd: 10})
	c.I("addi", a{Rd: 11, Rs1: 9})
	c.Li(12, oracleMem/2)
	c.Li(17, 63) // read
	c.I("ecall", a{})
	c.I("add", a{Rd: 9, Rs1: 9, Rs2: 10})
	c.To(asm.Get("bne"), a{Rs1: 10}, more)
	c.Place(group)
	c.I("lwu", a{Rd: 18, Rs1: 8})
	c.I("ld", a{Rd: 19, Rs1: 8, Imm: 8})
	c.I("addi", a{Rd: 8, Rs1: 8, Imm: 16})
	c.To(asm.Get("beq"), a{Rs1: 19}, done)
	c.La(20, patch)
	c.I("sw", a{Rs1: 20, Rs2: 18})
	c.I("fence.i", a{})
	c.Li(22, fpPoison)
	c.Place(next)
	c.I("ld", a{Rd: 21, Rs1: 8})
	c.I("csrrw", a{CSR: 3, Rs1: 21})
	c.I("fld", a{Rd: 11, Rs1: 8, Imm: 8})
	c.I("fld", a{Rd: 12, Rs1: 8, Imm: 16})
	c.I("fld", a{Rd: 13, Rs1: 8, Imm: 24})
	c.I("ld", a{Rd: 11, Rs1: 8, Imm: 32})
	c.I("addi", a{Rd: 10, Rs1: 22})
	c.I("fmv.d.x", a{Rd: 10, Rs1: 22})
	c.Place(patch)
	c.I("addi", a{})
	c.I("csrrs", a{Rd: 21, CSR: 3})
	c.I("sd", a{Rs1: 8, Rs2: 21})
	c.I("fsd", a{Rs1: 8, Rs2: 10, Imm: 8})
	c.I("sd", a{Rs1: 8, Rs2: 10, Imm: 32})
	c.I("addi", a{Rd: 8, Rs1: 8, Imm: fpCaseBytes})
	c.I("addi", a{Rd: 19, Rs1: 19, Imm: -1})
	c.To(asm.Get("bne"), a{Rs1: 19}, next)
	c.To(asm.Get("jal"), a{}, group)
	c.Place(done)
	c.Li(11, oracleData)
	c.Place(write)
	c.Li(10, 1)
	c.I("sub", a{Rd: 12, Rs1: 9, Rs2: 11})
	c.To(asm.Get("beq"), a{Rs1: 12}, exit)
	c.I("addi", a{Rd: 23, Rs1: 11})
	c.Li(17, 64) // write
	c.I("ecall", a{})
	c.I("add", a{Rd: 11, Rs1: 23, Rs2: 10})
	c.To(asm.Get("jal"), a{}, write)
	c.Place(exit)
	c.Li(10, 0)
	c.Li(17, 93) // exit
	c.I("ecall", a{})
	return c.Finish()
}

// oracleELF wraps the program: one segment with the code, one of zeroes for the data.
func oracleELF(code []byte) []byte {
	const codeAt = 4096
	le := binary.LittleEndian
	b := make([]byte, codeAt, codeAt+len(code))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)   // executable
	le.PutUint16(b[18:], 243) // RISC-V
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], oracleCode)
	le.PutUint64(b[32:], 64)
	le.PutUint32(b[48:], 5) // C, double float ABI
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	segment := func(h []byte, addr, file, mem uint64) {
		le.PutUint32(h, 1)     // loadable
		le.PutUint32(h[4:], 7) // rwx
		le.PutUint64(h[8:], codeAt)
		le.PutUint64(h[16:], addr)
		le.PutUint64(h[24:], addr)
		le.PutUint64(h[32:], file)
		le.PutUint64(h[40:], mem)
		le.PutUint64(h[48:], 4096)
	}
	segment(b[64:], oracleCode, uint64(len(code)), uint64(len(code)))
	segment(b[120:], oracleData, 0, oracleMem)
	return append(b, code...)
}

// fpGroup is one instruction word and its cases.
type fpGroup struct {
	raw   uint32
	cases []fpCase
}

// runOracle fills in what QEMU makes of the groups: per case fcsr in fcsr, f10 in f1, x10 in x1.
func runOracle(t *testing.T, qemu, program string, groups []fpGroup) []fpGroup {
	t.Helper()
	var in []byte
	le := binary.LittleEndian
	for _, g := range groups {
		in = le.AppendUint64(in, uint64(g.raw))
		in = le.AppendUint64(in, uint64(len(g.cases)))
		for _, c := range g.cases {
			for _, v := range [...]uint64{c.fcsr, c.f1, c.f2, c.f3, c.x1} {
				in = le.AppendUint64(in, v)
			}
		}
	}
	in = append(in, make([]byte, 16)...)
	if len(in) > oracleMem/2 {
		t.Fatalf("%d bytes of cases exceed the oracle's memory", len(in))
	}
	cmd := exec.Command(qemu, program)
	cmd.Stdin = bytes.NewReader(in)
	var narration bytes.Buffer
	cmd.Stderr = &narration
	out, err := cmd.Output()
	if err != nil || len(out) != len(in) {
		t.Fatalf("run %s: %v, %d of %d bytes: %s", oracleName, err, len(out), len(in), narration.Bytes())
	}
	results := make([]fpGroup, len(groups))
	for i, g := range groups {
		results[i] = fpGroup{g.raw, make([]fpCase, len(g.cases))}
		out = out[16:]
		for j := range g.cases {
			results[i].cases[j] = fpCase{fcsr: le.Uint64(out), f1: le.Uint64(out[8:]), x1: le.Uint64(out[32:])}
			out = out[fpCaseBytes:]
		}
	}
	return results
}

// fpOperands makes the cases of an operation: every boundary value (every pair of them for two
// operands, with -short one in eight, a choice of triples for three) and as many random operands as asked for.
func fpOperands(r *softfloattest.Rand, o *asm.Op, random int) []fpCase {
	var cases []fpCase
	double := strings.HasSuffix(o.Name, ".d") && o.F&asm.FRs1 != 0
	add := func(a, b, c uint64) {
		k := fpCase{f1: a, f2: b, f3: c, x1: r.Uint64()}
		if !double {
			// The upper half: mostly a proper box.
			for _, f := range [...]*uint64{&k.f1, &k.f2, &k.f3} {
				switch r.Intn(24) {
				case 0:
					*f = r.Uint64()
				case 1:
					*f &^= 1 << (32 + r.Intn(32))
				}
			}
		}
		cases = append(cases, k)
	}
	var v []uint64
	triple := r.Triple64
	if double {
		v = softfloattest.Boundary64
	} else {
		for _, x := range softfloattest.Boundary32 {
			v = append(v, box(x))
		}
		triple = func() (a, b, c uint64) {
			x, y, z := r.Triple32()
			return box(x), box(y), box(z)
		}
	}
	switch {
	case o.F&asm.FRs1 == 0: // integer operand
		for _, x := range [...]uint64{0, 1, 1 << 31, 1<<31 - 1, 1 << 32, 1<<32 - 1, 1 << 63, 1<<63 - 1, 1<<24 + 1, 1<<53 + 1, ^uint64(0)} {
			cases = append(cases, fpCase{x1: x}, fpCase{x1: -x}, fpCase{x1: ^x})
		}
		for range random {
			cases = append(cases, fpCase{f1: r.Uint64(), x1: r.Int64()})
		}
		return cases
	case o.F&asm.FRs3 != 0:
		for range random {
			add(v[r.Intn(len(v))], v[r.Intn(len(v))], v[r.Intn(len(v))])
		}
	case o.F&asm.FRs2 != 0:
		for _, a := range v {
			for _, b := range v {
				if !testing.Short() || r.Intn(8) == 0 {
					add(a, b, 0)
				}
			}
		}
	default:
		for _, a := range v {
			add(a, 0, 0)
		}
	}
	for range random {
		add(triple())
	}
	return cases
}

// fpRounds tells whether the instruction has a rounding mode.
func fpRounds(o *asm.Op) bool {
	return o.Format == asm.FormatRRM || o.Format == asm.FormatR1RM || o.Format == asm.FormatR4
}

// fpArgs are the operands the oracle program provides.
var fpArgs = asm.Args{Rd: 10, Rs1: 11, Rs2: 12, Rs3: 13}

// arithmetic lists F and D without loads and stores.
func arithmetic() []asm.Op {
	var ops []asm.Op
	for _, o := range asm.Float {
		if o.Format != asm.FormatLoad && o.Format != asm.FormatStore {
			ops = append(ops, o)
		}
	}
	return ops
}

// TestFloatAgainstQEMU executes every instruction of F and D under every rounding mode, static and
// dynamic, and compares the result, the flags and the untouched register with QEMU's.
func TestFloatAgainstQEMU(t *testing.T) {
	qemu, err := exec.LookPath(oracleName)
	if err != nil {
		t.Skip(oracleName + " is not installed (Debian package qemu-user-static)")
	}
	program := filepath.Join(t.TempDir(), "fp")
	if err := os.WriteFile(program, oracleELF(oracleProgram()), 0o700); err != nil {
		t.Fatal(err)
	}
	random := 1500
	if testing.Short() {
		random = 300
	}
	ops := arithmetic()
	if want := int(fpCount) - 2; len(ops) != want {
		t.Fatalf("the assembler knows %d instructions, the hart %d", len(ops), want)
	}
	r := softfloattest.Rand(2)
	total := 0
	for i := range ops {
		o := &ops[i]
		var groups []fpGroup
		for rm := uint8(0); rm < 8; rm++ {
			args := fpArgs
			if fpRounds(o) {
				if rm == 5 || rm == 6 {
					continue
				}
				args.RM = rm
			} else if rm > 0 {
				break
			}
			g := fpGroup{o.Encode(args), fpOperands(&r, o, random)}
			for j := range g.cases {
				frm := uint64(r.Intn(5))
				flags := [...]uint64{0, 0, 1, 1, 31, r.Uint64() & 31}[r.Intn(6)]
				g.cases[j].fcsr = frm<<5 | flags
			}
			groups = append(groups, g)
		}
		results := runOracle(t, qemu, program, groups)
		bad := 0
		for gi, g := range groups {
			for ci, c := range g.cases {
				total++
				h := fpHart(c)
				if !h.execFP(g.raw) {
					t.Fatalf("%s %#08x is illegal", o.Name, g.raw)
				}
				got := fpCase{fcsr: uint64(h.frm)<<5 | uint64(h.fflags), f1: h.f[10], x1: h.x[10]}
				if want := results[gi].cases[ci]; got != want {
					t.Errorf("%s rm %d, fcsr %#x, f %#x %#x %#x, x %#x:\n got f %#x x %#x fcsr %#x\nwant f %#x x %#x fcsr %#x", o.Name,
						g.raw>>12&7, c.fcsr, c.f1, c.f2, c.f3, c.x1, got.f1, got.x1, got.fcsr, want.f1, want.x1, want.fcsr)
					if bad++; bad == 5 {
						break
					}
				}
			}
		}
	}
	t.Logf("%d instructions, %d cases", len(ops), total)
}

// fpHart is a hart before the case.
func fpHart(c fpCase) *Hart {
	h := &Hart{fflags: uint8(c.fcsr & 31), frm: uint8(c.fcsr >> 5)}
	poison := int64(fpPoison)
	h.f[10], h.x[10] = uint64(poison), uint64(poison)
	h.f[11], h.f[12], h.f[13], h.x[11] = c.f1, c.f2, c.f3, c.x1
	return h
}
