package kv

import (
	"strconv"

	"understudy/kv/resp"
)

// A scan walks a vector downwards. Its cursor is the number of items that are still to be visited; 0 both begins a
// scan and ends it. See dict for why no item that is there throughout is missed. A call looks at as many items as
// COUNT says, whatever the size of the database.

type scanOptions struct {
	cursor  uint64
	count   int64
	pattern []byte
	kind    []byte
}

func (c *Call) scanCursor(arg []byte) (uint64, bool) {
	if len(arg) == 0 {
		return 0, true // as strtoul has it
	}
	n, err := strconv.ParseUint(string(arg), 10, 64)
	if err != nil {
		c.err("ERR invalid cursor")
	}
	return n, err == nil
}

func (o *scanOptions) parse(c *Call, args [][]byte, types bool) bool {
	o.count = 10
	for i := 0; i < len(args); i += 2 {
		switch {
		case i+1 >= len(args):
			c.err(errSyntax)
			return false
		case is(args[i], "count"):
			var ok bool
			if o.count, ok = c.integer(args[i+1]); !ok {
				return false
			}
			if o.count < 1 {
				c.err(errSyntax)
				return false
			}
		case is(args[i], "match"):
			o.pattern = args[i+1]
			if string(o.pattern) == "*" {
				o.pattern = nil
			}
		case types && is(args[i], "type"):
			o.kind = args[i+1]
		default:
			c.err(errSyntax)
			return false
		}
	}
	return true
}

// walk visits the next of n items, downwards, and returns the cursor that continues.
func (o *scanOptions) walk(n int, visit func(i int)) uint64 {
	at := n
	if o.cursor != 0 && o.cursor < uint64(n) {
		at = int(o.cursor)
	}
	for left := o.count; at > 0 && left > 0; left-- {
		at--
		visit(at)
	}
	return uint64(at)
}

func (o *scanOptions) matches(s string) bool {
	return o.pattern == nil || match(o.pattern, []byte(s))
}

func (c *Call) replyScan(cursor uint64, items []string) {
	c.array(2)
	var text [20]byte
	c.bulk(strconv.AppendUint(text[:0], cursor, 10))
	c.array(len(items))
	for _, s := range items {
		c.bulkString(s)
	}
}

func (c *Call) scan() {
	var o scanOptions
	var ok bool
	if o.cursor, ok = c.scanCursor(c.args[1]); !ok || !o.parse(c, c.args[2:], true) {
		return
	}
	var hits []string
	next := o.walk(c.d.list.n, func(i int) {
		e := *c.d.list.at(i)
		if !e.dead(c.now) && (o.kind == nil || is(o.kind, e.kind.name())) && o.matches(e.key) {
			hits = append(hits, e.key)
		}
	})
	c.replyScan(next, hits)
}

// scanValue walks the value under the first key. Compact values are returned whole, whatever COUNT says, as in Redis.
func (c *Call) scanValue(k kind, items func(value) (n int, compact bool), visit func(v value, i int, o *scanOptions, hits []string) []string) {
	var o scanOptions
	var ok bool
	if o.cursor, ok = c.scanCursor(c.args[2]); !ok {
		return
	}
	e, ok := c.findKind(c.args[1], k)
	if !ok {
		return
	}
	if e == nil {
		c.replyScan(0, nil)
		return
	}
	if !o.parse(c, c.args[3:], false) {
		return
	}
	n, compact := items(e.val)
	if compact {
		o.cursor, o.count = 0, int64(n)
	}
	var hits []string
	next := o.walk(n, func(i int) { hits = visit(e.val, i, &o, hits) })
	c.replyScan(next, hits)
}

func (c *Call) scanFields() {
	c.scanValue(kindHash, func(v value) (int, bool) { return v.length(), !v.(*hash).large },
		func(v value, i int, o *scanOptions, hits []string) []string {
			if p := v.(*hash).items.at(i); o.matches(p.key) {
				hits = append(hits, p.key, p.val)
			}
			return hits
		})
}

func (c *Call) scanMembers() {
	c.scanValue(kindSet, func(v value) (int, bool) { return v.length(), !v.(*set).hashed },
		func(v value, i int, o *scanOptions, hits []string) []string {
			if p := v.(*set).items.at(i); o.matches(p.key) {
				hits = append(hits, p.key)
			}
			return hits
		})
}

func (c *Call) scanScored() {
	c.scanValue(kindZSet, func(v value) (int, bool) { return v.length(), !v.(*zset).large },
		func(v value, i int, o *scanOptions, hits []string) []string {
			if p := v.(*zset).items.at(i); o.matches(p.key) {
				hits = append(hits, p.key, string(resp.AppendFloat(nil, p.val)))
			}
			return hits
		})
}
