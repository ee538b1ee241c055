package bench

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:generate sh guest/build.sh

// KernelsELF is the benchmark guest: an S-mode program that starts at its ELF entry with a0 = hart and a1 =
// device tree, reads "NAME REPS" from the tree's boot arguments, prints a [Result] and shuts down. Its
// source is in guest/.
//
//go:embed testdata/kernels.elf
var KernelsELF []byte

// Kernel is one of the guest's programs.
type Kernel struct {
	Name string
	// Reps is how many repetitions make a measurement at scale 1.
	Reps uint64
	// What the kernel exercises, for readers of the table.
	What string
}

// Empty is the name of a kernel that does nothing: what it costs is the start.
const Empty = "empty"

// Kernels are the guest's programs.
var Kernels = []Kernel{
	{"chase", 1000, "pointers through 256 KiB"},
	{"coremark", 1200, "list, matrix, state machine, CRC"},
	{"crc32", 300, "table lookups by byte"},
	{"dhrystone", 4000, "records, strings, small procedures"},
	{"dispatch", 300, "an interpreter's computed jumps"},
	{"fib", 400, "recursion"},
	{"matmul", 150, "fused multiply-add of doubles"},
	{"memcpy", 2500, "copying by words"},
	{"nbody", 1500, "division and square root of doubles"},
	{"qsort", 500, "comparison through a pointer"},
	{"sha256", 800, "shifts and logic"},
	{"sieve", 500, "scattered stores of bytes"},
	{"big", 80, "4,000 functions in random order"},
}

// Result is what the guest prints about a kernel.
type Result struct {
	Name     string
	Reps     uint64
	Checksum uint64
	Instret  uint64 // instructions that the kernel alone retired, as the guest read them
}

// ParseResult finds a result in what the guest printed.
func ParseResult(console []byte) (Result, error) {
	for line := range strings.Lines(string(console)) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] != "result" {
			continue
		}
		r := Result{Name: f[1]}
		var err [3]error
		r.Reps, err[0] = strconv.ParseUint(f[2], 10, 64)
		r.Checksum, err[1] = strconv.ParseUint(f[3], 16, 64)
		r.Instret, err[2] = strconv.ParseUint(f[4], 10, 64)
		for _, e := range err {
			if e != nil {
				return Result{}, fmt.Errorf("parse result: %w", e)
			}
		}
		return r, nil
	}
	return Result{}, fmt.Errorf("the guest printed no result: %q", tail(console, 300))
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
