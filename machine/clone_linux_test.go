package machine

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
	guestimage "understudy/internal/image"
	"understudy/machine/pages"
)

// host is a primary without the world: it answers requests for random bytes and keeps guest time going.
type host struct {
	m     *Machine
	r     *rand.Rand
	log   []event.Entry
	said  bytes.Buffer
	cpu   time.Duration // spent in RunSlice
	clock event.Position
}

func (h *host) deliver(t *testing.T, k event.Kind, data []byte) {
	t.Helper()
	e := event.Entry{Pos: h.m.Position(), Kind: k, Data: data}
	if err := h.m.Deliver(e); err != nil {
		t.Fatal(err)
	}
	h.log = append(h.log, e)
}

// run executes at least n instructions.
func (h *host) run(t *testing.T, n event.Position) {
	t.Helper()
	for end := h.m.Position() + n; h.m.Position() < end; {
		start := cpuTime()
		stop := h.m.RunSlice(h.m.Position() + 50_000)
		h.cpu += cpuTime() - start
		if stop == StopDown {
			t.Fatalf("the guest went down; its console ends with:\n%s", h.tail())
		}
		for _, o := range h.m.TakeOutputs() {
			switch o.Kind {
			case event.OutConsole:
				h.said.Write(o.Data)
			case event.OutEntropy:
				p := make([]byte, o.Want)
				h.r.Read(p)
				h.deliver(t, event.KindEntropy, p)
			}
		}
		now := h.m.TimeNs()
		if stop == StopIdle {
			at, armed := h.m.Alarm()
			if !armed {
				t.Fatalf("the guest waits for ever; its console ends with:\n%s", h.tail())
			}
			now = max(now, at)
		} else if h.m.Position()-h.clock < 1_000_000 {
			continue
		}
		h.clock = h.m.Position()
		h.deliver(t, event.KindClock, event.AppendClock(nil, event.Clock{NowNs: now, Rate: DefaultRate + uint32(h.r.Intn(1<<event.RateShift))}))
	}
}

func (h *host) digest(t *testing.T) {
	h.deliver(t, event.KindDigest, binary.LittleEndian.AppendUint64(nil, h.m.Digest()))
}

func (h *host) tail() string {
	b := h.said.Bytes()
	return string(b[max(0, len(b)-1500):])
}

func (h *host) until(t *testing.T, word string) {
	t.Helper()
	for !strings.Contains(h.said.String(), word) {
		if h.run(t, 1_000_000); h.m.Position() > 20_000_000_000 {
			t.Fatalf("the guest never said %q; its console ends with:\n%s", word, h.tail())
		}
	}
}

func testRAM(t *testing.T, n uint64) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	t.Cleanup(func() { unix.Munmap(b) })
	return b
}

// TestCloneLinux clones a Debian guest that is busy, then keeps another machine at its checkpoints, and has
// both go on.
func TestCloneLinux(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest: not with -short")
	}
	dir, err := guestimage.Find("redis")
	var im *guestimage.Image
	if err == nil {
		im, err = guestimage.Load(dir)
	}
	if err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatalf("no guest image: %v", err)
		}
		t.Skipf("no guest image (%v): build it with: go run ./cmd/understudy image build", err)
	}
	words, err := guestimage.Params{NoData: true, Run: busyGuest}.Words()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // for cpuTime
	defer runtime.UnlockOSThread()
	cfg := Config{MemBytes: 256 << 20, Kernel: im.Kernel(), Initrd: im.Initrd(), Cmdline: im.CommandLine(words), Seed: [32]byte{7}}
	m, err := New(cfg, testRAM(t, cfg.MemBytes))
	if err != nil {
		t.Fatal(err)
	}
	a := &host{m: m, r: rand.New(rand.NewSource(1))}
	a.until(t, "round 3 ")
	speed := float64(m.Position()) / a.cpu.Seconds()
	t.Logf("booted: position %d M, %.0f M instructions per second", m.Position()/1e6, speed/1e6)

	newPair := func() (*Machine, *sender) {
		b, err := NewBlank(cfg.Bare(), testRAM(t, cfg.MemBytes))
		if err != nil {
			t.Fatal(err)
		}
		m.MarkAllDirty()
		return b, &sender{m: m, shadow: pages.NewShadow(testRAM(t, cfg.MemBytes))}
	}
	follow := func(b *Machine) {
		t.Helper()
		a.log = a.log[:0]
		for range 20 {
			a.run(t, 2_000_000)
			a.digest(t)
		}
		mustReplay(t, b, a.log, nil)
		if b.Digest() != m.Digest() {
			t.Fatal("the digests differ at the end")
		}
	}
	timed := func(f func()) time.Duration {
		start := cpuTime()
		f()
		return cpuTime() - start
	}

	b, s := newPair()
	for round := range 6 {
		var longest, encoded, installed time.Duration
		sent, wire := 0, 0
		dirty := m.TakeDirty(nil)
		for len(dirty) > 0 { // a MiB at a time, and the machine runs on in between
			piece := dirty[:min(256, len(dirty))]
			dirty = dirty[len(piece):]
			longest = max(longest, timed(func() { s.copy(piece) }))
			if round < 5 {
				a.run(t, event.Position(speed/1000))
			}
			var batch []byte
			encoded += timed(func() { batch = s.batch() })
			installed += timed(func() { install(t, b, batch) })
			sent, wire = sent+len(piece), wire+len(batch)
		}
		t.Logf("round %d: %d pages in %d bytes; longest stop %v, encoded in %v, installed in %v", round, sent, wire, longest, encoded, installed)
	}
	if err := b.LoadState(m.SaveState()); err != nil {
		t.Fatal(err)
	}
	t.Logf("kinds: pages %v, bytes %v", s.enc.Stats.Pages, s.enc.Stats.Bytes)
	if !bytes.Equal(m.ram.Bytes(), b.ram.Bytes()) {
		t.Fatal("RAM differs")
	}
	follow(b)

	b, s = newPair()
	s.take()
	install(t, b, s.batch())
	s.enc.Stats = pages.Stats{}
	const hz, epochs = 40, 40
	var stop, encode, apply, load time.Duration
	taken := 0
	for range epochs {
		a.run(t, event.Position(speed/hz))
		var batch, state []byte
		stop += timed(func() { s.take(); state = m.SaveState() })
		taken += s.set.Len()
		encode += timed(func() { batch = s.batch() })
		apply += timed(func() { install(t, b, batch) })
		load += timed(func() { err = b.LoadState(state) })
		if err != nil {
			t.Fatal(err)
		}
	}
	_, wire := s.enc.Stats.Total()
	t.Logf("%d epochs of %d ms: each %d pages, %d bytes sent; stopped %v, encoded in %v, installed in %v, state loaded in %v",
		epochs, 1000/hz, taken/epochs, wire/epochs, stop/epochs, encode/epochs, apply/epochs, load/epochs)
	t.Logf("kinds: pages %v, bytes %v", s.enc.Stats.Pages, s.enc.Stats.Bytes)
	follow(b)

	if os.Getenv("UNDERSTUDY_MEASURE") != "" {
		measureEpochs(t, a, speed)
	}
}

// measureEpochs executes the same second of the guest without epochs, with 40 and with 100 in a second.
func measureEpochs(t *testing.T, a *host, speed float64) {
	m := a.m
	state, ram := m.SaveState(), testRAM(t, m.ram.Size())
	copy(ram, m.ram.Bytes())
	a.log = a.log[:0]
	a.run(t, event.Position(speed))
	var cost [3]time.Duration
	var stops [3]time.Duration
	var dirty []uint32
	for range 4 {
		for i, hz := range []float64{0, 40, 100} {
			m.TouchAll()
			copy(m.ram.Bytes(), ram)
			if err := m.LoadState(state); err != nil {
				t.Fatal(err)
			}
			start, next := cpuTime(), m.Position()
			for _, e := range a.log {
				for m.Position() < e.Pos {
					if hz > 0 && m.Position() >= next {
						next += event.Position(speed / hz)
						stop := cpuTime()
						dirty = m.TakeDirty(dirty[:0])
						stops[i] += cpuTime() - stop
					}
					m.Run(min(e.Pos, m.Position()+50_000))
				}
				if err := m.Deliver(e); err != nil {
					t.Fatal(err)
				}
			}
			cost[i] += cpuTime() - start
		}
	}
	t.Logf("one second of the guest, four times: %v; with 40 epochs a second %v (TakeDirty %v), with 100 %v (TakeDirty %v)",
		cost[0], cost[1], stops[1], cost[2], stops[2])
}

// busyGuest forks, computes, writes files and says so.
const busyGuest = `i=0; while true; do i=$((i+1)); seq 1 20000 > /tmp/f$((i%8)); sort -r /tmp/f$((i%8)) | sha256sum; echo round $i .; done`
