package kv

import (
	"math"

	"understudy/kv/resp"
)

// zset has its members twice: in a dict, in the order in which they came, with their scores, and in the index, sorted.
type zset struct {
	dict[float64]
	sorted *zindex
	stored int64
	large  bool // Redis would have left listpack
}

func newZSet() *zset { return &zset{sorted: &zindex{}} }

func (z *zset) length() int   { return z.dict.len() }
func (z *zset) memory() int64 { return z.stored }
func (z *zset) fork() value   { return &zset{z.dict.clone(), z.sorted, z.stored, z.large} }

func (z *zset) copied(w *cow) value {
	n := &zset{z.dict.copied(w), &zindex{}, z.stored, z.large}
	n.reindex()
	return n
}

func (z *zset) reindex() {
	items := make([]scored, 0, z.len())
	for i := range z.len() {
		p := z.items.at(i)
		items = append(items, scored{p.val, p.key})
	}
	z.sorted.fill(items)
}

func (z *zset) score(m []byte) (float64, bool) {
	if z == nil {
		return 0, false
	}
	if i := z.find(m); i >= 0 {
		return z.items.at(i).val, true
	}
	return 0, false
}

// put sets the score of a member, which may be new. There is no negative zero among the scores: Redis loses it as well,
// as long as its encoding is the compact one.
func (z *zset) put(m []byte, score float64, w *cow) {
	if score == 0 {
		score = 0
	}
	if i := z.find(m); i >= 0 {
		p := z.items.mut(i, w)
		z.sorted.remove(scored{p.val, p.key})
		p.val = score
		z.sorted.insert(scored{score, p.key})
		return
	}
	key := string(m)
	z.add(key, score, w)
	z.sorted.insert(scored{score, key})
	z.stored += memZSetElem + int64(len(m))
	z.large = z.large || len(m) > compactBytes || z.len() > compactItems
}

func (z *zset) drop(i int, w *cow) {
	p := z.items.at(i)
	z.stored -= memZSetElem + int64(len(p.key))
	z.sorted.remove(scored{p.val, p.key})
	z.removeAt(i, w)
}

func (c *Call) zsetAt(key []byte) (*zset, bool) {
	e, ok := c.findKind(key, kindZSet)
	if !ok || e == nil {
		return nil, ok
	}
	return e.val.(*zset), true
}

func (c *Call) zsetFor(key []byte) (*entry, *zset, bool) {
	e, ok := c.takeKind(key, kindZSet)
	if !ok {
		return nil, nil, false
	}
	if e == nil {
		e = c.create(key, kindZSet)
		e.val = newZSet()
	}
	return e, e.val.(*zset), true
}

type zaddFlags struct{ nx, xx, gt, lt, ch, incr bool }

func (c *Call) zadd() {
	var f zaddFlags
	at := 2
options:
	for ; at < len(c.args); at++ {
		switch a := c.args[at]; {
		case is(a, "nx"):
			f.nx = true
		case is(a, "xx"):
			f.xx = true
		case is(a, "gt"):
			f.gt = true
		case is(a, "lt"):
			f.lt = true
		case is(a, "ch"):
			f.ch = true
		case is(a, "incr"):
			f.incr = true
		default:
			break options
		}
	}
	c.zaddItems(f, c.args[at:])
}

func (c *Call) zincrby() { c.zaddItems(zaddFlags{incr: true}, c.args[2:]) }

func (c *Call) zaddItems(f zaddFlags, items [][]byte) {
	switch {
	case len(items) == 0 || len(items)%2 != 0:
		c.err(errSyntax)
		return
	case f.nx && f.xx:
		c.err("ERR XX and NX options at the same time are not compatible")
		return
	case f.nx && (f.gt || f.lt) || f.gt && f.lt:
		c.err("ERR GT, LT, and/or NX options at the same time are not compatible")
		return
	case f.incr && len(items) > 2:
		c.err("ERR INCR option supports a single increment-element pair")
		return
	}
	var few [8]float64
	scores := few[:0]
	for i := 0; i < len(items); i += 2 {
		score, ok := parseFloat(items[i])
		if !ok {
			c.err(errFloat)
			return
		}
		scores = append(scores, score)
	}
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	if z == nil && f.xx {
		if f.incr {
			c.null()
		} else {
			c.int(0)
		}
		return
	}
	e, z, _ := c.zsetFor(c.args[1])
	added, updated, done := int64(0), int64(0), false
	var last float64
	for i, score := range scores {
		m := items[2*i+1]
		old, found := z.score(m)
		switch {
		case found && f.nx || !found && f.xx:
			continue
		case found:
			if f.incr {
				if score += old; math.IsNaN(score) {
					c.err("ERR resulting score is not a number (NaN)")
					return
				}
			}
			if f.lt && score >= old || f.gt && score <= old {
				continue
			}
			if score != old {
				z.put(m, score, &c.s.cow)
				updated++
			}
		default:
			z.put(m, score, &c.s.cow)
			added++
		}
		last, done = score, true
	}
	if added+updated > 0 {
		c.changed(e)
	}
	switch {
	case f.incr && done:
		c.double(last)
	case f.incr:
		c.null()
	case f.ch:
		c.int(added + updated)
	default:
		c.int(added)
	}
}

func (c *Call) zrem() {
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	n := int64(0)
	if z != nil {
		e, z, _ := c.zsetFor(c.args[1])
		for _, m := range c.args[2:] {
			if i := z.find(m); i >= 0 {
				z.drop(i, &c.s.cow)
				n++
			}
		}
		if n > 0 {
			c.changed(e)
		}
	}
	c.int(n)
}

func (c *Call) zcard() {
	if z, ok := c.zsetAt(c.args[1]); ok {
		n := 0
		if z != nil {
			n = z.len()
		}
		c.int(int64(n))
	}
}

func (c *Call) zscore() {
	if z, ok := c.zsetAt(c.args[1]); ok {
		c.replyScore(z, c.args[2])
	}
}

func (c *Call) replyScore(z *zset, m []byte) {
	if score, ok := z.score(m); ok {
		c.double(score)
	} else {
		c.null()
	}
}

func (c *Call) zmscore() {
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	c.array(len(c.args) - 2)
	for _, m := range c.args[2:] {
		c.replyScore(z, m)
	}
}

func (c *Call) zrank() {
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	score, ok := z.score(c.args[2])
	if !ok {
		c.null()
		return
	}
	rank := z.sorted.rank(z.sorted.find(scored{score, string(c.args[2])}))
	if c.name == "zrevrank" {
		rank = z.len() - 1 - rank
	}
	c.int(int64(rank))
}

func (c *Call) zpopmin() { c.zpop(false) }
func (c *Call) zpopmax() { c.zpop(true) }

func (c *Call) zpop(top bool) {
	if len(c.args) > 3 {
		c.err(errSyntax)
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
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	if z == nil || count == 0 {
		c.array(0)
		return
	}
	c.zpopMany(c.args[1], top, count, many && c.Proto == 3)
}

// zpopMany removes up to count members and answers with the array of them: pairs, or all in one row.
func (c *Call) zpopMany(key []byte, top bool, count int64, pairs bool) {
	e, z, _ := c.zsetFor(key)
	n := int(min(count, int64(z.len())))
	if pairs {
		c.array(n)
	} else {
		c.array(2 * n)
	}
	for range n {
		p := zpos{}
		if top {
			p = z.sorted.prev(zpos{len(z.sorted.blocks), 0})
		}
		x := z.sorted.get(p)
		if pairs {
			c.array(2)
		}
		c.bulkString(x.member)
		c.double(x.score)
		z.drop(z.find([]byte(x.member)), &c.s.cow)
	}
	c.changed(e)
}

func (c *Call) zmpop() {
	keys, rest, ok := c.numKeys(1, errNumKeys)
	if !ok {
		return
	}
	if len(rest) == 0 || !is(rest[0], "min") && !is(rest[0], "max") {
		c.err(errSyntax)
		return
	}
	count, ok := c.popCount(rest[1:])
	if !ok {
		return
	}
	for _, k := range keys {
		z, ok := c.zsetAt(k)
		if !ok {
			return
		}
		if z == nil {
			continue
		}
		c.array(2)
		c.bulk(k)
		c.zpopMany(k, is(rest[0], "max"), count, true)
		return
	}
	c.nullArray()
}

func (c *Call) zrandmember() {
	if len(c.args) == 2 {
		z, ok := c.zsetAt(c.args[1])
		switch {
		case !ok:
		case z == nil:
			c.null()
		default:
			c.bulkString(z.items.at(c.rnd.below(z.len())).key)
		}
		return
	}
	n, repeat, scores, ok := c.choice("withscores")
	if !ok {
		return
	}
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	if z == nil || n == 0 {
		c.array(0)
		return
	}
	if !c.heads(n, z.len(), repeat, scores) {
		return
	}
	c.pick(n, z.len(), repeat, func(i int) {
		p := z.items.at(i)
		if scores && c.Proto == 3 {
			c.array(2)
		}
		c.bulkString(p.key)
		if scores {
			c.double(p.val)
		}
	})
}

// replyScored appends one member of a range.
func (c *Call) replyScored(x scored, scores bool) {
	if scores && c.Proto == 3 {
		c.array(2)
	}
	c.bulkString(x.member)
	if scores {
		c.out = resp.AppendDouble(c.out, c.Proto, x.score)
	}
}
