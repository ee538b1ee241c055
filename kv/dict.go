package kv

// indexFrom is the number of items from which a dict has an index; up to there a search is as quick.
const indexFrom = 16

type pair[V any] struct {
	val V
	key string
}

// dict is a map with an order that everybody agrees on: items lie in a vector in the order in which they came, and
// removing one puts the last into its place. The order is part of the state: it is what SCAN, RANDOMKEY and SMEMBERS
// follow, and snapshots keep it. The index is derived; nothing ever iterates over it.
//
// A scan that walks the vector downwards sees every item that is there throughout: an item only ever moves from the
// end to a lower place, so nothing that was not visited yet moves to where the scan has been.
type dict[V any] struct {
	items vec[pair[V]]
	index map[string]uint32
}

func (d *dict[V]) len() int { return d.items.n }

// find returns the place of key, or -1.
func (d *dict[V]) find(key []byte) int {
	if d.index != nil {
		if i, ok := d.index[string(key)]; ok {
			return int(i)
		}
		return -1
	}
	if d.items.n == 0 {
		return -1
	}
	items := d.items.chunks[0].items
	for i := range items {
		if items[i].key == string(key) {
			return i
		}
	}
	return -1
}

// add appends an item that is not there yet.
func (d *dict[V]) add(key string, val V, w *cow) {
	d.items.push(pair[V]{val, key}, w)
	switch {
	case d.index != nil:
		d.index[key] = uint32(d.items.n - 1)
	case d.items.n > indexFrom:
		d.index = make(map[string]uint32, 2*indexFrom)
		for i := range d.items.n {
			d.index[d.items.at(i).key] = uint32(i)
		}
	}
}

// removeAt removes the item at place i.
func (d *dict[V]) removeAt(i int, w *cow) {
	if d.index != nil {
		delete(d.index, d.items.at(i).key)
	}
	if d.items.remove(i, w) && d.index != nil {
		d.index[d.items.at(i).key] = uint32(i)
	}
}

// clone returns a dict that shares the items. Its index is the same map: only one of the two may go on to use it.
func (d *dict[V]) clone() dict[V] { return dict[V]{d.items.clone(), d.index} }

// copied returns a dict of its own with equal items in the same order.
func (d *dict[V]) copied(w *cow) dict[V] {
	var c dict[V]
	for i := range d.items.n {
		p := d.items.at(i)
		c.add(p.key, p.val, w)
	}
	return c
}
