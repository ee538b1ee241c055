package kv

import (
	"math"
	"strconv"

	"understudy/kv/resp"
)

// Where Redis turns its compact encodings into the others. Ours is one for all sizes; this decides what OBJECT
// ENCODING answers, and that a scan of a small collection returns all of it at once.
const (
	compactItems = 128
	compactBytes = 64
	intsetItems  = 512
)

type hash struct {
	dict[string]
	stored int64
	large  bool // Redis would have left listpack
}

func (h *hash) length() int   { return h.dict.len() }
func (h *hash) memory() int64 { return h.stored }
func (h *hash) fork() value   { return &hash{h.dict.clone(), h.stored, h.large} }

func (h *hash) copied(w *cow) value {
	return &hash{h.dict.copied(w), h.stored, h.large}
}

// put sets a field and tells whether it is new.
func (h *hash) put(field, v []byte, w *cow) bool {
	if len(field) > compactBytes || len(v) > compactBytes {
		h.large = true
	}
	h.stored += int64(len(v))
	if i := h.find(field); i >= 0 {
		p := h.items.mut(i, w)
		h.stored -= int64(len(p.val))
		p.val = string(v)
		return false
	}
	h.add(string(field), string(v), w)
	h.stored += memHashElem + int64(len(field))
	h.large = h.large || h.len() > compactItems
	return true
}

func (h *hash) drop(i int, w *cow) {
	p := h.items.at(i)
	h.stored -= memHashElem + int64(len(p.key)+len(p.val))
	h.removeAt(i, w)
}

// hashAt returns the hash under the first key to be read, nil if there is none.
func (c *Call) hashAt() (*hash, bool) {
	e, ok := c.findKind(c.args[1], kindHash)
	if !ok || e == nil {
		return nil, ok
	}
	return e.val.(*hash), true
}

// hashFor returns the hash under the first key to be changed, made if need be.
func (c *Call) hashFor() (*entry, *hash, bool) {
	e, ok := c.takeKind(c.args[1], kindHash)
	if !ok {
		return nil, nil, false
	}
	if e == nil {
		e = c.create(c.args[1], kindHash)
		e.val = &hash{}
	}
	return e, e.val.(*hash), true
}

func (c *Call) hset() {
	if len(c.args)%2 == 1 {
		c.err("ERR wrong number of arguments for '" + c.name + "' command")
		return
	}
	e, h, ok := c.hashFor()
	if !ok {
		return
	}
	n := int64(0)
	for i := 2; i < len(c.args); i += 2 {
		if h.put(c.args[i], c.args[i+1], &c.s.cow) {
			n++
		}
	}
	c.changed(e)
	if c.name == "hmset" {
		c.ok()
	} else {
		c.int(n)
	}
}

func (c *Call) hsetnx() {
	h, ok := c.hashAt()
	if !ok {
		return
	}
	if h != nil && h.find(c.args[2]) >= 0 {
		c.int(0)
		return
	}
	e, h, _ := c.hashFor()
	h.put(c.args[2], c.args[3], &c.s.cow)
	c.changed(e)
	c.int(1)
}

func (c *Call) hget() {
	h, ok := c.hashAt()
	if ok {
		c.replyField(h, c.args[2])
	}
}

func (c *Call) replyField(h *hash, field []byte) {
	if h != nil {
		if i := h.find(field); i >= 0 {
			c.bulkString(h.items.at(i).val)
			return
		}
	}
	c.null()
}

func (c *Call) hmget() {
	h, ok := c.hashAt()
	if !ok {
		return
	}
	c.array(len(c.args) - 2)
	for _, f := range c.args[2:] {
		c.replyField(h, f)
	}
}

func (c *Call) hdel() {
	h, ok := c.hashAt()
	if !ok {
		return
	}
	n := int64(0)
	if h != nil {
		e, h, _ := c.hashFor()
		for _, f := range c.args[2:] {
			if i := h.find(f); i >= 0 {
				h.drop(i, &c.s.cow)
				n++
			}
		}
		if n > 0 {
			c.changed(e)
		}
	}
	c.int(n)
}

func (c *Call) hlen() {
	if h, ok := c.hashAt(); ok {
		n := 0
		if h != nil {
			n = h.len()
		}
		c.int(int64(n))
	}
}

func (c *Call) hexists() {
	if h, ok := c.hashAt(); ok {
		c.bool(h != nil && h.find(c.args[2]) >= 0)
	}
}

func (c *Call) hstrlen() {
	h, ok := c.hashAt()
	if !ok {
		return
	}
	n := 0
	if h != nil {
		if i := h.find(c.args[2]); i >= 0 {
			n = len(h.items.at(i).val)
		}
	}
	c.int(int64(n))
}

func (c *Call) hgetall() {
	h, ok := c.hashAt()
	if !ok {
		return
	}
	n := 0
	if h != nil {
		n = h.len()
	}
	keys, vals := c.name != "hvals", c.name != "hkeys"
	if keys && vals {
		c.out = resp.AppendMap(c.out, c.Proto, n)
	} else {
		c.array(n)
	}
	for i := range n {
		p := h.items.at(i)
		if keys {
			c.bulkString(p.key)
		}
		if vals {
			c.bulkString(p.val)
		}
	}
}

func (c *Call) hincrby() {
	by, ok := c.integer(c.args[3])
	if !ok {
		return
	}
	h, ok := c.hashAt()
	if !ok {
		return
	}
	old := int64(0)
	if h != nil {
		if i := h.find(c.args[2]); i >= 0 {
			if old, ok = parseInt([]byte(h.items.at(i).val)); !ok {
				c.err("ERR hash value is not an integer")
				return
			}
		}
	}
	sum := old + by
	if by > 0 && sum < old || by < 0 && sum > old {
		c.err("ERR increment or decrement would overflow")
		return
	}
	e, h, _ := c.hashFor()
	var text [20]byte
	h.put(c.args[2], strconv.AppendInt(text[:0], sum, 10), &c.s.cow)
	c.changed(e)
	c.int(sum)
}

func (c *Call) hincrbyfloat() {
	by, ok := parseLong(c.args[3])
	if !ok {
		c.err(errFloat)
		return
	}
	if by.IsInf() {
		c.err("ERR value is NaN or Infinity")
		return
	}
	h, ok := c.hashAt()
	if !ok {
		return
	}
	text := []byte("0")
	if h != nil {
		if i := h.find(c.args[2]); i >= 0 {
			text = []byte(h.items.at(i).val)
		}
	}
	old, ok := parseLong(text)
	if !ok {
		c.err("ERR hash value is not a float")
		return
	}
	sum, ok := addLong(old, by)
	if !ok {
		c.err("ERR increment would produce NaN or Infinity")
		return
	}
	e, h, _ := c.hashFor()
	text = formatLong(nil, sum)
	h.put(c.args[2], text, &c.s.cow)
	c.changed(e)
	c.bulk(text)
}

// choice reads count and option of HRANDFIELD, SRANDMEMBER and ZRANDMEMBER: how many, whether members may repeat,
// whether the values are wanted. Not ok: the error has been answered.
func (c *Call) choice(option string) (n int, repeat, values, ok bool) {
	k, ok := c.integer(c.args[2])
	switch {
	case !ok:
		return 0, false, false, false
	case k == math.MinInt64:
		c.err("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
		return 0, false, false, false
	case len(c.args) > 4 || len(c.args) == 4 && (option == "" || !is(c.args[3], option)):
		c.err(errSyntax)
		return 0, false, false, false
	}
	values = len(c.args) == 4
	if values && (k < -math.MaxInt64/2 || k > math.MaxInt64/2) {
		c.err("ERR value is out of range")
		return 0, false, false, false
	}
	return int(min(max(k, -k), math.MaxInt32)), k < 0, values, true
}

// maxRepeats bounds a reply with repeated members; Redis would go on until it runs out of memory.
const maxRepeats = 1 << 24

// pick calls f with the places of n members out of size: any with repetition, else all different.
func (c *Call) pick(n, size int, repeat bool, f func(int)) {
	if repeat {
		for range n {
			f(c.rnd.below(size))
		}
		return
	}
	if n >= size {
		for i := range size {
			f(i)
		}
		return
	}
	// A shuffle that stops after n steps, of which only what differs from the order is kept.
	moved := make(map[int]int, 2*n)
	at := func(i int) int {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	for i := range n {
		j := i + c.rnd.below(size-i)
		x := at(j)
		moved[j] = at(i)
		f(x)
	}
}

func (c *Call) hrandfield() {
	if len(c.args) == 2 {
		h, ok := c.hashAt()
		switch {
		case !ok:
		case h == nil:
			c.null()
		default:
			c.bulkString(h.items.at(c.rnd.below(h.len())).key)
		}
		return
	}
	n, repeat, values, ok := c.choice("withvalues")
	if !ok {
		return
	}
	h, ok := c.hashAt()
	if !ok {
		return
	}
	if h == nil || n == 0 {
		c.array(0)
		return
	}
	if !c.heads(n, h.len(), repeat, values) {
		return
	}
	c.pick(n, h.len(), repeat, func(i int) {
		p := h.items.at(i)
		if values && c.Proto == 3 {
			c.array(2)
		}
		c.bulkString(p.key)
		if values {
			c.bulkString(p.val)
		}
	})
}

// heads begins the array of a random choice: RESP2 has names and values in one row, RESP3 has pairs. Not ok: there
// are too many, and the error has been answered.
func (c *Call) heads(n, size int, repeat, values bool) bool {
	if repeat && n > maxRepeats {
		c.err("ERR value is out of range")
		return false
	}
	if !repeat {
		n = min(n, size)
	}
	if values && c.Proto == 2 {
		n *= 2
	}
	c.array(n)
	return true
}
