package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand"
	"testing"

	"understudy/event"
	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
	"understudy/machine/pages"
)

// Where the churning guest keeps its things, by MiB of RAM.
const (
	churnCount  = mem.Base + 7<<20
	churnTables = mem.Base + 5<<20
	churnCode   = mem.Base + 6<<20
	churnMapped = mem.Base + 8<<20
	churnData   = mem.Base + 12<<20
	churnVA     = 0x4000_0000
)

// churn is a guest under Sv39 that goes on for ever: it rewrites functions and calls them, maps other pages
// at the same addresses and uses them, writes to many pages, all as a generator says that the time CSR
// disturbs; a timer interrupts it.
func churn(t testing.TB) []byte {
	t.Helper()
	const csrSIE, csrStvec, csrTime, csrStimecmp, csrStatus, csrSatp = 0x104, 0x105, 0xc01, 0x14d, 0x100, 0x180
	c := asm.Code{Base: mem.Base + 2<<20 + imageHeaderBytes}
	i := func(name string, a asm.Args) { c.I(name, a) }
	trap, fill, loop := c.NewLabel(), c.NewLabel(), c.NewLabel()
	const (
		code, leaf, rng, mapped, data, virt = 8, 9, 18, 19, 20, 21
		mul, inc, one, two, three, sum      = 22, 23, 5, 6, 7, 10
	)
	// Tables: RAM at its own addresses; below, a table of eight pages.
	pte := func(addr uint64, flags int64) int64 { return int64(addr>>12<<10) | flags }
	store := func(at uint64, v int64) {
		c.Li(one, int64(at))
		c.Li(two, v)
		i("sd", asm.Args{Rs2: two, Rs1: one})
	}
	store(churnTables+8*(mem.Base>>30), pte(mem.Base, 0xcf))
	store(churnTables+8*(churnVA>>30), pte(churnTables+4096, 1))
	store(churnTables+4096, pte(churnTables+8192, 1))
	for n := range uint64(8) {
		store(churnTables+8192+8*n, pte(churnMapped+n*4096, 7))
	}
	satp := uint64(churnTables>>12 | 8<<60)
	c.Li(one, int64(satp))
	i("csrrw", asm.Args{Rs1: one, CSR: csrSatp})
	// Functions: 16 times "addi a0, a0, ?" and "ret"; at first "ret" twice.
	c.Li(code, churnCode)
	c.Li(two, 0x00008067)
	c.Li(three, 16)
	i("addi", asm.Args{Rd: one, Rs1: code})
	c.Place(fill)
	i("sw", asm.Args{Rs2: two, Rs1: one})
	i("sw", asm.Args{Rs2: two, Rs1: one, Imm: 4})
	i("addi", asm.Args{Rd: one, Rs1: one, Imm: 8})
	i("addi", asm.Args{Rd: three, Rs1: three, Imm: -1})
	c.To(asm.Get("bne"), asm.Args{Rs1: three}, fill)
	// The timer; its handler uses x28 to x31.
	c.La(one, trap)
	i("csrrw", asm.Args{Rs1: one, CSR: csrStvec})
	c.Li(28, churnCount)
	c.Li(one, 1<<5)
	i("csrrs", asm.Args{Rs1: one, CSR: csrSIE})
	i("csrrw", asm.Args{CSR: csrStimecmp})
	i("csrrsi", asm.Args{Imm: 2, CSR: csrStatus})
	c.Li(leaf, churnTables+8192)
	c.Li(mapped, churnMapped>>12<<10)
	c.Li(data, churnData)
	c.Li(virt, churnVA)
	c.Li(mul, 6364136223846793005)
	c.Li(inc, 1442695040888963407)
	// bits puts bits [from, from+n) of the generator, shifted left, into a register.
	bits := func(rd uint8, from, n, left int64) {
		i("slli", asm.Args{Rd: rd, Rs1: rng, Imm: 64 - from - n})
		i("srli", asm.Args{Rd: rd, Rs1: rd, Imm: 64 - n})
		if left > 0 {
			i("slli", asm.Args{Rd: rd, Rs1: rd, Imm: left})
		}
	}
	c.Place(loop)
	i("mul", asm.Args{Rd: rng, Rs1: rng, Rs2: mul})
	i("csrrs", asm.Args{Rd: one, CSR: csrTime})
	i("xor", asm.Args{Rd: rng, Rs1: rng, Rs2: one})
	i("add", asm.Args{Rd: rng, Rs1: rng, Rs2: inc})
	// Rewrite a function and call it.
	bits(one, 40, 4, 3)
	i("add", asm.Args{Rd: one, Rs1: one, Rs2: code})
	bits(two, 52, 12, 20)
	c.Li(three, 0x00050513)
	i("or", asm.Args{Rd: two, Rs1: two, Rs2: three})
	i("sw", asm.Args{Rs2: two, Rs1: one})
	i("fence.i", asm.Args{})
	i("jalr", asm.Args{Rd: 1, Rs1: one})
	bits(one, 44, 4, 3) // and another one, as it is
	i("add", asm.Args{Rd: one, Rs1: one, Rs2: code})
	i("jalr", asm.Args{Rd: 1, Rs1: one})
	// Map another page, write to one, read from one.
	bits(one, 30, 3, 3)
	i("add", asm.Args{Rd: one, Rs1: one, Rs2: leaf})
	bits(two, 33, 8, 10)
	i("or", asm.Args{Rd: two, Rs1: two, Rs2: mapped})
	i("addi", asm.Args{Rd: two, Rs1: two, Imm: 7})
	i("sd", asm.Args{Rs2: two, Rs1: one})
	i("sfence.vma", asm.Args{})
	mappedWord := func(page, word int64) { // one of eight, so that pages soon differ in all of them
		bits(one, page, 3, 12)
		bits(two, word, 3, 3)
		i("add", asm.Args{Rd: one, Rs1: one, Rs2: two})
		i("add", asm.Args{Rd: one, Rs1: one, Rs2: virt})
	}
	mappedWord(20, 23)
	i("sd", asm.Args{Rs2: sum, Rs1: one})
	mappedWord(26, 29)
	i("ld", asm.Args{Rd: two, Rs1: one})
	i("xor", asm.Args{Rd: sum, Rs1: sum, Rs2: two})
	// Write to one of 512 pages.
	bits(one, 11, 18, 3)
	i("add", asm.Args{Rd: one, Rs1: one, Rs2: data})
	i("sd", asm.Args{Rs2: sum, Rs1: one})
	c.To(asm.Get("jal"), asm.Args{}, loop)
	c.Place(trap)
	i("ld", asm.Args{Rd: 29, Rs1: 28})
	i("addi", asm.Args{Rd: 29, Rs1: 29, Imm: 1})
	i("sd", asm.Args{Rs2: 29, Rs1: 28})
	i("csrrs", asm.Args{Rd: 30, CSR: csrTime})
	c.Li(31, 7_000)
	i("add", asm.Args{Rd: 30, Rs1: 30, Rs2: 31})
	i("csrrw", asm.Args{Rs1: 30, CSR: csrStimecmp})
	i("sret", asm.Args{})
	return image(c.Finish())
}

func churnConfig(t testing.TB) Config {
	return Config{
		MemBytes: testMem, Kernel: churn(t), Initrd: []byte("not read"),
		NICs: []NIC{{MAC: [6]byte{2}}}, Disks: []Disk{{Sectors: 100}},
	}
}

// work drives m for some stops, with input of all kinds.
func work(t *testing.T, m *Machine, r *rand.Rand, stops int) []event.Entry {
	t.Helper()
	var log []event.Entry
	for stops > 0 {
		n := min(stops, 1+r.Intn(20))
		stops -= n
		log = append(log, drive(t, m, r.Int63(), n)...)
		frame := make([]byte, 60+r.Intn(200))
		r.Read(frame)
		for _, e := range []event.Entry{
			{Kind: event.KindNet, Data: frame},
			{Kind: event.KindConsole, Device: uint8(r.Intn(2)), Data: frame[:r.Intn(5)]},
		} {
			e.Pos = m.Position()
			if err := m.Deliver(e); err != nil {
				t.Fatal(err)
			}
			log = append(log, e)
		}
	}
	return append(log, event.Entry{
		Pos: m.Position(), Kind: event.KindDigest, Data: binary.LittleEndian.AppendUint64(nil, m.Digest()),
	})
}

// sender copies a machine's pages as a host would.
type sender struct {
	m      *Machine
	shadow *pages.Shadow
	enc    pages.Encoder
	dirty  []uint32
	set    pages.Set
}

func newSender(m *Machine) *sender {
	m.MarkAllDirty()
	return &sender{m: m, shadow: pages.NewShadow(make([]byte, m.ram.Size()))}
}

// take copies the dirty pages.
func (s *sender) take() {
	s.dirty = s.m.TakeDirty(s.dirty[:0])
	s.copy(s.dirty)
}

func (s *sender) copy(numbers []uint32) {
	s.set.Reset()
	for _, n := range numbers {
		s.set.Add(n, s.m.Page(int(n)))
	}
}

// batch encodes what take copied.
func (s *sender) batch() []byte {
	s.enc.Begin(nil)
	for i := range s.set.Len() {
		n, p := s.set.At(i)
		s.shadow.Add(&s.enc, n, p)
	}
	return s.enc.Finish()
}

func install(t *testing.T, m *Machine, batch []byte) {
	t.Helper()
	var d pages.Decoder
	if err := d.Decode(batch, m.Pages(), m.Page, m.InstallPage); err != nil {
		t.Fatal(err)
	}
}

func blank(t testing.TB, cfg Config) *Machine {
	t.Helper()
	m, err := NewBlank(cfg.Bare(), make([]byte, cfg.MemBytes))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustReplay(t *testing.T, m *Machine, log []event.Entry, r *rand.Rand) {
	t.Helper()
	if at, ok := replay(t, m, log, r); !ok {
		t.Fatalf("diverged at %d", at)
	}
}

func TestChurnIsBusy(t *testing.T) {
	m := boot(t, churnConfig(t))
	work(t, m, rand.New(rand.NewSource(1)), 100)
	m.TakeDirty(nil)
	log := work(t, m, rand.New(rand.NewSource(2)), 400)
	dirty := map[uint64]int{}
	for _, n := range m.TakeDirty(nil) {
		dirty[uint64(n)*mem.PageBytes>>20]++
	}
	var count [8]byte
	m.ram.Read(churnCount, count[:])
	if n := binary.LittleEndian.Uint64(count[:]); n < 20 || n > 1e6 || dirty[5] != 1 || dirty[6] != 1 || dirty[8] < 200 || dirty[12]+dirty[13] < 400 {
		t.Fatalf("%d interrupts, dirty pages by MiB %v: the guest does not do what the tests need", n, dirty)
	}
	codes, tables := 0, 0
	for _, f := range m.ram.PageFlags() {
		codes += int(f & mem.Code / mem.Code)
		tables += int(f & mem.Table / mem.Table)
	}
	if codes < 2 || tables < 2 || len(log) < 100 {
		t.Fatalf("%d pages of code, %d of tables, %d entries", codes, tables, len(log))
	}
}

// TestCloneWhileRunning clones a running machine, then the clone, and has all three go on.
func TestCloneWhileRunning(t *testing.T) {
	cfg := churnConfig(t)
	for seed := int64(1); seed <= 4; seed++ {
		r := rand.New(rand.NewSource(seed))
		a := boot(t, cfg)
		a.TakeDirty(nil) // a transfer that came to nothing
		work(t, a, r, 50)
		clone := func(from *Machine, raw bool) (*Machine, []event.Entry) {
			to, s := blank(t, cfg), newSender(from)
			var logs []event.Entry
			for round := range 5 {
				dirty := from.TakeDirty(nil)
				if n := len(dirty); round == 0 && (n < 30 || from == a && n > 2000) { // TouchAll touches all
					t.Fatalf("%d pages at the start", n)
				}
				for len(dirty) > 0 { // in pieces; but for the last round the machine runs on in between
					piece := dirty[:1+r.Intn(len(dirty))]
					dirty = dirty[len(piece):]
					s.copy(piece)
					if round < 4 {
						logs = append(logs, work(t, from, r, 1+r.Intn(20))...)
					}
					if b := s.batch(); raw {
						to.TouchAll()
						for i := range s.set.Len() {
							n, p := s.set.At(i)
							copy(to.Page(int(n)), p)
						}
					} else {
						install(t, to, b)
					}
					if r.Intn(4) == 0 {
						to.Digest() // of no meaning yet, but it must not hide later pages
					}
				}
			}
			if err := to.LoadState(from.SaveState()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(from.ram.Bytes(), to.ram.Bytes()) {
				t.Fatalf("seed %d: RAM differs", seed)
			}
			if from.Digest() != to.Digest() || !bytes.Equal(from.SaveState(), to.SaveState()) {
				t.Fatalf("seed %d: equal RAM, but state or digest differ", seed)
			}
			return to, logs
		}
		b, _ := clone(a, seed%2 == 0)
		mustReplay(t, b, work(t, a, r, 100), r)
		c, log := clone(b, false)
		mustReplay(t, a, log, r)
		log = work(t, c, r, 100)
		mustReplay(t, a, log, nil)
		mustReplay(t, b, log, r)
	}
}

// TestCheckpoints keeps a machine at each epoch's end of another, until it takes over.
func TestCheckpoints(t *testing.T) {
	cfg := churnConfig(t)
	for seed := int64(1); seed <= 4; seed++ {
		r := rand.New(rand.NewSource(seed))
		a, b := boot(t, cfg), blank(t, cfg)
		s := newSender(a)
		for epochs := 20 + r.Intn(30); epochs > 0; epochs-- {
			work(t, a, r, 1+r.Intn(30))
			s.take()
			st := a.SaveState()
			want := a.Digest()
			batch := s.batch()
			var d pages.Decoder
			if err := d.Check(batch, b.Pages()); err != nil {
				t.Fatal(err)
			}
			install(t, b, batch)
			if err := b.LoadState(st); err != nil {
				t.Fatal(err)
			}
			if epochs%5 == 0 && b.Digest() != want {
				t.Fatalf("seed %d: the digest differs at an epoch's end", seed)
			}
		}
		if s.enc.Stats.Pages[pages.Delta] == 0 {
			t.Fatal("no page went as a delta")
		}
		log := work(t, b, r, 100)
		mustReplay(t, a, log, r)
	}
}

// TestRewind loads a state over a machine whose caches are warm with what it did later.
func TestRewind(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	m := boot(t, churnConfig(t))
	work(t, m, r, 100)
	st, ram := m.SaveState(), bytes.Clone(m.ram.Bytes())
	log := work(t, m, r, 200)
	for i := range 4 {
		if i%2 == 0 {
			m.TouchAll()
		}
		copy(m.ram.Bytes(), ram)
		if err := m.LoadState(st); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			for n, f := range m.ram.PageFlags() {
				if f&(mem.Code|mem.Table) != 0 {
					t.Fatalf("page %d: something is cached of RAM that is gone", n)
				}
			}
			m.TouchAll() // for the digest's sake
		}
		mustReplay(t, m, log, r)
	}
}

// TestLoadStateDropsOutputs: what the machine said before belongs to another past.
func TestLoadStateDropsOutputs(t *testing.T) {
	m := boot(t, Config{Kernel: image(program(append(sbi(1, 0, 'x', 0, 0), 0x10500073)...))})
	st := m.SaveState()
	m.Run(100)
	if err := m.LoadState(st); err != nil || m.Position() != 0 || len(m.TakeOutputs()) != 0 {
		t.Fatalf("%v, position %d", err, m.Position())
	}
	m.Run(100)
	if len(m.TakeOutputs()) != 1 {
		t.Fatal("the machine did not say it again")
	}
}

func TestBlankMachineDoesNotRun(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("it ran")
		}
	}()
	blank(t, churnConfig(t)).Run(1)
}

func TestConfigWithoutItsImages(t *testing.T) {
	cfg := churnConfig(t)
	bare := cfg.Bare()
	if bare.Kernel != nil || bare.Initrd != nil || bare.Digest() != cfg.Digest() || cfg.Kernel == nil {
		t.Fatal("a bare config is another config")
	}
	for name, change := range map[string]func(c *Config){
		"kernel":         func(c *Config) { c.Kernel = churn(t)[1:] },
		"initrd":         func(c *Config) { c.Initrd = nil },
		"kernel's hash":  func(c *Config) { *c = c.Bare(); c.KernelHash[0]++ },
		"initrd's hash":  func(c *Config) { *c = c.Bare(); c.InitrdHash[0]++ },
		"hash swapped":   func(c *Config) { *c = c.Bare(); c.InitrdHash, c.KernelHash = c.KernelHash, c.InitrdHash },
		"kernel for ini": func(c *Config) { c.Kernel, c.Initrd = c.Initrd, c.Kernel },
	} {
		c := cfg
		if change(&c); c.Digest() == cfg.Digest() {
			t.Errorf("%s: not seen", name)
		}
	}
	ram := make([]byte, testMem)
	wrong := cfg
	wrong.KernelHash[3]++
	if _, err := New(wrong, ram); err == nil {
		t.Error("a kernel was taken for another")
	}
	wrong = cfg
	wrong.InitrdHash[3]++
	if _, err := New(wrong, ram); err == nil {
		t.Error("an initrd was taken for another")
	}
	if _, err := New(bare, ram); !errors.Is(err, ErrKernel) {
		t.Errorf("a machine without a kernel: %v", err)
	}
	named := cfg
	named.KernelHash, named.InitrdHash = bare.KernelHash, bare.InitrdHash
	if _, err := New(named, ram); err != nil {
		t.Errorf("a config with images and their hashes: %v", err)
	}
	if _, err := NewBlank(bare, ram[1:]); err == nil {
		t.Error("RAM of another size was taken")
	}
}

func TestInstallPageBounds(t *testing.T) {
	m := blank(t, churnConfig(t))
	p := make([]byte, mem.PageBytes)
	for _, c := range []struct {
		n int
		p []byte
	}{{-1, p}, {m.Pages(), p}, {1 << 60, p}, {0, p[1:]}, {0, nil}} {
		if m.InstallPage(c.n, c.p) == nil {
			t.Errorf("page %d of %d bytes was installed", c.n, len(c.p))
		}
	}
	if err := m.InstallPage(m.Pages()-1, p); err != nil {
		t.Error(err)
	}
}

func resum(p []byte) []byte {
	binary.LittleEndian.PutUint32(p[len(p)-4:], crc32.Checksum(p[:len(p)-4], castagnoli))
	return p
}

func TestDamagedTransfer(t *testing.T) {
	cfg := churnConfig(t)
	r := rand.New(rand.NewSource(6))
	a := boot(t, cfg)
	work(t, a, r, 100)
	s, b := newSender(a), blank(t, cfg)
	s.take()
	install(t, b, s.batch())
	good := a.SaveState()
	if err := b.LoadState(good); err != nil {
		t.Fatal(err)
	}
	want := a.Digest()
	// Damage on the way leaves the machine as it was.
	for range 300 {
		bad := bytes.Clone(good)
		bad[r.Intn(len(bad))] ^= 1 << r.Intn(8)
		if err := b.LoadState(bad); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("a flipped bit: %v", err)
		}
		if err := b.LoadState(good[:r.Intn(len(good))]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut short: %v", err)
		}
	}
	other := cfg
	other.Cmdline = "other"
	if err := b.LoadState(boot(t, other).SaveState()); !errors.Is(err, ErrSnapshot) {
		t.Fatalf("another machine's state: %v", err)
	}
	if b.Digest() != want {
		t.Fatal("a refused state left traces")
	}
	// Damage that the sender signed is seen by the digest, where it makes a difference at all.
	refused, seen := 0, 0
	for range 300 {
		bad := bytes.Clone(good)
		bad[stateHead+r.Intn(len(bad)-stateHead-4)] ^= 1 << r.Intn(8)
		switch err := b.LoadState(resum(bad)); {
		case err != nil && !errors.Is(err, ErrSnapshot):
			t.Fatal(err)
		case err != nil:
			if refused++; !b.blank {
				t.Fatal("half a state would run")
			}
		case b.Digest() != want:
			seen++
		case !bytes.Equal(b.SaveState(), good):
			t.Fatal("a difference was not seen")
		}
	}
	if refused < 10 || seen < 100 {
		t.Fatalf("%d refused, %d seen", refused, seen)
	}
	if err := b.LoadState(good); err != nil || b.Digest() != want || b.blank {
		t.Fatalf("the good state after all: %v", err)
	}
	// So is a bit of a page, in a page that did not change otherwise too.
	for range 20 {
		n, bit := r.Intn(b.Pages()), r.Intn(mem.PageBytes*8)
		p := bytes.Clone(b.Page(n))
		p[bit/8] ^= 1 << (bit % 8)
		if err := b.InstallPage(n, p); err != nil || b.Digest() == want {
			t.Fatalf("a flipped bit of page %d was not seen: %v", n, err)
		}
		p[bit/8] ^= 1 << (bit % 8)
		if err := b.InstallPage(n, p); err != nil || b.Digest() != want {
			t.Fatalf("page %d restored: the digest stays wrong: %v", n, err)
		}
	}
}

func FuzzLoadState(f *testing.F) {
	cfg := churnConfig(f)
	m, err := New(cfg, make([]byte, testMem))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.SaveState())
	m.Run(10_000)
	f.Add(m.SaveState())
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= stateHead+4 {
			copy(b[len(stateMagic):], m.id[:])
			binary.LittleEndian.PutUint32(b[stateHead-4:], uint32(len(b)-stateHead-4))
			resum(b)
		}
		if err := m.LoadState(b); err == nil {
			m.Run(m.Position() + 1000)
		} else if !errors.Is(err, ErrSnapshot) {
			t.Fatal(err)
		}
	})
}
