package torture

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/internal/image"
)

// These run real fleets:
//
//	UNDERSTUDY_TORTURE=2 go test ./internal/torture -run Torture      minutes of harm
//	UNDERSTUDY_TORTURE=2 UNDERSTUDY_SEED=7 ...                        as a failed run printed it

// minutes is how long to do harm; without it the test is skipped.
func minutes(t *testing.T) string {
	t.Helper()
	s := os.Getenv("UNDERSTUDY_TORTURE")
	if s == "" {
		t.Skip("runs a fleet for minutes: UNDERSTUDY_TORTURE=MINUTES")
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		t.Fatalf("UNDERSTUDY_TORTURE: %v", err)
	}
	if _, err := image.Find("redis"); err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatalf("no guest image: %v", err)
		}
		t.Skipf("no guest image (%v): build it with: go run ./cmd/understudy image build", err)
	}
	return s
}

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "understudy-torture-test-")
	if err != nil {
		return "", err
	}
	exe := filepath.Join(dir, "understudy")
	out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return exe, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("UNDERSTUDY_TORTURE") != "" {
		if exe, err := program(); err == nil {
			os.RemoveAll(filepath.Dir(exe))
		}
	}
	os.Exit(code)
}

// words gathers what a process narrates.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// begin starts a torture whose temporary directory is dir.
func begin(t *testing.T, dir string, args ...string) (c *exec.Cmd, out, says *words) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	out, says = &words{}, &words{}
	c = exec.Command(exe, append([]string{"torture"}, args...)...)
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	c.Stdout, c.Stderr = out, says
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c, out, says
}

// shortDir is a temporary directory with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ust")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// processesBelow are the processes whose command line names a directory.
func processesBelow(dir string) (found []string) {
	for _, pid := range allProcesses() {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && bytes.Contains(b, []byte(dir+"/")) {
			found = append(found, strconv.Itoa(pid)+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := processesBelow(dir); len(left) > 0 {
		t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestTorture(t *testing.T) {
	n := minutes(t)
	for _, mode := range []string{"lockstep", "checkpoint"} {
		t.Run(mode, func(t *testing.T) {
			dir := shortDir(t)
			args := []string{"--json", "--minutes", n, "--mode", mode}
			if seed := os.Getenv("UNDERSTUDY_SEED"); seed != "" {
				args = append(args, "--seed", seed)
			}
			c, out, says := begin(t, dir, args...)
			err := c.Wait()
			var result struct {
				OK   bool
				Runs []Report
			}
			if jsonErr := json.Unmarshal([]byte(out.String()), &result); jsonErr != nil || err != nil || !result.OK {
				t.Fatalf("%v, %v\n%s\n%s", err, jsonErr, out, says)
			}
			rep := result.Runs[0]
			if len(rep.Rows) == 0 || rep.Acks == 0 || rep.Connections != len(patterns) {
				t.Errorf("nothing was done:\n%s", out)
			}
			nothingLeft(t, dir)
		})
	}
}

// TestTortureInterrupted: Ctrl-C at any moment leaves no process and no file behind.
func TestTortureInterrupted(t *testing.T) {
	minutes(t)
	for _, when := range []string{"starts control", "boots the guest", "harm begins", "1: ", "2: view"} {
		t.Run(when, func(t *testing.T) {
			dir := shortDir(t)
			c, out, says := begin(t, dir, "--seed", "1")
			for end := time.Now().Add(5 * time.Minute); !strings.Contains(says.String(), when); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("it does not say %q:\n%s", when, says)
				}
			}
			if when == "boots the guest" && len(processesBelow(dir)) < 5 {
				t.Error("fewer processes than a fleet has: the check sees nothing")
			}
			if err := c.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			if code := c.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit code %d, want 130:\n%s\n%s", code, out, says)
			}
			nothingLeft(t, dir)
		})
	}
}
