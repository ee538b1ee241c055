package riscv

import (
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
}
