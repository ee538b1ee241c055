package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// processesOf are the processes whose command line names a folder.
func processesOf(dir string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(dir)) {
			found = append(found, filepath.Base(filepath.Dir(f))+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// nothingLeft checks that no process and no file of a run whose TMPDIR was dir remains.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := processesOf(dir); len(left) > 0 {
		t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// transcript gathers what a process narrates.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	return len(p), nil
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// startDemo starts a demo with a temporary folder of its own.
func startDemo(t *testing.T) (c *exec.Cmd, says *transcript, dir string) {
	t.Helper()
	redisImage(t)
	dir = t.TempDir()
	says = &transcript{}
	c = command(t, "demo", "--suspect-after", suspectAfter.String())
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	c.Stderr = says
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, says, dir
}

// TestInterruptDemo: Ctrl-C at any moment of a demo leaves no process and no file behind.
func TestInterruptDemo(t *testing.T) {
	long(t)
	for _, c := range []struct{ name, after string }{
		{"start", "starting virtual LAN"},
		{"boot", "booting Debian"},
		{"load", "redis answers"},
		{"after the kill", "kill -9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			demo, says, dir := startDemo(t)
			wait(t, "the demo to say "+c.after, func() (bool, string) { return strings.Contains(says.String(), c.after), says.String() })
			if err := demo.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			_ = demo.Wait()
			if code := demo.ProcessState.ExitCode(); code != exitSignal {
				t.Errorf("exit code %d, want %d:\n%s", code, exitSignal, says)
			}
			if strings.Contains(says.String(), "Error") {
				t.Errorf("Ctrl-C is no error:\n%s", says)
			}
			nothingLeft(t, dir)
		})
	}
	t.Run("kill -9 of the demo itself", func(t *testing.T) {
		demo, says, dir := startDemo(t)
		wait(t, "the demo to boot the guest", func() (bool, string) { return strings.Contains(says.String(), "booting Debian"), says.String() })
		if n := len(processesOf(dir)); n < 4 {
			t.Fatalf("%d processes run, want at least 4: the check sees nothing", n)
		}
		if err := demo.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = demo.Wait()
		wait(t, "its processes to end", func() (bool, string) {
			left := processesOf(dir)
			return len(left) == 0, strings.Join(left, "\n")
		})
	})
}
