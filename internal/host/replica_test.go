package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/memstore"
	"understudy/event"
	"understudy/internal/logchannel"
	"understudy/internal/oracle/asm"
	"understudy/internal/pki"
	"understudy/machine"
	"understudy/replica"
)

// talker is a guest that prints a letter at its serial port after each stretch of work, up to count letters,
// and shuts down; with count 0 it works for ever and says nothing.
func talker(count int64) []byte {
	const base = 0x8020_0000
	c := asm.Code{Base: base + 64}
	next, work, loop := c.NewLabel(), c.NewLabel(), c.NewLabel()
	c.Li(9, count)
	c.Li(8, 0x1000_0000)
	c.Li(11, 'a')
	c.Place(next)
	c.Li(12, 20_000)
	c.Place(work)
	c.I("addi", asm.Args{Rd: 12, Rs1: 12, Imm: -1})
	c.To(asm.Get("bne"), asm.Args{Rs1: 12}, work)
	if count == 0 {
		c.To(asm.Get("jal"), asm.Args{}, next)
	}
	c.I("sb", asm.Args{Rs1: 8, Rs2: 11})
	c.I("addi", asm.Args{Rd: 9, Rs1: 9, Imm: -1})
	c.To(asm.Get("bne"), asm.Args{Rs1: 9}, next)
	c.Li(17, 0x53525354)
	c.Li(16, 0)
	c.Li(10, 0)
	c.Li(11, 0)
	c.I("ecall", asm.Args{})
	c.Place(loop)
	c.To(asm.Get("jal"), asm.Args{}, loop)
	return kernelOf(c.Finish())
}

// kernelOf puts the header of a RISC-V Image in front of code, which is to run at 64 bytes behind its start.
func kernelOf(code []byte) []byte {
	k := make([]byte, 64, 64+len(code))
	binary.LittleEndian.PutUint32(k, 0x0400006f)
	binary.LittleEndian.PutUint64(k[8:], 2<<20)
	binary.LittleEndian.PutUint64(k[16:], uint64(64+len(code)))
	copy(k[0x38:], "RSC\x05")
	return append(k, code...)
}

func testMachine(kernel []byte) machine.Config {
	return machine.Config{MemBytes: machine.MinMemBytes, Kernel: kernel, WallClockNs: uint64(time.Now().UnixNano())}
}

// buffer is a console that tests read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type result struct {
	down machine.Down
	err  error
}

func start(t *testing.T, ctx context.Context, o Options) (*Replica, chan result) {
	t.Helper()
	r, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan result, 1)
	go func() {
		down, err := r.Run(ctx)
		done <- result{down, err}
	}()
	return r, done
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

const patience = 2 * time.Minute // under the race detector a machine is twenty times slower

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func end(t *testing.T, who string, done chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		t.Fatalf("%s does not end", who)
		return result{}
	}
}

func TestPairRunsToTheGuestsEnd(t *testing.T) {
	ctx := t.Context()
	reg := memstore.New()
	ln := listenLoopback(t)
	cfg := testMachine(talker(200))
	var out, backupOut buffer
	slow := 2 * time.Second // the race detector must not look like a dead peer
	_, b := start(t, ctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: reg, Console: &backupOut, SuspectAfter: slow})
	_, a := start(t, ctx, Options{Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: cfg, Arbiter: reg, Console: &out, SuspectAfter: slow, DigestEvery: 5 * time.Millisecond})
	for who, done := range map[string]chan result{"a": a, "b": b} {
		if r := end(t, who, done); r.err != nil || r.down != machine.PowerOff {
			t.Fatalf("%s: %v, %v", who, r.down, r.err)
		}
	}
	if got := out.String(); got != strings.Repeat("a", 200) {
		t.Fatalf("the guest said %d bytes: %q", len(got), got)
	}
	if got := backupOut.String(); got != "" {
		t.Fatalf("the backup let out %q", got)
	}
	if rec, _ := reg.Get(ctx, "g"); rec.Number != 1 {
		t.Fatalf("view %d after an orderly end", rec.Number)
	}
}

func TestBackupGoesLiveWhenThePrimaryIsGone(t *testing.T) {
	reg := memstore.New()
	ln := listenLoopback(t)
	cfg := testMachine(talker(3000))
	var out, backupOut buffer
	actx, kill := context.WithCancel(t.Context())
	rb, b := start(t, t.Context(), Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: reg, Console: &backupOut, SuspectAfter: time.Second})
	_, a := start(t, actx, Options{Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: cfg, Arbiter: reg, Console: &out, SuspectAfter: time.Second})
	await(t, "output of the pair", func() bool { return len(out.String()) > 100 })
	kill()
	end(t, "a", a)
	said := len(out.String())
	if r := end(t, "b", b); r.err != nil || r.down != machine.PowerOff {
		t.Fatalf("b: %v, %v", r.down, r.err)
	}
	// b may repeat what a said last; together they must have said everything.
	if n := said + len(backupOut.String()); n < 3000 {
		t.Fatalf("a said %d, b %d: %d of 3000 are lost", said, len(backupOut.String()), 3000-n)
	}
	if s := rb.Status(); s.View != 2 {
		t.Fatalf("b ended in view %d", s.View)
	}
}

// TestBackupOfAnotherMachineIsRefused has the primary's error name what differs.
func TestBackupOfAnotherMachineIsRefused(t *testing.T) {
	dir := t.TempDir()
	disk := func(name, content string) []DiskSpec {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, append([]byte(content), make([]byte, 1024-len(content))...), 0o600); err != nil {
			t.Fatal(err)
		}
		return []DiskSpec{{Path: p}}
	}
	base := testMachine(talker(1))
	with := func(f func(c *machine.Config)) machine.Config { c := base; f(&c); return c }
	for name, c := range map[string]struct {
		cfg   machine.Config
		disks [2][]DiskSpec
		want  string
	}{
		"kernel":  {cfg: testMachine(talker(2)), want: "kernels differ"},
		"memory":  {cfg: with(func(c *machine.Config) { c.MemBytes *= 2 }), want: "memory sizes differ: the primary has 16 MiB, the backup 32 MiB"},
		"initrd":  {cfg: with(func(c *machine.Config) { c.Initrd = []byte("x") }), want: "initial RAM disks differ"},
		"cmdline": {cfg: with(func(c *machine.Config) { c.Cmdline = "quiet" }), want: "command lines differ"},
		"disk":    {cfg: base, disks: [2][]DiskSpec{disk("a", "one"), disk("b", "two")}, want: "disks 0 differ"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ln := listenLoopback(t)
		reg := memstore.New()
		_, b := start(t, ctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: c.cfg, Disks: c.disks[1], Arbiter: reg})
		_, a := start(t, ctx, Options{Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: base, Disks: c.disks[0], Arbiter: reg})
		if r := end(t, "a", a); !errors.Is(r.err, ErrRefused) || !strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: %v", name, r.err)
		}
		cancel()
		end(t, "b", b)
	}
}

// TestBackupTurnsStrangersAway: nothing that is not a primary's hello gets a word in.
func TestBackupTurnsStrangersAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln := listenLoopback(t)
	_, b := start(t, ctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: testMachine(talker(1)), Arbiter: memstore.New()})
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", string(logchannel.AppendMessage(nil, &replica.Message{Type: replica.MsgAppend, View: 1, Sent: 1}))} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 100)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q was answered with %d bytes, %v", text[:3], n, err)
		}
		conn.Close()
	}
	other := hello{Version: ProtocolVersion + 1, Group: "g", From: "a", To: "b"}
	if _, _, err := logchannel.Dial(ctx, ln.Addr().String(), nil, other); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "protocol versions differ") {
		t.Errorf("another protocol version: %v", err)
	}
	cancel()
	end(t, "b", b)
}

// sluggish is a backup that acknowledges every entry and executes none.
func sluggish(t *testing.T, ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var h hello
	if err := logchannel.ReceiveJSON(in, logchannel.KindHello, &h); err != nil {
		t.Error(err)
		return
	}
	if err := logchannel.SendJSON(conn, logchannel.KindWelcome, logchannel.Welcome{}); err != nil {
		t.Error(err)
		return
	}
	var buf []byte
	var last event.Seq
	for {
		kind, body, err := logchannel.ReadFrame(in, &buf)
		if err != nil {
			return
		}
		m, err := logchannel.ParseMessage(kind, body)
		if err != nil {
			t.Error(err)
			return
		}
		if n := len(m.Entries); n > 0 {
			last = m.Entries[n-1].Seq
		}
		ack := replica.Message{Type: replica.MsgAck, View: m.View, Echo: m.Sent, Held: last}
		if _, err := conn.Write(logchannel.AppendMessage(nil, &ack)); err != nil {
			return
		}
	}
}

func TestPrimaryIsSlowedForABackupThatIsBehind(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln := listenLoopback(t)
	go sluggish(t, ln)
	r, done := start(t, ctx, Options{
		Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: testMachine(talker(0)),
		Arbiter: memstore.New(), LagMax: 20 * time.Millisecond, SuspectAfter: 5 * time.Second,
	})
	await(t, "the primary to be slowed", func() bool { return r.Status().SlowedNs > 0 })
	if s := r.Status(); s.Solo || s.LagNs < int64(20*time.Millisecond) {
		t.Errorf("slowed, but: %+v", s)
	}
	cancel()
	end(t, "a", done)
}

// unreachable is an arbiter that answers the first call of Get and the first claim only.
type unreachable struct {
	arbiter.Register
	mu   sync.Mutex
	back bool
	n    int
}

func (u *unreachable) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n++; u.n > 1 && !u.back {
		return arbiter.Record{}, false, arbiter.ErrUnreachable
	}
	return u.Register.CompareAndSet(ctx, group, next)
}

func TestFrozenUntilTheArbiterIsBack(t *testing.T) {
	reg := &unreachable{Register: memstore.New()}
	ln := listenLoopback(t)
	cfg := testMachine(talker(2000))
	var out buffer
	bctx, kill := context.WithCancel(t.Context())
	_, b := start(t, bctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: reg, SuspectAfter: time.Second})
	ra, a := start(t, t.Context(), Options{Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: cfg, Arbiter: reg, Console: &out, SuspectAfter: time.Second})
	await(t, "output of the pair", func() bool { return len(out.String()) > 20 })
	kill()
	end(t, "b", b)
	await(t, "the primary to freeze", func() bool { return ra.Status().Frozen != "" })
	at, said := ra.Status(), out.String()
	time.Sleep(50 * time.Millisecond)
	if s := ra.Status(); s.Frozen == "" || s.Solo || out.String() != said || s.Position > at.Position+2*sliceInstructions {
		t.Errorf("frozen, but it went on: %+v", s)
	}
	reg.mu.Lock()
	reg.back = true
	reg.mu.Unlock()
	if r := end(t, "a", a); r.err != nil || r.down != machine.PowerOff || len(out.String()) != 2000 {
		t.Fatalf("a: %v, %v, said %d", r.down, r.err, len(out.String()))
	}
}

// fakePrimary greets a backup and sends it entries, then heartbeats until ctx ends.
func fakePrimary(t *testing.T, ctx context.Context, addr string, cfg machine.Config, entries []event.Entry) {
	t.Helper()
	cfg.Rate = machine.DefaultRate
	ch, _, err := logchannel.Dial(ctx, addr, nil, hello{Version: ProtocolVersion, Group: "g", From: "a", To: "b", Machine: describe(&cfg)})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer ch.Wait()
		defer ch.Close()
		for at := time.Duration(1); ctx.Err() == nil; at++ {
			ch.Send([]replica.Message{{Type: replica.MsgAppend, InSync: true, View: 1, Sent: at, Entries: entries}})
			entries = nil
			time.Sleep(5 * time.Millisecond)
		}
	}()
}

func TestBackupStopsLoudlyWhenItDiffers(t *testing.T) {
	digestOf := func(pos event.Position) []byte {
		m, err := machine.New(testMachine(talker(0)), make([]byte, machine.MinMemBytes))
		if err != nil {
			t.Fatal(err)
		}
		m.Run(pos)
		return binary.LittleEndian.AppendUint64(nil, m.Digest())
	}
	cfg := testMachine(talker(0))
	for name, c := range map[string]struct {
		entries []event.Entry
		want    string
	}{
		"another state": {[]event.Entry{
			{Seq: 1, Pos: 1000, Kind: event.KindDigest, Data: digestOf(1000)},
			{Seq: 2, Pos: 2000, Kind: event.KindDigest, Data: make([]byte, 8)},
		}, "the state at position 2000 differs"},
		"a frame for a device that is not there": {[]event.Entry{
			{Seq: 1, Pos: 500, Kind: event.KindNet, Data: make([]byte, 60)},
		}, "no network device"},
		"time that steps back": {[]event.Entry{
			{Seq: 1, Pos: 500_000, Kind: event.KindClock, Data: event.AppendClock(nil, event.Clock{NowNs: 5, Rate: 1})},
		}, "step back"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ln := listenLoopback(t)
		_, b := start(t, ctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: memstore.New(), SuspectAfter: 10 * time.Second})
		fakePrimary(t, ctx, ln.Addr().String(), cfg, c.entries)
		r := end(t, "b", b)
		if !errors.Is(r.err, ErrDiverged) || !errors.Is(r.err, ErrHalted) || !strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: %v", name, r.err)
		}
		if name == "another state" && r.err != nil && !strings.Contains(r.err.Error(), "it was the same at position 1000") {
			t.Errorf("the last equal position is not named: %v", r.err)
		}
		cancel()
	}
}

func TestBackupNeverPassesTheLastEntry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := testMachine(talker(0))
	ln := listenLoopback(t)
	r, b := start(t, ctx, Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: memstore.New(), SuspectAfter: 10 * time.Second})
	fakePrimary(t, ctx, ln.Addr().String(), cfg, []event.Entry{{Seq: 1, Pos: 123_457, Kind: event.KindCommit}})
	await(t, "the entry to be executed", func() bool { return r.Status().AppliedSeq == 1 })
	time.Sleep(50 * time.Millisecond) // heartbeats go on meanwhile
	if s := r.Status(); s.Position != 123_457 || s.Role != "backup" {
		t.Errorf("the last entry is for position 123457, the backup: %+v", s)
	}
	cancel()
	end(t, "b", b)
}

// TestLogChannelWithCertificates: with them a pair works; a primary without the right one is refused before
// it can say anything, and one that is refused does not keep the right one away.
func TestLogChannelWithCertificates(t *testing.T) {
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	id := map[string]*pki.Identity{}
	for _, n := range []string{"a", "b", "c"} {
		if err := pki.NewHost(dir, n, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		var err error
		if id[n], err = pki.Load(dir, n); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testMachine(talker(100))
	reg := memstore.New()
	ln := listenLoopback(t)
	var out buffer
	_, b := start(t, t.Context(), Options{Name: "b", Peer: "a", Group: "g", Listener: ln, Machine: cfg, Arbiter: reg, SuspectAfter: 2 * time.Second, Identity: id["b"]})
	for _, stranger := range []*pki.Identity{nil, id["c"]} {
		_, _, err := logchannel.Dial(t.Context(), ln.Addr().String(), stranger, hello{Version: ProtocolVersion, Group: "g", From: "a", To: "b", Machine: describe(&cfg)})
		if err == nil {
			t.Fatal("a stranger was welcomed")
		}
	}
	_, a := start(t, t.Context(), Options{Name: "a", Peer: "b", Group: "g", PeerAddr: ln.Addr().String(), Machine: cfg, Arbiter: reg, Console: &out, SuspectAfter: 2 * time.Second, Identity: id["a"]})
	for who, done := range map[string]chan result{"a": a, "b": b} {
		if r := end(t, who, done); r.err != nil || r.down != machine.PowerOff {
			t.Fatalf("%s: %v, %v", who, r.down, r.err)
		}
	}
	if len(out.String()) != 100 {
		t.Fatalf("the guest said %q", out.String())
	}
}
