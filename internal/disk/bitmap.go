package disk

import "math/bits"

// bitmap is a set of blocks. Invariant: count is the number of members, all below size.
type bitmap struct {
	words []uint64
	size  uint64
	count uint64
}

func newBitmap(size uint64) *bitmap {
	return &bitmap{words: make([]uint64, (size+63)/64), size: size}
}

func (b *bitmap) has(i uint64) bool { return b.words[i/64]>>(i%64)&1 != 0 }

// set adds n blocks from first on.
func (b *bitmap) set(first, n uint64) {
	b.each(first, n, func(w *uint64, mask uint64) {
		b.count += uint64(bits.OnesCount64(mask &^ *w))
		*w |= mask
	})
}

// clear removes n blocks from first on.
func (b *bitmap) clear(first, n uint64) {
	b.each(first, n, func(w *uint64, mask uint64) {
		b.count -= uint64(bits.OnesCount64(mask & *w))
		*w &^= mask
	})
}

// each calls f for every word that holds some of n blocks from first on, with their mask.
func (b *bitmap) each(first, n uint64, f func(w *uint64, mask uint64)) {
	for n > 0 {
		k := min(64-first%64, n)
		f(&b.words[first/64], (^uint64(0)>>(64-k))<<(first%64))
		first, n = first+k, n-k
	}
}

// next gives the first member from i on. It reports false where there is none.
func (b *bitmap) next(i uint64) (uint64, bool) {
	for w := i / 64; w < uint64(len(b.words)); w++ {
		v := b.words[w]
		if w == i/64 {
			v &= ^uint64(0) << (i % 64)
		}
		if v != 0 {
			return w*64 + uint64(bits.TrailingZeros64(v)), true
		}
	}
	return 0, false
}

// run counts the blocks from first on that are members, or with member false are none, in a row; at most limit.
func (b *bitmap) run(first, limit uint64, member bool) uint64 {
	end := first + min(limit, b.size-first)
	for i := first; i < end; {
		w := b.words[i/64]
		if member {
			w = ^w
		}
		rest := 64 - i%64
		if n := uint64(bits.TrailingZeros64(w >> (i % 64))); n < rest {
			return min(i+n, end) - first
		}
		i += rest
	}
	return end - first
}
