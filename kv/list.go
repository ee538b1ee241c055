package kv

import "slices"

// listBlock is the greatest number of elements in a block of a list.
const listBlock = 128

// list is the value of a list: blocks of up to listBlock elements. How the elements are spread over the blocks is
// nobody's business: neither replies nor snapshots depend on it.
type list struct {
	room   []*chunk[string] // blocks are room[first:]; what is before it is room to grow at the left
	first  int
	n      int
	stored int64
}

func (l *list) blocks() []*chunk[string] { return l.room[l.first:] }

func (l *list) length() int { return l.n }

func (l *list) fork() value {
	return &list{room: slices.Clone(l.blocks()), n: l.n, stored: l.stored}
}

func (l *list) copied(w *cow) value {
	c := &list{}
	l.each(0, l.n, func(s string) { c.pushRight(s, w) })
	return c
}

func (l *list) own(i int, w *cow) *chunk[string] {
	c := l.room[l.first+i]
	if w.shared(c.epoch) {
		c = &chunk[string]{epoch: w.newest, items: append(make([]string, 0, cap(c.items)), c.items...)}
		l.room[l.first+i] = c
	}
	return c
}

func (l *list) pushLeft(s string, w *cow) {
	b := l.blocks()
	if len(b) == 0 || len(b[0].items) >= listBlock {
		if l.first == 0 {
			gap := len(l.room)/2 + 2
			l.room = append(make([]*chunk[string], gap, gap+len(l.room)+1), l.room...)
			l.first = gap
		}
		l.first--
		l.room[l.first] = &chunk[string]{epoch: w.newest}
	}
	c := l.own(0, w)
	c.items = slices.Insert(c.items, 0, s)
	l.count(s, 1)
}

func (l *list) pushRight(s string, w *cow) {
	b := l.blocks()
	if len(b) == 0 || len(b[len(b)-1].items) >= listBlock {
		l.room = append(l.room, &chunk[string]{epoch: w.newest})
	}
	c := l.own(len(l.blocks())-1, w)
	c.items = append(c.items, s)
	l.count(s, 1)
}

func (l *list) count(s string, n int) {
	l.n += n
	l.stored += int64(n) * (int64(len(s)) + memListElem)
}

// find returns the block and the place in it of element i, which must exist.
func (l *list) find(i int) (block, at int) {
	b := l.blocks()
	if i < l.n/2 {
		for block = 0; i >= len(b[block].items); block++ {
			i -= len(b[block].items)
		}
		return block, i
	}
	left := l.n - i // elements from i to the end
	for block = len(b) - 1; left > len(b[block].items); block-- {
		left -= len(b[block].items)
	}
	return block, len(b[block].items) - left
}

func (l *list) at(i int) string {
	b, at := l.find(i)
	return l.blocks()[b].items[at]
}

func (l *list) set(i int, s string, w *cow) {
	b, at := l.find(i)
	c := l.own(b, w)
	l.count(c.items[at], -1)
	c.items[at] = s
	l.count(s, 1)
}

// insert puts s before element i, or at the end if i is the length.
func (l *list) insert(i int, s string, w *cow) {
	if i == 0 {
		l.pushLeft(s, w)
		return
	}
	if i == l.n {
		l.pushRight(s, w)
		return
	}
	b, at := l.find(i)
	c := l.own(b, w)
	if len(c.items) >= listBlock {
		half := len(c.items) / 2
		right := &chunk[string]{epoch: w.newest, items: slices.Clone(c.items[half:])}
		clear(c.items[half:])
		c.items = c.items[:half]
		l.room = slices.Insert(l.room, l.first+b+1, right)
		if at > half {
			c, at = right, at-half
		}
	}
	c.items = slices.Insert(c.items, at, s)
	l.count(s, 1)
}

func (l *list) popLeft(w *cow) string {
	c := l.own(0, w)
	s := c.items[0]
	l.count(s, -1)
	if len(c.items) == 1 {
		l.room[l.first] = nil
		l.first++
	} else {
		// Shifting the slice is what a queue wants: the room at the left goes with the block.
		c.items[0] = ""
		c.items = c.items[1:]
	}
	return s
}

func (l *list) popRight(w *cow) string {
	b := len(l.blocks()) - 1
	c := l.own(b, w)
	last := len(c.items) - 1
	s := c.items[last]
	l.count(s, -1)
	if last == 0 {
		l.room[l.first+b] = nil
		l.room = l.room[:l.first+b]
	} else {
		c.items[last] = ""
		c.items = c.items[:last]
	}
	return s
}

// each calls f with the elements from to to-1.
func (l *list) each(from, to int, f func(string)) {
	if from >= to {
		return
	}
	b, at := l.find(from)
	for n := to - from; n > 0; b, at = b+1, 0 {
		items := l.blocks()[b].items[at:]
		items = items[:min(n, len(items))]
		for _, s := range items {
			f(s)
		}
		n -= len(items)
	}
}

// trim leaves the elements from to to-1.
func (l *list) trim(from, to int, w *cow) {
	for drop := from; drop > 0; {
		if c := l.blocks()[0]; len(c.items) <= drop {
			drop -= len(c.items)
			l.dropBlock(0)
			continue
		}
		l.popLeft(w)
		drop--
	}
	for drop := l.n - (to - from); drop > 0; {
		last := len(l.blocks()) - 1
		if c := l.blocks()[last]; len(c.items) <= drop {
			drop -= len(c.items)
			l.dropBlock(last)
			continue
		}
		l.popRight(w)
		drop--
	}
}

func (l *list) dropBlock(i int) {
	for _, s := range l.blocks()[i].items {
		l.count(s, -1)
	}
	if i == 0 {
		l.room[l.first] = nil
		l.first++
		return
	}
	l.room = slices.Delete(l.room, l.first+i, l.first+i+1)
}

// removeEqual removes up to max elements that equal s, from the left or from the right, and returns how many.
func (l *list) removeEqual(s string, limit int, right bool, w *cow) int {
	removed := 0
	b := l.blocks()
	for k := range b {
		i := k
		if right {
			i = len(b) - 1 - k
		}
		if removed == limit {
			break
		}
		hits := 0
		for _, x := range b[i].items {
			if x == s {
				hits++
			}
		}
		if hits == 0 {
			continue
		}
		take := min(hits, limit-removed)
		skip := 0 // hits at the left that stay
		if right {
			skip = hits - take
		}
		c := l.own(i, w)
		kept := c.items[:0]
		seen := 0
		for _, x := range c.items {
			if x == s {
				seen++
				if seen > skip && seen <= skip+take {
					continue
				}
			}
			kept = append(kept, x)
		}
		clear(c.items[len(kept):])
		c.items = kept
		removed += take
	}
	l.count(s, -removed)
	l.room = append(l.room[:l.first], slices.DeleteFunc(l.blocks(), func(c *chunk[string]) bool { return len(c.items) == 0 })...)
	return removed
}
