package kv

import (
	"math"
	"slices"

	"understudy/kv/resp"
)

type set struct {
	dict[struct{}]
	stored int64
	hashed bool // Redis would have left intset
}

func (s *set) length() int   { return s.dict.len() }
func (s *set) memory() int64 { return s.stored }
func (s *set) fork() value   { return &set{s.dict.clone(), s.stored, s.hashed} }

func (s *set) copied(w *cow) value { return &set{s.dict.copied(w), s.stored, s.hashed} }

// put adds a member and tells whether it is new.
func (s *set) put(m []byte, w *cow) bool {
	if s.find(m) >= 0 {
		return false
	}
	if !s.hashed {
		_, isInt := parseInt(m)
		s.hashed = !isInt || s.len() >= intsetItems
	}
	s.add(string(m), struct{}{}, w)
	s.stored += memSetElem + int64(len(m))
	return true
}

func (s *set) drop(i int, w *cow) {
	s.stored -= memSetElem + int64(len(s.items.at(i).key))
	s.removeAt(i, w)
}

func (c *Call) setAt(key []byte) (*set, bool) {
	e, ok := c.findKind(key, kindSet)
	if !ok || e == nil {
		return nil, ok
	}
	return e.val.(*set), true
}

func (c *Call) setFor(key []byte) (*entry, *set, bool) {
	e, ok := c.takeKind(key, kindSet)
	if !ok {
		return nil, nil, false
	}
	if e == nil {
		e = c.create(key, kindSet)
		e.val = &set{}
	}
	return e, e.val.(*set), true
}

func (s *set) has(m []byte) bool { return s != nil && s.find(m) >= 0 }

func (c *Call) sadd() {
	e, s, ok := c.setFor(c.args[1])
	if !ok {
		return
	}
	n := int64(0)
	for _, m := range c.args[2:] {
		if s.put(m, &c.s.cow) {
			n++
		}
	}
	if n > 0 {
		c.changed(e)
	}
	c.int(n)
}

func (c *Call) srem() {
	s, ok := c.setAt(c.args[1])
	if !ok {
		return
	}
	n := int64(0)
	if s != nil {
		e, s, _ := c.setFor(c.args[1])
		for _, m := range c.args[2:] {
			if i := s.find(m); i >= 0 {
				s.drop(i, &c.s.cow)
				n++
			}
		}
		if n > 0 {
			c.changed(e)
		}
	}
	c.int(n)
}

func (c *Call) smove() {
	from, ok := c.setAt(c.args[1])
	if !ok {
		return
	}
	if from == nil {
		c.int(0)
		return
	}
	to, ok := c.setAt(c.args[2])
	if !ok {
		return
	}
	has := from.has(c.args[3])
	if !has || from == to {
		c.bool(has)
		return
	}
	e, from, _ := c.setFor(c.args[1])
	from.drop(from.find(c.args[3]), &c.s.cow)
	c.changed(e)
	e, to, _ = c.setFor(c.args[2])
	if to.put(c.args[3], &c.s.cow) {
		c.changed(e)
	}
	c.int(1)
}

func (c *Call) scard() {
	if s, ok := c.setAt(c.args[1]); ok {
		n := 0
		if s != nil {
			n = s.len()
		}
		c.int(int64(n))
	}
}

func (c *Call) sismember() {
	if s, ok := c.setAt(c.args[1]); ok {
		c.bool(s.has(c.args[2]))
	}
}

func (c *Call) smismember() {
	s, ok := c.setAt(c.args[1])
	if !ok {
		return
	}
	c.array(len(c.args) - 2)
	for _, m := range c.args[2:] {
		c.bool(s.has(m))
	}
}

func (c *Call) replySet(members []string) {
	c.out = resp.AppendSet(c.out, c.Proto, len(members))
	for _, m := range members {
		c.bulkString(m)
	}
}

func (s *set) members() []string {
	if s == nil {
		return nil
	}
	all := make([]string, 0, s.len())
	for i := range s.len() {
		all = append(all, s.items.at(i).key)
	}
	return all
}

func (c *Call) smembers() {
	if s, ok := c.setAt(c.args[1]); ok {
		c.replySet(s.members())
	}
}

func (c *Call) spop() {
	if len(c.args) > 3 {
		c.err(errSyntax)
		return
	}
	many := len(c.args) == 3
	count := int64(1)
	if many {
		var ok bool
		if count, ok = parseInt(c.args[2]); !ok || count < 0 {
			c.err(errPositive)
			return
		}
	}
	s, ok := c.setAt(c.args[1])
	if !ok {
		return
	}
	if s == nil || count == 0 {
		if many {
			c.replySet(nil)
		} else {
			c.null()
		}
		return
	}
	e, s, _ := c.setFor(c.args[1])
	n := int(min(count, int64(s.len())))
	if many {
		c.out = resp.AppendSet(c.out, c.Proto, n)
	}
	for range n {
		i := c.rnd.below(s.len())
		c.bulkString(s.items.at(i).key)
		s.drop(i, &c.s.cow)
	}
	c.changed(e)
}

func (c *Call) srandmember() {
	if len(c.args) > 3 {
		c.err(errSyntax)
		return
	}
	if len(c.args) == 2 {
		s, ok := c.setAt(c.args[1])
		switch {
		case !ok:
		case s == nil:
			c.null()
		default:
			c.bulkString(s.items.at(c.rnd.below(s.len())).key)
		}
		return
	}
	n, repeat, _, ok := c.choice("")
	if !ok {
		return
	}
	s, ok := c.setAt(c.args[1])
	if !ok {
		return
	}
	if s == nil || n == 0 {
		c.array(0)
		return
	}
	if !c.heads(n, s.len(), repeat, false) {
		return
	}
	c.pick(n, s.len(), repeat, func(i int) { c.bulkString(s.items.at(i).key) })
}

// sets returns the sets under keys; a missing one is nil. Not ok: the error has been answered.
func (c *Call) sets(keys [][]byte) ([]*set, bool) {
	all := make([]*set, len(keys))
	for i, k := range keys {
		var ok bool
		if all[i], ok = c.setAt(k); !ok {
			return nil, false
		}
	}
	return all, true
}

// inter returns the members that all sets have, no more than limit unless that is 0.
func inter(sets []*set, limit int) []string {
	if slices.Contains(sets, nil) {
		return nil
	}
	// The smallest one is walked; of equals the first.
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *set) int { return a.len() - b.len() })
	var hits []string
walk:
	for i := range sets[0].len() {
		m := sets[0].items.at(i).key
		for _, s := range sets[1:] {
			if s.find([]byte(m)) < 0 {
				continue walk
			}
		}
		hits = append(hits, m)
		if len(hits) == limit {
			break
		}
	}
	return hits
}

func union(sets []*set) []string {
	var all []string
	seen := map[string]bool{}
	for _, s := range sets {
		for _, m := range s.members() {
			if !seen[m] {
				seen[m] = true
				all = append(all, m)
			}
		}
	}
	return all
}

func diff(sets []*set) []string {
	var left []string
walk:
	for _, m := range sets[0].members() {
		for _, s := range sets[1:] {
			if s != nil && s.find([]byte(m)) >= 0 {
				continue walk
			}
		}
		left = append(left, m)
	}
	return left
}

func (c *Call) combine(keys [][]byte, f func([]*set) []string) {
	if sets, ok := c.sets(keys); ok {
		c.replySet(f(sets))
	}
}

func (c *Call) combineStore(f func([]*set) []string) {
	sets, ok := c.sets(c.args[2:])
	if !ok {
		return
	}
	result := f(sets)
	if len(result) == 0 {
		if e := c.take(c.args[1]); e != nil {
			c.drop(e)
		}
		c.int(0)
		return
	}
	e := c.replace(c.args[1], kindSet)
	s := &set{}
	e.val = s
	for _, m := range result {
		s.put([]byte(m), &c.s.cow)
	}
	c.changed(e)
	c.int(int64(len(result)))
}

func interAll(sets []*set) []string { return inter(sets, 0) }

func (c *Call) sinter()      { c.combine(c.args[1:], interAll) }
func (c *Call) sunion()      { c.combine(c.args[1:], union) }
func (c *Call) sdiff()       { c.combine(c.args[1:], diff) }
func (c *Call) sinterstore() { c.combineStore(interAll) }
func (c *Call) sunionstore() { c.combineStore(union) }
func (c *Call) sdiffstore()  { c.combineStore(diff) }

// cardLimit reads [LIMIT n] of SINTERCARD and ZINTERCARD.
func (c *Call) cardLimit(args [][]byte) (int, bool) {
	limit := int64(0)
	for i := 0; i < len(args); i += 2 {
		if !is(args[i], "limit") || i+1 >= len(args) {
			c.err(errSyntax)
			return 0, false
		}
		var ok bool
		if limit, ok = parseInt(args[i+1]); !ok || limit < 0 {
			c.err("ERR LIMIT can't be negative")
			return 0, false
		}
	}
	return int(min(limit, math.MaxInt32)), true
}

func (c *Call) sintercard() {
	n, ok := parseInt(c.args[1])
	if !ok || n <= 0 {
		c.err(errNumKeys)
		return
	}
	if n > int64(len(c.args)-2) {
		c.err("ERR Number of keys can't be greater than number of args")
		return
	}
	limit, ok := c.cardLimit(c.args[2+n:])
	if !ok {
		return
	}
	if sets, ok := c.sets(c.args[2 : 2+n]); ok {
		c.int(int64(len(inter(sets, limit))))
	}
}
