package kv

import "strings"

type kind uint8

const (
	kindNone kind = iota
	kindString
	kindInt // a string that is a canonical 64-bit integer
	kindList
	kindSet
	kindHash
	kindZSet
)

// name is what TYPE answers.
func (k kind) name() string {
	return [...]string{"none", "string", "string", "list", "set", "hash", "zset"}[k]
}

// value is what a key holds besides a string.
type value interface {
	length() int
	memory() int64 // bytes of the elements, by the rule in memory.go
	// fork returns a value of its own for a key whose entry a snapshot shares. The snapshot keeps the receiver and
	// reads nothing of it but its chunks.
	fork() value
	// copied returns an independent value with equal contents, for COPY.
	copied(w *cow) value
}

// entry is a key with its value. When an open snapshot shares it, it is replaced before it changes (db.own); only the
// fields from ver on, which snapshots do not read, are changed in place.
type entry struct {
	key      string
	str      []byte // kindString
	num      int64  // kindInt
	val      value  // the other kinds
	deadline int64  // unix milliseconds; 0: never
	version  uint64
	epoch    uint32
	kind     kind
	raw      bool // kindString: was changed in place, so its encoding is raw whatever its length
	borrowed bool // a snapshot may read str: its bytes must not be overwritten
	place    int32
	heaped   int32 // place in db.due, -1: none
	mem      int64 // what it counts for in db.used
}

func (e *entry) dead(now int64) bool { return e.deadline != 0 && e.deadline <= now }

// db is one of the numbered databases.
type db struct {
	index map[string]*entry
	list  vec[*entry] // the order of SCAN; see dict
	due   dueHeap
	used  int64
}

func newDB() *db { return &db{index: map[string]*entry{}} }

func (d *db) add(e *entry, w *cow) {
	e.place, e.heaped = int32(d.list.n), -1
	d.list.push(e, w)
	d.index[e.key] = e
	if e.deadline != 0 {
		d.due.push(e)
	}
}

func (d *db) remove(e *entry, w *cow) {
	delete(d.index, e.key)
	i := int(e.place)
	if d.list.remove(i, w) {
		(*d.list.at(i)).place = int32(i)
	}
	if e.heaped >= 0 {
		d.due.remove(e)
	}
	d.used -= e.mem
}

// own returns the entry to be changed: a copy of its own if a snapshot shares e.
func (d *db) own(e *entry, w *cow) *entry {
	if !w.shared(e.epoch) {
		return e
	}
	n := new(entry)
	*n = *e
	n.epoch = w.newest
	n.borrowed = true
	if e.val != nil {
		n.val = e.val.fork()
	}
	*d.list.mut(int(n.place), w) = n
	d.index[n.key] = n
	if n.heaped >= 0 {
		d.due.at[n.heaped] = n
	}
	return n
}

func (d *db) setDeadline(e *entry, at int64) {
	if e.heaped >= 0 {
		d.due.remove(e)
	}
	if e.deadline = at; at != 0 {
		d.due.push(e)
	}
}

// dueHeap has the keys with a deadline, the earliest first and of equal ones the lesser key: an order that does not
// depend on how the heap came to be.
type dueHeap struct{ at []*entry }

func (h *dueHeap) less(a, b *entry) bool {
	return a.deadline < b.deadline || a.deadline == b.deadline && strings.Compare(a.key, b.key) < 0
}

func (h *dueHeap) set(i int, e *entry) {
	h.at[i] = e
	e.heaped = int32(i)
}

func (h *dueHeap) push(e *entry) {
	h.at = append(h.at, e)
	h.up(len(h.at)-1, e)
}

func (h *dueHeap) up(i int, e *entry) {
	for i > 0 {
		p := (i - 1) / 2
		if !h.less(e, h.at[p]) {
			break
		}
		h.set(i, h.at[p])
		i = p
	}
	h.set(i, e)
}

func (h *dueHeap) down(i int, e *entry) {
	for {
		c := 2*i + 1
		if c >= len(h.at) {
			break
		}
		if c+1 < len(h.at) && h.less(h.at[c+1], h.at[c]) {
			c++
		}
		if !h.less(h.at[c], e) {
			break
		}
		h.set(i, h.at[c])
		i = c
	}
	h.set(i, e)
}

func (h *dueHeap) remove(e *entry) {
	i := int(e.heaped)
	last := h.at[len(h.at)-1]
	h.at[len(h.at)-1] = nil
	h.at = h.at[:len(h.at)-1]
	e.heaped = -1
	if last == e {
		return
	}
	if i > 0 && h.less(last, h.at[(i-1)/2]) {
		h.up(i, last)
	} else {
		h.down(i, last)
	}
}
