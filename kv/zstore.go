package kv

import (
	"math"
	"slices"
)

// source is an input of ZUNION and the like: a sorted set, or a set whose members all score 1.
type source struct {
	z      *zset
	s      *set
	weight float64
}

func (s *source) len() int {
	switch {
	case s.z != nil:
		return s.z.len()
	case s.s != nil:
		return s.s.len()
	}
	return 0
}

func (s *source) at(i int) scored {
	if s.z != nil {
		p := s.z.items.at(i)
		return scored{p.val, p.key}
	}
	return scored{1, s.s.items.at(i).key}
}

func (s *source) score(m string) (float64, bool) {
	if s.z != nil {
		return s.z.score([]byte(m))
	}
	return 1, s.s.has([]byte(m))
}

// weighted is the product with the weight. The conversion keeps a compiler from fusing it with a later sum, which
// would round differently on some processors.
func (s *source) weighted(score float64) float64 {
	f := float64(s.weight * score)
	if math.IsNaN(f) {
		return 0
	}
	return f
}

type combination struct {
	op       byte // u, i, d
	card     bool
	store    bool
	min, max bool // else sum
	scores   bool
	limit    int64
	from     []source
}

func (k *combination) aggregate(a, b float64) float64 {
	switch {
	case k.min:
		return min(a, b)
	case k.max:
		return max(a, b)
	}
	if sum := a + b; !math.IsNaN(sum) {
		return sum
	}
	return 0 // the infinities cancel each other
}

// parse reads the number of keys at args[at] and what follows. Not ok: the error has been answered.
func (k *combination) parse(c *Call, at int) bool {
	n, ok := c.integer(c.args[at])
	if !ok {
		return false
	}
	if n < 1 {
		c.err("ERR at least 1 input key is needed for '" + c.name + "' command")
		return false
	}
	if n > int64(len(c.args)-at-1) {
		c.err(errSyntax)
		return false
	}
	for _, key := range c.args[at+1 : at+1+int(n)] {
		s := source{weight: 1}
		if e := c.find(key); e != nil {
			switch v := e.val.(type) {
			case *zset:
				s.z = v
			case *set:
				s.s = v
			default:
				c.err(errWrongType)
				return false
			}
		}
		k.from = append(k.from, s)
	}
	rest := c.args[at+1+int(n):]
	for i := 0; i < len(rest); i++ {
		left := len(rest) - i
		switch a := rest[i]; {
		case k.op != 'd' && !k.card && left > int(n) && is(a, "weights"):
			for j := range k.from {
				i++
				if k.from[j].weight, ok = parseFloat(rest[i]); !ok {
					c.err("ERR weight value is not a float")
					return false
				}
			}
		case k.op != 'd' && !k.card && left >= 2 && is(a, "aggregate"):
			i++
			k.min, k.max = is(rest[i], "min"), is(rest[i], "max")
			if !k.min && !k.max && !is(rest[i], "sum") {
				c.err(errSyntax)
				return false
			}
		case !k.store && !k.card && is(a, "withscores"):
			k.scores = true
		case k.card && left >= 2 && is(a, "limit"):
			i++
			if k.limit, ok = parseInt(rest[i]); !ok || k.limit < 0 {
				c.err("ERR LIMIT can't be negative")
				return false
			}
		default:
			c.err(errSyntax)
			return false
		}
	}
	return true
}

// result computes the members with their scores, in no special order but always the same.
func (k *combination) result() []scored {
	from := k.from
	if k.op != 'd' {
		// From the smallest to the largest, as Redis does: sums of floating point numbers depend on the order.
		from = slices.Clone(from)
		slices.SortStableFunc(from, func(a, b source) int { return a.len() - b.len() })
	}
	var out []scored
	switch k.op {
	case 'u':
		place := map[string]int{}
		for _, s := range from {
			for i := range s.len() {
				x := s.at(i)
				x.score = s.weighted(x.score)
				if at, ok := place[x.member]; ok {
					out[at].score = k.aggregate(out[at].score, x.score)
				} else {
					place[x.member] = len(out)
					out = append(out, x)
				}
			}
		}
	case 'i':
	inter:
		for i := range from[0].len() {
			x := from[0].at(i)
			x.score = from[0].weighted(x.score)
			for _, s := range from[1:] {
				score, ok := s.score(x.member)
				if !ok {
					continue inter
				}
				x.score = k.aggregate(x.score, s.weighted(score))
			}
			if out = append(out, x); k.card && int64(len(out)) == k.limit {
				break
			}
		}
	case 'd':
	diff:
		for i := range from[0].len() {
			x := from[0].at(i)
			for _, s := range from[1:] {
				if _, ok := s.score(x.member); ok {
					continue diff
				}
			}
			out = append(out, x)
		}
	}
	return out
}

func (c *Call) zcombine(op byte) {
	k := combination{op: op}
	if !k.parse(c, 1) {
		return
	}
	out := k.result()
	slices.SortFunc(out, scored.compare)
	n := len(out)
	if k.scores && c.Proto == 2 {
		n *= 2
	}
	c.array(n)
	for _, x := range out {
		c.replyScored(x, k.scores)
	}
}

func (c *Call) zcombineStore(op byte) {
	k := combination{op: op, store: true}
	if !k.parse(c, 2) {
		return
	}
	out := k.result()
	slices.SortFunc(out, scored.compare)
	c.storeScored(out)
}

func (c *Call) zunion()      { c.zcombine('u') }
func (c *Call) zinter()      { c.zcombine('i') }
func (c *Call) zdiff()       { c.zcombine('d') }
func (c *Call) zunionstore() { c.zcombineStore('u') }
func (c *Call) zinterstore() { c.zcombineStore('i') }
func (c *Call) zdiffstore()  { c.zcombineStore('d') }

func (c *Call) zintercard() {
	k := combination{op: 'i', card: true}
	if k.parse(c, 1) {
		c.int(int64(len(k.result())))
	}
}
