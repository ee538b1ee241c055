// Package e2e holds the tests of the whole: real processes, real signals, a real guest. What a simulator can
// show is shown nearer to the code; here it is shown that the parts, put together as a user puts them
// together, keep what the README promises.
//
//	UNDERSTUDY_KILLS=20     more kills of the primary (default 6, with -short 2)
//	UNDERSTUDY_SEED=1       the kills' instants and the cuts of the replays, as a failed run printed them
//	UNDERSTUDY_REQUIRE=1    fail instead of skip where the guest image is missing
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/internal/demo"
	"understudy/internal/host"
	"understudy/internal/image"
)

// exe is the program under test.
var exe string

// seed decides every random choice of these tests.
var seed uint64

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "understudy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	exe = filepath.Join(dir, "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build understudy: %v\n%s", err, out)
		return 1
	}
	seed = uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			fmt.Fprintln(os.Stderr, "UNDERSTUDY_SEED:", err)
			return 1
		}
	}
	return m.Run()
}

// random gives a test its own source, and says how to repeat it.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	t.Logf("repeat with: UNDERSTUDY_SEED=%d go test -run '^%s$' ./internal/e2e", seed, t.Name())
	return rand.New(rand.NewPCG(seed, 0))
}

// fromEnv is a number from the environment.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

var redis = sync.OnceValues(func() (*image.Image, error) {
	dir, err := image.Find("redis")
	if err != nil {
		return nil, err
	}
	return image.Load(dir)
})

// redisImage gives the redis image of the cache. It is not built here: that may need the network.
func redisImage(t *testing.T) *image.Image {
	t.Helper()
	im, err := redis()
	if err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatalf("no guest image: %v", err)
		}
		t.Skipf("no guest image (%v): build it with: go run ./cmd/understudy image build", err)
	}
	return im
}

// long skips a test in short mode.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest: not with -short")
	}
}

// patience is how long a condition may take to come true. It is generous, for a busy machine; what is
// waited for comes far sooner on a quiet one.
const patience = 3 * time.Minute

// wait waits for a condition; what says what it is, and problem, if it gives something, what is in the way.
func wait(t *testing.T, what string, cond func() (ok bool, problem string)) {
	t.Helper()
	var problem string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if ok, problem = cond(); ok {
			return
		}
	}
	t.Fatalf("waited %s for %s: %s", patience, what, problem)
}

// suspectAfter is used where the time of detection does not matter: a starved but living replica must not
// be suspected. The longest pauses seen on an overloaded machine are some hundred milliseconds.
const suspectAfter = time.Second

// startPair starts a pair that ends with the test.
func startPair(t *testing.T, o demo.PairOptions) *demo.Pair {
	t.Helper()
	o.Exe = exe
	if o.Image == nil {
		o.Image = redisImage(t)
	}
	if o.SuspectAfter == 0 {
		o.SuspectAfter = suspectAfter
	}
	p, err := demo.StartPair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, x := range []*demo.Process{p.LAN, p.Arbiter, p.A, p.B} {
				t.Logf("%s narrated:\n%s", x.Name, x.Log())
			}
		}
		p.Close()
	})
	return p
}

// connect waits for Redis in the guest.
func connect(t *testing.T, p *demo.Pair) *demo.Load {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("%s passed", patience))
	defer cancel()
	go func() {
		// A pair that has ended will not answer: no need to wait.
		select {
		case <-p.A.Done():
		case <-ctx.Done():
			return
		}
		select {
		case <-p.B.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	l, err := demo.Await(ctx, p.Addr, "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// running is a load that writes in the background.
type running struct {
	*demo.Load
	cancel context.CancelFunc
	done   chan error
}

// write lets a load write until stop.
func write(t *testing.T, l *demo.Load) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Load: l, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

// more waits for n further acknowledged writes.
func (r *running) more(t *testing.T, n int) {
	t.Helper()
	from := r.Acks()
	wait(t, fmt.Sprintf("%d more acknowledged writes", n), func() (bool, string) {
		select {
		case err := <-r.done:
			t.Fatalf("the connection was lost: %v", err)
		default:
		}
		return r.Acks() >= from+n, fmt.Sprintf("%d so far", r.Acks()-from)
	})
}

// stop ends the writing after the reply to the last write.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatalf("the connection was lost: %v", err)
	}
}

// verify reads everything back over the same connection.
func verify(t *testing.T, l *demo.Load) {
	t.Helper()
	lost, duplicated, err := l.Verify()
	if err != nil {
		t.Fatalf("the connection was lost: %v", err)
	}
	if lost != 0 || duplicated != 0 {
		t.Errorf("%d acknowledged writes lost, %d effects duplicated, of %d", lost, duplicated, l.Acks())
	}
	if l.Acks() == 0 {
		t.Error("nothing was written at all")
	}
}

// status asks a replica; a zero Status when it does not answer.
func status(p *demo.Process) host.Status {
	s, _ := demo.StatusOf(p)
	return s
}

// waitStatus waits until a replica's status is as cond wants it.
func waitStatus(t *testing.T, p *demo.Process, what string, cond func(host.Status) bool) host.Status {
	t.Helper()
	var s host.Status
	wait(t, fmt.Sprintf("host %s: %s", p.Name, what), func() (bool, string) {
		var err error
		if s, err = demo.StatusOf(p); err != nil {
			return false, err.Error()
		}
		text, _ := json.Marshal(s)
		return cond(s), string(text)
	})
	return s
}

// waitAlone waits until a replica is the primary of view 2 and has no backup.
func waitAlone(t *testing.T, p *demo.Process) host.Status {
	t.Helper()
	return waitStatus(t, p, "primary of view 2 alone", func(s host.Status) bool {
		return s.Role == "primary" && s.View == 2 && s.Solo && s.Frozen == ""
	})
}

// waitProtected waits until both replicas are in view 1 and the machine runs.
func waitProtected(t *testing.T, p *demo.Pair) {
	t.Helper()
	waitStatus(t, p.B, "backup of view 1 that executes", func(s host.Status) bool {
		return s.Role == "backup" && s.View == 1 && s.Position > 0
	})
}

// waitExit waits for the end of a process and checks its exit code.
func waitExit(t *testing.T, p *demo.Process, code int) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("%s did not end: %s", p.Name, p.LastWords())
	}
	if got := p.ExitCode(); got != code {
		t.Errorf("%s ended with exit code %d, want %d: %s", p.Name, got, code, p.LastWords())
	}
}

// record asks a pair's arbiter for the group's record.
func record(t *testing.T, p *demo.Pair) arbiter.Record {
	t.Helper()
	c, err := httparb.NewClient("unix:"+p.Arbiter.Ready.Listen, httparb.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rec, err := c.Get(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// console is what the guest of a replica said there.
func console(p *demo.Pair, name string) string {
	b, _ := os.ReadFile(p.Console(name))
	return string(b)
}

// count counts the lines of a process's narration that hold all the words.
func count(p *demo.Process, words ...string) int {
	n := 0
lines:
	for line := range strings.Lines(p.Log()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}
