package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"

	"understudy/event"
	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
)

const testMem = MinMemBytes

// image wraps code in the header of a RISC-V Linux Image; the code runs at mem.Base + 2 MiB.
func image(code []byte) []byte {
	k := make([]byte, imageHeaderBytes, imageHeaderBytes+len(code))
	binary.LittleEndian.PutUint32(k, 0x0400006f) // j +64
	binary.LittleEndian.PutUint64(k[8:], 2<<20)
	copy(k[0x30:], "RISCV\x00\x00\x00")
	copy(k[0x38:], imageMagic2)
	k = append(k, code...)
	binary.LittleEndian.PutUint64(k[16:], uint64(len(k)))
	return k
}

func boot(t *testing.T, cfg Config) *Machine {
	t.Helper()
	if cfg.MemBytes == 0 {
		cfg.MemBytes = testMem
	}
	m, err := New(cfg, make([]byte, cfg.MemBytes))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// program assembles words; numbers are the encodings of the asm package.
func program(words ...uint32) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// sbi is code that makes one SBI call.
func sbi(ext, fn, a0, a1, a2 uint64) []uint32 {
	var w []uint32
	for _, r := range []struct {
		reg int
		v   uint64
	}{{17, ext}, {16, fn}, {10, a0}, {11, a1}, {12, a2}} {
		w = append(w, li(r.reg, uint32(r.v))...)
	}
	return append(w, 0x00000073)
}

// li loads a 32-bit constant, sign-extended.
func li(rd int, v uint32) []uint32 {
	hi := v + 0x800
	return []uint32{hi&0xfffff000 | uint32(rd)<<7 | 0x37, v<<20 | uint32(rd)<<15 | uint32(rd)<<7 | 0x1b}
}

func TestSystemReset(t *testing.T) {
	for _, c := range []struct {
		kind, reason uint64
		want         Down
	}{{0, 0, PowerOff}, {0, 1, Failure}, {1, 0, Reboot}, {2, 1, Failure}} {
		m := boot(t, Config{Kernel: image(program(sbi(sbiSRST, 0, c.kind, c.reason, 0)...))})
		if stop := m.Run(1000); stop != StopDown || m.Down() != c.want {
			t.Errorf("reset %d, reason %d: stop %v, %v", c.kind, c.reason, stop, m.Down())
		}
		at := m.Position()
		if m.Run(2000) != StopDown || m.Position() != at {
			t.Error("a machine that is down went on")
		}
	}
}

func TestUnknownSBICallsAreNotSupported(t *testing.T) {
	for _, ext := range []uint64{0x53555350, 0x43505043, 0x504D55, 0x0A000000, 9} {
		m := boot(t, Config{Kernel: image(program(append(sbi(ext, 0, 1, 2, 3), 0x10500073)...))})
		m.Run(100)
		if got := m.hart.X(10); got != sbiNotSupported {
			t.Errorf("extension %#x answered %#x", ext, got)
		}
	}
}

func TestSBIBase(t *testing.T) {
	for _, c := range []struct {
		fn, a0, want uint64
	}{{0, 0, sbiSpecVersion}, {3, sbiTime, 1}, {3, sbiHSM, 1}, {3, 0x504D55, 0}} {
		m := boot(t, Config{Kernel: image(program(append(sbi(sbiBase, c.fn, c.a0, 0, 0), 0x10500073)...))})
		m.Run(100)
		if m.hart.X(10) != 0 || m.hart.X(11) != c.want {
			t.Errorf("base call %d(%#x) gave %#x, %#x", c.fn, c.a0, m.hart.X(10), m.hart.X(11))
		}
	}
}

func TestDebugConsole(t *testing.T) {
	text := "hello from S mode"
	code := sbi(sbiDBCN, 0, uint64(len(text)), 0, 0)
	addr := uint64(mem.Base + 2<<20 + imageHeaderBytes + 400)
	copy(code[6:8], li(11, uint32(addr))) // a1, sign-extended: clear the upper half
	code = append(code[:8:8], append([]uint32{0x02059593, 0x0205d593}, code[8:]...)...)
	p := program(append(code, 0x10500073)...)
	p = append(p, make([]byte, 400-len(p))...)
	m := boot(t, Config{Kernel: image(append(p, text...))})
	m.Run(100)
	var said []byte
	for _, o := range m.TakeOutputs() {
		if o.Kind == event.OutConsole {
			said = append(said, o.Data...)
		}
	}
	if string(said) != text {
		t.Fatalf("the guest said %q; a0 %#x a1 %#x", said, m.hart.X(10), m.hart.X(11))
	}
	// Outside memory it is refused, not read.
	m = boot(t, Config{Kernel: image(program(append(sbi(sbiDBCN, 0, 100, 0x7ff00000, 0), 0x10500073)...))})
	m.Run(100)
	if m.hart.X(10) != sbiInvalidParam || len(m.TakeOutputs()) != 0 {
		t.Fatal("the console wrote from outside memory")
	}
}

func TestKernelsThatCannotStart(t *testing.T) {
	good := image(program(0x10500073))
	with := func(f func(k []byte)) []byte { k := bytes.Clone(good); f(k); return k }
	arm := make([]byte, 100)
	copy(arm[0x38:], "ARM\x64")
	for name, k := range map[string][]byte{
		"empty":             {},
		"text":              []byte(strings.Repeat("not a kernel ", 20)),
		"arm64 Image":       arm,
		"gzip":              append([]byte{0x1f, 0x8b}, make([]byte, 100)...),
		"larger than RAM":   with(func(k []byte) { binary.LittleEndian.PutUint64(k[16:], 1<<40) }),
		"size overflows":    with(func(k []byte) { binary.LittleEndian.PutUint64(k[16:], ^uint64(0)) }),
		"offset overflows":  with(func(k []byte) { binary.LittleEndian.PutUint64(k[8:], uint64(1)<<63|^uint64(0)>>1&^(2<<20-1)) }),
		"odd offset":        with(func(k []byte) { binary.LittleEndian.PutUint64(k[8:], 2<<20+8) }),
		"ELF cut short":     []byte("\x7fELF\x02\x01\x01"),
		"ELF of garbage":    append([]byte("\x7fELF\x02\x01\x01"), bytes.Repeat([]byte{0xff}, 200)...),
		"ELF of this host":  readFile(t, "/proc/self/exe"),
		"32-bit RISC-V ELF": elf32(),
	} {
		_, err := New(Config{MemBytes: testMem, Kernel: k}, make([]byte, testMem))
		if !errors.Is(err, ErrKernel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func elf32() []byte {
	b := make([]byte, 52)
	copy(b, "\x7fELF\x01\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 2)
	binary.LittleEndian.PutUint16(b[18:], 243)
	binary.LittleEndian.PutUint32(b[20:], 1)
	binary.LittleEndian.PutUint16(b[40:], 52)
	return b
}

func TestConfigBounds(t *testing.T) {
	k := image(program(0x10500073))
	for name, c := range map[string]Config{
		"too little memory": {MemBytes: 1 << 20, Kernel: k},
		"odd memory":        {MemBytes: testMem + 4096, Kernel: k},
		"huge memory":       {MemBytes: 1 << 60, Kernel: k},
		"long command line": {MemBytes: testMem, Kernel: k, Cmdline: strings.Repeat("x", 3000)},
		"many disks":        {MemBytes: testMem, Kernel: k, Disks: make([]Disk, 100)},
		"large initrd":      {MemBytes: testMem, Kernel: k, Initrd: make([]byte, testMem)},
	} {
		n := c.MemBytes
		if n > 1<<30 {
			n = testMem
		}
		if _, err := New(c, make([]byte, n)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// tickerCount is where the ticker counts: beyond kernel, device tree and initrd.
const tickerCount = mem.Base + 7<<20

// ticker is a guest that sets a timer again and again, works, counts its interrupts in memory, keeps the
// time of each, and waits in between.
func ticker(t *testing.T) []byte {
	t.Helper()
	const csrSIE, csrStvec, csrTime, csrStimecmp, csrStatus = 0x104, 0x105, 0xc01, 0x14d, 0x100
	c := asm.Code{Base: mem.Base + 2<<20 + imageHeaderBytes}
	trap, again, work := c.NewLabel(), c.NewLabel(), c.NewLabel()
	c.La(5, trap)
	c.I("csrrw", asm.Args{Rs1: 5, CSR: csrStvec})
	c.Li(6, 1<<5)
	c.I("csrrs", asm.Args{Rs1: 6, CSR: csrSIE})
	c.I("csrrsi", asm.Args{Imm: 2, CSR: csrStatus})
	c.Li(9, tickerCount)
	c.Place(again)
	c.I("csrrs", asm.Args{Rd: 7, CSR: csrTime})
	c.Li(8, 10_000)
	c.I("add", asm.Args{Rd: 7, Rs1: 7, Rs2: 8})
	c.I("csrrw", asm.Args{Rs1: 7, CSR: csrStimecmp})
	c.Li(12, 300)
	c.Place(work)
	c.I("addi", asm.Args{Rd: 12, Rs1: 12, Imm: -1})
	c.I("mul", asm.Args{Rd: 13, Rs1: 12, Rs2: 7})
	c.I("sd", asm.Args{Rs2: 13, Rs1: 9, Imm: 16})
	c.To(asm.Get("bne"), asm.Args{Rs1: 12}, work)
	c.I("wfi", asm.Args{})
	c.To(asm.Get("jal"), asm.Args{}, again)
	c.Place(trap)
	c.I("ld", asm.Args{Rd: 14, Rs1: 9})
	c.I("addi", asm.Args{Rd: 14, Rs1: 14, Imm: 1})
	c.I("sd", asm.Args{Rs2: 14, Rs1: 9})
	c.I("csrrs", asm.Args{Rd: 15, CSR: csrTime})
	c.I("sd", asm.Args{Rs2: 15, Rs1: 9, Imm: 8})
	c.Li(16, -1)
	c.I("csrrw", asm.Args{Rs1: 16, CSR: csrStimecmp})
	c.I("sret", asm.Args{})
	return image(c.Finish())
}

// drive runs a machine for a number of stops with clock entries chosen by the seed, as a primary would, and
// gives the entries; every tenth is a digest.
func drive(t *testing.T, m *Machine, seed int64, stops int) []event.Entry {
	t.Helper()
	rng := rand.New(rand.NewSource(seed))
	var log []event.Entry
	add := func(k event.Kind, data []byte) {
		e := event.Entry{Seq: event.Seq(len(log) + 1), Pos: m.Position(), Kind: k, Data: data}
		if err := m.Deliver(e); err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
	}
	for i := range stops {
		m.RunSlice(m.Position() + event.Position(rng.Intn(3000)))
		now := m.TimeNs()
		if at, armed := m.Alarm(); m.Idle() && armed {
			now = max(now, at+uint64(rng.Intn(5000)))
		}
		if m.Idle() || rng.Intn(3) == 0 {
			add(event.KindClock, event.AppendClock(nil, event.Clock{NowNs: now, Rate: 1 + uint32(rng.Intn(4<<event.RateShift))}))
		}
		if i%10 == 9 {
			add(event.KindDigest, binary.LittleEndian.AppendUint64(nil, m.Digest()))
		}
	}
	return log
}

// replay gives a machine the entries of a log and reports the first digest that differs.
func replay(t *testing.T, m *Machine, log []event.Entry, cut *rand.Rand) (badAt event.Position, ok bool) {
	t.Helper()
	for _, e := range log {
		for cut != nil && m.Position() < e.Pos && cut.Intn(4) != 0 {
			m.Run(m.Position() + event.Position(cut.Intn(int(e.Pos-m.Position())+1)))
		}
		m.Run(e.Pos)
		if m.Position() != e.Pos {
			return m.Position(), false
		}
		if e.Kind == event.KindDigest && m.Digest() != binary.LittleEndian.Uint64(e.Data) {
			return e.Pos, false
		}
		if err := m.Deliver(e); err != nil {
			t.Fatal(err)
		}
	}
	return 0, true
}

func TestReplayEqualsRecording(t *testing.T) {
	cfg := Config{MemBytes: testMem, Kernel: ticker(t)}
	for seed := int64(1); seed <= 5; seed++ {
		m := boot(t, cfg)
		log := drive(t, m, seed, 500)
		var count [8]byte
		m.ram.Read(tickerCount, count[:])
		if n := binary.LittleEndian.Uint64(count[:]); n < 50 || n > 1e6 {
			t.Fatalf("only %d timer interrupts: the guest does not do what the test needs", n)
		}
		for _, cut := range []*rand.Rand{nil, rand.New(rand.NewSource(seed))} {
			if at, ok := replay(t, boot(t, cfg), log, cut); !ok {
				t.Fatalf("seed %d, cut %v: diverged at %d", seed, cut != nil, at)
			}
		}
		// From a snapshot in the middle.
		half := boot(t, cfg)
		if at, ok := replay(t, half, log[:len(log)/2], nil); !ok {
			t.Fatalf("diverged at %d", at)
		}
		var snap bytes.Buffer
		if err := half.Snapshot(&snap); err != nil {
			t.Fatal(err)
		}
		rest, err := Restore(cfg, make([]byte, testMem), &snap)
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := replay(t, rest, log[len(log)/2:], nil); !ok {
			t.Fatalf("seed %d, from the snapshot: diverged at %d", seed, at)
		}
	}
}

func TestDigestSeesEveryPart(t *testing.T) {
	cfg := Config{MemBytes: testMem, Kernel: ticker(t), NICs: []NIC{{MAC: [6]byte{2}}}, Disks: []Disk{{Sectors: 100}}}
	fresh := func() *Machine {
		m := boot(t, cfg)
		m.Run(500)
		return m
	}
	want := fresh().Digest()
	if fresh().Digest() != want {
		t.Fatal("equal machines have different digests")
	}
	for name, change := range map[string]func(m *Machine){
		"register":     func(m *Machine) { m.hart.SetX(20, 1) },
		"float":        func(m *Machine) { m.hart.SetF(3, 1) },
		"one RAM bit":  func(m *Machine) { m.ram.Write(mem.Base+testMem-1, []byte{1}) },
		"swapped RAM":  func(m *Machine) { m.ram.Write(mem.Base+6<<20, []byte{1}) },
		"console byte": func(m *Machine) { m.uart.Receive([]byte("x")) },
		"clock":        func(m *Machine) { m.clock.Rate++ },
		"position":     func(m *Machine) { m.Run(m.Position() + 1) },
		"scratch disk": func(m *Machine) { m.Write(virtioBase+3*virtioStride+0x70, 4, 1) },
	} {
		m := fresh()
		m.Digest() // a digest taken before must not hide the change
		change(m)
		if m.Digest() == want {
			t.Errorf("%s: not seen", name)
		}
	}
	a, b := fresh(), fresh()
	a.ram.Write(mem.Base+6<<20, []byte{1})
	b.ram.Write(mem.Base+7<<20, []byte{1})
	if a.Digest() == b.Digest() {
		t.Error("the same page content in two places has one digest")
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	cfg := Config{MemBytes: testMem, Kernel: ticker(t)}
	m := boot(t, cfg)
	m.Run(5000)
	var snap bytes.Buffer
	if err := m.Snapshot(&snap); err != nil {
		t.Fatal(err)
	}
	good := snap.Bytes()
	restore := func(cfg Config, b []byte) error {
		_, err := Restore(cfg, make([]byte, cfg.MemBytes), bytes.NewReader(b))
		return err
	}
	if err := restore(cfg, good); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(1))
	for range 40 {
		bad := bytes.Clone(good)
		bad[rng.Intn(len(bad))] ^= 1 << rng.Intn(8)
		if err := restore(cfg, bad); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("a flipped bit: %v", err)
		}
		if err := restore(cfg, good[:rng.Intn(len(good))]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut short: %v", err)
		}
	}
	other := cfg
	other.MemBytes = 2 * testMem
	if err := restore(other, good); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "another machine") {
		t.Fatalf("another machine's snapshot: %v", err)
	}
}

func TestDeliverRefusesWhatDoesNotFit(t *testing.T) {
	cfg := Config{Kernel: ticker(t)}
	for name, e := range map[string]event.Entry{
		"wrong position":  {Pos: 7, Kind: event.KindCommit},
		"unknown kind":    {Kind: 200},
		"no such NIC":     {Kind: event.KindNet, Data: make([]byte, 60)},
		"no such disk":    {Kind: event.KindDisk, Data: event.AppendDiskDone(nil, event.DiskDone{ID: 1})},
		"no such console": {Kind: event.KindConsole, Device: 9},
		"malformed clock": {Kind: event.KindClock, Data: []byte{0x80}},
	} {
		if err := boot(t, cfg).Deliver(e); err == nil {
			t.Errorf("%s was delivered", name)
		}
	}
	m := boot(t, cfg)
	m.Run(1000)
	back := event.AppendClock(nil, event.Clock{NowNs: m.TimeNs() - 1, Rate: 1})
	if err := m.Deliver(event.Entry{Pos: m.Position(), Kind: event.KindClock, Data: back}); err == nil {
		t.Error("guest time stepped back")
	}
}

// TestDeviceTree has the device tree compiler read the tree.
func TestDeviceTree(t *testing.T) {
	dtc, err := exec.LookPath("dtc")
	if err != nil {
		t.Skip("dtc (Debian: device-tree-compiler) is not installed")
	}
	m := boot(t, Config{Kernel: ticker(t), NICs: []NIC{{}}, Disks: []Disk{{Sectors: 1}}, Cmdline: "console=ttyS0"})
	m.cfg.Initrd = []byte("x")
	tree, err := m.deviceTree(mem.Base + 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dtc, "-I", "dtb", "-O", "dts")
	cmd.Stdin = bytes.NewReader(tree)
	var warnings bytes.Buffer
	cmd.Stderr = &warnings
	dts, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, warnings.String())
	}
	for _, want := range []string{"console=ttyS0", "virtio_mmio@10004000", "riscv,sv39", "sifive,plic-1.0.0", "linux,initrd-end"} {
		if !strings.Contains(string(dts), want) {
			t.Errorf("no %q in the device tree", want)
		}
	}
	if warnings.Len() > 0 {
		t.Errorf("dtc warns: %s", warnings.String())
	}
}

func FuzzRestore(f *testing.F) {
	cfg := Config{MemBytes: testMem, Kernel: image(program(0x10500073))}
	ram := make([]byte, testMem)
	m, err := New(cfg, ram)
	if err != nil {
		f.Fatal(err)
	}
	var snap bytes.Buffer
	if err := m.Snapshot(&snap); err != nil {
		f.Fatal(err)
	}
	f.Add(snap.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		clear(ram)
		if m, err := Restore(cfg, ram, bytes.NewReader(b)); err == nil {
			m.Run(m.Position() + 1000)
		}
	})
}
