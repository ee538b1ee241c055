package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBootEnds(t *testing.T) {
	for _, c := range []struct {
		name         string
		kind, reason int64
		code         int
		says         string
	}{
		{"shutdown", resetShutdown, reasonNone, 0, ""},
		{"shutdown after a failure", resetShutdown, reasonFailure, 1, "system failure"},
		{"reboot", resetColdReboot, reasonNone, 3, "reboot"},
		{"reboot after a failure", resetColdReboot, reasonFailure, 1, "system failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := command(t, "boot", "--memory", "32M", "--kernel", kernelThatSays(t, "hello\n", c.kind, c.reason))
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			r := finish(t, cmd)
			if r.code != c.code || r.stdout != "hello\n" || !strings.Contains(r.stderr, c.says) {
				t.Errorf("exit code %d, stdout %q, stderr %q; want code %d, hello, %q", r.code, r.stdout, r.stderr, c.code, c.says)
			}
			nothingLeft(t, dir)
		})
	}
}

func TestBootImage(t *testing.T) {
	long(t)
	im := redisImage(t)
	r := finish(t, command(t, "boot", "--append", `understudy.run="echo it is $(uname -m)"`, im.Dir))
	if r.code != 0 {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	for _, want := range []string{"guest ready", "it is riscv64", "service ended, status 0"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the console does not say %q:\n%s", want, r.stdout)
		}
	}
}

// terminal opens a pseudo-terminal; the program under test gets the second file.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func settings(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// TestBootTerminal: keys go to the guest as they are typed, Ctrl-] leaves, and the terminal is as it was,
// however the machine is left.
func TestBootTerminal(t *testing.T) {
	leave := map[string]struct {
		act  func(c *os.Process, master *os.File) error
		code int
	}{
		"Ctrl-]":  {func(_ *os.Process, m *os.File) error { _, err := m.Write([]byte{0x1d}); return err }, 0},
		"SIGTERM": {func(p *os.Process, _ *os.File) error { return p.Signal(syscall.SIGTERM) }, exitSignal},
	}
	for name, l := range leave {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			before := settings(t, slave)
			dir := t.TempDir()
			out, errs := &transcript{}, &transcript{}
			c := command(t, "boot", "--memory", "32M", "--kernel", kernelThatSleeps(t))
			c.Env = append(os.Environ(), "TMPDIR="+dir)
			c.Stdin, c.Stdout, c.Stderr = slave, out, errs
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			wait(t, "the guest to speak", func() (bool, string) { return strings.Contains(out.String(), "up\n"), errs.String() })
			wait(t, "a raw terminal", func() (bool, string) { return settings(t, slave).Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) == 0, "" })
			if err := l.act(c.Process, master); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			if code := c.ProcessState.ExitCode(); code != l.code {
				t.Errorf("exit code %d, want %d: %s", code, l.code, errs)
			}
			if after := settings(t, slave); after != before {
				t.Errorf("the terminal is not as it was: %+v, before %+v", after, before)
			}
			if strings.Contains(errs.String(), "Error") {
				t.Errorf("leaving is no error: %s", errs)
			}
			nothingLeft(t, dir)
		})
	}
}
