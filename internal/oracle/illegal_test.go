package oracle

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// TestLegalWords asks QEMU and our hart which of many random words are instructions.
func TestLegalWords(t *testing.T) {
	dir := t.TempDir()
	if _, err := QEMU(Probes(nil), dir); errors.Is(err, ErrNoQEMU) {
		t.Skip(err)
	}
	r := rand.New(rand.NewPCG(11, 12))
	differ, legal, total := 0, 0, 0
	first, end := seeds(t, 10)
	for range end - first {
		words := make([]uint32, 4000)
		for i := range words {
			words[i] = ProbeWord(r)
		}
		p := Probes(words)
		want, err := QEMU(p, dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := HartProbes(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != len(words) || len(got) != len(words) {
			t.Fatalf("%d words: %d answers, QEMU gives %d", len(words), len(got), len(want))
		}
		for i := range words {
			total++
			if want[i] == 0 {
				legal++
			}
			if want[i] != got[i] {
				if differ++; differ < 40 {
					t.Errorf("%08x: exception %d, QEMU has %d", words[i], got[i], want[i])
				}
			}
		}
	}
	if legal < total/10 || legal > total*9/10 {
		t.Errorf("%d of %d words are legal: the probes are one-sided", legal, total)
	}
	t.Logf("%d words, %d of them legal, %d differ", total, legal, differ)
}
