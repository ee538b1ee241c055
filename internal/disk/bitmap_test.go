package disk

import (
	"math/rand/v2"
	"testing"
)

// TestBitmap compares random operations with a slice of bools.
func TestBitmap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []uint64{1, 63, 64, 65, 200, 640} {
		b, model := newBitmap(size), make([]bool, size)
		for range 2000 {
			first := rng.Uint64N(size)
			n := rng.Uint64N(size - first + 1)
			on := rng.IntN(2) == 0
			if on {
				b.set(first, n)
			} else {
				b.clear(first, n)
			}
			count, next, run := uint64(0), size, uint64(0)
			for i := range model {
				if uint64(i) >= first && uint64(i) < first+n {
					model[i] = on
				}
				if model[i] {
					count++
				}
			}
			from, limit := rng.Uint64N(size), rng.Uint64N(size+10)
			for i := size; i > from; i-- {
				if model[i-1] {
					next = i - 1
				}
			}
			member := rng.IntN(2) == 0
			for run < limit && from+run < size && model[from+run] == member {
				run++
			}
			got, ok := b.next(from)
			if b.count != count || ok != (next < size) || ok && got != next || b.run(from, limit, member) != run || b.has(from) != model[from] {
				t.Fatalf("size %d: count %d (%d), next %d %v (%d), run %d (%d)", size, b.count, count, got, ok, next, b.run(from, limit, member), run)
			}
		}
		if _, ok := b.next(size); ok {
			t.Fatal("a member behind the end")
		}
	}
}
