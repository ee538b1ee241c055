package mem

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFlagsAgainstAModel compares what is taken with what was touched, for RAM of all sorts of sizes.
func TestFlagsAgainstAModel(t *testing.T) {
	for pages := 1; pages < 140; pages += 1 + pages/7 {
		rng := rand.New(rand.NewPCG(uint64(pages), 0))
		r := New(make([]byte, pages*PageBytes))
		drops := 0
		r.DropWriteTags = func() { drops++ }
		dirty := map[Flags][]bool{DirtyDigest: make([]bool, pages), DirtyEpoch: make([]bool, pages)}
		written := make([]bool, pages)
		for range 300 {
			set := []Flags{DirtyDigest, DirtyEpoch}[rng.IntN(2)]
			switch rng.IntN(8) {
			case 0:
				var got, want []int
				for n, d := range dirty[set] {
					if d {
						want = append(want, n)
					}
				}
				clear(dirty[set])
				drops = 0
				r.ClearDirty(set, func(n int) { got = append(got, n) })
				if !slices.Equal(got, want) || (drops == 1) != (len(want) > 0) {
					t.Fatalf("%d pages: took %v, want %v; %d drops", pages, got, want, drops)
				}
			case 1:
				r.MarkWritten(set)
				for n, w := range written {
					dirty[set][n] = dirty[set][n] || w
				}
			default:
				n := rng.IntN(pages)
				at := uint64(n)*PageBytes + rng.Uint64N(PageBytes)
				size := min(rng.Uint64N(2*PageBytes)+1, r.Size()-at)
				r.Touch(Base+at, size)
				for p := at / PageBytes; p <= (at+size-1)/PageBytes; p++ {
					dirty[DirtyDigest][p], dirty[DirtyEpoch][p], written[p] = true, true, true
				}
			}
			r.PageFlags()[rng.IntN(pages)] ^= Code // another's flag, which must stay
		}
		var other int
		for n, f := range r.PageFlags() {
			if f&^(AllDirty|Code) != 0 || f&Written != 0 != written[n] {
				t.Fatalf("%d pages: page %d has flags %#x", pages, n, f)
			}
			other += int(f & Code)
		}
		if other == 0 && pages > 20 {
			t.Fatal("flags of others were cleared")
		}
	}
}
