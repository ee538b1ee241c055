package asm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/arch/riscv64/riscv64asm"
)

// randomArgs picks operands that the format of o allows.
func randomArgs(r *rand.Rand, o *Op) Args {
	n := func(limit int) uint8 { return uint8(r.IntN(limit)) }
	signed := func(width uint, unit int64) int64 {
		return (r.Int64N(1<<width) - 1<<(width-1)) / unit * unit
	}
	a := Args{Rd: n(32), Rs1: n(32), Rs2: n(32), Rs3: n(32), RM: n(5)}
	short := func() uint8 { return 8 + n(8) }
	switch o.Format {
	case FormatI, FormatLoad, FormatStore, FormatJALR:
		a.Imm = signed(12, 1)
	case FormatShift, FormatCShift, FormatCBShift:
		a.Imm = r.Int64N(63) + 1
	case FormatShiftW, FormatCSRI:
		a.Imm = r.Int64N(32)
	case FormatB:
		a.Imm = signed(13, 2)
	case FormatU:
		a.Imm = signed(20, 1)
	case FormatJ:
		a.Imm = signed(21, 2)
	case FormatAMO, FormatLR:
		a.AqRl = n(4)
	case FormatFence:
		a.Imm = 0xff
	case FormatCIW:
		a.Imm = r.Int64N(255)*4 + 4
	case FormatCL4, FormatCS4:
		a.Imm = r.Int64N(32) * 4
	case FormatCL8, FormatCS8:
		a.Imm = r.Int64N(32) * 8
	case FormatCI, FormatCBI:
		a.Imm = signed(6, 1)
	case FormatCI16SP:
		a.Imm = r.Int64N(31)*16 + 16
		if n(2) == 0 {
			a.Imm -= 512
		}
	case FormatCLUI:
		a.Imm = r.Int64N(31) + 1
		if n(2) == 0 {
			a.Imm -= 32
		}
	case FormatCJ:
		a.Imm = signed(12, 2)
	case FormatCB:
		a.Imm = signed(9, 2)
	case FormatCILSP4, FormatCSS4:
		a.Imm = r.Int64N(64) * 4
	case FormatCILSP8, FormatCSS8:
		a.Imm = r.Int64N(64) * 8
	}
	if strings.HasPrefix(o.Name, "fcvt.d.w") || o.Name == "fcvt.d.s" {
		a.RM = 0 // exact, so objdump knows the instruction with this mode alone
	}
	if o.Format == FormatCSR || o.Format == FormatCSRI {
		a.CSR = uint16(n(3)) + 1
	}
	if o.Format > formatC && o.Format != FormatNone {
		switch o.Format {
		case FormatCIW, FormatCL4, FormatCL8, FormatCS4, FormatCS8, FormatCBShift, FormatCBI, FormatCA, FormatCB:
			a.Rd, a.Rs1, a.Rs2 = short(), short(), short()
		default:
			a.Rd, a.Rs1, a.Rs2 = 3+n(29), 3+n(29), 3+n(29) // neither x0 nor sp: those mean something else
		}
		if o.Name == "c.addi" && a.Imm == 0 {
			a.Imm = 1
		}
	}
	return a
}

var spaces = regexp.MustCompile(`\s+`)

// TestEncodingsDisassemble has objdump read back every instruction with random operands.
func TestEncodingsDisassemble(t *testing.T) {
	objdump, err := exec.LookPath("riscv64-linux-gnu-objdump")
	if err != nil {
		t.Skip("riscv64-linux-gnu-objdump is not installed")
	}
	r := rand.New(rand.NewPCG(1, 2))
	var bin []byte
	var want []string
	for _, name := range Names() {
		o := Get(name)
		for range 12 {
			a := randomArgs(r, o)
			addr := len(bin)
			text := o.Text(a)
			if m := regexp.MustCompile(`\.([+-]\d+)$`).FindStringSubmatch(text); m != nil {
				var d int
				fmt.Sscan(m[1], &d)
				text = strings.TrimSuffix(text, m[0]) + fmt.Sprintf("0x%x", uint64(int64(addr+d)))
			}
			want = append(want, normal(text))
			w := o.Encode(a)
			if o.Bytes() == 2 {
				bin = binary.LittleEndian.AppendUint16(bin, uint16(w))
			} else {
				bin = binary.LittleEndian.AppendUint32(bin, w)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, bin, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-D", "-b", "binary", "-m", "riscv:rv64", "-M", "no-aliases,numeric", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range strings.Split(string(out), "\n") {
		f := strings.SplitN(l, "\t", 3)
		if len(f) == 3 && strings.HasSuffix(f[0], ":") {
			text, _, _ := strings.Cut(f[2], " #")
			got = append(got, normal(strings.ReplaceAll(text, "\t", " ")))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d instructions disassembled, %d encoded", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("encoded %q, objdump reads %q", want[i], got[i])
		}
	}
}

// normal removes what is only a matter of writing: spaces, names of CSRs, operands that objdump leaves out.
func normal(s string) string {
	s = spaces.ReplaceAllString(strings.TrimSpace(s), " ")
	name, rest, _ := strings.Cut(s, " ")
	rest = strings.ReplaceAll(rest, " ", "")
	rest = strings.NewReplacer("fflags", "0x1", "frm", "0x2", "fcsr", "0x3", "iorw,iorw", "255").Replace(rest)
	switch {
	case strings.HasPrefix(name, "fcvt.d.w") || name == "fcvt.d.s":
		rest = strings.TrimSuffix(rest, ",rne")
	case name == "c.addi" && rest == "x0,0":
		return "c.nop "
	case name == "c.addi4spn":
		rest = strings.Replace(rest, ",x2,", ",", 1)
	case name == "c.addi16sp":
		rest = strings.TrimPrefix(rest, "x2,")
	case strings.HasPrefix(name, "sll") || strings.HasPrefix(name, "srl") || strings.HasPrefix(name, "sra") ||
		strings.HasPrefix(name, "c.s") && strings.HasSuffix(name, "i"):
		if i := strings.LastIndex(rest, ",0x"); i >= 0 {
			var n int
			fmt.Sscanf(rest[i+1:], "0x%x", &n)
			rest = fmt.Sprintf("%s,%d", rest[:i], n)
		}
	case name == "sfence.vma":
		rest = ""
	}
	return name + " " + rest
}

// TestEncodingsParse has an independent Go decoder read back the 32-bit instructions' names.
func TestEncodingsParse(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, name := range Names() {
		o := Get(name)
		switch name {
		case "sret", "wfi", "sfence.vma": // the decoder does not know them
			continue
		}
		if o.Bytes() == 2 {
			continue // it expands them
		}
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], o.Encode(randomArgs(r, o)))
		inst, err := riscv64asm.Decode(b[:])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := strings.ToLower(inst.Op.String())
		got, _, _ = strings.Cut(got, ".aq")
		got, _, _ = strings.Cut(got, ".rl")
		if got != name {
			t.Errorf("encoded %s, decoded %s", name, got)
		}
	}
}

// TestLi loads constants by interpreting the instructions that Li picks.
func TestLi(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	values := []int64{
		0, 1, -1, 2047, 2048, -2048, -2049, 0x7fffffff, -0x80000000, 0x80000000, 0x7ffff800,
		1<<63 - 1, -1 << 63, 0x7ffffffffffff800,
	}
	for range 1000 {
		values = append(values, int64(r.Uint64())>>r.IntN(64))
	}
	for _, v := range values {
		c := Code{Base: 0x1000}
		c.Li(5, v)
		var x int64
		for _, l := range c.Lines {
			switch l.Op.Name {
			case "lui":
				x = int64(int32(l.Args.Imm << 12))
			case "addi":
				if l.Args.Rs1 == 0 {
					x = 0
				}
				x += l.Args.Imm
			case "addiw":
				x = int64(int32(x + l.Args.Imm))
			case "slli":
				x <<= l.Args.Imm
			}
		}
		if x != v || len(c.Lines) > 8 {
			t.Fatalf("Li(%#x) gives %#x in %d instructions", v, x, len(c.Lines))
		}
	}
}
