package kv

import (
	"math"

	"understudy/kv/resp"
)

func (c *Call) listAt(key []byte) (*list, bool) {
	e, ok := c.findKind(key, kindList)
	if !ok || e == nil {
		return nil, ok
	}
	return e.val.(*list), true
}

func (c *Call) listFor(key []byte) (*entry, *list, bool) {
	e, ok := c.takeKind(key, kindList)
	if !ok {
		return nil, nil, false
	}
	if e == nil {
		e = c.create(key, kindList)
		e.val = &list{}
	}
	return e, e.val.(*list), true
}

func (l *list) push(s string, left bool, w *cow) {
	if left {
		l.pushLeft(s, w)
	} else {
		l.pushRight(s, w)
	}
}

func (l *list) popAt(left bool, w *cow) string {
	if left {
		return l.popLeft(w)
	}
	return l.popRight(w)
}

func (c *Call) lpush() { c.push(true) }
func (c *Call) rpush() { c.push(false) }

func (c *Call) push(left bool) {
	if c.name[len(c.name)-1] == 'x' {
		if l, ok := c.listAt(c.args[1]); !ok || l == nil {
			if ok {
				c.int(0)
			}
			return
		}
	}
	e, l, ok := c.listFor(c.args[1])
	if !ok {
		return
	}
	for _, a := range c.args[2:] {
		l.push(string(a), left, &c.s.cow)
	}
	n := l.n
	c.changed(e)
	c.int(int64(n))
}

func (c *Call) lpop() { c.pop(true) }
func (c *Call) rpop() { c.pop(false) }

func (c *Call) pop(left bool) {
	if len(c.args) > 3 {
		c.err("ERR wrong number of arguments for '" + c.name + "' command")
		return
	}
	count, many := int64(1), len(c.args) == 3
	if many {
		var ok bool
		if count, ok = parseInt(c.args[2]); !ok || count < 0 {
			c.err(errPositive)
			return
		}
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		if many {
			c.nullArray()
		} else {
			c.null()
		}
		return
	}
	if !many {
		e, l, _ := c.listFor(c.args[1])
		c.bulkString(l.popAt(left, &c.s.cow))
		c.changed(e)
		return
	}
	if count == 0 {
		c.array(0)
		return
	}
	c.popMany(c.args[1], left, count)
}

// popMany removes up to count elements and answers with the array of them.
func (c *Call) popMany(key []byte, left bool, count int64) {
	e, l, _ := c.listFor(key)
	n := int(min(count, int64(l.n)))
	c.array(n)
	for range n {
		c.bulkString(l.popAt(left, &c.s.cow))
	}
	c.changed(e)
}

func (c *Call) llen() {
	if l, ok := c.listAt(c.args[1]); ok {
		n := 0
		if l != nil {
			n = l.n
		}
		c.int(int64(n))
	}
}

func (c *Call) lrange() {
	start, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	end, ok := c.integer(c.args[3])
	if !ok {
		return
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.array(0)
		return
	}
	from, to := clip(start, end, l.n)
	c.array(to - from)
	l.each(from, to, c.bulkString)
}

// element turns an index of Redis into one of the list; -1: outside.
func (l *list) element(i int64) int {
	if i < 0 {
		i += int64(l.n)
	}
	if i < 0 || i >= int64(l.n) {
		return -1
	}
	return int(i)
}

func (c *Call) lindex() {
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.null()
		return
	}
	i, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	if at := l.element(i); at >= 0 {
		c.bulkString(l.at(at))
	} else {
		c.null()
	}
}

func (c *Call) lset() {
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.err(errNoKey)
		return
	}
	i, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	at := l.element(i)
	if at < 0 {
		c.err(errRange)
		return
	}
	e, l, _ := c.listFor(c.args[1])
	l.set(at, string(c.args[3]), &c.s.cow)
	c.changed(e)
	c.ok()
}

func (c *Call) linsert() {
	after := is(c.args[2], "after")
	if !after && !is(c.args[2], "before") {
		c.err(errSyntax)
		return
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.int(0)
		return
	}
	at := l.search(string(c.args[3]))
	if at < 0 {
		c.int(-1)
		return
	}
	if after {
		at++
	}
	e, l, _ := c.listFor(c.args[1])
	l.insert(at, string(c.args[4]), &c.s.cow)
	c.changed(e)
	c.int(int64(l.n))
}

// search returns the first element that equals s, or -1.
func (l *list) search(s string) int {
	at := -1
	l.walk(false, func(i int, x string) bool {
		if x == s {
			at = i
		}
		return x != s
	})
	return at
}

func (c *Call) lrem() {
	n, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.int(0)
		return
	}
	limit := n
	if limit == 0 || limit == math.MinInt64 {
		limit = math.MaxInt32
	}
	if limit < 0 {
		limit = -limit
	}
	e, l, _ := c.listFor(c.args[1])
	removed := l.removeEqual(string(c.args[3]), int(min(limit, math.MaxInt32)), n < 0, &c.s.cow)
	if removed > 0 {
		c.changed(e)
	}
	c.int(int64(removed))
}

func (c *Call) ltrim() {
	start, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	end, ok := c.integer(c.args[3])
	if !ok {
		return
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l != nil {
		e, l, _ := c.listFor(c.args[1])
		from, to := clip(start, end, l.n)
		l.trim(from, to, &c.s.cow)
		c.changed(e)
	}
	c.ok()
}

func (c *Call) side(arg []byte) (left, ok bool) {
	left = is(arg, "left")
	if !left && !is(arg, "right") {
		c.err(errSyntax)
		return false, false
	}
	return left, true
}

func (c *Call) rpoplpush() { c.transferElement(false, true) }

func (c *Call) lmove() {
	from, ok := c.side(c.args[3])
	if !ok {
		return
	}
	to, ok := c.side(c.args[4])
	if ok {
		c.transferElement(from, to)
	}
}

func (c *Call) transferElement(from, to bool) {
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		c.null()
		return
	}
	if _, ok := c.listAt(c.args[2]); !ok {
		return
	}
	e, l, _ := c.listFor(c.args[1])
	s := l.popAt(from, &c.s.cow)
	if string(c.args[1]) == string(c.args[2]) {
		l.push(s, to, &c.s.cow)
		c.changed(e)
		c.bulkString(s)
		return
	}
	c.changed(e)
	e, l, _ = c.listFor(c.args[2])
	l.push(s, to, &c.s.cow)
	c.changed(e)
	c.bulkString(s)
}

// numKeys reads a number of keys and the keys that follow it at args[at]. Not ok: the error has been answered.
func (c *Call) numKeys(at int, text string) (keys, rest [][]byte, ok bool) {
	n, ok := parseInt(c.args[at])
	if !ok || n <= 0 {
		c.err(text)
		return nil, nil, false
	}
	if n > int64(len(c.args)-at-1) {
		c.err(errSyntax)
		return nil, nil, false
	}
	return c.args[at+1 : at+1+int(n)], c.args[at+1+int(n):], true
}

const errNumKeys = "ERR numkeys should be greater than 0"

func (c *Call) lmpop() {
	keys, rest, ok := c.numKeys(1, errNumKeys)
	if !ok {
		return
	}
	if len(rest) == 0 {
		c.err(errSyntax)
		return
	}
	left, ok := c.side(rest[0])
	if !ok {
		return
	}
	count, ok := c.popCount(rest[1:])
	if !ok {
		return
	}
	for _, k := range keys {
		l, ok := c.listAt(k)
		if !ok {
			return
		}
		if l == nil {
			continue
		}
		c.array(2)
		c.bulk(k)
		c.popMany(k, left, count)
		return
	}
	c.nullArray()
}

// popCount reads [COUNT n] of LMPOP and ZMPOP.
func (c *Call) popCount(args [][]byte) (int64, bool) {
	if len(args) == 0 {
		return 1, true
	}
	if !is(args[0], "count") || len(args) < 2 {
		c.err(errSyntax)
		return 0, false
	}
	n, ok := parseInt(args[1])
	if !ok || n <= 0 {
		c.err("ERR count should be greater than 0")
		return 0, false
	}
	if len(args) > 2 {
		c.err(errSyntax)
		return 0, false
	}
	return n, true
}

func (c *Call) lpos() {
	rank, count, maxLen := int64(1), int64(-1), int64(0)
	for i := 3; i < len(c.args); i += 2 {
		if i+1 >= len(c.args) {
			c.err(errSyntax)
			return
		}
		switch v := c.args[i+1]; {
		case is(c.args[i], "rank"):
			n, ok := parseInt(v)
			switch {
			case !ok:
				c.err(errInteger)
				return
			case n == math.MinInt64: // Redis 7.0 negates it, to itself
				c.err("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
				return
			case n == 0:
				c.err("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list")
				return
			}
			rank = n
		case is(c.args[i], "count"):
			n, ok := parseInt(v)
			if !ok || n < 0 {
				c.err("ERR COUNT can't be negative")
				return
			}
			count = n
		case is(c.args[i], "maxlen"):
			n, ok := parseInt(v)
			if !ok || n < 0 {
				c.err("ERR MAXLEN can't be negative")
				return
			}
			maxLen = n
		default:
			c.err(errSyntax)
			return
		}
	}
	l, ok := c.listAt(c.args[1])
	if !ok {
		return
	}
	if l == nil {
		if count >= 0 {
			c.array(0)
		} else {
			c.null()
		}
		return
	}
	skip := max(rank, -rank) - 1
	n := int64(l.n)
	if maxLen > 0 {
		n = min(n, maxLen)
	}
	want := max(count, 1)
	if count == 0 {
		want = n
	}
	var hits []int64
	s := string(c.args[2])
	l.walk(rank < 0, func(i int, x string) bool {
		if n--; n < 0 || int64(len(hits)) >= want {
			return false
		}
		if x == s {
			if skip--; skip < 0 {
				hits = append(hits, int64(i))
			}
		}
		return true
	})
	if count >= 0 {
		c.array(len(hits))
		for _, i := range hits {
			c.int(i)
		}
		return
	}
	if len(hits) == 0 {
		c.out = resp.AppendNull(c.out, c.Proto)
		return
	}
	c.int(hits[0])
}

// walk calls f with every element, from the left or from the right, until it returns false.
func (l *list) walk(right bool, f func(i int, s string) bool) {
	b := l.blocks()
	if !right {
		i := 0
		for _, c := range b {
			for _, s := range c.items {
				if !f(i, s) {
					return
				}
				i++
			}
		}
		return
	}
	i := l.n - 1
	for k := len(b) - 1; k >= 0; k-- {
		for j := len(b[k].items) - 1; j >= 0; j-- {
			if !f(i, b[k].items[j]) {
				return
			}
			i--
		}
	}
}
