package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
)

// exitOurs is the exit code of our own errors, exitSignal that of Ctrl-C.
const (
	exitOurs   = 125
	exitSignal = 130
)

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

// command prepares the program under test; it is killed, with what it started, when the test ends.
func command(t *testing.T, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, exe, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.WaitDelay = 10 * time.Second
	return c
}

// finish runs a command to its end.
func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatalf("run %v: %v", c.Args[1:], err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// refuse runs a command that must end with our own error; what it says must hold all the words. A tail of
// the words may be behind "Try: ".
func refuse(t *testing.T, c *exec.Cmd, words ...string) {
	t.Helper()
	r := finish(t, c)
	if r.code != exitOurs {
		t.Errorf("%v: exit code %d, want %d:\n%s", c.Args[1:], r.code, exitOurs, r.stderr)
	}
	if !strings.Contains(r.stderr, "Error: ") {
		t.Errorf("%v: no error on stderr: %q", c.Args[1:], r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("%v: stderr does not say %q:\n%s", c.Args[1:], w, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("%v: it panicked:\n%s", c.Args[1:], r.stderr)
	}
	t.Logf("%s", strings.TrimSpace(r.stderr))
}

// file writes a file of the test's own.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// SBI system reset (RISC-V SBI specification 2.0, chapter 10).
const (
	resetShutdown   = 0
	resetColdReboot = 1
	reasonNone      = 0
	reasonFailure   = 1
)

// kernelThatSays is a program for the bare machine that prints a text and asks for a reset.
func kernelThatSays(t *testing.T, text string, kind, reason int64) string {
	c := &asm.Code{Base: kernelBase}
	for _, b := range []byte(text) {
		c.Li(10, int64(b))
		c.Li(16, 2) // write byte
		c.Li(17, 0x4442434e)
		c.I("ecall", asm.Args{})
	}
	c.Li(10, kind)
	c.Li(11, reason)
	c.Li(16, 0)
	c.Li(17, 0x53525354)
	c.I("ecall", asm.Args{})
	return file(t, "kernel.elf", elf(c.Finish()))
}

// kernelThatSleeps is a program for the bare machine that says "up" and waits for ever.
func kernelThatSleeps(t *testing.T) string {
	c := &asm.Code{Base: kernelBase}
	for _, b := range []byte("up\n") {
		c.Li(10, int64(b))
		c.Li(16, 2)
		c.Li(17, 0x4442434e)
		c.I("ecall", asm.Args{})
	}
	again := c.NewLabel()
	c.Place(again)
	c.I("wfi", asm.Args{})
	c.To(asm.Get("jal"), asm.Args{}, again)
	return file(t, "kernel.elf", elf(c.Finish()))
}

const kernelBase = mem.Base + 2<<20

// elf wraps code as a RISC-V executable with one segment at kernelBase.
func elf(code []byte) []byte {
	const header, entry = 64, 56
	le := binary.LittleEndian
	b := make([]byte, 4096+len(code))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)   // executable
	le.PutUint16(b[18:], 243) // RISC-V
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], kernelBase)
	le.PutUint64(b[32:], header)
	le.PutUint16(b[52:], header)
	le.PutUint16(b[54:], entry)
	le.PutUint16(b[56:], 1)
	h := b[header:]
	le.PutUint32(h, 1) // loadable
	le.PutUint32(h[4:], 7)
	le.PutUint64(h[8:], 4096)
	le.PutUint64(h[16:], kernelBase)
	le.PutUint64(h[24:], kernelBase)
	le.PutUint64(h[32:], uint64(len(code)))
	le.PutUint64(h[40:], uint64(len(code)))
	le.PutUint64(h[48:], 4096)
	copy(b[4096:], code)
	return b
}
