package kv

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes commands over few keys, right ones and wrong ones.
type generator struct{ *rand.Rand }

func (g generator) of(words ...string) string { return words[g.IntN(len(words))] }

func (g generator) key() string { return g.of("a", "b", "c", "d", "e", "f", "g", "h", "i", "j") }

// kindly returns a key that probably holds the kind whose commands are being made.
func (g generator) kindly(prefix string) string {
	if g.IntN(12) == 0 {
		return g.key() + g.of("s", "h", "l", "z", "t")
	}
	return g.of("a", "b", "c") + prefix
}

func (g generator) integer() string {
	if g.IntN(8) == 0 {
		return g.of("9223372036854775807", "-9223372036854775808", "9223372036854775808", "x", "", "01", "-0", "+1", "1.5", " 1", "4294967296", "-1000000")
	}
	return fmt.Sprint(g.IntN(14) - 5)
}

func (g generator) float() string {
	if g.IntN(4) == 0 {
		return g.of("inf", "-inf", "+inf", "nan", "1e300", "-1e300", "1e400", "1e-400", "0x1p3", "0x10", "", "x", "1e", "infinity", "-0", "3.0e3", "1_0", " 1", "1 ", ".5", "5.")
	}
	return g.of(fmt.Sprint(g.IntN(7)-3), fmt.Sprintf("%.1f", g.Float64()*6-3), fmt.Sprintf("%.17g", g.Float64()), fmt.Sprintf("%g", g.NormFloat64()*1e6))
}

func (g generator) score() string {
	if f := g.float(); f != "-0" && f != "-0.0" {
		return f
	}
	return "0"
}

func (g generator) member() string {
	switch g.IntN(10) {
	case 0:
		return g.of("", "\x00\xff", strings.Repeat("x", 65), "m\r\n", "é")
	case 1, 2, 3:
		return fmt.Sprint(g.IntN(9))
	}
	return g.of("m1", "m2", "m3", "m4", "m5", "m6", "m7")
}

func (g generator) value() string {
	switch g.IntN(8) {
	case 0, 1, 2:
		return g.integer()
	case 3:
		return g.float()
	case 4:
		return g.of("", "abc", "hello world", strings.Repeat("v", 45), strings.Repeat("w", 44), "\x00\x01\xfe")
	}
	return g.member()
}

func (g generator) scoreBound() string {
	return g.of("", "", "(") + g.of("-inf", "+inf", g.float(), g.float(), g.float(), fmt.Sprint(g.IntN(7)-3))
}

func (g generator) lexBound() string {
	return g.of("-", "+", "[", "("+g.member(), "["+g.member(), "["+g.member(), "m1", "", "-x")
}

func (g generator) many(n int, f func() string) []string {
	var all []string
	for range g.IntN(n) + 1 {
		all = append(all, f())
	}
	return all
}

func (g generator) some(options ...string) []string {
	var all []string
	for _, o := range options {
		if g.IntN(len(options)+1) == 0 {
			all = append(all, strings.Fields(o)...)
		}
	}
	g.Shuffle(0, nil)
	return all
}

func (g generator) instant() string {
	return g.of("1", "1000", "9999999999999", "8888888888888", "7777777777777", "0", "-1", "9223372036854775807", "x")
}

func (g generator) deadline(options ...string) []string {
	switch g.IntN(4) {
	case 0:
		return []string{"PXAT", g.instant()}
	case 1:
		return []string{"EXAT", g.of("1", "9999999999", "8888888888", "9223372036854775807", "0", "-5")}
	case 2:
		return []string{g.of("EX", "PX"), g.of("0", "-1", "x", "9223372036854775807", "9223372036854775")}
	}
	return nil
}

func (g generator) command() [][]byte {
	words := g.words()
	n := g.IntN(60)
	if strings.Contains(words[0], "scan") || strings.Contains(words[0], "rand") || words[0] == "spop" {
		n = 59 // shorter they would depend on chance
	}
	switch n {
	case 0:
		words = words[:g.IntN(len(words))+1]
	case 1:
		words = append(words, g.value())
	case 2:
		words[0] = g.of("nosuch", "BLPOPX", strings.Repeat("q", 200), "a\r\nb") + words[0]
	}
	if g.IntN(2) == 0 {
		words[0] = strings.ToUpper(words[0])
	}
	return args(words...)
}

func cat(parts ...any) []string {
	var all []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			all = append(all, p)
		case []string:
			all = append(all, p...)
		}
	}
	return all
}

func (g generator) words() []string {
	switch g.IntN(6) {
	case 0:
		return g.stringWords()
	case 1:
		return g.keyWords()
	case 2:
		return g.hashWords()
	case 3:
		return g.listWords()
	case 4:
		return g.setWords()
	}
	return g.zsetWords()
}

func (g generator) stringWords() []string {
	k := g.kindly("s")
	switch g.IntN(26) {
	case 0, 1, 2:
		return cat("set", k, g.value(), g.some("NX", "XX", "GET", "KEEPTTL"), g.deadline())
	case 3:
		return cat(g.of("get", "get", "strlen", "getdel"), k)
	case 4:
		return cat("getex", k, g.deadline(), g.some("PERSIST"))
	case 5:
		return cat(g.of("setex", "psetex"), k, g.of("0", "-1", "100000", "x", "9223372036854775807"), g.value())
	case 6:
		return cat(g.of("setnx", "getset", "append"), k, g.value())
	case 7, 8:
		return cat(g.of("getrange", "substr"), k, g.integer(), g.integer())
	case 9:
		return cat("setrange", k, g.of("0", "1", "3", "10", "-1", "x", "536870912", "600000000"), g.value())
	case 10, 11:
		return cat(g.of("incr", "decr"), k)
	case 12, 13:
		return cat(g.of("incrby", "decrby"), k, g.integer())
	case 14, 15:
		return cat("incrbyfloat", k, g.float())
	case 16:
		return cat("mget", g.many(4, func() string { return g.kindly("s") }))
	case 17, 18:
		return cat(g.of("mset", "msetnx"), k, g.value(), g.many(3, func() string { return g.kindly("s") }))
	case 19:
		return cat("setbit", k, g.of("0", "1", "7", "8", "100", "-1", "x", "4294967296"), g.of("0", "1", "2", "x"))
	case 20:
		return cat("getbit", k, g.of("0", "1", "7", "8", "100", "-1", "x", "4294967295"))
	case 21, 22:
		if g.IntN(2) == 0 {
			return cat("bitcount", k)
		}
		return cat("bitcount", k, g.integer(), g.integer(), g.some("BIT", "BYTE"))
	case 23:
		return cat("bitpos", k, g.of("0", "1", "2", "x"), g.some(g.integer()+" "+g.integer(), g.integer(), "BIT", "byte"))
	case 24:
		return cat("bitop", g.of("AND", "or", "xor", "not", "nand"), k, g.many(3, func() string { return g.kindly("s") }))
	}
	return cat("lcs", k, g.kindly("s"), g.some("LEN", "IDX", "MINMATCHLEN 2", "WITHMATCHLEN"))
}

func (g generator) anyKey() string {
	if g.IntN(10) == 0 {
		return g.key()
	}
	return g.of("a", "b", "c") + g.of("s", "h", "l", "t", "z")
}

func (g generator) keyWords() []string {
	k := g.anyKey()
	switch g.IntN(21) {
	case 0:
		return cat(g.of("del", "unlink"), g.many(3, g.anyKey))
	case 1:
		return cat(g.of("exists", "touch"), g.many(3, g.anyKey))
	case 2:
		return cat("type", k)
	case 3:
		return cat("keys", g.of("*", "a*", "?s", "[ab]?", "[^a]?", "*\\*", "a[s-z]", "**t", "[a", "", "[]", "\\", "a\\"))
	case 4:
		return cat(g.of("rename", "renamenx"), k, g.anyKey())
	case 5:
		return cat("dbsize")
	case 6:
		if g.IntN(8) == 0 {
			return cat(g.of("flushdb", "flushall"), g.some("ASYNC", "SYNC", "x"))
		}
		return cat("dbsize")
	case 7:
		return cat("copy", k, g.anyKey(), g.some("REPLACE", "DB 1", "DB 0", "DB 99"))
	case 8:
		return cat("object", g.of("encoding", "idletimex", "freq", "nosuch", "encoding", "encoding"), k)
	case 9:
		return cat("move", k, g.of("0", "1", "2", "16", "x", "-1"))
	case 10:
		if g.IntN(4) == 0 {
			return cat("swapdb", g.of("0", "1", "x", "99"), g.of("0", "1", "y", "-1"))
		}
		return cat("select", g.of("0", "0", "0", "1", "16", "x"))
	case 11, 12:
		return cat(g.of("pexpireat", "pexpireat"), k, g.instant(), g.some("NX", "XX", "GT", "LT", "zz"))
	case 13:
		return cat("expireat", k, g.of("0", "1", "9999999999", "8888888888", "9223372036854775", "9223372036854776", "-9223372036854776", "x"), g.some("NX", "XX", "GT", "LT"))
	case 14:
		return cat(g.of("expire", "pexpire"), k, g.of("0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775", "x"))
	case 15:
		return cat(g.of("expiretime", "pexpiretime", "ttl", "pttl"), k)
	case 16:
		return cat("persist", k)
	case 17:
		return cat("scan", g.of("0", "0", "0", "x", "-"), "count", "100000", g.some("MATCH a*", "TYPE string", "TYPE zset", "TYPE x", "foo", "COUNT 0", "COUNT x"))
	case 18:
		return cat(g.of("ping", "echo"), g.many(2, g.member))
	case 19:
		return cat("command", g.of("nosuch", "count x", "getkeys"), g.many(3, g.member))
	}
	return cat("object", "help")
}

func (g generator) hashWords() []string {
	k := g.kindly("h")
	switch g.IntN(14) {
	case 0, 1, 2:
		return cat(g.of("hset", "hset", "hmset"), k, g.member(), g.value(), g.some(g.of("m1 1", "m2 2", "m3")))
	case 3:
		return cat("hsetnx", k, g.member(), g.value())
	case 4:
		return cat(g.of("hget", "hexists", "hstrlen"), k, g.member())
	case 5:
		return cat(g.of("hmget", "hdel"), k, g.many(3, g.member))
	case 6:
		return cat(g.of("hlen", "hgetall", "hkeys", "hvals"), k)
	case 7, 8:
		return cat("hincrby", k, g.member(), g.integer())
	case 9, 10:
		return cat("hincrbyfloat", k, g.member(), g.float())
	case 11:
		return cat("hscan", k, g.of("0", "0", "x"), "COUNT", "1000", g.some("MATCH m*", "COUNT 1000", "COUNT 0", "x", "TYPE hash"))
	case 12:
		return cat("hrandfield", k, g.of("0", "x", "-9223372036854775808", "9223372036854775807"), "withvalue"+g.of("", "s"), g.some("x"))
	}
	return cat("hset", k, g.member(), g.value())
}

func (g generator) listWords() []string {
	k := g.kindly("l")
	switch g.IntN(18) {
	case 0, 1, 2, 3:
		return cat(g.of("lpush", "rpush", "rpush", "lpushx", "rpushx"), k, g.many(6, g.member))
	case 4:
		return cat(g.of("lpop", "rpop"), k, g.some(g.integer(), "2"))
	case 5:
		return cat("llen", k)
	case 6:
		return cat("lindex", k, g.integer())
	case 7:
		return cat("lset", k, g.integer(), g.member())
	case 8, 9:
		return cat("linsert", k, g.of("before", "AFTER", "x"), g.member(), g.member())
	case 10:
		return cat("lrem", k, g.integer(), g.member())
	case 11:
		if g.IntN(3) > 0 {
			return cat("lrange", k, "0", "-1")
		}
		return cat("ltrim", k, g.integer(), g.integer())
	case 12:
		return cat("lrange", k, g.integer(), g.integer())
	case 13:
		return cat("lmove", k, g.kindly("l"), g.of("left", "RIGHT", "x"), g.of("left", "right", "y"))
	case 14:
		return cat("rpoplpush", k, g.kindly("l"))
	case 15, 16:
		return cat("lpos", k, g.member(), g.some("RANK "+g.of("1", "2", "-1", "-2", "0", "x"), "COUNT "+g.of("0", "1", "2", "-1"), "MAXLEN "+g.of("0", "3", "5", "-1")))
	}
	return cat("lmpop", g.of("1", "2", "0", "x", "9"), k, g.kindly("l"), g.of("left", "right", "x"), g.some("COUNT "+g.integer(), "x"))
}

func (g generator) setWords() []string {
	k := g.kindly("t")
	keys := func() string { return g.kindly("t") }
	switch g.IntN(14) {
	case 0, 1, 2, 3:
		return cat("sadd", k, g.many(5, g.member))
	case 4:
		return cat("srem", k, g.many(3, g.member))
	case 5:
		return cat("smove", k, keys(), g.member())
	case 6:
		return cat(g.of("scard", "smembers", "smembers"), k)
	case 7:
		return cat("sismember", k, g.member())
	case 8:
		return cat("smismember", k, g.many(4, g.member))
	case 9:
		return cat(g.of("sinter", "sunion", "sdiff"), g.many(3, keys))
	case 10:
		return cat(g.of("sinterstore", "sunionstore", "sdiffstore"), k, g.many(3, keys))
	case 11:
		return cat("sintercard", g.of("1", "2", "3", "0", "x", "-1"), k, keys(), g.some("LIMIT "+g.integer(), "x"))
	case 12:
		return cat("sscan", k, g.of("0", "0", "x"), "COUNT", "1000", g.some("MATCH m*", "COUNT 1000", "COUNT 0", "x"))
	}
	switch g.IntN(4) {
	case 0:
		return cat("spop", k, g.of("1000", "0", "-1", "x"), g.some("x"))
	case 1:
		return cat("srandmember", k, g.of("0", "x", "-9223372036854775808"), g.some("x"))
	}
	return cat("smembers", k)
}

// lexWords are commands on sorted sets whose members all have one score; else ranges by member mean nothing.
func (g generator) lexWords() []string {
	k := g.of("a", "b", "c") + "x"
	switch g.IntN(8) {
	case 0, 1:
		return cat("zadd", k, "0", g.member(), "0", g.member())
	case 2:
		return cat("zlexcount", k, g.lexBound(), g.lexBound())
	case 3:
		return cat("zrange", k, g.lexBound(), g.lexBound(), "BYLEX", g.some("WITHSCORES", "REV", "LIMIT "+g.integer()+" "+g.integer()))
	case 4:
		return cat(g.of("zrangebylex", "zrevrangebylex"), k, g.lexBound(), g.lexBound(), g.some("LIMIT 1 2", "WITHSCORES"))
	case 5:
		return cat("zrangestore", g.of("a", "b")+"x", k, g.lexBound(), g.lexBound(), "BYLEX", g.some("REV", "LIMIT 0 2"))
	case 6:
		return cat("zremrangebylex", k, g.lexBound(), g.lexBound())
	}
	return cat("zrange", k, "0", "-1")
}

func (g generator) zsetWords() []string {
	if g.IntN(4) == 0 {
		return g.lexWords()
	}
	k := g.kindly("z")
	keys := func() string { return g.kindly("z") }
	switch g.IntN(22) {
	case 0, 1, 2, 3, 4:
		return cat("zadd", k, g.some("NX", "XX", "GT", "LT", "CH", "INCR"), g.score(), g.member(), g.some(fmt.Sprint(g.IntN(5))+" m1", "2.5 m2", "x"))
	case 5:
		return cat("zincrby", k, g.score(), g.member())
	case 6:
		return cat("zrem", k, g.many(3, g.member))
	case 7:
		return cat(g.of("zscore", "zrank", "zrevrank"), k, g.member())
	case 8:
		return cat("zmscore", k, g.many(3, g.member))
	case 9:
		return cat(g.of("zcount", "zremrangebyscore"), k, g.scoreBound(), g.scoreBound())
	case 11:
		return cat(g.of("zrange", "zrevrange"), k, g.integer(), g.integer(), g.some("WITHSCORES", "REV", "LIMIT 0 2", "LIMIT 0 -1"))
	case 12, 13:
		return cat("zrange", k, g.scoreBound(), g.scoreBound(), "BYSCORE", g.some("WITHSCORES", "REV", "LIMIT "+g.integer()+" "+g.integer(), "BYLEX"))
	case 15:
		return cat(g.of("zrangebyscore", "zrevrangebyscore"), k, g.scoreBound(), g.scoreBound(), g.some("WITHSCORES", "LIMIT "+g.integer()+" "+g.integer(), "REV"))
	case 17:
		return cat("zrangestore", k, keys(), g.of(g.integer(), g.scoreBound()), g.of(g.integer(), g.scoreBound()), g.some("BYSCORE", "REV", "LIMIT 1 2"))
	case 18:
		if g.IntN(2) == 0 {
			return cat(g.of("zpopmin", "zpopmax"), k, g.some(g.integer()))
		}
		return cat("zmpop", g.of("1", "2", "0", "x"), k, keys(), g.of("MIN", "max", "x"), g.some("COUNT "+g.integer()))
	case 19:
		return cat(g.of("zunion", "zinter", "zdiff"), g.of("1", "2", "2", "0", "x"), g.of(k, g.kindly("t")), keys(), g.some("WEIGHTS "+g.of("1 2", "inf 0", "x 1", "0.1 0.3", "2"), "AGGREGATE "+g.of("MIN", "max", "SUM", "x"), "WITHSCORES", "LIMIT 3"))
	case 20:
		return cat(g.of("zunionstore", "zinterstore", "zdiffstore"), k, g.of("1", "2", "2", "0", "x"), g.of(k, g.kindly("t")), keys(), g.some("WEIGHTS "+g.of("1 2", "inf 0", "-1 1", "2"), "AGGREGATE "+g.of("MIN", "max", "SUM", "x")))
	}
	switch g.IntN(6) {
	case 0:
		return cat("zremrangebyrank", k, g.integer(), g.integer())
	case 2:
		return cat("zintercard", g.of("1", "2", "0", "x"), k, keys(), g.some("LIMIT "+g.integer(), "x"))
	case 3:
		return cat("zscan", k, g.of("0", "0", "x"), "COUNT", "1000", g.some("MATCH m*", "COUNT 1000", "x"))
	case 4:
		return cat("zrandmember", k, g.of("0", "x", "-9223372036854775808", "9223372036854775807"), "withscore"+g.of("", "s"), g.some("x"))
	}
	return cat("zrange", k, "0", "-1", "WITHSCORES")
}
