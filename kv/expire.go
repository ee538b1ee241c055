package kv

import "math"

// Expire removes up to budget keys whose deadline has passed at an instant in unix milliseconds, the earliest first; of
// equal deadlines the lower database, then the lesser key. It returns how many. It is driven by entries that carry
// the time, so that replicas remove the same keys; a key that is due already counts as missing, removed or not.
func (s *Store) Expire(now int64, budget int) int {
	s.clock = max(s.clock, now)
	for n := range budget {
		var first *db
		at := int64(math.MaxInt64)
		for _, d := range s.dbs {
			if len(d.due.at) > 0 && d.due.at[0].deadline < at {
				first, at = d, d.due.at[0].deadline
			}
		}
		if first == nil || at > s.clock {
			return n
		}
		first.remove(first.due.at[0], &s.cow)
	}
	return budget
}

// Due returns the earliest deadline of a key in unix milliseconds, 0 if no key has one: when the next entry for Expire
// is worth writing.
func (s *Store) Due() int64 {
	at := int64(0)
	for _, d := range s.dbs {
		if len(d.due.at) > 0 && (at == 0 || d.due.at[0].deadline < at) {
			at = d.due.at[0].deadline
		}
	}
	return at
}

func (c *Call) expire() {
	seconds := c.name == "expire" || c.name == "expireat"
	relative := c.name == "expire" || c.name == "pexpire"
	var nx, xx, gt, lt bool
	for _, a := range c.args[3:] {
		switch {
		case is(a, "nx"):
			nx = true
		case is(a, "xx"):
			xx = true
		case is(a, "gt"):
			gt = true
		case is(a, "lt"):
			lt = true
		default:
			c.err("ERR Unsupported option " + cString(a, len(a)))
			return
		}
	}
	if nx && (xx || gt || lt) {
		c.err("ERR NX and XX, GT or LT options at the same time are not compatible")
		return
	}
	if gt && lt {
		c.err("ERR GT and LT options at the same time are not compatible")
		return
	}
	at, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	bad := seconds && (at > math.MaxInt64/1000 || at < math.MinInt64/1000)
	if !bad {
		if seconds {
			at *= 1000
		}
		if relative {
			bad = at > math.MaxInt64-c.now
			at += c.now
		}
	}
	if bad {
		c.err("ERR invalid expire time in '" + c.name + "' command")
		return
	}
	e := c.take(c.args[1])
	switch {
	case e == nil, nx && e.deadline != 0, xx && e.deadline == 0,
		gt && (e.deadline == 0 || at <= e.deadline), lt && e.deadline != 0 && at >= e.deadline:
		c.int(0)
		return
	case at <= c.now:
		c.drop(e)
	default:
		c.d.setDeadline(e, at)
		c.changed(e)
	}
	c.int(1)
}

func (c *Call) ttl() {
	e := c.find(c.args[1])
	switch {
	case e == nil:
		c.int(-2)
	case e.deadline == 0:
		c.int(-1)
	case c.name == "ttl":
		c.int(roundSeconds(e.deadline - c.now))
	case c.name == "pttl":
		c.int(e.deadline - c.now)
	case c.name == "expiretime":
		c.int(roundSeconds(e.deadline))
	default:
		c.int(e.deadline)
	}
}

func (c *Call) persist() {
	e := c.take(c.args[1])
	if e == nil || e.deadline == 0 {
		c.int(0)
		return
	}
	c.d.setDeadline(e, 0)
	c.changed(e)
	c.int(1)
}

func roundSeconds(ms int64) int64 { return ms/1000 + (ms%1000+500)/1000 }
