package riscv

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestExecCallsNothing: one call in the interpreter's switch would have the compiler keep its variables in
// memory, at a third of the speed. It happens when the function grows beyond what the compiler inlines
// into. (Divisions have a call for the panic that cannot happen, off the path.)
func TestExecCallsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("disassembles the test program")
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("not looked at on " + runtime.GOARCH)
	}
	out, err := exec.Command("go", "tool", "objdump", "-s", `riscv\.\(\*Hart\)\.exec$`, os.Args[0]).Output()
	if err != nil {
		t.Skip("no go tool objdump: ", err)
	}
	if strings.Contains(string(out), "racefuncenter") {
		t.Skip("race detector")
	}
	if !strings.Contains(string(out), "interp.go") {
		t.Fatal("exec not found")
	}
	for _, l := range regexp.MustCompile(`(?m)^.*CALL.*$`).FindAllString(string(out), -1) {
		if !strings.Contains(l, "runtime.panicdivide") {
			t.Error(l)
		}
	}
}
