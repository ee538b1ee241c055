package kv

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// bound is one end of a range: of scores, or of members.
type bound struct {
	score     float64
	member    string
	end       int // members: -1 is "-", before all; 1 is "+", after all
	exclusive bool
}

// below tells whether x is before the range that begins at b.
func (b *bound) below(x scored, lex bool) bool {
	if !lex {
		return x.score < b.score || b.exclusive && x.score == b.score
	}
	if b.end != 0 {
		return b.end > 0
	}
	cmp := strings.Compare(x.member, b.member)
	return cmp < 0 || b.exclusive && cmp == 0
}

// within tells whether x is not behind the range that ends at b.
func (b *bound) within(x scored, lex bool) bool {
	if !lex {
		return x.score < b.score || !b.exclusive && x.score == b.score
	}
	if b.end != 0 {
		return b.end > 0
	}
	cmp := strings.Compare(x.member, b.member)
	return cmp < 0 || !b.exclusive && cmp == 0
}

func parseScoreBound(a []byte) (b bound, ok bool) {
	if len(a) > 0 && a[0] == '(' {
		b.exclusive, a = true, a[1:]
	}
	// As with Redis, which leaves this one to strtod: space before the number is skipped, nothing at all is zero, and
	// what is too large is infinite.
	if a = bytes.TrimLeft(a, " \t\n\v\f\r"); len(a) == 0 {
		return b, true
	}
	s, ok := cNumber(a)
	if !ok {
		return b, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !strings.HasSuffix(err.Error(), strconv.ErrRange.Error()) || math.IsNaN(f) {
		return b, false
	}
	b.score = f
	return b, true
}

func parseLexBound(a []byte) (b bound, ok bool) {
	switch {
	case len(a) == 1 && a[0] == '-':
		b.end = -1
	case len(a) == 1 && a[0] == '+':
		b.end = 1
	case len(a) > 0 && (a[0] == '[' || a[0] == '('):
		b.exclusive, b.member = a[0] == '(', string(a[1:])
	default:
		return b, false
	}
	return b, true
}

// zspan is a range as a command names it.
type zspan struct {
	byScore, byLex bool
	start, end     int64 // by rank
	min, max       bound
}

// parse reads the two ends. Not ok: the error has been answered.
func (r *zspan) parse(c *Call, lo, hi []byte) bool {
	var ok1, ok2 bool
	switch {
	case r.byScore:
		r.min, ok1 = parseScoreBound(lo)
		r.max, ok2 = parseScoreBound(hi)
		if !ok1 || !ok2 {
			c.err("ERR min or max is not a float")
		}
	case r.byLex:
		r.min, ok1 = parseLexBound(lo)
		r.max, ok2 = parseLexBound(hi)
		if !ok1 || !ok2 {
			c.err("ERR min or max not valid string range item")
		}
	default:
		if r.start, ok1 = c.integer(lo); ok1 {
			r.end, ok2 = c.integer(hi)
		}
	}
	return ok1 && ok2
}

// within returns the ranks from and to, without to, that a range covers. reverse matters by rank only.
func (r *zspan) within(z *zset, reverse bool) (from, to int) {
	if !r.byScore && !r.byLex {
		from, to = clip(r.start, r.end, z.len())
		if reverse {
			from, to = z.len()-to, z.len()-from
		}
		return from, to
	}
	i := z.sorted
	from = i.rank(i.search(func(x scored) bool { return r.min.below(x, r.byLex) }))
	to = i.rank(i.search(func(x scored) bool { return r.max.within(x, r.byLex) }))
	return from, max(from, to)
}

// zquery is a whole command of the ZRANGE family.
type zquery struct {
	zspan
	reverse, scores bool
	offset, limit   int64 // limit -1: none
}

func (c *Call) zrange()        { c.rangeCommand(zquery{}, true) }
func (c *Call) zrevrange()     { c.rangeCommand(zquery{reverse: true}, false) }
func (c *Call) zrangebyscore() { c.rangeCommand(zquery{zspan: zspan{byScore: true}}, false) }
func (c *Call) zrevrangebyscore() {
	c.rangeCommand(zquery{zspan: zspan{byScore: true}, reverse: true}, false)
}
func (c *Call) zrangebylex() { c.rangeCommand(zquery{zspan: zspan{byLex: true}}, false) }
func (c *Call) zrevrangebylex() {
	c.rangeCommand(zquery{zspan: zspan{byLex: true}, reverse: true}, false)
}

func (q *zquery) parse(c *Call, lo, hi []byte, options [][]byte, auto, store bool) bool {
	q.limit = -1
	for i := 0; i < len(options); i++ {
		switch a := options[i]; {
		case !store && is(a, "withscores"):
			q.scores = true
		case is(a, "limit") && i+2 < len(options):
			var ok bool
			if q.offset, ok = c.integer(options[i+1]); !ok {
				return false
			}
			if q.limit, ok = c.integer(options[i+2]); !ok {
				return false
			}
			i += 2
		case auto && is(a, "rev"):
			q.reverse = true
		case auto && !q.byScore && is(a, "bylex"):
			q.byLex = true
		case auto && !q.byLex && is(a, "byscore"):
			q.byScore = true
		default:
			c.err(errSyntax)
			return false
		}
	}
	if q.limit != -1 && !q.byScore && !q.byLex {
		c.err("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
		return false
	}
	if q.scores && q.byLex {
		c.err("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
		return false
	}
	if q.reverse && (q.byScore || q.byLex) {
		lo, hi = hi, lo
	}
	return q.zspan.parse(c, lo, hi)
}

// each calls f with the members of the query in its order, after n with their number.
func (q *zquery) each(z *zset, n func(int), f func(scored)) {
	from, to := q.within(z, q.reverse)
	count := to - from
	if q.byScore || q.byLex {
		skip := int64(count) // a negative offset skips all, in Redis too
		if q.offset >= 0 {
			skip = min(q.offset, int64(count))
		}
		count -= int(skip)
		if q.reverse {
			to -= int(skip)
		} else {
			from += int(skip)
		}
		if q.limit >= 0 {
			count = int(min(int64(count), q.limit))
		}
	}
	n(count)
	if count == 0 {
		return
	}
	if q.reverse {
		p := z.sorted.place(to)
		for range count {
			p = z.sorted.prev(p)
			f(z.sorted.get(p))
		}
		return
	}
	p := z.sorted.place(from)
	for range count {
		f(z.sorted.get(p))
		p = z.sorted.next(p)
	}
}

func (c *Call) rangeCommand(q zquery, auto bool) {
	if !q.parse(c, c.args[2], c.args[3], c.args[4:], auto, false) {
		return
	}
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	if z == nil {
		c.array(0)
		return
	}
	q.each(z, func(n int) {
		if q.scores && c.Proto == 2 {
			n *= 2
		}
		c.array(n)
	}, func(x scored) { c.replyScored(x, q.scores) })
}

func (c *Call) zrangestore() {
	var q zquery
	if !q.parse(c, c.args[3], c.args[4], c.args[5:], true, true) {
		return
	}
	z, ok := c.zsetAt(c.args[2])
	if !ok {
		return
	}
	var result []scored
	if z != nil {
		q.each(z, func(int) {}, func(x scored) { result = append(result, x) })
	}
	c.storeScored(result)
}

// storeScored puts a sorted set under the first key and answers with its size.
func (c *Call) storeScored(result []scored) {
	if len(result) == 0 {
		if e := c.take(c.args[1]); e != nil {
			c.drop(e)
		}
		c.int(0)
		return
	}
	e := c.replace(c.args[1], kindZSet)
	z := newZSet()
	e.val = z
	for _, x := range result {
		z.put([]byte(x.member), x.score, &c.s.cow)
	}
	c.changed(e)
	c.int(int64(len(result)))
}

func (c *Call) zcount()    { c.countRange(zspan{byScore: true}) }
func (c *Call) zlexcount() { c.countRange(zspan{byLex: true}) }

func (c *Call) countRange(r zspan) {
	if !r.parse(c, c.args[2], c.args[3]) {
		return
	}
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		from, to := r.within(z, false)
		n = to - from
	}
	c.int(int64(n))
}

func (c *Call) zremrangebyscore() { c.removeRange(zspan{byScore: true}) }
func (c *Call) zremrangebylex()   { c.removeRange(zspan{byLex: true}) }
func (c *Call) zremrangebyrank()  { c.removeRange(zspan{}) }

func (c *Call) removeRange(r zspan) {
	if !r.parse(c, c.args[2], c.args[3]) {
		return
	}
	z, ok := c.zsetAt(c.args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		from, to := r.within(z, false)
		if n = to - from; n > 0 {
			e, z, _ := c.zsetFor(c.args[1])
			gone := make([]string, 0, n)
			for p := z.sorted.place(from); len(gone) < n; p = z.sorted.next(p) {
				gone = append(gone, z.sorted.get(p).member)
			}
			for _, m := range gone {
				z.drop(z.find([]byte(m)), &c.s.cow)
			}
			c.changed(e)
		}
	}
	c.int(int64(n))
}
