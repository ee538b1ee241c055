package host

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/event"
	"understudy/internal/oracle/asm"
	"understudy/machine"
)

var checkpoint = event.Mode{Following: event.Checkpoint, EpochNs: uint64(20 * time.Millisecond)}

func byCheckpoints(o *Options) { o.Mode = checkpoint }

// follows waits until the backup has applied epochs that were cut from now on.
func (g *group) follows(backup string) {
	g.t.Helper()
	from := g.members[backup].Status().Position
	await(g.t, "epochs on "+backup, func() bool { s := g.members[backup].Status(); return s.Mode == "checkpoint" && s.Position > from })
}

func TestCheckpointGroupHealsItself(t *testing.T) {
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true, byCheckpoints)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	g.follows("b")
	g.start("c", false)
	before := g.members["b"].Status().Position
	g.members["a"].kill()
	g.want("b", "c")
	if s := g.members["b"].Status(); s.Position < before || s.Mode != "checkpoint" {
		t.Errorf("%+v after position %d", s, before)
	}
	g.follows("c")
	g.start("a", false)
	g.members["c"].kill()
	g.want("b", "a")
	g.follows("a")
	if _, _, err := g.members["b"].HandOver(); err != nil {
		t.Fatal(err)
	}
	g.want("a", "b")
	g.follows("b")
	g.members["a"].kill()
	g.want("b", "")
}

// TestCheckpointLosesNoOutput: whatever the guest said before, it goes on saying the rest in order. The console hears
// every letter of a guest that counts, each at least once and without a gap.
func TestCheckpointLosesNoOutput(t *testing.T) {
	g := newGroup(t, testMachine(talker(3000)))
	g.start("a", true, byCheckpoints)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	g.follows("b")
	g.members["a"].kill()
	r := end(t, "b", g.members["b"].done)
	g.members["b"].done <- r
	if r.err != nil || r.down != machine.PowerOff {
		t.Fatalf("b: %v, %v", r.down, r.err)
	}
	if p, at, _ := g.members["b"].said.read(0); at != 0 || string(p) != strings.Repeat("a", 3000) {
		t.Errorf("b heard %d bytes from offset %d", len(p), at)
	}
}

// TestCheckpointEnds: the guest's end is an epoch like any other.
func TestCheckpointEnds(t *testing.T) {
	g := newGroup(t, testMachine(talker(2000)))
	g.start("a", true, byCheckpoints)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	for _, name := range []string{"a", "b"} {
		r := end(t, name, g.members[name].done)
		g.members[name].done <- r
		if r.err != nil || r.down != machine.PowerOff {
			t.Fatalf("%s: %v, %v", name, r.down, r.err)
		}
		if p, at, _ := g.members[name].said.read(0); at != 0 || string(p) != strings.Repeat("a", 2000) {
			t.Errorf("%s heard %d bytes from offset %d", name, len(p), at)
		}
	}
}

func TestChangeOfMode(t *testing.T) {
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	for range 3 {
		if err := g.members["a"].SetMode(t.Context(), checkpoint); err != nil {
			t.Fatal(err)
		}
		g.follows("b")
		if err := g.members["a"].SetMode(t.Context(), event.Mode{}); err != nil {
			t.Fatal(err)
		}
		g.advances("a", "b") // with equal digests
	}
	if err := g.members["a"].SetMode(t.Context(), event.Mode{Following: event.Checkpoint}); err != nil {
		t.Fatal(err)
	}
	g.follows("b")
	g.members["a"].kill()
	g.want("b", "")
	if s := g.members["b"].Status(); s.Mode != "checkpoint" || s.EpochNs != 0 {
		t.Errorf("the mode did not come along: %+v", s)
	}
}

// wilful is a guest that writes its instruction counter, a number that a test may falsify, into memory.
func wilful() []byte {
	const base = 0x8020_0000
	c := asm.Code{Base: base + 64}
	loop := c.NewLabel()
	c.Li(8, 0x8030_0000)
	c.Place(loop)
	c.I("addi", asm.Args{Rd: 9, Rs1: 9, Imm: 1})
	c.I("sd", asm.Args{Rs1: 8, Rs2: 9})
	c.To(asm.Get("jal"), asm.Args{}, loop)
	return kernelOf(c.Finish())
}

// disturb writes something into the guest's memory that nobody else can know: a device that answers differently on
// each host.
func disturb(t *testing.T, m *groupMember) {
	t.Helper()
	if err := m.atStop(t.Context(), func(l *leader) error {
		p := bytes.Clone(l.r.m.Page(0x300000 >> 12))
		binary.LittleEndian.PutUint64(p[64:], uint64(time.Now().UnixNano()))
		return l.r.m.InstallPage(0x300000>>12, p)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDeterminismIsNeeded(t *testing.T) {
	t.Run("lockstep detects", func(t *testing.T) {
		g := newGroup(t, testMachine(wilful()))
		g.start("a", true)
		g.want("a", "")
		g.start("b", false)
		g.want("a", "b")
		g.advances("a", "b")
		disturb(t, g.members["a"])
		r := end(t, "b", g.members["b"].done)
		g.members["b"].done <- r
		if r.err == nil || !strings.Contains(r.err.Error(), "diverged") {
			t.Fatalf("b: %v", r.err)
		}
	})
	t.Run("checkpoint survives", func(t *testing.T) {
		g := newGroup(t, testMachine(wilful()))
		g.start("a", true, byCheckpoints)
		g.want("a", "")
		g.start("b", false)
		g.want("a", "b")
		for range 5 {
			disturb(t, g.members["a"])
			g.follows("b")
		}
		g.members["a"].kill()
		g.want("b", "")
		at := g.members["b"].Status().Position
		await(t, "the machine to run on", func() bool { return g.members["b"].Status().Position > at })
	})
}

// TestCheckpointFollowsDisks: what the guest writes comes to the backup's disk with the epoch, and the journal of a
// former life does no harm.
func TestCheckpointJoinsWithOldJournal(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 1<<20)
	path := filepath.Join(t.TempDir(), "first.raw")
	writeFile(t, path, content)
	g := newGroup(t, testMachine(talker(0)))
	g.start("a", true, byCheckpoints, func(o *Options) { o.Disks = []DiskSpec{{Path: path}} })
	g.want("a", "")
	dir := t.TempDir()
	at := func(o *Options) { o.StateDir = dir }
	g.start("b", false, at)
	g.want("a", "b")
	g.follows("b")
	g.members["b"].kill()
	g.want("a", "")
	g.start("b", false, at)
	g.want("a", "b")
	g.follows("b")
	if got := readFile(t, filepath.Join(dir, "disk0.raw")); !bytes.Equal(got, content) {
		t.Error("the copy differs")
	}
	if _, err := os.Stat(filepath.Join(dir, "disks.journal")); err != nil {
		t.Error(err)
	}
}
