package kv

import (
	"bytes"

	"understudy/kv/resp"
)

func (c *Call) del() {
	n := int64(0)
	for _, k := range c.args[1:] {
		if e := c.take(k); e != nil {
			c.drop(e)
			n++
		}
	}
	c.int(n)
}

func (c *Call) exists() {
	n := int64(0)
	for _, k := range c.args[1:] {
		if c.find(k) != nil {
			n++
		}
	}
	c.int(n)
}

func (c *Call) typeOf() {
	k := kindNone
	if e := c.find(c.args[1]); e != nil {
		k = e.kind
	}
	c.out = resp.AppendSimple(c.out, k.name())
}

func (c *Call) keys() {
	all := len(c.args[1]) == 1 && c.args[1][0] == '*'
	var hits []*entry
	for i := range c.d.list.n {
		e := *c.d.list.at(i)
		if !e.dead(c.now) && (all || match(c.args[1], []byte(e.key))) {
			hits = append(hits, e)
		}
	}
	c.array(len(hits))
	for _, e := range hits {
		c.bulkString(e.key)
	}
}

func (c *Call) dbsize() { c.int(int64(c.d.list.n)) }

// randomkey looks from a random place on for a key that is alive: not quite uniform while many are dead, but bounded
// by the number of keys.
func (c *Call) randomkey() {
	n := c.d.list.n
	if n == 0 {
		c.null()
		return
	}
	for range 100 {
		if e := *c.d.list.at(c.rnd.below(n)); !e.dead(c.now) {
			c.bulkString(e.key)
			return
		}
	}
	from := c.rnd.below(n)
	for i := range n {
		if e := *c.d.list.at((from + i) % n); !e.dead(c.now) {
			c.bulkString(e.key)
			return
		}
	}
	c.null()
}

func (c *Call) rename() {
	nx := c.name == "renamenx"
	if c.find(c.args[1]) == nil {
		c.err(errNoKey)
		return
	}
	e := c.take(c.args[1])
	to := c.find(c.args[2])
	if e == to || bytes.Equal(c.args[1], c.args[2]) || nx && to != nil {
		if nx {
			c.int(0)
		} else {
			c.ok()
		}
		return
	}
	if old := c.take(c.args[2]); old != nil {
		c.drop(old)
	}
	deadline := e.deadline
	c.drop(e)
	n := c.create(c.args[2], e.kind)
	n.str, n.num, n.val, n.raw, n.borrowed = e.str, e.num, e.val, e.raw, e.borrowed
	if deadline != 0 {
		c.d.setDeadline(n, deadline)
	}
	c.changed(n)
	if nx {
		c.int(1)
	} else {
		c.ok()
	}
}

// database reads the number of a database.
func (c *Call) database(arg []byte, text string) (int, bool) {
	n, ok := parseInt(arg)
	if !ok {
		c.err(text)
	}
	return int(n), ok && c.databases(n)
}

// databases tells whether all numbers are those of databases. If not, the error has been answered.
func (c *Call) databases(numbers ...int64) bool {
	for _, n := range numbers {
		if n < 0 || n >= Databases {
			c.err("ERR DB index is out of range")
			return false
		}
	}
	return true
}

func (c *Call) selectDB() {
	if n, ok := c.database(c.args[1], errInteger); ok {
		c.DB = n
		c.d = c.s.dbs[n]
		c.ok()
	}
}

// transfer gives the key a copy of e in another database (or under another name in this one).
func (c *Call) transfer(to *db, key []byte, e *entry, same bool) {
	here := c.d
	c.d = to
	if old := c.take(key); old != nil {
		c.drop(old)
	}
	n := c.create(key, e.kind)
	if same {
		n.str, n.num, n.val, n.raw, n.borrowed = e.str, e.num, e.val, e.raw, e.borrowed
	} else {
		n.str, n.num, n.raw = bytes.Clone(e.str), e.num, e.raw
		if e.val != nil {
			n.val = e.val.copied(&c.s.cow)
		}
	}
	if e.deadline != 0 {
		to.setDeadline(n, e.deadline)
	}
	c.changed(n)
	c.d = here
}

func (c *Call) move() {
	n, ok := c.database(c.args[2], errInteger)
	if !ok {
		return
	}
	to := c.s.dbs[n]
	if to == c.d {
		c.err("ERR source and destination objects are the same")
		return
	}
	there := to.index[string(c.args[1])]
	if c.find(c.args[1]) == nil || there != nil && !there.dead(c.now) {
		c.int(0)
		return
	}
	e := c.take(c.args[1])
	c.drop(e)
	c.transfer(to, c.args[1], e, true)
	c.int(1)
}

func (c *Call) copyKey() {
	to, replace := c.d, false
	for i := 3; i < len(c.args); i++ {
		switch {
		case is(c.args[i], "replace"):
			replace = true
		case is(c.args[i], "db") && i+1 < len(c.args):
			i++
			n, ok := c.database(c.args[i], errInteger)
			if !ok {
				return
			}
			to = c.s.dbs[n]
		default:
			c.err(errSyntax)
			return
		}
	}
	if to == c.d && bytes.Equal(c.args[1], c.args[2]) {
		c.err("ERR source and destination objects are the same")
		return
	}
	e := c.find(c.args[1])
	there := to.index[string(c.args[2])]
	if e == nil || there != nil && !there.dead(c.now) && !replace {
		c.int(0)
		return
	}
	c.transfer(to, c.args[2], e, false)
	c.int(1)
}

func (c *Call) swapdb() {
	a, ok := parseInt(c.args[1])
	if !ok {
		c.err("ERR invalid first DB index")
		return
	}
	b, ok := parseInt(c.args[2])
	if !ok {
		c.err("ERR invalid second DB index")
		return
	}
	if !c.databases(a, b) {
		return
	}
	if a == b {
		c.ok()
		return
	}
	s := c.s
	s.dbs[a], s.dbs[b] = s.dbs[b], s.dbs[a]
	c.d = s.dbs[c.DB]
	s.version++
	for i := range s.slots { // whoever watches a missing key may now find another
		s.slots[i] = s.version
	}
	c.ok()
}

func (c *Call) flush() {
	if len(c.args) > 2 || len(c.args) == 2 && !is(c.args[1], "sync") && !is(c.args[1], "async") {
		c.err(errSyntax)
		return
	}
	for i, d := range c.s.dbs {
		if c.name == "flushall" || d == c.d {
			c.s.dbs[i] = newDB()
		}
	}
	c.d = c.s.dbs[c.DB]
	c.ok()
}

func (c *Call) object() {
	if is(c.args[1], "help") {
		lines := []string{
			"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
			"ENCODING <key>", "    Return the kind of internal representation used in order to store the value",
			"    associated with a <key>.",
			"FREQ <key>", "    Return the access frequency index of the <key>. The returned integer is",
			"    proportional to the logarithm of the recent access frequency of the key.",
			"IDLETIME <key>", "    Return the idle time of the <key>, that is the approximated number of",
			"    seconds elapsed since the last access to the key.",
			"REFCOUNT <key>", "    Return the number of references of the value associated with the specified",
			"    <key>.",
			"HELP", "    Prints this help.",
		}
		c.array(len(lines))
		for _, l := range lines {
			c.out = resp.AppendSimple(c.out, l)
		}
		return
	}
	e := c.find(c.args[2])
	if e == nil {
		c.null()
		return
	}
	switch sub := c.args[1]; {
	case is(sub, "encoding"):
		c.bulkString(e.encoding())
	case is(sub, "refcount"):
		c.int(1)
	case is(sub, "idletime"): // reads leave no trace, so nobody knows
		c.int(0)
	case is(sub, "freq"):
		c.err("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
	}
}

// encoding is what Redis 7.0 would answer to OBJECT ENCODING with its default configuration. Ours is another.
func (e *entry) encoding() string {
	switch v := e.val.(type) {
	case *list:
		return "quicklist"
	case *set:
		if v.hashed {
			return "hashtable"
		}
		return "intset"
	case *hash:
		if v.large {
			return "hashtable"
		}
		return "listpack"
	case *zset:
		if v.large {
			return "skiplist"
		}
		return "listpack"
	}
	switch {
	case e.kind == kindInt:
		return "int"
	case e.raw || len(e.str) > 44:
		return "raw"
	}
	return "embstr"
}

func (c *Call) ping() {
	switch len(c.args) {
	case 1:
		c.out = append(c.out, "+PONG\r\n"...)
	case 2:
		c.bulk(c.args[1])
	default:
		c.err("ERR wrong number of arguments for 'ping' command")
	}
}

func (c *Call) echo() { c.bulk(c.args[1]) }

// nothing is UNWATCH within a transaction, where it has nothing left to do.
func (c *Call) nothing() { c.ok() }

// time answers with the instant of the entry.
func (c *Call) time() {
	c.array(2)
	c.out = resp.AppendBulkInt(c.out, c.now/1000)
	c.out = resp.AppendBulkInt(c.out, c.now%1000*1000)
}
