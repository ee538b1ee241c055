package kv

import (
	"slices"

	"understudy/kv/resp"
)

// lcs finds the longest common subsequence by the table of the lengths for all pairs of prefixes.
func (c *Call) lcs() {
	idx, length, withLen, minLen := false, false, false, int64(0)
	var text [2][]byte
	for i := range text {
		e := c.find(c.args[1+i])
		if e != nil && e.kind != kindString && e.kind != kindInt {
			c.err("ERR The specified keys must contain string values")
			return
		}
		if e != nil {
			text[i] = e.text()
		}
	}
	for i := 3; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case is(a, "idx"):
			idx = true
		case is(a, "len"):
			length = true
		case is(a, "withmatchlen"):
			withLen = true
		case is(a, "minmatchlen") && i+1 < len(c.args):
			i++
			var ok bool
			if minLen, ok = c.integer(c.args[i]); !ok {
				return
			}
			minLen = max(minLen, 0)
		default:
			c.err(errSyntax)
			return
		}
	}
	if idx && length {
		c.err("ERR If you want both the length and indexes, please just use IDX.")
		return
	}
	a, b := text[0], text[1]
	if (int64(len(a))+1)*(int64(len(b))+1) > maxLCS {
		c.err("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
		return
	}
	row := len(b) + 1
	table := make([]uint32, (len(a)+1)*row)
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			if a[i-1] == b[j-1] {
				table[i*row+j] = table[(i-1)*row+j-1] + 1
			} else {
				table[i*row+j] = max(table[(i-1)*row+j], table[i*row+j-1])
			}
		}
	}
	total := table[len(table)-1]
	if length {
		c.int(int64(total))
		return
	}
	type run struct{ a, b, n int }
	var runs []run // from the end to the start
	result := make([]byte, 0, total)
	for i, j := len(a), len(b); i > 0 && j > 0; {
		if a[i-1] == b[j-1] {
			result = append(result, a[i-1])
			i, j = i-1, j-1
			if last := len(runs) - 1; last >= 0 && runs[last].a == i+1 && runs[last].b == j+1 {
				runs[last] = run{i, j, runs[last].n + 1}
			} else {
				runs = append(runs, run{i, j, 1})
			}
			continue
		}
		if table[(i-1)*row+j] > table[i*row+j-1] {
			i--
		} else {
			j--
		}
	}
	if !idx {
		slices.Reverse(result)
		c.bulk(result)
		return
	}
	n := 0
	for _, r := range runs {
		if int64(r.n) >= minLen {
			n++
		}
	}
	c.out = resp.AppendMap(c.out, c.Proto, 2)
	c.bulkString("matches")
	c.array(n)
	for _, r := range runs {
		if int64(r.n) < minLen {
			continue
		}
		c.array(map[bool]int{false: 2, true: 3}[withLen])
		for _, from := range []int{r.a, r.b} {
			c.array(2)
			c.int(int64(from))
			c.int(int64(from + r.n - 1))
		}
		if withLen {
			c.int(int64(r.n))
		}
	}
	c.bulkString("len")
	c.int(int64(total))
}

// maxLCS bounds the table of lcs; Redis lets it take as much as a string may.
const maxLCS = maxString / 4
