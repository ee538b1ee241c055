package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/memstore"
	"understudy/internal/oracle/asm"
	"understudy/machine"
	"understudy/view"
	"understudy/view/httpview"
)

// group is a view service with replicas in this process.
type group struct {
	t       *testing.T
	reg     arbiter.Register
	views   *httpview.Service
	cfg     machine.Config
	log     *slog.Logger
	members map[string]*groupMember
	tune    func(*Options)
}

type groupMember struct {
	*Replica
	kill func()
	done chan result
	out  *buffer
}

const groupSuspect = 500 * time.Millisecond // the race detector must not look like a dead peer

func newGroup(t *testing.T, cfg machine.Config) *group {
	g := &group{t: t, reg: memstore.New(), cfg: cfg, members: map[string]*groupMember{}}
	g.log = slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		g.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if g.views, err = httpview.NewService(g.reg, httpview.Options{View: view.Config{PingInterval: 100 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range g.members {
			m.kill()
		}
		g.views.Close()
	})
	return g
}

func (g *group) start(name string, found bool, tune ...func(*Options)) *groupMember {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := &groupMember{out: &buffer{}}
	o := Options{
		Name: name, Group: "g", Views: []httpview.Copy{g.views}, Arbiter: g.reg, Listener: listenLoopback(g.t),
		StateDir: g.t.TempDir(), SuspectAfter: groupSuspect, DigestEvery: 20 * time.Millisecond, Console: m.out,
		Log: g.log.With("on", name),
	}
	if found {
		o.Machine, o.MayFound = g.cfg, true
	}
	if g.tune != nil {
		g.tune(&o)
	}
	for _, f := range tune {
		f(&o)
	}
	m.Replica, m.done = start(g.t, ctx, o)
	ended := make(chan struct{})
	go func() {
		r := <-m.done
		m.done <- r
		close(ended)
	}()
	m.kill = func() { cancel(); <-ended }
	g.members[name] = m
	return m
}

// want waits until the view is {primary, backup} and, with a backup, in sync.
func (g *group) want(primary, backup string) Status {
	g.t.Helper()
	what := fmt.Sprintf("{%s, %q} in sync", primary, backup)
	var st Status
	deadline := time.Now().Add(patience)
	for {
		st = g.members[primary].Status()
		if st.Role == "primary" && st.Peer == backup && st.InSync == (backup != "") {
			return st
		}
		if time.Now().After(deadline) {
			vs, _ := g.views.Status(g.t.Context(), "g")
			g.t.Fatalf("waited in vain for %s: %+v; view service: %+v", what, st, vs)
		}
		time.Sleep(time.Millisecond)
	}
}

// advances waits until the machine has executed more with equal digests on its backup.
func (g *group) advances(primary, backup string) {
	g.t.Helper()
	from := g.members[primary].Status().Position
	await(g.t, "the machine to run on", func() bool { return g.members[primary].Status().Position > from })
	if backup != "" {
		await(g.t, "an equal digest on "+backup, func() bool { return g.members[backup].Status().DigestAt > from })
	}
}

func TestGroupHealsItself(t *testing.T) {
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	g.advances("a", "b")
	g.start("c", false)

	g.members["a"].kill() // the backup takes over, and the spare its place
	g.want("b", "c")
	g.advances("b", "c")

	g.start("a", false) // comes back empty
	g.members["c"].kill()
	g.want("b", "a")
	g.advances("b", "a")
	for name, m := range g.members {
		if s := m.Status(); s.HaltReason != "" {
			t.Errorf("%s halted: %s", name, s.HaltReason)
		}
	}
}

func TestGroupHandsOver(t *testing.T) {
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	at := g.members["a"].Status().Position
	for i, p := range []string{"a", "b", "a", "b"} {
		o := map[string]string{"a": "b", "b": "a"}[p]
		v, pause, err := g.members[p].HandOver()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("view %d, stood still for %v", v, pause)
		s := g.want(o, p)
		g.advances(o, p)
		if s.View != uint64(v) || s.Position < at {
			t.Fatalf("turn %d: view %d, position %d after %d", i, s.View, s.Position, at)
		}
		at = s.Position
	}
	if _, _, err := g.members["b"].HandOver(); err == nil {
		t.Error("a backup handed over what it does not have")
	}
	// By the view service, as a drain does it. A wish lapses; on a busy host it takes several.
	asked := time.Time{}
	await(t, "b to be primary by the view service's wish", func() bool {
		if time.Since(asked) > time.Second {
			asked = time.Now()
			if _, err := g.views.Switch(t.Context(), "g"); err != nil && !errors.Is(err, view.ErrNotNow) {
				t.Fatal(err)
			}
		}
		return g.members["b"].Status().Role == "primary"
	})
	g.want("b", "a")
	g.advances("b", "a")
}

// TestGroupEnds: the guest's end is the end of primary and backup, and the console says all of it on both, whoever
// was there when.
func TestGroupEnds(t *testing.T) {
	g := newGroup(t, testMachine(talker(4000)))
	g.start("a", true)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	g.members["a"].kill()
	g.want("b", "")
	g.start("c", false)
	for _, name := range []string{"b", "c"} {
		r := end(t, name, g.members[name].done)
		g.members[name].done <- r
		if name == "b" && (r.err != nil || r.down != machine.PowerOff) {
			t.Fatalf("%s: %v, %v", name, r.down, r.err)
		}
		if name == "b" {
			if p, at, _ := g.members[name].said.read(0); at != 0 || string(p) != strings.Repeat("a", 4000) {
				t.Errorf("%s heard %d bytes from offset %d", name, len(p), at)
			}
			g.members["c"].kill() // it may have joined or not
		}
	}
}

// TestGroupCopiesDisks: a guest's disk comes along.
func TestGroupCopiesDisks(t *testing.T) {
	content := make([]byte, 3<<20)
	for i := range content {
		if i>>16%3 != 0 {
			content[i] = byte(i*i>>7 ^ i)
		}
	}
	path := filepath.Join(t.TempDir(), "first.raw")
	writeFile(t, path, content)
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true, func(o *Options) { o.Disks = []DiskSpec{{Path: path}} })
	g.want("a", "")
	dir := t.TempDir()
	g.start("b", false, func(o *Options) { o.StateDir = dir })
	g.want("a", "b")
	if got := readFile(t, filepath.Join(dir, "disk0.raw")); !bytes.Equal(got, content) {
		t.Error("the copy differs")
	}
	// What is there from before is not sent again.
	g.members["b"].kill()
	g.want("a", "")
	g.start("b", false, func(o *Options) { o.StateDir = dir })
	g.want("a", "b")
	g.advances("a", "b")
}

func writeFile(t *testing.T, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// scribbler is a guest that fills 4 MiB with numbers that do not repeat, again and again.
func scribbler() []byte {
	const base = 0x8020_0000
	c := asm.Code{Base: base + 64}
	again, next := c.NewLabel(), c.NewLabel()
	c.Li(9, 0x1234_5678_9abc_def1)
	c.Place(again)
	c.Li(8, 0x8080_0000)
	c.Li(10, 0x80c0_0000)
	c.Place(next)
	for _, by := range []struct {
		op string
		n  int64
	}{{"slli", 13}, {"srli", 7}, {"slli", 17}} { // xorshift
		c.I(by.op, asm.Args{Rd: 11, Rs1: 9, Imm: by.n})
		c.I("xor", asm.Args{Rd: 9, Rs1: 9, Rs2: 11})
	}
	c.I("sd", asm.Args{Rs1: 8, Rs2: 9})
	c.I("addi", asm.Args{Rd: 8, Rs1: 8, Imm: 8})
	c.To(asm.Get("bne"), asm.Args{Rs1: 8, Rs2: 10}, next)
	c.To(asm.Get("jal"), asm.Args{}, again)
	return kernelOf(c.Finish())
}

// TestTransferConverges: a machine that writes to its memory faster than the link carries it is slowed until its backup
// can join, and not after that.
func TestTransferConverges(t *testing.T) {
	cfg := testMachine(scribbler())
	cfg.MemBytes = 32 << 20
	g := newGroup(t, cfg)
	a := g.start("a", true, func(o *Options) { o.Bandwidth = 8 << 20 })
	g.want("a", "")
	await(t, "all of it to be written", func() bool { return a.Status().Position > 10_000_000 })
	st := a.Status()
	outruns := st.Position*1e9/st.RunNs > 100_000_000 // instructions a second; not so under the race detector
	g.start("b", false)
	g.want("a", "b")
	if outruns && a.stats.transferSlowed.Load() == 0 {
		t.Error("the machine was not slowed")
	}
	await(t, "the machine to run at full speed again", func() bool { return a.slowed.Load() == 0 })
	g.advances("a", "b")
}
