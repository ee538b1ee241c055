package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
	"understudy/internal/demo"
	"understudy/internal/host"
	"understudy/internal/image"
	"understudy/internal/lan"
	"understudy/machine"
)

// recording is what a machine under a real host consumed, and what it is made of.
type recording struct {
	cfg     machine.Config
	entries []event.Entry
	guestNs uint64
}

// ready is a console that tells when the guest has said a word.
type ready struct {
	mu    sync.Mutex
	text  bytes.Buffer
	word  string
	heard chan struct{}
}

func (r *ready) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.Write(p)
	if r.heard != nil && strings.Contains(r.text.String(), r.word) {
		close(r.heard)
		r.heard = nil
	}
	return len(p), nil
}

// recordRedis boots the redis image under host.Replica, with LAN and disk, lets a client write for a while,
// and gives what went into the machine.
func recordRedis(t *testing.T) *recording {
	im := redisImage(t)
	dir := t.TempDir()
	l, err := lan.New(lan.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spec, err := lan.ParseForward("127.0.0.1:0:6379")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := l.Forward(spec)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "lan.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*patience, errors.New("the recording took too long"))
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, ln) }()

	rec := &recording{cfg: redisConfig(t, im)}
	disk := filepath.Join(dir, "disk.raw")
	if err := im.CreateDisk(0, disk); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	var mu sync.Mutex
	r, err := host.New(ctx, host.Options{
		Name: "nodiff", Group: "nodiff", Machine: rec.cfg, Disks: []host.DiskSpec{{Path: disk}},
		LANAddr: ln.Addr().String(), DigestEvery: 300 * time.Millisecond,
		Console: &ready{word: "guest ready", heard: heard},
		Tap: func(e event.Entry) {
			e.Data = bytes.Clone(e.Data)
			mu.Lock()
			rec.entries = append(rec.entries, e)
			mu.Unlock()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// As the host describes its disks: named by their place; the hash is only taken in a pair.
	rec.cfg.Disks = []machine.Disk{{Sectors: uint64(im.Disks[0].PlainBytes) / 512, Serial: "disk0"}}
	stop, stopped := errors.New("enough"), make(chan error, 1)
	runCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		_, err := r.Run(runCtx)
		stopped <- err
	}()
	select {
	case <-heard:
	case err := <-stopped:
		t.Fatalf("the machine ended: %v", err)
	case <-ctx.Done():
		t.Fatal("the guest did not boot")
	}
	traffic(t, ctx, addr.String())
	rec.guestNs = r.Status().GuestNs
	end(stop)
	if err := <-stopped; !errors.Is(err, stop) {
		t.Fatalf("the machine ended with: %v", err)
	}
	return rec
}

func redisConfig(t *testing.T, im *image.Image) machine.Config {
	words, err := image.Params{
		IP: netip.MustParsePrefix("192.168.127.2/24"), Gateway: netip.MustParseAddr("192.168.127.1"),
		DNS: netip.MustParseAddr("192.168.127.1"),
	}.Words()
	if err != nil {
		t.Fatal(err)
	}
	return machine.Config{
		MemBytes: im.MemBytes, Kernel: im.Kernel(), Initrd: im.Initrd(), Cmdline: im.CommandLine(words),
		NICs: []machine.NIC{{MAC: [6]byte{0x52, 0x55, 0x4e, 0x44, 0, 2}}}, WallClockNs: uint64(time.Now().UnixNano()),
		Seed: [32]byte{1, 2, 3}, Rate: machine.DefaultRate,
	}
}

// traffic writes to Redis: small values one by one, which go to the append-only file, and big ones, which
// make many segments and disk requests.
func traffic(t *testing.T, ctx context.Context, addr string) {
	load, err := demo.Await(ctx, addr, "nodiff")
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	loadCtx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- load.Run(loadCtx) }()
	wait(t, "300 writes", func() (bool, string) { return load.Acks() >= 300, fmt.Sprint(load.Acks()) })

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	big := bytes.Repeat([]byte("understudy "), 20_000)
	for i := range 8 {
		if _, err := fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$4\r\nbig%d\r\n$%d\r\n%s\r\n", i, len(big), big); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 5)
		if _, err := conn.Read(reply); err != nil || string(reply) != "+OK\r\n" {
			t.Fatalf("SET of a big value: %q, %v", reply, err)
		}
	}
	// Digests only come while something happens: go on until the appends were flushed, which is every second.
	time.Sleep(1200 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if lost, duplicated, err := load.Verify(); lost != 0 || duplicated != 0 || err != nil {
		t.Fatalf("lost %d, duplicated %d, %v", lost, duplicated, err)
	}
}

// errDiffers says that a replay is not what was recorded; errDigest that a digest showed it.
var (
	errDiffers = errors.New("the replay differs")
	errDigest  = fmt.Errorf("%w in a digest", errDiffers)
)

// replay gives the entries to a machine. cuts, if it is not nil, ends runs at random positions in between.
// delivered is told of each entry. It gives the number of digests that were compared.
func replay(m *machine.Machine, entries []event.Entry, cuts *rand.Rand, delivered ...func(i int)) (digests int, err error) {
	for i, e := range entries {
		for first := true; first || m.Position() < e.Pos; first = false {
			to := e.Pos
			if cuts != nil && e.Pos-m.Position() > 1 && cuts.IntN(3) != 0 {
				to = m.Position() + 1 + event.Position(cuts.Uint64N(uint64(e.Pos-m.Position())))
			}
			stop := m.Run(to)
			m.TakeOutputs()
			if m.Position() > to {
				return digests, fmt.Errorf("run to position %d went to %d", to, m.Position())
			}
			if m.Position() < e.Pos && (stop == machine.StopIdle || stop == machine.StopDown) {
				return digests, fmt.Errorf("%w: entry %d is for position %d, the guest stands still at %d", errDiffers, i, e.Pos, m.Position())
			}
		}
		if e.Kind == event.KindDigest {
			if got, want := m.Digest(), binary.LittleEndian.Uint64(e.Data); got != want {
				return digests, fmt.Errorf("%w: digest %d, entry %d, position %d: %016x, recorded %016x", errDigest, digests, i, e.Pos, got, want)
			}
			digests++
		}
		if err := m.Deliver(e); err != nil {
			return digests, fmt.Errorf("%w: %w", errDiffers, err)
		}
		for _, f := range delivered {
			f(i)
		}
	}
	return digests, nil
}

func newRAM(t *testing.T, bytes uint64) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

// TestNoDiff records Debian with Redis under a real host, with interrupts, packets, disk and random bytes as
// they came, and replays it on bare machines: in one go, from a snapshot in the middle, and cut at random
// positions. All must go through the same states. A bit flipped in one entry must show.
func TestNoDiff(t *testing.T) {
	long(t)
	rec := recordRedis(t)
	var digests int
	kinds := map[event.Kind]int{}
	wire := 0
	for i := range rec.entries {
		e := rec.entries[i]
		kinds[e.Kind]++
		if e.Kind == event.KindDigest {
			digests++
		}
		if e.Kind == event.KindDisk { // a pair's log leaves out what was read
			d, err := event.ParseDiskDone(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			d.Data = nil
			e.Data = event.AppendDiskDone(nil, d)
		}
		wire += len(event.AppendBatch(nil, []event.Entry{e}))
	}
	last := rec.entries[len(rec.entries)-1].Pos
	t.Logf("%d entries (%d clock, %d net, %d disk, %d entropy, %d commit, %d digest), %d M instructions, %.1f s of guest time, log %.1f kB per guest second",
		len(rec.entries), kinds[event.KindClock], kinds[event.KindNet], kinds[event.KindDisk], kinds[event.KindEntropy], kinds[event.KindCommit], digests,
		last/1e6, float64(rec.guestNs)/1e9, float64(wire)/1e3/(float64(rec.guestNs)/1e9))
	if digests < 5 || kinds[event.KindNet] == 0 || kinds[event.KindDisk] == 0 || kinds[event.KindClock] == 0 {
		t.Fatal("the recording holds too little to show anything")
	}

	// The middle: somewhere among the client's traffic, between two digests.
	middle := len(rec.entries) * 2 / 3
	damages := findDamages(rec.entries, middle)
	var snap bytes.Buffer
	t.Run("straight", func(t *testing.T) {
		m, err := machine.New(rec.cfg, newRAM(t, rec.cfg.MemBytes))
		if err != nil {
			t.Fatal(err)
		}
		note := func(i int) {
			for _, d := range damages {
				if d.at == i {
					d.digest = m.Digest()
				}
			}
		}
		a, err := replay(m, rec.entries[:middle], nil, note)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Snapshot(&snap); err != nil {
			t.Fatal(err)
		}
		b, err := replay(m, rec.entries[middle:], nil, func(i int) { note(middle + i) })
		if err != nil {
			t.Fatal(err)
		}
		if a+b != digests {
			t.Errorf("%d digests were compared, want %d", a+b, digests)
		}
		t.Logf("%d digests equal; snapshot of %d MB at entry %d", a+b, snap.Len()/1e6, middle)
	})
	if snap.Len() == 0 {
		t.Fatal("no snapshot to go on from")
	}
	restore := func(t *testing.T) *machine.Machine {
		t.Helper()
		m, err := machine.Restore(rec.cfg, newRAM(t, rec.cfg.MemBytes), bytes.NewReader(snap.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	t.Run("from a snapshot", func(t *testing.T) {
		n, err := replay(restore(t), rec.entries[middle:], nil)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Error("no digest was compared")
		}
		t.Logf("%d digests equal", n)
	})
	t.Run("cut at random", func(t *testing.T) {
		r := random(t)
		m, err := machine.New(rec.cfg, newRAM(t, rec.cfg.MemBytes))
		if err != nil {
			t.Fatal(err)
		}
		n, err := replay(m, rec.entries, r)
		if err != nil {
			t.Fatal(err)
		}
		if n != digests {
			t.Errorf("%d digests were compared, want %d", n, digests)
		}
	})
	for _, d := range damages {
		t.Run("flipped bit in "+d.name, func(t *testing.T) {
			if d.at < 0 {
				t.Fatal("the recording has no such entry")
			}
			// Up to the entry, the entry with a bit flipped, and the digest that was taken after the true one: it
			// is the digest that must notice, before a damaged guest goes another way.
			bad := append(slices.Clone(rec.entries[:d.at+1]), event.Entry{
				Pos: rec.entries[d.at].Pos, Kind: event.KindDigest, Data: binary.LittleEndian.AppendUint64(nil, d.digest),
			})
			run := func() error {
				from := 0
				var m *machine.Machine
				if d.at >= middle {
					from, m = middle, restore(t)
				} else {
					var err error
					if m, err = machine.New(rec.cfg, newRAM(t, rec.cfg.MemBytes)); err != nil {
						t.Fatal(err)
					}
				}
				_, err := replay(m, bad[from:], nil)
				return err
			}
			if err := run(); err != nil {
				t.Fatalf("without the flipped bit: %v", err)
			}
			bad[d.at].Data = bytes.Clone(bad[d.at].Data)
			bad[d.at].Data[len(bad[d.at].Data)-1] ^= 1
			if err := run(); !errors.Is(err, errDigest) {
				t.Fatalf("the flipped bit in entry %d went unnoticed by the digest: %v", d.at, err)
			} else {
				t.Logf("caught: %v", err)
			}
		})
	}
}

// damage is a place where a bit is flipped.
type damage struct {
	name   string
	at     int    // index of the entry; -1: there is none
	digest uint64 // of the state after the true entry
}

// findDamages picks an entry of each kind that carries data, those of the client's traffic behind the middle.
func findDamages(entries []event.Entry, middle int) []*damage {
	find := func(name string, from int, match func(event.Entry) bool) *damage {
		i := slices.IndexFunc(entries[from:], match)
		if i >= 0 {
			i += from
		}
		return &damage{name: name, at: i}
	}
	return []*damage{
		find("a clock entry", middle, func(e event.Entry) bool { return e.Kind == event.KindClock }),
		find("a packet", middle, func(e event.Entry) bool { return e.Kind == event.KindNet && len(e.Data) >= 64 }),
		find("what the disk gave", 0, func(e event.Entry) bool {
			d, err := event.ParseDiskDone(e.Data)
			return e.Kind == event.KindDisk && err == nil && len(d.Data) > 0
		}),
		find("random bytes", 0, func(e event.Entry) bool { return e.Kind == event.KindEntropy }),
	}
}
