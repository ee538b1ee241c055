package kv

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// exe is the program under test.
var exe string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		return m.Run() // they all skip
	}
	dir, err := os.MkdirTemp("", "understudy-kv-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	goredis.SetLogger(silence{})
	exe = filepath.Join(dir, "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build understudy: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// silence takes what go-redis says of failovers.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// long skips a test in short mode.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes: not with -short")
	}
}

// missing skips a test, or fails it where everything must be there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// tool finds a program.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "%s is not installed", name)
	}
	return path
}

// patience is how long a condition may take to come true. It is generous, for a busy machine.
const patience = 60 * time.Second

// wait waits for a condition; what says what it is, and problem what is in the way.
func wait(t *testing.T, what string, cond func() (ok bool, problem string)) {
	t.Helper()
	var problem string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if ok, problem = cond(); ok {
			return
		}
	}
	t.Fatalf("waited %v for %s: %s", patience, what, problem)
}
