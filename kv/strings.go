package kv

import (
	"math"
	"strconv"

	"understudy/kv/resp"
)

// maxString is the greatest length of a string in bytes.
const maxString = resp.DefaultMaxBulk

const errTooLong = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"

// text returns the bytes of a string, which the caller must not change.
func (e *entry) text() []byte {
	if e.kind == kindInt {
		return strconv.AppendInt(nil, e.num, 10)
	}
	return e.str
}

// setText gives e a string. changed must follow.
func (e *entry) setText(v []byte) {
	e.val, e.raw = nil, false
	if n, ok := parseInt(v); ok {
		e.setInt(n)
		return
	}
	e.setBytes(v)
}

func (e *entry) setInt(n int64) {
	e.kind, e.num, e.str, e.borrowed, e.raw = kindInt, n, nil, false, false
}

// setBytes copies v into the room of the old string if it fits well. No snapshot may be reading there.
func (e *entry) setBytes(v []byte) {
	e.kind, e.num = kindString, 0
	if !e.borrowed && cap(e.str) >= len(v) && cap(e.str) <= 2*len(v)+32 {
		e.str = append(e.str[:0], v...)
		return
	}
	e.str, e.borrowed = append(make([]byte, 0, len(v)), v...), false
}

// grown returns the string as bytes that may be overwritten, at least n long.
func (e *entry) grown(n int) []byte {
	if e.kind == kindInt {
		e.str, e.kind, e.num, e.borrowed = e.text(), kindString, 0, false
	}
	if e.borrowed {
		e.str, e.borrowed = append(make([]byte, 0, max(n, len(e.str))), e.str...), false
	}
	if n > len(e.str) {
		e.str = append(e.str, make([]byte, n-len(e.str))...)
	}
	e.raw = true
	return e.str
}

func (c *Call) replyText(e *entry) {
	switch {
	case e == nil:
		c.null()
	case e.kind == kindInt:
		c.out = resp.AppendBulkInt(c.out, e.num)
	default:
		c.bulk(e.str)
	}
}

func (c *Call) get() {
	if e, ok := c.findKind(c.args[1], kindString); ok {
		c.replyText(e)
	}
}

func (c *Call) mget() {
	c.array(len(c.args) - 1)
	for _, k := range c.args[1:] {
		if e := c.find(k); e != nil && (e.kind == kindString || e.kind == kindInt) {
			c.replyText(e)
		} else {
			c.null()
		}
	}
}

func (c *Call) strlen() {
	if e, ok := c.findKind(c.args[1], kindString); ok {
		n := 0
		if e != nil {
			n = len(e.text())
		}
		c.int(int64(n))
	}
}

// lifetime is what the options of SET and GETEX say about the deadline.
type lifetime struct {
	nx, xx, get, keep, persist bool
	unit                       [4]bool // ex, px, exat, pxat
	arg                        []byte
}

func (l *lifetime) timed() bool { return l.unit[0] || l.unit[1] || l.unit[2] || l.unit[3] }

func (l *lifetime) other(i int) bool {
	for k, on := range l.unit {
		if on && k != i {
			return true
		}
	}
	return false
}

var unitNames = [...]string{"ex", "px", "exat", "pxat"}

// parse reads the options. Not ok: the error has been answered.
func (l *lifetime) parse(c *Call, args [][]byte, set bool) bool {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case set && is(a, "nx") && !l.xx:
			l.nx = true
		case set && is(a, "xx") && !l.nx:
			l.xx = true
		case set && is(a, "get"):
			l.get = true
		case set && is(a, "keepttl") && !l.timed():
			l.keep = true
		case !set && is(a, "persist") && !l.timed():
			l.persist = true
		default:
			found := false
			for k, name := range unitNames {
				if is(a, name) && !l.keep && !l.persist && !l.other(k) && i+1 < len(args) {
					i++
					l.unit[k], l.arg, found = true, args[i], true
					break
				}
			}
			if !found {
				c.err(errSyntax)
				return false
			}
		}
	}
	return true
}

// deadline returns the instant that the options name, 0 for none. Not ok: the error has been answered.
func (l *lifetime) deadline(c *Call) (int64, bool) {
	if !l.timed() {
		return 0, true
	}
	n, ok := c.integer(l.arg)
	if !ok {
		return 0, false
	}
	seconds := l.unit[0] || l.unit[2]
	relative := l.unit[0] || l.unit[1]
	if n <= 0 || seconds && n > math.MaxInt64/1000 {
		c.err("ERR invalid expire time in '" + c.name + "' command")
		return 0, false
	}
	if seconds {
		n *= 1000
	}
	if relative {
		if n > math.MaxInt64-c.now {
			c.err("ERR invalid expire time in '" + c.name + "' command")
			return 0, false
		}
		n += c.now
	}
	return n, true
}

func is(arg []byte, lower string) bool {
	if len(arg) != len(lower) {
		return false
	}
	for i, b := range arg {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

func (c *Call) set() {
	var l lifetime
	if len(c.args) == 3 {
		c.store(c.args[1], c.args[2])
		c.ok()
		return
	}
	if l.parse(c, c.args[3:], true) {
		c.setWith(&l, c.args[2])
	}
}

// store is SET without options.
func (c *Call) store(key, v []byte) {
	e := c.replace(key, kindString)
	e.setText(v)
	c.changed(e)
}

func (c *Call) setWith(l *lifetime, v []byte) {
	at, ok := l.deadline(c)
	if !ok {
		return
	}
	old := c.find(c.args[1])
	if l.get {
		if old != nil && old.kind != kindString && old.kind != kindInt {
			c.err(errWrongType)
			return
		}
		c.replyText(old)
	}
	if l.nx && old != nil || l.xx && old == nil {
		if !l.get {
			c.null()
		}
		return
	}
	keep := int64(0)
	if l.keep && old != nil {
		keep = old.deadline
	}
	e := c.replace(c.args[1], kindString)
	e.setText(v)
	if at = max(at, keep); at != 0 {
		c.d.setDeadline(e, at)
	}
	c.changed(e)
	if e.dead(c.now) {
		c.drop(e)
	}
	if !l.get {
		c.ok()
	}
}

func (c *Call) setnx() {
	absent := c.find(c.args[1]) == nil
	if absent {
		c.store(c.args[1], c.args[2])
	}
	c.bool(absent)
}

func (c *Call) setex()  { c.setWith(&lifetime{unit: [4]bool{0: true}, arg: c.args[2]}, c.args[3]) }
func (c *Call) psetex() { c.setWith(&lifetime{unit: [4]bool{1: true}, arg: c.args[2]}, c.args[3]) }

func (c *Call) getset() {
	if e, ok := c.findKind(c.args[1], kindString); ok {
		c.replyText(e)
		c.store(c.args[1], c.args[2])
	}
}

func (c *Call) getdel() {
	if e, ok := c.takeKind(c.args[1], kindString); ok {
		c.replyText(e)
		if e != nil {
			c.drop(e)
		}
	}
}

func (c *Call) getex() {
	var l lifetime
	if !l.parse(c, c.args[2:], false) {
		return
	}
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok || e == nil {
		if ok {
			c.null()
		}
		return
	}
	at, ok := l.deadline(c)
	if !ok {
		return
	}
	c.replyText(e)
	switch {
	case at != 0 && at <= c.now:
		c.drop(e)
	case at != 0 || l.persist && e.deadline != 0:
		c.d.setDeadline(e, at)
		c.changed(e)
	}
}

func (c *Call) mset() {
	if len(c.args)%2 == 0 {
		c.err("ERR wrong number of arguments for '" + c.name + "' command")
		return
	}
	if c.name == "msetnx" {
		for i := 1; i < len(c.args); i += 2 {
			if c.find(c.args[i]) != nil {
				c.int(0)
				return
			}
		}
	}
	for i := 1; i < len(c.args); i += 2 {
		c.store(c.args[i], c.args[i+1])
	}
	if c.name == "msetnx" {
		c.int(1)
	} else {
		c.ok()
	}
}

func (c *Call) appendText() {
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok {
		return
	}
	if e == nil {
		e = c.create(c.args[1], kindString)
		e.setText(c.args[2])
	} else {
		if len(e.text())+len(c.args[2]) > maxString {
			c.err(errTooLong)
			return
		}
		if e.kind == kindInt {
			e.grown(0)
		}
		// A snapshot sees the bytes up to its own length; growing behind them does not disturb it.
		e.str, e.raw = append(e.str, c.args[2]...), true
	}
	c.changed(e)
	c.int(int64(len(e.text())))
}

func (c *Call) getrange() {
	start, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	end, ok := c.integer(c.args[3])
	if !ok {
		return
	}
	e, ok := c.findKind(c.args[1], kindString)
	if !ok {
		return
	}
	if e == nil || start < 0 && end < 0 && start > end {
		c.bulkString("")
		return
	}
	s := e.text()
	if end < 0 {
		end = max(end+int64(len(s)), 0) // an end before the start of the string is its first byte
	}
	from, to := clip(start, end, len(s))
	c.bulk(s[from:to])
}

// clip turns a range of Redis, both ends included and negative from the end, into one of a slice.
func clip(start, end int64, n int) (from, to int) {
	size := int64(n)
	if start < 0 {
		start = max(start+size, 0)
	}
	if end < 0 {
		end = max(end+size, -1)
	}
	end = min(end, size-1)
	if start > end {
		return 0, 0
	}
	return int(start), int(end) + 1
}

func (c *Call) setrange() {
	offset, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	if offset < 0 {
		c.err("ERR offset is out of range")
		return
	}
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok {
		return
	}
	v := c.args[3]
	if len(v) == 0 {
		n := 0
		if e != nil {
			n = len(e.text())
		}
		c.int(int64(n))
		return
	}
	if offset > maxString || offset+int64(len(v)) > maxString {
		c.err(errTooLong)
		return
	}
	if e == nil {
		e = c.create(c.args[1], kindString)
	}
	s := e.grown(int(offset) + len(v))
	copy(s[offset:], v)
	c.changed(e)
	c.int(int64(len(s)))
}

func (c *Call) incr() { c.add(1) }
func (c *Call) decr() { c.add(-1) }

func (c *Call) incrby() {
	if n, ok := c.integer(c.args[2]); ok {
		c.add(n)
	}
}

func (c *Call) decrby() {
	n, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	if n == math.MinInt64 {
		c.err("ERR decrement would overflow")
		return
	}
	c.add(-n)
}

func (c *Call) add(n int64) {
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok {
		return
	}
	var old int64
	if e != nil {
		if old, ok = e.num, true; e.kind == kindString {
			old, ok = parseInt(e.str)
		}
		if !ok {
			c.err(errInteger)
			return
		}
	}
	sum := old + n
	if n > 0 && sum < old || n < 0 && sum > old {
		c.err("ERR increment or decrement would overflow")
		return
	}
	if e == nil {
		e = c.create(c.args[1], kindInt)
	}
	e.setInt(sum)
	c.changed(e)
	c.int(sum)
}

func (c *Call) incrbyfloat() {
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok {
		return
	}
	text := []byte("0")
	if e != nil {
		text = e.text()
	}
	old, ok1 := parseLong(text)
	by, ok2 := parseLong(c.args[2])
	if !ok1 || !ok2 {
		c.err(errFloat)
		return
	}
	sum, ok := addLong(old, by)
	if !ok {
		c.err("ERR increment would produce NaN or Infinity")
		return
	}
	if e == nil {
		e = c.create(c.args[1], kindString)
	}
	e.raw = false
	e.setBytes(formatLong(nil, sum))
	c.changed(e)
	c.bulk(e.str)
}
