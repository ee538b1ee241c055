package kv

// cow says which parts of the state a snapshot may still be reading. Every chunk and every entry carries the number
// of the snapshot that was the newest when it was made; a snapshot with a higher number shares it.
type cow struct {
	newest uint32 // number of the newest snapshot; 0: there was none
	active uint32 // the highest number of those still open; 0: none is open
}

// shared tells whether an open snapshot may hold something that was made at epoch. It must then be copied before it
// is changed.
func (w *cow) shared(epoch uint32) bool { return w.active > epoch }

// chunkLen bounds what one change can make a vector copy.
const chunkLen = 256

type chunk[T any] struct {
	epoch uint32
	items []T
}

// vec is a sequence in chunks of chunkLen, of which only the last may be shorter. A clone shares the chunks; whoever
// changes one afterwards copies it first. Growing never moves more than one chunk and the table of chunks.
type vec[T any] struct {
	chunks []*chunk[T]
	n      int
}

// at returns item i to be read.
func (v *vec[T]) at(i int) *T { return &v.chunks[i/chunkLen].items[i%chunkLen] }

func (v *vec[T]) own(at int, w *cow) *chunk[T] {
	c := v.chunks[at]
	if w.shared(c.epoch) {
		c = &chunk[T]{epoch: w.newest, items: append(make([]T, 0, cap(c.items)), c.items...)}
		v.chunks[at] = c
	}
	return c
}

// mut returns item i to be changed.
func (v *vec[T]) mut(i int, w *cow) *T { return &v.own(i/chunkLen, w).items[i%chunkLen] }

func (v *vec[T]) push(x T, w *cow) {
	at := v.n / chunkLen
	if at == len(v.chunks) {
		c := &chunk[T]{epoch: w.newest}
		if at > 0 {
			c.items = make([]T, 0, chunkLen)
		}
		v.chunks = append(v.chunks, c)
	}
	c := v.own(at, w)
	c.items = append(c.items, x)
	v.n++
}

// pop removes the last item.
func (v *vec[T]) pop(w *cow) {
	v.n--
	at := v.n / chunkLen
	if v.n%chunkLen == 0 {
		v.chunks[at] = nil
		v.chunks = v.chunks[:at]
		return
	}
	c := v.own(at, w)
	clear(c.items[len(c.items)-1:])
	c.items = c.items[:len(c.items)-1]
}

// remove puts the last item in the place of item i. It tells whether that moved one.
func (v *vec[T]) remove(i int, w *cow) bool {
	last := v.n - 1
	if i != last {
		*v.mut(i, w) = *v.at(last)
	}
	v.pop(w)
	return i != last
}

// clone returns a vector that shares the chunks. It costs a word for each chunk.
func (v *vec[T]) clone() vec[T] {
	return vec[T]{append([]*chunk[T](nil), v.chunks...), v.n}
}
