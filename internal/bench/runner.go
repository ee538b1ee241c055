package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Runner runs kernels in one kind of machine.
type Runner struct {
	Name string
	// Available tells why the runner cannot be used; nil when it can.
	Available func() error
	// Run runs a kernel. cpu is the host's processor time that it took, start included.
	Run func(ctx context.Context, kernel string, reps uint64) (r Result, cpu time.Duration, err error)
}

const qemuSystem = "qemu-system-riscv64"

// QEMU runs kernels in QEMU's full-system emulation of one hart, with further arguments.
func QEMU(name string, args ...string) Runner {
	return Runner{
		Name: name,
		Available: func() error {
			if _, err := exec.LookPath(qemuSystem); err != nil {
				return fmt.Errorf("%s is not installed (Debian packages qemu-system-misc and opensbi)", qemuSystem)
			}
			return nil
		},
		Run: func(ctx context.Context, kernel string, reps uint64) (Result, time.Duration, error) {
			dir, err := os.MkdirTemp("", "bench")
			if err != nil {
				return Result{}, 0, err
			}
			defer os.RemoveAll(dir)
			elf := filepath.Join(dir, "kernels.elf")
			if err := os.WriteFile(elf, KernelsELF, 0o600); err != nil {
				return Result{}, 0, err
			}
			all := append([]string{
				"-M", "virt", "-m", "128", "-smp", "1", "-display", "none", "-serial", "stdio",
				"-monitor", "none", "-net", "none", "-bios", "default", "-kernel", elf,
				"-append", fmt.Sprintf("%s %d", kernel, reps),
			}, args...)
			cmd := exec.CommandContext(ctx, qemuSystem, all...)
			var out, narration bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &narration
			if err := cmd.Run(); err != nil {
				return Result{}, 0, fmt.Errorf("run %s: %w: %s", qemuSystem, err, tail(narration.Bytes(), 300))
			}
			r, err := ParseResult(out.Bytes())
			return r, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
		},
	}
}

// QEMUVersion is the first line that the emulator says about itself.
func QEMUVersion() string {
	out, err := exec.Command(qemuSystem, "--version").Output()
	if err != nil {
		return "none"
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line)
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
