package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// QEMUName is the emulator that serves as the oracle.
const QEMUName = "qemu-riscv64-static"

// qemuCPU is RV64GC without the further extensions that QEMU turns on by itself.
const qemuCPU = "rv64,zba=false,zbb=false,zbc=false,zbs=false"

// ErrNoQEMU says that the emulator is not installed.
var ErrNoQEMU = errors.New(QEMUName + " is not installed (Debian package qemu-user-static)")

// QEMU runs the program under QEMU's user-mode emulation and gives what it wrote: its data and the records.
// dir is a directory for the executable.
func QEMU(p *Program, dir string) ([]byte, error) {
	path, err := exec.LookPath(QEMUName)
	if err != nil {
		return nil, ErrNoQEMU
	}
	file := filepath.Join(dir, fmt.Sprintf("program-%d", p.Seed))
	if err := os.WriteFile(file, p.ELF(), 0o700); err != nil {
		return nil, fmt.Errorf("write program: %w", err)
	}
	defer os.Remove(file)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-cpu", qemuCPU, file)
	var out, narration bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &narration
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", QEMUName, err, narration.Bytes())
	}
	return out.Bytes(), nil
}
