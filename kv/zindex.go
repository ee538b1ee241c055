package kv

import (
	"slices"
	"sort"
	"strings"
)

// zBlock is the greatest number of members in a block of a zindex.
const zBlock = 256

type scored struct {
	score  float64
	member string
}

func (a scored) compare(b scored) int {
	switch {
	case a.score < b.score:
		return -1
	case a.score > b.score:
		return 1
	}
	return strings.Compare(a.member, b.member)
}

// zindex has the members of a sorted set in order: by score, then by the bytes of the member. It is a list of sorted
// blocks: a search is two binary searches, a rank adds up the lengths of the blocks (four thousand for a million
// members), a change moves at most one block. It is derived from the members and their scores; snapshots leave it
// out.
type zindex struct {
	blocks [][]scored
	n      int
}

// zpos is a place in a zindex. Past the last member block is len(blocks) and at 0.
type zpos struct{ block, at int }

// search returns the first place from which on before is false. before must be true up to some place, then false.
func (z *zindex) search(before func(scored) bool) zpos {
	b := sort.Search(len(z.blocks), func(i int) bool {
		return !before(z.blocks[i][len(z.blocks[i])-1])
	})
	if b == len(z.blocks) {
		return zpos{b, 0}
	}
	items := z.blocks[b]
	return zpos{b, sort.Search(len(items), func(i int) bool { return !before(items[i]) })}
}

func (z *zindex) find(x scored) zpos {
	return z.search(func(y scored) bool { return y.compare(x) < 0 })
}

func (z *zindex) get(p zpos) scored { return z.blocks[p.block][p.at] }

// rank returns how many members are before p.
func (z *zindex) rank(p zpos) int {
	n := p.at
	for _, b := range z.blocks[:p.block] {
		n += len(b)
	}
	return n
}

// place returns where the member of a rank is; the length is the place past the last.
func (z *zindex) place(rank int) zpos {
	if rank >= z.n {
		return zpos{len(z.blocks), 0}
	}
	for i, b := range z.blocks {
		if rank < len(b) {
			return zpos{i, rank}
		}
		rank -= len(b)
	}
	panic("kv: a sorted set's length is wrong")
}

func (z *zindex) next(p zpos) zpos {
	if p.at++; p.at == len(z.blocks[p.block]) {
		return zpos{p.block + 1, 0}
	}
	return p
}

func (z *zindex) prev(p zpos) zpos {
	if p.at == 0 {
		p.block--
		p.at = len(z.blocks[p.block])
	}
	p.at--
	return p
}

func (z *zindex) insert(x scored) {
	z.n++
	p := z.find(x)
	if p.block == len(z.blocks) {
		if p.block == 0 {
			z.blocks = [][]scored{{x}}
			return
		}
		p.block--
		p.at = len(z.blocks[p.block])
	}
	b := z.blocks[p.block]
	if len(b) >= zBlock {
		half := zBlock / 2
		if p.block == len(z.blocks)-1 && p.at == len(b) {
			half = zBlock - 1 // members that come in order leave full blocks behind
		}
		right := append(make([]scored, 0, zBlock), b[half:]...)
		clear(b[half:])
		z.blocks[p.block] = b[:half]
		z.blocks = slices.Insert(z.blocks, p.block+1, right)
		if p.at > half {
			p = zpos{p.block + 1, p.at - half}
		}
	}
	z.blocks[p.block] = slices.Insert(z.blocks[p.block], p.at, x)
}

// remove removes x, which must be there.
func (z *zindex) remove(x scored) {
	p := z.find(x)
	if p.block == len(z.blocks) || z.get(p).member != x.member {
		panic("kv: a sorted set's index lost " + x.member)
	}
	z.n--
	b := slices.Delete(z.blocks[p.block], p.at, p.at+1)
	z.blocks[p.block] = b
	for i := p.block; i >= p.block-1 && len(b) < zBlock/4; i-- {
		if len(b) == 0 {
			z.blocks = slices.Delete(z.blocks, p.block, p.block+1)
			return
		}
		if i >= 0 && i+1 < len(z.blocks) && len(z.blocks[i])+len(z.blocks[i+1]) <= zBlock*3/4 {
			z.blocks[i] = append(z.blocks[i], z.blocks[i+1]...)
			z.blocks = slices.Delete(z.blocks, i+1, i+2)
			return
		}
	}
}

// fill makes the index of items in any order.
func (z *zindex) fill(items []scored) {
	slices.SortFunc(items, scored.compare)
	z.n, z.blocks = len(items), nil
	for part := range slices.Chunk(items, zBlock*3/4) {
		z.blocks = append(z.blocks, append(make([]scored, 0, len(part)), part...))
	}
}
