package kvdemo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"understudy/view/httpview"
)

// TestKills is the demo, with real processes and kill -9, until one server is left; then that one and control die too.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and starts processes")
	}
	exe := filepath.Join(t.TempDir(), "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	r, err := Run(t.Context(), Options{Exe: exe, Dir: t.TempDir(), Servers: 4, Clients: 20, Kills: 3, All: true, Suspect: 500 * time.Millisecond, Say: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if !r.Proved || r.Appends == 0 || len(r.Blackouts) != 3 || r.AllKilled == 0 {
		t.Errorf("%+v", r)
	}
}

// TestStoppedPrimaryAnswersNothingOld: a primary that was stopped, replaced and resumed has a read in its socket that came
// before it was stopped long enough to know. It must not answer with what is not true any more.
func TestStoppedPrimaryAnswersNothingOld(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and starts processes")
	}
	exe := filepath.Join(t.TempDir(), "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx := t.Context()
	g := &group{o: Options{Exe: exe, Dir: t.TempDir(), Suspect: 300 * time.Millisecond}, servers: map[string]*process{}}
	var err error
	if g.control, err = g.start(ctx, "control", "kv", "control", "--listen", "127.0.0.1:0", "--data", filepath.Join(g.o.Dir, "control.db")); err != nil {
		t.Fatal(err)
	}
	defer g.control.kill()
	g.addr = g.control.ready["listen"]
	if g.views, err = httpview.NewClient("http://"+g.addr, httpview.ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kv1", "kv2", "kv3"} {
		if err := g.server(ctx, name); err != nil {
			t.Fatal(err)
		}
		defer g.servers[name].kill()
	}
	c := newLoad(g, 1).clients[0]
	defer c.Close()
	for round := range 3 {
		a, err := g.await(ctx, "a protected group", protected)
		if err != nil {
			t.Fatal(err)
		}
		old, fresh := fmt.Sprint("old", round), fmt.Sprint("new", round)
		if err := c.Put(ctx, []byte("k"), []byte(old)); err != nil {
			t.Fatal(err)
		}
		var readers []net.Conn
		for range 20 {
			conn, err := net.Dial("tcp", a.PrimaryClient)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			readers = append(readers, conn)
			// Its answer shows that the connection is served.
			if _, err := conn.Write([]byte("PING\r\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, len("+PONG\r\n"))); err != nil {
				t.Fatal(err)
			}
		}
		former := g.servers[a.View.Primary].cmd.Process
		if err := former.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		waitStopped(t, former.Pid)                                     // the signal takes its time, in which a running thread answers a write
		if err := c.Put(ctx, []byte("k"), []byte(fresh)); err != nil { // by the backup, once it leads
			t.Fatal(err)
		}
		for _, conn := range readers {
			if _, err := conn.Write([]byte("GET k\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := former.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for _, conn := range readers {
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			b := make([]byte, 200)
			n, err := conn.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) || n > 0 && b[0] != '-' {
				t.Errorf("the former primary answered %q, %v", b[:n], err)
			}
		}
		// It has begun again, and comes back as backup or spare.
		if v, ok, err := c.Get(ctx, []byte("k")); err != nil || !ok || string(v) != fresh {
			t.Errorf("%q, %v, %v", v, ok, err)
		}
	}
}

// waitStopped waits until no thread of the process runs.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			t.Fatalf("process %d: no threads, %v", pid, err)
		}
		stopped := 0
		for _, name := range stats {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			// The state follows the name in parentheses, which may hold any character.
			if after := bytes.LastIndexByte(b, ')') + 2; after > 1 && after < len(b) && b[after] == 'T' {
				stopped++
			}
		}
		if stopped == len(stats) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d: %d of %d threads stopped", pid, stopped, len(stats))
		}
	}
}
