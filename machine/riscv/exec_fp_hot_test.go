package riscv

import (
	"testing"

	"understudy/machine/mem"
	"understudy/machine/riscv/softfloat/softfloattest"
)

// TestFloatInterpreter: the interpreter's own forms of floating-point instructions do what execFP
// does, whatever the operands, the rounding mode, the flags and FS.
func TestFloatInterpreter(t *testing.T) {
	random := 300
	if testing.Short() {
		random = 30
	}
	r := softfloattest.Rand(3)
	for _, o := range arithmetic() {
		for rm := uint8(0); rm < 8; rm++ {
			args := fpArgs
			if fpRounds(&o) {
				args.RM = rm
			} else if rm > 0 {
				break
			}
			raw := o.Encode(args)
			h, _ := newTestHart(t, testRAM, newProg(mem.Base).raw(raw, raw).jal(zero, "l").label("l"))
			cases := fpOperands(&r, &o, random)
			for range 4 * random { // of all pairs, these
				c := cases[r.Intn(len(cases))]
				c.fcsr = uint64(r.Intn(8)>>r.Intn(4))<<5 | [...]uint64{0, 1, 1, 1, 31, r.Uint64() & 31}[r.Intn(6)]
				want := fpHart(c)
				wantFS := uint8(r.Intn(8))
				if wantFS > 3 {
					wantFS = 3
				}
				h.f, h.x, h.fflags, h.frm, h.fs = want.f, want.x, want.fflags, want.frm, wantFS
				h.pc, h.scause = mem.Base, 0
				h.stvec = mem.Base
				legal := wantFS != 0 && want.execFP(raw)
				if legal {
					wantFS = 3
				}
				h.Run(h.Position() + 1)
				want.x[dummy] = h.x[dummy]
				if illegal := h.scause == causeIllegal; illegal == legal {
					t.Fatalf("%s rm %d, frm %d, fs %d: legal %v, illegal exception %v", o.Name, rm, h.frm, h.fs, legal, illegal)
				}
				if h.f != want.f || h.x != want.x || h.fflags != want.fflags || h.frm != want.frm || h.fs != wantFS {
					t.Fatalf("%s rm %d, fcsr %#x, f %#x %#x %#x, x %#x:\n got f %#x x %#x fflags %#x fs %d\nwant f %#x x %#x fflags %#x fs %d", o.Name, rm, c.fcsr,
						c.f1, c.f2, c.f3, c.x1, h.f[10], h.x[10], h.fflags, h.fs, want.f[10], want.x[10], want.fflags, wantFS)
				}
			}
		}
	}
}
