package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	pb "understudy/api/understudy/v1"
)

func TestAssignmentRuns(t *testing.T) {
	b := newBench(t)
	b.control.assign(machine("m1", found))
	l := b.life("m1", 1)
	for _, want := range []string{
		"--name=a", "--group=g-m1", "--views=http://v1,http://v2", "--arbiter=http://arb", "--listen=127.0.0.1:0", "--suspect-after=150ms",
		"--status=" + b.path("m1", "status"), "--state-dir=" + b.path("m1", "life-1"), "--disk=" + b.path("m1", "life-1", "disk0.raw"),
	} {
		if !slices.Contains(l.Args, want) {
			t.Errorf("no %s in %q", want, l.Args)
		}
	}
	if n := len(l.Args); l.Args[n-2] != "--" || l.Args[n-1] != "/images/redis" {
		t.Errorf("the image is not at the end: %q", l.Args)
	}
	r := b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.Role == "spare" && r.StatusJson != "" })
	if int(r.Pid) != l.Pid || r.Incarnation == "" || r.Host != "a" || r.Restarts != 0 || r.Error != "" {
		t.Errorf("report: %v", r)
	}
	b.ask("m1", "POST", "/test/status", `{"role":"primary","view":3,"unknown":[1],"lag_ns":"a wrong kind","transfer":{"to":"b","total_bytes":10,"done_bytes":4}}`)
	r = b.control.wantReport("is primary", "g-m1", func(r *pb.Replica) bool { return r.Role == "primary" })
	if r.View != 3 || r.GuestUp || r.Transfer.GetTo() != "b" || r.Transfer.GetDoneBytes() != 4 || !strings.Contains(r.StatusJson, "unknown") {
		t.Errorf("report: %v", r)
	}

	// The guest is up when it says so.
	ready := machine("m0", found)
	ready.Group = "g-ready"
	b.control.assign(machine("m1", found), ready)
	b.control.wantReport("runs", "g-ready", func(r *pb.Replica) bool { return r.StatusJson != "" })
	b.ask("m0", "POST", "/test/status", `{"role":"primary","view":1}`)
	b.control.wantReport("is up", "g-ready", func(r *pb.Replica) bool { return r.GuestUp })

	// A spare gets no image and no disks; the first machine is left alone.
	b.control.assign(machine("m1", found), machine("m2"))
	l2 := b.life("m2", 1)
	for _, a := range l2.Args {
		if strings.HasPrefix(a, "--disk") || a == "--" || strings.HasPrefix(a, "--mem") {
			t.Errorf("a spare was given %s", a)
		}
	}
	// Gone from the list: process and files are gone.
	b.control.assign(machine("m2"))
	b.wantGone(l.Pid)
	eventually(t, func() bool { _, err := os.Stat(b.path("m1")); return err != nil }, func() string { return "the files of m1 are removed" })
	eventually(t, func() bool { return len(b.agent.all()) == 1 }, func() string { return "m1 is forgotten" })
	if !alive(l2.Pid) || len(b.lives("m2")) != 1 {
		t.Error("m2 was touched")
	}
	if _, err := os.Stat(filepath.Join(b.dir, "terminated")); err != nil {
		t.Error("the replica was not asked to end")
	}
	// The agent's end is the end of its replicas, and control hears of it.
	b.finish()
	if alive(l2.Pid) {
		t.Error("m2's process is alive after the agent")
	}
	b.control.wantReport("has ended", "g-m2", func(r *pb.Replica) bool { return r.Pid == 0 })
}

func TestExitCodes(t *testing.T) {
	b := newBench(t)
	b.control.assign(machine("m1", found))
	b.exit("m1", 4) // lost its part: a new life at once, and never founding again
	l := b.life("m1", 2)
	if slices.Contains(l.Args, "--") {
		t.Errorf("the second life may found the group: %q", l.Args)
	}
	r := b.control.wantReport("second life", "g-m1", func(r *pb.Replica) bool { return r.Restarts == 1 && r.StatusJson != "" })
	first := r.Incarnation
	b.exit("m1", 125) // the first failure is repeated at once
	b.life("m1", 3)
	r = b.control.wantReport("third life", "g-m1", func(r *pb.Replica) bool { return r.Restarts == 2 && r.StatusJson != "" })
	if r.Incarnation == first {
		t.Error("two lives have one incarnation")
	}
	if err := syscall.Kill(int(r.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.control.wantReport("killed", "g-m1", func(r *pb.Replica) bool { return r.Error == "killed by signal 9 (killed)" })
	b.life("m1", 4)
	for _, c := range []struct {
		id   string
		code int
	}{{"e0", 0}, {"e1", 1}, {"e3", 3}} {
		b.control.assign(machine("m1"), machine(c.id))
		b.exit(c.id, c.code)
		b.control.wantReport("guest's end", "g-"+c.id, func(r *pb.Replica) bool { return r.Ended && int(r.ExitCode) == c.code && r.Pid == 0 })
		if n := len(b.lives(c.id)); n != 1 {
			t.Errorf("%d lives of a machine whose guest has ended", n)
		}
		// Neither what control says next nor another agent starts it again.
		b.control.assign(machine("m1"), machine(c.id, stopped))
		b.control.wantReport("still ended", "g-"+c.id, func(r *pb.Replica) bool { return r.Ended })
	}
	b.control.assign(machine("e3"))
	b.finish()
	b.begin()
	b.control.wantReport("ended before this agent", "g-e3", func(r *pb.Replica) bool { return r.Ended && r.ExitCode == 3 })
	if n := len(b.lives("e3")); n != 1 {
		t.Errorf("%d lives", n)
	}
}

func TestStopKeepsFiles(t *testing.T) {
	b := newBench(t)
	b.control.assign(machine("m1", found))
	l := b.life("m1", 1)
	b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })
	b.ask("m1", "POST", "/test/status", `{"role":"primary","view":5}`)
	b.control.wantReport("primary", "g-m1", func(r *pb.Replica) bool { return r.Role == "primary" })
	disk := b.path("m1", "life-1", "disk0.raw")
	if err := os.WriteFile(disk, []byte("the guest's data"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.control.assign(machine("m1", found, stopped))
	b.wantGone(l.Pid)
	r := b.control.wantReport("stopped", "g-m1", func(r *pb.Replica) bool { return r.Role == "stopped" })
	if !strings.Contains(r.StatusJson, `"kept":{"life":1,"role":"primary","view":5}`) {
		t.Errorf("report: %v", r)
	}
	// Another agent takes them over.
	b.finish()
	b.begin()
	b.control.wantReport("stopped", "g-m1", func(r *pb.Replica) bool { return r.Role == "stopped" })

	// The same group waits for its state, and leaves the disk alone; a new group starts from the disk.
	b.control.assign(machine("m1", found))
	l = b.life("m1", 2)
	if slices.Contains(l.Args, "--") {
		t.Errorf("the group is founded again: %q", l.Args)
	}
	again := func(as *pb.Assignment) { as.Group = "g-again" }
	b.control.assign(machine("m1", found, again))
	b.wantGone(l.Pid)
	l = b.life("m1", 3)
	if !slices.Contains(l.Args, "--disk="+disk) || !slices.Contains(l.Args, "--group=g-again") {
		t.Errorf("the third life: %q", l.Args)
	}
	if got, err := os.ReadFile(disk); string(got) != "the guest's data" {
		t.Errorf("disk: %q, %v", got, err)
	}
	// A life that is a backup has all that the former one had.
	b.control.wantReport("runs", "g-again", func(r *pb.Replica) bool { return r.StatusJson != "" && r.Pid != 0 })
	b.ask("m1", "POST", "/test/exit?code=4", "")
	b.life("m1", 4)
	b.control.wantReport("runs", "g-again", func(r *pb.Replica) bool { return r.StatusJson != "" && r.Restarts == 2 })
	if _, err := os.Stat(disk); err != nil {
		t.Error("a spare has removed the last disk:", err)
	}
	b.ask("m1", "POST", "/test/status", `{"role":"backup","view":9}`)
	eventually(t, func() bool { _, err := os.Stat(disk); return err != nil }, func() string { return "the old disk is removed" })
}

func TestAgentKilled(t *testing.T) {
	c := newFakeControl(t)
	dir := shortDir(t)
	c.assign(machine("m1", found))
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "agent", c.address, dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	cmd := start()
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	r := c.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })

	// Nobody else may use the directory meanwhile.
	other := &bench{T: t, control: c, dir: dir, log: &lockedBuffer{}}
	_, err := New(other.options())
	var try interface{ Try() string }
	if err == nil || !strings.Contains(err.Error(), "used by another") || !errors.As(err, &try) {
		t.Errorf("a second agent: %v", err)
	}

	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, func() bool { return !alive(int(r.Pid)) }, func() string { return "the replica dies with its agent" })

	// Another life of the host cleans up and does not found the group again.
	if err := os.MkdirAll(filepath.Join(dir, "machines", "forgotten", "life-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd = start()
	r = c.wantReport("runs again", "g-m1", func(n *pb.Replica) bool { return n.Pid != 0 && n.Pid != r.Pid && n.StatusJson != "" })
	b := &bench{T: t, dir: dir}
	if l := b.life("m1", 2); slices.Contains(l.Args, "--") {
		t.Errorf("the second life may found the group: %q", l.Args)
	}
	eventually(t, func() bool { _, err := os.Stat(b.path("forgotten")); return err != nil }, func() string { return "leftovers are removed" })

	// A planned end.
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if alive(int(r.Pid)) {
		t.Error("the replica is alive after its agent's end")
	}
	c.wantReport("the last report", "g-m1", func(r *pb.Replica) bool { return r.Pid == 0 })
}

func TestControlAway(t *testing.T) {
	b := newBench(t)
	b.control.assign(machine("m1"))
	l := b.life("m1", 1)
	b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })
	b.control.stop()
	eventually(t, func() bool { return strings.Contains(b.log.String(), "control cannot be reached") }, func() string { return "the agent says so" })
	b.ask("m1", "POST", "/test/status", `{"role":"backup","view":2}`)
	b.exit2("m1", l.Pid)
	b.life("m1", 2)
	b.control.start()
	r := b.control.wantReport("after control was away", "g-m1", func(r *pb.Replica) bool { return r.Restarts == 1 })
	if int(r.Pid) == l.Pid {
		t.Errorf("report: %v", r)
	}
	eventually(t, func() bool {
		b.control.mu.Lock()
		defer b.control.mu.Unlock()
		return slices.Contains(b.control.events, "replica.ended halted: told to")
	}, func() string { return "what happened meanwhile is told" })
	b.control.mu.Lock()
	defer b.control.mu.Unlock()
	if a := b.control.asked; a.Host != "a" || a.Address != strings.TrimPrefix(b.url, "http://") || a.MemBytes != 1<<30 || a.Version != "1.2" || a.Incarnation == "" {
		t.Errorf("asked for work as %v", a)
	}
}

// exit2 ends a replica of which control cannot tell.
func (b *bench) exit2(id string, pid int) {
	b.Helper()
	b.ask(id, "POST", "/test/exit?code=4", "")
	b.wantGone(pid)
}

func TestControlDownAtStart(t *testing.T) {
	b := &bench{T: t, control: newFakeControl(t), dir: shortDir(t), log: &lockedBuffer{}}
	b.control.stop()
	b.begin()
	defer b.finish()
	eventually(t, func() bool { return strings.Contains(b.log.String(), "control cannot be reached") }, func() string { return "the agent says so" })
	b.control.assign(machine("m1"))
	b.control.start()
	b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })
}

func TestTrouble(t *testing.T) {
	b := newBench(t)
	big := func(as *pb.Assignment) { as.Spec.MemBytes = 900 << 20 }
	noImage := func(as *pb.Assignment) { as.Spec.Image = "none" }
	broken := func(as *pb.Assignment) { as.Group, as.Spec.MemBytes = as.Group+"-broken", 50<<20 }
	noSpace := func(as *pb.Assignment) { as.Spec.Image, as.Spec.MemBytes = "full", 1 }
	as := []*pb.Assignment{machine("m1", big), machine("m2", noImage, found), machine("m6", noSpace, found), machine("m3", broken), machine("../m4"), machine("m1")}
	b.control.assign(as...)
	b.life("m1", 1)
	b.life("m3", 1)
	b.control.assign(append(as, machine("m5", big))...)
	progress := func(group, text string) {
		t.Helper()
		var all []*pb.HostProgress
		eventually(t, func() bool {
			b.control.mu.Lock()
			defer b.control.mu.Unlock()
			all = b.control.last.GetProgress()
			return slices.ContainsFunc(all, func(p *pb.HostProgress) bool { return p.Group == group && strings.Contains(p.Error, text) })
		}, func() string { return fmt.Sprintf("%s: %q in %v", group, text, all) })
	}
	progress("g-m5", "needs 900 MiB of memory, and 950 MiB")
	progress("g-m5", "(try: a larger --mem")
	progress("g-m2", "copying the image's directory to this host")
	progress("g-m6", "no space left on device (try: free space in "+b.dir)
	progress("g-../m4", "no id of its own")
	progress("g-m1", "no id of its own")
	b.control.wantReport("fails", "g-m3-broken", func(r *pb.Replica) bool { return r.Error == "the port is in use (try: another port)" && r.Pid == 0 })
	b.control.wantReport("no room", "g-m5", func(r *pb.Replica) bool { return strings.Contains(r.Error, "900 MiB") })
	if len(b.lives("m5")) != 0 {
		t.Error("it was started all the same")
	}
	// As soon as there is room, it runs.
	b.control.assign(machine("m5", big))
	b.life("m5", 1)
	if _, err := os.Stat(filepath.Join(b.dir, "m4")); err == nil {
		t.Error("an id got out of its directory")
	}
}

func TestStuckProcessIsKilled(t *testing.T) {
	b := newBench(t)
	b.control.assign(machine("m1"))
	l := b.life("m1", 1)
	b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })
	if err := syscall.Kill(l.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.control.wantReport("does not answer", "g-m1", func(r *pb.Replica) bool { return strings.Contains(r.Error, "does not answer") })
	if err := syscall.Kill(l.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.control.wantReport("answers again", "g-m1", func(r *pb.Replica) bool { return r.Error == "" && int(r.Pid) == l.Pid })
	b.control.assign()
	b.wantGone(l.Pid)
}

func TestNewRefuses(t *testing.T) {
	b := &bench{T: t, control: &fakeControl{address: "127.0.0.1:1"}, dir: shortDir(t)}
	for _, c := range []struct {
		want   string
		change func(*Options)
	}{
		{"needs a name", func(o *Options) { o.Name = "" }},
		{"needs a directory", func(o *Options) { o.Dir = "" }},
		{"address of control", func(o *Options) { o.Control = nil }},
		{"needs a listener", func(o *Options) { o.Listener = nil }},
		{"make the host's directory", func(o *Options) { o.Dir = "/proc/none" }},
	} {
		o := b.options()
		c.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
	if _, err := openStore(filepath.Join(b.dir, strings.Repeat("x", 120))); err == nil || !strings.Contains(words(err), "a shorter --dir") {
		t.Errorf("a path too long: %v", err)
	}
}
