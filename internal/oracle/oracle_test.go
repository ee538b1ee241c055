package oracle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"understudy/internal/oracle/asm"
)

// seeds gives the seeds to try: UNDERSTUDY_ORACLE_SEED is the first one (and the only one, unless
// UNDERSTUDY_ORACLE_SEEDS says how many).
func seeds(t *testing.T, count int) (first, end uint64) {
	number := func(name string, otherwise uint64) uint64 {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if os.Getenv("UNDERSTUDY_ORACLE_SEED") != "" {
		count = 1
	} else if testing.Short() {
		count /= 4
	}
	first = number("UNDERSTUDY_ORACLE_SEED", 1)
	return first, first + number("UNDERSTUDY_ORACLE_SEEDS", uint64(count))
}

// each runs f for all seeds on two goroutines and stops after a few failures.
func each(t *testing.T, count int, f func(seed uint64) error) {
	first, end := seeds(t, count)
	var next, failed atomic.Uint64
	next.Store(first)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for failed.Load() < 5 {
				seed := next.Add(1) - 1
				if seed >= end {
					return
				}
				if err := f(seed); err != nil {
					failed.Add(1)
					t.Errorf("seed %d: %v\nrepeat: UNDERSTUDY_ORACLE_SEED=%d go test ./internal/oracle -run '^%s$'",
						seed, err, seed, t.Name())
				}
			}
		})
	}
	wg.Wait()
	t.Logf("seeds %d to %d", first, end-1)
}

// TestQEMU runs random programs in QEMU and in our hart, in one of the modes, and compares all registers.
func TestQEMU(t *testing.T) {
	dir := t.TempDir()
	if _, err := QEMU(Generate(0, Options{Steps: 1}), dir); errors.Is(err, ErrNoQEMU) {
		t.Skip(err)
	}
	each(t, 200, func(seed uint64) error {
		return against(seed, dir, Options{})
	})
}

func against(seed uint64, dir string, o Options) error {
	p := Generate(seed, o)
	want, err := QEMU(p, dir)
	if err != nil {
		return err
	}
	mode := Mode(seed % uint64(modes))
	got, _, err := Hart(p, mode, nil)
	if err == nil {
		err = p.Compare(want, got)
	}
	if err == nil {
		return nil
	}
	if !o.RecordAll { // again with a record after each step, to say where
		o.RecordAll = true
		if closer := against(seed, dir, o); closer != nil {
			return closer
		}
	}
	return fmt.Errorf("mode %v: %w", mode, err)
}

// TestCuts runs random programs in one piece and cut at random positions, and compares.
func TestCuts(t *testing.T) {
	each(t, 120, func(seed uint64) error {
		p := Generate(seed, Options{})
		mode := Mode(seed % uint64(modes))
		want, end, err := Hart(p, mode, nil)
		if err != nil {
			return err
		}
		r := rand.New(rand.NewPCG(seed, 7))
		most := []uint64{3, 40, 1000}[r.IntN(3)]
		got, pos, err := Hart(p, mode, func() uint64 { return 1 + r.Uint64N(most) })
		if err != nil {
			return err
		}
		if pos != end {
			return fmt.Errorf("ends at %d, cut into runs of at most %d at %d", end, most, pos)
		}
		if err := p.Compare(want, got); err != nil {
			return fmt.Errorf("mode %v, runs of at most %d: %w", mode, most, err)
		}
		return nil
	})
}

// TestModes runs random programs in all modes and compares.
func TestModes(t *testing.T) {
	each(t, 60, func(seed uint64) error {
		p := Generate(seed, Options{})
		want, _, err := Hart(p, ModeS, nil)
		if err != nil {
			return err
		}
		for m := ModeU; m < modes; m++ {
			got, _, err := Hart(p, m, nil)
			if err == nil {
				err = p.Compare(want, got)
			}
			if err != nil {
				return fmt.Errorf("mode %v against S: %w", m, err)
			}
		}
		return nil
	})
}

// TestGenerateIsPure makes a program twice.
func TestGenerateIsPure(t *testing.T) {
	for seed := range uint64(20) {
		a, b := Generate(seed, Options{}), Generate(seed, Options{})
		if string(a.Code) != string(b.Code) || string(a.Data) != string(b.Data) {
			t.Fatalf("seed %d gives two programs", seed)
		}
	}
}

// TestCompareSeesEveryBit changes one bit of what an oracle might have written.
func TestCompareSeesEveryBit(t *testing.T) {
	p := Generate(1, Options{Steps: 20})
	want := make([]byte, recordsOffset+3*RecordBytes)
	if err := p.Compare(want, append([]byte(nil), want...)); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		got := append([]byte(nil), want...)
		got[i] ^= 1 << (i % 8)
		if p.Compare(want, got) == nil {
			t.Fatalf("a bit of byte %d changed unnoticed", i)
		}
	}
	if p.Compare(want, want[:len(want)-RecordBytes]) == nil {
		t.Fatal("a missing record went unnoticed")
	}
}

// TestEveryInstructionAppears sees that the generator uses all of the tables.
func TestEveryInstructionAppears(t *testing.T) {
	seen := map[string]bool{"ecall": true, "ebreak": true, "sret": true, "wfi": true, "sfence.vma": true} // not for user programs
	for seed := range uint64(40) {
		for _, l := range Generate(seed, Options{}).Lines {
			seen[l.Op.Name] = true
		}
	}
	for _, n := range asm.Names() {
		if !seen[n] {
			t.Errorf("%s does not appear in 40 programs", n)
		}
	}
}
