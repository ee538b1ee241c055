package host

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/arbiter/memstore"
	"understudy/event"
	"understudy/internal/shareddisk"
	"understudy/internal/shareddisk/diskguest"
	"understudy/machine"
)

// diskSlot is where the board has the first disk of a machine without network devices.
const diskSlot = 2

// sharedServer is a disk server that can be killed and started again at the same address.
type sharedServer struct {
	*shareddisk.Server
	t    *testing.T
	path string
	addr string
	kill func()
}

func newSharedServer(t *testing.T) *sharedServer {
	t.Helper()
	s := &sharedServer{t: t, path: filepath.Join(t.TempDir(), "shared.raw"), addr: "127.0.0.1:0"}
	writeFile(t, s.path, make([]byte, diskguest.Sectors*512))
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *sharedServer) start() {
	s.t.Helper()
	var err error
	if s.Server, err = shareddisk.Open(s.path, shareddisk.ServerOptions{}); err != nil {
		s.t.Fatal(err)
	}
	var ln net.Listener
	await(s.t, "the disk's address to be free", func() bool { ln, err = net.Listen("tcp", s.addr); return err == nil })
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Serve(ctx, ln); close(done) }()
	served := s.Server
	s.kill = func() {
		cancel()
		<-done
		served.Close()
		s.kill = func() {}
	}
}

func (s *sharedServer) disk(o *Options) { o.Disks = []DiskSpec{{Shared: s.addr}} }

// newest checks that the disk is as the guest has left it at some moment, and gives the number of the newest write.
func (s *sharedServer) newest() uint64 {
	s.t.Helper()
	n, err := diskguest.Newest(readFile(s.t, s.path))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// writesOn waits until the guest has written n bursts more.
func (s *sharedServer) writesOn(n uint64) {
	s.t.Helper()
	// While the server runs a file that is read in pieces is no state of the disk: only its requests count.
	from := s.Status().Requests
	await(s.t, "more requests of the shared disk", func() bool { return s.Status().Requests >= from+n*2*diskguest.Burst })
}

func eachMode(t *testing.T, f func(t *testing.T, mode func(*Options))) {
	for name, mode := range map[string]func(*Options){"lockstep": func(*Options) {}, "lockstep, reads from disk": readsFromDisk, "checkpoint": byCheckpoints} {
		t.Run(name, func(t *testing.T) { f(t, mode) })
	}
}

func readsFromDisk(o *Options) { o.BackupReads = true }

func (g *group) keepsUp(primary, backup string) {
	g.t.Helper()
	if g.members[primary].Status().Mode == "checkpoint" {
		g.follows(backup)
	} else {
		g.advances(primary, backup) // with equal digests of memory, what was read included
	}
}

// TestSharedDisk: what the guest reads comes to the backup in the log, for the backup has no other way to it; a new
// primary goes on where the former one was, requests in flight included, and the guest never finds a sector that is not as it
// wrote it.
func TestSharedDisk(t *testing.T) {
	eachMode(t, func(t *testing.T, mode func(*Options)) {
		s := newSharedServer(t)
		g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, 0)))
		g.start("a", true, s.disk, mode)
		g.want("a", "")
		s.writesOn(3)
		g.start("b", false)
		g.want("a", "b")
		s.writesOn(3)
		g.keepsUp("a", "b")
		if st := g.members["b"].Status(); len(st.SharedDisks) != 1 || st.SharedDisks[0].Up {
			t.Errorf("the backup: %+v", st.SharedDisks)
		}
		g.start("c", false)
		for _, x := range []struct{ dies, next, then string }{{"a", "b", "c"}, {"b", "c", ""}} {
			g.members[x.dies].kill()
			g.want(x.next, x.then)
			s.writesOn(3)
			if x.then != "" {
				g.keepsUp(x.next, x.then)
			}
		}
		g.start("d", false)
		g.want("c", "d")
		g.keepsUp("c", "d")
		for _, x := range []struct{ from, to string }{{"c", "d"}, {"d", "c"}} {
			if _, _, err := g.members[x.from].HandOver(); err != nil {
				t.Fatal(err)
			}
			g.want(x.to, x.from)
			s.writesOn(3)
			g.keepsUp(x.to, x.from)
		}
		for name, m := range g.members {
			if st := m.Status(); st.HaltReason != "" {
				t.Errorf("%s halted: %s", name, st.HaltReason)
			}
			m.kill()
		}
		s.kill()
		if n := s.newest(); n < 10*diskguest.Burst {
			t.Errorf("%d writes", n)
		}
	})
}

// TestSharedDiskEnds: the guest shuts down by itself when all it read was what it wrote, on both sides alike.
func TestSharedDiskEnds(t *testing.T) {
	eachMode(t, func(t *testing.T, mode func(*Options)) {
		const rounds = 300
		s := newSharedServer(t)
		g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, rounds)))
		g.start("a", true, s.disk, mode)
		g.want("a", "")
		g.start("b", false)
		g.want("a", "b")
		g.members["a"].kill()
		r := end(t, "b", g.members["b"].done)
		g.members["b"].done <- r
		if r.err != nil || r.down != machine.PowerOff {
			t.Fatalf("%v, %v", r.down, r.err)
		}
		if n := s.newest(); n != rounds*diskguest.Burst {
			t.Errorf("%d writes", n)
		}
	})
}

// TestSharedDiskComesBack: while the server is away requests wait; they are sent again when it is back.
func TestSharedDiskComesBack(t *testing.T) {
	s := newSharedServer(t)
	g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, 0)))
	g.start("a", true, s.disk)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	for range 3 {
		s.writesOn(1)
		s.kill()
		s.newest()
		await(t, "the status to say that the disk is away", func() bool {
			d := g.members["a"].Status().SharedDisks
			return len(d) == 1 && !d[0].Up && d[0].Waiting > 0 && d[0].Error != ""
		})
		s.start()
	}
	s.writesOn(1)
	// And the one who takes over waits for it as well.
	s.kill()
	g.members["a"].kill()
	g.want("b", "")
	s.start()
	s.writesOn(2)
	for _, m := range g.members {
		if st := m.Status(); st.HaltReason != "" {
			t.Errorf("halted: %s", st.HaltReason)
		}
	}
}

// TestSharedDiskFencesAPrimary: one that finds a later view at the disk halts.
func TestSharedDiskFencesAPrimary(t *testing.T) {
	s := newSharedServer(t)
	g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, 0)))
	m := g.start("a", true, s.disk)
	g.want("a", "")
	s.writesOn(1)
	o := shareddisk.Options{Addr: s.addr, Group: "g", Host: "b", Life: "b"}
	info, err := shareddisk.Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := shareddisk.NewClient(o, info)
	defer c.Close()
	c.Start(func() {})
	c.Lead(2, nil)
	r := end(t, "a", m.done)
	m.done <- r
	if r.err == nil || !strings.Contains(r.err.Error(), "fenced: view 1 is over") {
		t.Errorf("%v", r.err)
	}
}

// TestSharedDiskWaitsForTheBackup: a write leaves when the backup would make it too, and not before. The primary is cut
// off from its backup without knowing it: whatever the guest does, the disk stays as it is until a view was won.
func TestSharedDiskWaitsForTheBackup(t *testing.T) {
	eachMode(t, func(t *testing.T, mode func(*Options)) {
		s := newSharedServer(t)
		g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, 0)))
		a := g.start("a", true, s.disk, mode)
		g.want("a", "")
		b := g.start("b", false)
		g.want("a", "b")
		s.writesOn(1)
		// The backup hears and says nothing more; neither does the primary hear anything.
		b.mu.Lock()
		held := s.Status().Requests
		grants := a.Status().GrantsWon + uint64(a.Status().View)
		var asked bool
		for deadline := time.Now().Add(groupSuspect / 2); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			st := a.Status()
			if st.GrantsWon+st.View != grants {
				break // it won the next view: from here on it may
			}
			asked = asked || st.Held > 0
			// What the backup had acknowledged before is on its way still: one round at most, for the next
			// one needs this one's results.
			if n := s.Status().Requests; n > held+4*diskguest.Burst {
				b.mu.Unlock()
				t.Fatalf("%d requests were carried out without the backup", n-held)
			}
		}
		b.mu.Unlock()
		if !asked {
			t.Error("no request waited at the gate")
		}
	})
}

// TestSharedDiskChangesMode: requests in flight are no obstacle.
func TestSharedDiskChangesMode(t *testing.T) {
	s := newSharedServer(t)
	g := newGroup(t, testMachine(diskguest.Kernel(diskSlot, 0)))
	g.start("a", true, s.disk)
	g.want("a", "")
	g.start("b", false)
	g.want("a", "b")
	for range 3 {
		for _, m := range []event.Mode{checkpoint, {}} {
			if err := g.members["a"].SetMode(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			s.writesOn(2)
			g.keepsUp("a", "b")
		}
	}
	g.members["a"].kill()
	g.want("b", "")
	s.writesOn(2)
}

// TestSharedAndOwnDisks: a machine may have both; the shared one comes after the other.
func TestSharedAndOwnDisks(t *testing.T) {
	eachMode(t, func(t *testing.T, mode func(*Options)) {
		own := bytes.Repeat([]byte{5}, 1<<20)
		path := filepath.Join(t.TempDir(), "own.raw")
		writeFile(t, path, own)
		s := newSharedServer(t)
		g := newGroup(t, testMachine(diskguest.Kernel(diskSlot+1, 0)))
		both := func(o *Options) { o.Disks = []DiskSpec{{Path: path}, {Shared: s.addr}} }
		g.start("a", true, both, mode)
		g.want("a", "")
		dir := t.TempDir()
		g.start("b", false, func(o *Options) { o.StateDir = dir })
		g.want("a", "b")
		s.writesOn(3)
		g.keepsUp("a", "b")
		if got := readFile(t, filepath.Join(dir, "disk0.raw")); !bytes.Equal(got, own) {
			t.Error("the copy of the other disk differs")
		}
		g.members["a"].kill()
		g.want("b", "")
		s.writesOn(3)
	})
}

func TestSharedDiskOptions(t *testing.T) {
	s, other := newSharedServer(t), newSharedServer(t)
	base := func() Options {
		return Options{Name: "a", Group: "g", Arbiter: memstore.New(), Machine: testMachine(talker(1))}
	}
	for i, c := range []struct {
		change func(o *Options)
		want   string
	}{
		{func(o *Options) { o.Disks, o.Arbiter = []DiskSpec{{Shared: s.addr}}, nil }, "needs an arbiter"},
		{func(o *Options) { o.Disks = []DiskSpec{{Shared: s.addr}, {Path: s.path}} }, "after all others"},
		{func(o *Options) { o.Disks = []DiskSpec{{Shared: s.addr, ReadOnly: true}} }, "not read-only"},
		{func(o *Options) { o.Disks = []DiskSpec{{Shared: "192.0.2.1:1"}} }, "only loopback"},
		{func(o *Options) { o.Disks = []DiskSpec{{Shared: "x"}} }, "want host:port"},
		{func(o *Options) { o.BackupReads = true }, "no shared disk for a backup to read"},
		{func(o *Options) { o.BackupReads, o.Disks = true, []DiskSpec{{Path: s.path}} }, "no shared disk for a backup to read"},
		{func(o *Options) { o.Disks = []DiskSpec{{Shared: "127.0.0.1:1"}} }, "reach the shared disk"},
	} {
		o := base()
		c.change(&o)
		r, err := New(t.Context(), o)
		if err == nil {
			r.release()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	// Both sides of a pair must mean the same disk.
	ln := listenLoopback(t)
	reg := memstore.New()
	side := func(name, peer, disk string) Options {
		o := base()
		o.Name, o.Peer, o.Arbiter, o.Disks = name, peer, reg, []DiskSpec{{Shared: disk}}
		o.PeerTimeout = 5 * time.Second
		return o
	}
	b := side("b", "a", other.addr)
	b.Listener = ln
	ctx, cancel := context.WithCancel(t.Context())
	_, done := start(t, ctx, b)
	a := side("a", "b", s.addr)
	a.PeerAddr = ln.Addr().String()
	_, adone := start(t, ctx, a)
	if r := end(t, "a", adone); r.err == nil || !strings.Contains(fmt.Sprint(r.err), "disks 0 differ") {
		t.Errorf("two disks taken for one: %v", r.err)
	}
	cancel()
	<-done
}
