package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/arbiter/memstore"
	"understudy/event"
	"understudy/internal/shareddisk/diskguest"
	"understudy/machine"
)

// answerPath is a way to a server whose answers can be delayed, held up, or cut off.
type answerPath struct {
	ln    net.Listener
	delay time.Duration
	mu    sync.Mutex
	free  sync.Cond
	held  bool
	cut   bool
	conns []net.Conn
	late  int // bytes that came while they were held
}

func newAnswerPath(t *testing.T, to string, delay time.Duration) *answerPath {
	p := &answerPath{ln: listenLoopback(t), delay: delay}
	p.free.L = &p.mu
	t.Cleanup(func() { p.set(false, true) })
	go func() {
		for {
			in, err := p.ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			p.mu.Lock()
			if err != nil || p.cut {
				in.Close()
			}
			p.conns = append(p.conns, in)
			p.mu.Unlock()
			if err == nil {
				go func() { io.Copy(out, in); out.Close() }()
				go func() { p.carry(in, out); in.Close() }()
			}
		}
	}()
	return p
}

func (p *answerPath) carry(in, out net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := out.Read(b)
		if err != nil {
			return
		}
		time.Sleep(p.delay)
		p.mu.Lock()
		if p.held {
			p.late += n
		}
		for p.held {
			p.free.Wait()
		}
		p.mu.Unlock()
		if _, err := in.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *answerPath) set(held, cut bool) {
	p.mu.Lock()
	p.held, p.cut = held, cut
	if cut {
		for _, c := range p.conns {
			c.Close()
		}
		p.conns = nil
	}
	p.mu.Unlock()
	p.free.Broadcast()
}

func (p *answerPath) disk(o *Options) { o.Disks = []DiskSpec{{Shared: p.ln.Addr().String()}} }

func (p *answerPath) holdsAnswers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late > 0
}

// sharedPair is a pair whose backup reads a shared disk by itself, over a path of its own.
type sharedPair struct {
	s            *sharedServer
	path         *answerPath
	a, b         *Replica
	aDone, bDone chan result
	killA        func()
}

func newSharedPair(t *testing.T, kernel []byte, delay time.Duration, tune func(*Options)) *sharedPair {
	t.Helper()
	p := &sharedPair{s: newSharedServer(t)}
	p.s.kill()
	writeFile(t, p.s.path, make([]byte, diskguest.LargeSectors*512))
	p.s.start()
	p.path = newAnswerPath(t, p.s.addr, delay)
	ln, reg, cfg := listenLoopback(t), memstore.New(), testMachine(kernel)
	side := func(name, peer string) Options {
		o := Options{
			Name: name, Peer: peer, Group: "g", Arbiter: reg, Machine: cfg, BackupReads: true,
			SuspectAfter: 10 * time.Second, DigestEvery: 20 * time.Millisecond, // nobody is to be suspected on a busy host
		}
		tune(&o)
		return o
	}
	b := side("b", "a")
	p.path.disk(&b)
	b.Listener = ln
	ctx := t.Context()
	p.b, p.bDone = start(t, ctx, b)
	a := side("a", "b")
	p.s.disk(&a)
	a.PeerAddr = ln.Addr().String()
	actx, kill := context.WithCancel(ctx)
	p.a, p.aDone = start(t, actx, a)
	p.killA = kill
	return p
}

func (p *sharedPair) held() bool {
	st := p.a.Status()
	return len(st.SharedDisks) == 1 && st.SharedDisks[0].Held > 0
}

// TestBackupReadsByItself: the guest reads sectors and overwrites them at once, over and over, and the backup is slow. It
// reads what the primary read all the same, as the primary's writes wait for it.
func TestBackupReadsByItself(t *testing.T) {
	const rounds = 40
	p := newSharedPair(t, diskguest.Overwriter(diskSlot, rounds), 2*time.Millisecond, func(*Options) {})
	if r := end(t, "a", p.aDone); r.err != nil || r.down != machine.PowerOff {
		t.Fatalf("%v, %v", r.down, r.err)
	}
	if r := end(t, "b", p.bDone); r.err != nil || r.down != machine.PowerOff {
		t.Fatalf("%v, %v", r.down, r.err)
	}
	a, b := p.a.Status(), p.b.Status()
	if b.DigestAt == 0 || a.Position != b.Position {
		t.Errorf("the backup is at %d, its newest equal digest at %d; the primary is at %d", b.Position, b.DigestAt, a.Position)
	}
	const all = rounds * diskguest.Burst
	if n := p.s.Status().BackupReads; a.LeftOutBytes != all*512 || n < all || a.SharedDiskReads != "disk" {
		t.Errorf("%d bytes were left out of the log, the backup read %d sectors", a.LeftOutBytes, n)
	}
	if d := a.SharedDisks[0]; d.HeldTotal < all/2 || d.Held != 0 {
		t.Errorf("%+v", d)
	}
	t.Logf("%d requests held, %v each", a.SharedDisks[0].HeldTotal, time.Duration(a.SharedDisks[0].HeldAllNs)/time.Duration(a.SharedDisks[0].HeldTotal))
	p.s.kill()
	if n, err := diskguest.NewestOverwritten(readFile(t, p.s.path)); err != nil || n != all {
		t.Errorf("%d writes: %v", n, err)
	}
}

// TestWhatTheLogSaves: a guest that reads and writes 64 KiB at a time, with either way to the backup.
func TestWhatTheLogSaves(t *testing.T) {
	const rounds = 16
	var bytes [2]uint64
	for i, disk := range []bool{false, true} {
		p := newSharedPair(t, diskguest.Large(diskSlot, rounds), 0, func(o *Options) { o.BackupReads = disk })
		for name, done := range map[string]chan result{"a": p.aDone, "b": p.bDone} {
			if r := end(t, name, done); r.err != nil || r.down != machine.PowerOff {
				t.Fatalf("%v, %v", r.down, r.err)
			}
		}
		bytes[i] = p.a.Status().LogBytes
	}
	t.Logf("%d MiB read, %d bytes of log with the data, %d without: %.0f times as many",
		rounds*diskguest.Burst*diskguest.LargeBytes>>20, bytes[0], bytes[1], float64(bytes[0])/float64(bytes[1]))
	if bytes[0] < rounds*diskguest.Burst*diskguest.LargeBytes || bytes[1] > bytes[0]/20 {
		t.Errorf("%d bytes of log with the data, %d without", bytes[0], bytes[1])
	}
}

// TestWithoutTheHold: the same with writes that do not wait. The backup finds out and stops; the primary goes on alone.
func TestWithoutTheHold(t *testing.T) {
	p := newSharedPair(t, diskguest.Overwriter(diskSlot, 0), 2*time.Millisecond, func(o *Options) { o.noHold = true })
	r := end(t, "b", p.bDone)
	if !errors.Is(r.err, ErrDiverged) || !strings.Contains(r.err.Error(), "not as the primary read it") {
		t.Fatalf("%v", r.err)
	}
	await(t, "the primary to go on alone", func() bool { return p.a.Status().Solo })
	p.s.writesOn(3)
}

// TestDiskChangedBehindOurBack: the backup finds other data than the primary, and stops; the primary goes on alone. What waited
// for the backup goes.
func TestDiskChangedBehindOurBack(t *testing.T) {
	p := newSharedPair(t, diskguest.Overwriter(diskSlot, 0), 0, func(*Options) {})
	p.s.writesOn(3)
	p.path.set(true, false)
	await(t, "writes to wait for the backup", func() bool { return p.held() && p.path.holdsAnswers() })
	content := readFile(t, p.s.path)
	for s := range diskguest.Burst {
		content[s*512+100] ^= 1
	}
	f, err := os.OpenFile(p.s.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content[:diskguest.Burst*512], 0); err != nil {
		t.Fatal(err)
	}
	p.path.set(true, true) // what was read before is lost
	p.path.set(false, false)
	r := end(t, "b", p.bDone)
	if !errors.Is(r.err, ErrDiverged) || !strings.Contains(r.err.Error(), "not as the primary read it: sectors 0 to 0") {
		t.Fatalf("%v", r.err)
	}
	await(t, "the primary to go on alone", func() bool { return p.a.Status().Solo })
	p.s.writesOn(3)
	if p.held() {
		t.Error("something waits for a backup that there is not")
	}
}

// TestBackupThatCannotRead: it tries again as long as that can help: while the disk comes back, and for ever when nobody
// else has the machine. Otherwise it leaves, for the primary's writes wait for it.
func TestBackupThatCannotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a disk that does not answer")
	}
	stuck := func(t *testing.T, patience time.Duration) *sharedPair {
		p := newSharedPair(t, diskguest.Overwriter(diskSlot, 0), 0, func(o *Options) { o.readPatience = patience })
		p.s.writesOn(3)
		p.path.set(false, true)
		await(t, "the backup to try in vain and to say so, and writes to wait for it", func() bool {
			d := p.b.Status().SharedDisks
			return len(d) == 1 && d[0].ReadingNs > int64(50*time.Millisecond) && d[0].Error != "" && p.held()
		})
		return p
	}
	t.Run("comes back", func(t *testing.T) {
		p := stuck(t, time.Hour)
		if a, b := p.a.Status(), p.b.Status(); a.Role != "primary" || a.Solo || b.Role != "backup" {
			t.Errorf("the primary: %+v; the backup: %+v", a, b)
		}
		p.path.set(false, false)
		p.s.writesOn(3)
	})
	t.Run("leaves", func(t *testing.T) {
		p := stuck(t, 300*time.Millisecond)
		r := end(t, "b", p.bDone)
		if !errors.Is(r.err, ErrHalted) || errors.Is(r.err, ErrDiverged) || !strings.Contains(r.err.Error(), "not possible for") {
			t.Fatalf("%v", r.err)
		}
		await(t, "the primary to go on alone", func() bool { return p.a.Status().Solo })
		p.s.writesOn(3)
	})
	t.Run("goes live", func(t *testing.T) {
		const patience = 3 * time.Second
		p := stuck(t, patience)
		p.killA()
		end(t, "a", p.aDone)
		await(t, "the backup to have tried for longer than it would with a primary", func() bool {
			st := p.b.Status()
			return st.Role == "halted" || st.SharedDisks[0].ReadingNs > int64(patience+patience/2)
		})
		if st := p.b.Status(); st.Role != "backup" {
			t.Fatalf("%+v", st)
		}
		p.path.set(false, false)
		await(t, "the backup to go live", func() bool { return p.b.Status().Role == "primary" })
		p.s.writesOn(3)
	})
}

// TestOverwriterChangesHands: joining, failing, handing over and changing the mode, with sectors that are overwritten as soon
// as they are read.
func TestOverwriterChangesHands(t *testing.T) {
	s := newSharedServer(t)
	g := newGroup(t, testMachine(diskguest.Overwriter(diskSlot, 0)))
	g.start("a", true, s.disk, readsFromDisk)
	g.want("a", "")
	s.writesOn(3)
	g.start("b", false)
	g.want("a", "b")
	s.writesOn(3)
	g.keepsUp("a", "b")
	for range 3 {
		for _, m := range []event.Mode{checkpoint, {}} {
			if err := g.members["a"].SetMode(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			s.writesOn(2)
			g.keepsUp("a", "b")
		}
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
	for range 2 {
		for _, x := range []struct{ from, to string }{{"c", "d"}, {"d", "c"}} {
			if _, _, err := g.members[x.from].HandOver(); err != nil {
				t.Fatal(err)
			}
			g.want(x.to, x.from)
			s.writesOn(3)
			g.keepsUp(x.to, x.from)
		}
	}
	for name, m := range g.members {
		if st := m.Status(); st.HaltReason != "" || name != "a" && name != "b" && st.SharedDiskReads != "disk" {
			t.Errorf("%s: %+v", name, st)
		}
		m.kill()
	}
	if s.Status().BackupReads == 0 {
		t.Error("no backup read anything")
	}
	s.kill()
	if _, err := diskguest.NewestOverwritten(readFile(t, s.path)); err != nil {
		t.Error(err)
	}
}
