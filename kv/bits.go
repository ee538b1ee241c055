package kv

import "math/bits"

const errBitOffset = "ERR bit offset is not an integer or out of range"

func (c *Call) bitOffset(arg []byte) (int64, bool) {
	n, ok := parseInt(arg)
	if !ok || n < 0 || n>>3 >= maxString {
		c.err(errBitOffset)
		return 0, false
	}
	return n, true
}

func (c *Call) setbit() {
	at, ok := c.bitOffset(c.args[2])
	if !ok {
		return
	}
	bit, ok := parseInt(c.args[3])
	if !ok || bit&^1 != 0 {
		c.err("ERR bit is not an integer or out of range")
		return
	}
	e, ok := c.takeKind(c.args[1], kindString)
	if !ok {
		return
	}
	if e == nil {
		e = c.create(c.args[1], kindString)
	}
	s := e.grown(int(at>>3) + 1)
	mask := byte(0x80) >> (at & 7)
	old := s[at>>3]&mask != 0
	s[at>>3] &^= mask
	if bit == 1 {
		s[at>>3] |= mask
	}
	c.changed(e)
	c.bool(old)
}

func (c *Call) getbit() {
	at, ok := c.bitOffset(c.args[2])
	if !ok {
		return
	}
	e, ok := c.findKind(c.args[1], kindString)
	if !ok {
		return
	}
	set := false
	if e != nil {
		s := e.text()
		set = at>>3 < int64(len(s)) && s[at>>3]&(0x80>>(at&7)) != 0
	}
	c.bool(set)
}

// bitRange reads start, end and unit from args, for a string of n bytes, and returns a range of bits. Empty: from is
// not below to.
func (c *Call) bitRange(args [][]byte, n int, count bool) (from, to int64, ok bool) {
	start, end := int64(0), int64(-1)
	inBits := false
	if len(args) > 0 {
		if start, ok = c.integer(args[0]); !ok {
			return
		}
	}
	if len(args) > 1 {
		if end, ok = c.integer(args[1]); !ok {
			return
		}
	}
	if count && start < 0 && end < 0 && start > end {
		return 0, 0, true // BITCOUNT looks no further
	}
	if len(args) > 2 {
		inBits = is(args[2], "bit")
		if len(args) > 3 || !inBits && !is(args[2], "byte") {
			c.err(errSyntax)
			return 0, 0, false
		}
	}
	unit := int64(8)
	if inBits {
		unit = 1
	}
	size := int64(n) * 8 / unit
	if start < 0 {
		start = max(start+size, 0)
	}
	if end < 0 {
		end = max(end+size, 0)
	}
	end = min(end, size-1)
	if start > end {
		return 0, 0, true
	}
	return start * unit, (end + 1) * unit, true
}

func countBits(s []byte, from, to int64) (n int64) {
	for ; from < to && from&7 != 0; from++ {
		n += int64(s[from>>3]>>(7-from&7)) & 1
	}
	for ; from+8 <= to; from += 8 {
		n += int64(bits.OnesCount8(s[from>>3]))
	}
	for ; from < to; from++ {
		n += int64(s[from>>3]>>(7-from&7)) & 1
	}
	return n
}

func (c *Call) bitcount() {
	e, ok := c.findKind(c.args[1], kindString)
	if !ok {
		return
	}
	if e == nil {
		c.int(0)
		return
	}
	if len(c.args) == 3 || len(c.args) > 5 {
		c.err(errSyntax)
		return
	}
	s := e.text()
	if from, to, ok := c.bitRange(c.args[2:], len(s), true); ok {
		c.int(countBits(s, from, to))
	}
}

func (c *Call) bitpos() {
	bit, ok := c.integer(c.args[2])
	if !ok {
		return
	}
	if bit != 0 && bit != 1 {
		c.err("ERR The bit argument must be 1 or 0.")
		return
	}
	e, ok := c.findKind(c.args[1], kindString)
	if !ok {
		return
	}
	if e == nil {
		c.int(-bit)
		return
	}
	if len(c.args) > 6 {
		c.err(errSyntax)
		return
	}
	if len(c.args) == 6 { // here the unit is looked at before the end
		if _, ok := c.integer(c.args[3]); !ok {
			return
		}
		if !is(c.args[5], "bit") && !is(c.args[5], "byte") {
			c.err(errSyntax)
			return
		}
	}
	s := e.text()
	from, to, ok := c.bitRange(c.args[3:], len(s), false)
	if !ok {
		return
	}
	if from >= to {
		c.int(-1)
		return
	}
	skip := byte(0)
	if bit == 0 {
		skip = 0xff
	}
	for i := from; i < to; i++ {
		if i&7 == 0 && s[i>>3] == skip && i+8 <= to {
			i += 7
			continue
		}
		if int64(s[i>>3]>>(7-i&7))&1 == bit {
			c.int(i)
			return
		}
	}
	if bit == 0 && len(c.args) < 5 {
		c.int(to) // without an end the string goes on with zeros
		return
	}
	c.int(-1)
}

func (c *Call) bitop() {
	op := -1
	for i, name := range []string{"and", "or", "xor", "not"} {
		if is(c.args[1], name) {
			op = i
		}
	}
	if op < 0 {
		c.err(errSyntax)
		return
	}
	if op == 3 && len(c.args) != 4 {
		c.err("ERR BITOP NOT must be called with a single source key.")
		return
	}
	var from [][]byte
	longest := 0
	for _, k := range c.args[3:] {
		e, ok := c.findKind(k, kindString)
		if !ok {
			return
		}
		var s []byte
		if e != nil {
			s = e.text()
		}
		longest = max(longest, len(s))
		from = append(from, s)
	}
	if longest == 0 {
		if e := c.take(c.args[2]); e != nil {
			c.drop(e)
		}
		c.int(0)
		return
	}
	result := make([]byte, longest)
	copy(result, from[0])
	for _, s := range from[1:] {
		for i := range result {
			b := byte(0)
			if i < len(s) {
				b = s[i]
			}
			switch op {
			case 0:
				result[i] &= b
			case 1:
				result[i] |= b
			case 2:
				result[i] ^= b
			}
		}
	}
	if op == 3 {
		for i := range result {
			result[i] = ^result[i]
		}
	}
	e := c.replace(c.args[2], kindString)
	e.setBytes(result)
	e.raw = true
	c.changed(e)
	c.int(int64(longest))
}
