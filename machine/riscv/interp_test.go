package riscv

import (
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestExecCallsNothing: one call in the interpreter's switch would have the compiler keep its variables in
// memory, at a third of the speed. It happens when the function grows beyond what the compiler inlines
// into. (Divisions have a call for the panic that cannot happen, off the path.)
func TestExecCallsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package")
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("not looked at on " + runtime.GOARCH)
	}
	out, err := exec.Command("go", "build", "-gcflags=-S", ".").CombinedOutput()
	if err != nil {
		t.Skip("no go build: ", err)
	}
	_, text, ok := strings.Cut(string(out), "riscv.(*Hart).exec STEXT")
	if !ok {
		t.Fatal("exec not found")
	}
	text, _, _ = strings.Cut(text, " STEXT ")
	for _, l := range regexp.MustCompile(`(?m)^.*\tCALL\t.*$`).FindAllString(text, -1) {
		if !strings.Contains(l, "runtime.panicdivide") {
			t.Error(l)
		}
	}
	if runtime.GOARCH != "amd64" {
		return
	}
	// The switch: load the operation, compare, load the table's address, jump. When the jump begins a new
	// line of the cache, Zen 3 predicts half as well.
	m := regexp.MustCompile(`0x([0-9a-f]+) \d+ \S+\tMOVWLZX\t\(CX\), R9\n(?:.*\n){1,9}?\t0x([0-9a-f]+) .*\tJMP\t\(R\d+\)\(R9\*8\)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the switch was not found: look whether variables still are in registers")
	}
	from, _ := strconv.ParseUint(m[1], 16, 64)
	to, _ := strconv.ParseUint(m[2], 16, 64)
	if from/32 != (to+3)/32 {
		t.Errorf("the switch lies from %#x to %#x of exec, over a boundary of 32 bytes: with more than 128 operations "+
			"the comparison is longer; or move something else", from, to+3)
	}
}
