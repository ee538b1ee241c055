package riscv

import (
	"testing"

	"understudy/internal/oracle/asm"
)

// TestFloatEncodings tries every combination of the fields that tell floating-point instructions
// apart and wants exactly those accepted that the assembler's table can produce.
func TestFloatEncodings(t *testing.T) {
	legal := map[uint32]string{} // registers zero, except rs2 where it selects the operation
	for _, o := range arithmetic() {
		for rm := uint8(0); rm < 8; rm++ {
			if rm != 0 && (!fpRounds(&o) || rm == 5 || rm == 6) {
				continue
			}
			legal[o.Encode(asm.Args{RM: rm})] = o.Name
		}
	}
	names := map[fpOp]string{}
	for _, opcode := range []uint32{0x43, 0x47, 0x4b, 0x4f, 0x53} {
		for f7 := range uint32(128) {
			for rs2 := range uint32(32) {
				for f3 := range uint32(8) {
					raw := f7<<25 | rs2<<20 | f3<<12 | opcode
					key := raw
					if opcode != 0x53 {
						key &^= 31<<27 | 31<<20 // rs3, rs2
					} else if f5 := f7 >> 2; f5 <= 5 || f5 == 0x14 {
						key &^= 31 << 20 // rs2 is an operand
					}
					name, want := legal[key]
					op, ok := fpPredecode(raw | 0x1f<<15 | 0x1f<<7)
					if ok != want || ok != (op != fpIllegal) || op >= fpCount {
						t.Fatalf("%#08x: op %d, ok %v; the assembler says %q", raw, op, ok, name)
					}
					if ok && names[op] != "" && names[op] != name {
						t.Fatalf("%#08x: op %d is both %s and %s", raw, op, names[op], name)
					}
					names[op] = name
				}
			}
		}
	}
	for _, raw := range []uint32{0, 0x13, 0x00000007, 0x00003027, 0xffffffff, 0x7f} {
		if op, ok := fpPredecode(raw); ok || op != fpIllegal {
			t.Errorf("%#08x is op %d", raw, op)
		}
	}
}

// TestFloatReservedRounding: a reserved mode, static or in frm, makes exactly the instructions that
// have a rounding mode illegal and changes nothing.
func TestFloatReservedRounding(t *testing.T) {
	for _, o := range arithmetic() {
		for _, k := range []struct{ static, frm uint8 }{{5, 0}, {6, 0}, {7, 5}, {7, 6}, {7, 7}} {
			args := fpArgs
			if fpRounds(&o) {
				args.RM = k.static
			}
			h := fpHart(fpCase{fcsr: uint64(k.frm) << 5, f1: 1, f2: 2, f3: 3, x1: 4})
			before := *h
			ok := h.execFP(o.Encode(args))
			if ok == fpRounds(&o) {
				t.Errorf("%s with rm %d, frm %d: legal = %v", o.Name, k.static, k.frm, ok)
			}
			if !ok && (h.f != before.f || h.x != before.x || h.fflags != before.fflags || h.frm != before.frm) {
				t.Errorf("%s with rm %d, frm %d is illegal but changed the hart", o.Name, k.static, k.frm)
			}
			if h.frm = 4; k.static == 7 && !h.execFP(o.Encode(args)) {
				t.Errorf("%s with dynamic RMM is illegal", o.Name)
			}
		}
	}
}

// TestFloatRegisters: the destination may be an operand, every register field counts, x0 stays 0.
func TestFloatRegisters(t *testing.T) {
	const one, two, three, seven = 0x3ff0000000000000, 0x4000000000000000, 0x4008000000000000, 0x401c000000000000
	h := &Hart{}
	h.f[0], h.f[31], h.f[17] = two, three, one
	run := func(name string, a asm.Args) {
		t.Helper()
		if !h.execFP(asm.Get(name).Encode(a)) {
			t.Fatalf("%s is illegal", name)
		}
	}
	run("fmadd.d", asm.Args{Rd: 31, Rs1: 0, Rs2: 31, Rs3: 17})
	if h.f[31] != seven {
		t.Errorf("2 * 3 + 1 = %#x", h.f[31])
	}
	run("fadd.d", asm.Args{Rd: 17, Rs1: 17, Rs2: 17})
	if h.f[17] != two {
		t.Errorf("1 + 1 = %#x", h.f[17])
	}
	run("fmv.x.d", asm.Args{Rd: 0, Rs1: 31})
	run("feq.d", asm.Args{Rd: 0, Rs1: 31, Rs2: 31})
	run("fcvt.l.d", asm.Args{Rd: 0, Rs1: 31})
	if h.x[0] != 0 {
		t.Errorf("x0 = %#x", h.x[0])
	}
	run("fcvt.l.d", asm.Args{Rd: 31, Rs1: 31})
	if h.x[31] != 7 {
		t.Errorf("x31 = %d, want 7", h.x[31])
	}
	if h.fflags != 0 {
		t.Errorf("fflags = %#x", h.fflags)
	}
}
