package kv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/kv/resp"
)

// client is a connection to ours, with the log between session and store.
type conn struct {
	t testing.TB
	s *Store
	n *Session
	// entry, if set, sees every entry before it is executed.
	entry func(*Request)
}

func (c *conn) now() int64 { return time.Now().UnixMilli() }

func (c *conn) do(args [][]byte) resp.Value {
	c.t.Helper()
	out, action := c.n.Handle(nil, c.s, c.now(), args)
	switch action {
	case Read:
		before := c.s.version
		out = c.n.Read(out, c.s, 5)
		if c.s.version != before {
			c.t.Fatalf("%s changed the state", text(args))
		}
	case Write:
		if c.entry != nil {
			c.entry(c.n.Request())
		}
		var q Request
		if err := q.Decode(c.n.Request().Encode(nil)); err != nil {
			c.t.Fatal(err)
		}
		var call Call
		out = c.s.Do(out, &call, &q)
		c.n.Done(call.DB)
	}
	return parseReply(c.t, out)
}

// Two connections, transactions and watched keys, beside two connections to Redis.
func TestTransactionsAsRedis(t *testing.T) {
	first := startOracle(t)
	raw, err := net.Dial("unix", first.conn.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	redis := []*oracle{first, {t: t, conn: raw, r: resp.NewReplyReader(raw)}}
	s := New(Limits{})
	ours := []*conn{{t: t, s: s, n: NewSession(1)}, {t: t, s: s, n: NewSession(2)}}
	count := 20000
	if testing.Short() {
		count = 4000
	}
	aborted, executed := 0, 0
	for seed := range uint64(2) {
		g := generator{rand.New(rand.NewPCG(seed, 3))}
		var history []string
		for i := range count / 2 {
			who := g.IntN(2)
			var cmd [][]byte
			switch g.IntN(10) {
			case 0, 1:
				cmd = args(g.of("multi", "multi", "exec", "exec", "exec", "discard", "unwatch", "MULTI", "watch", "exec x"))
			case 2:
				cmd = args("watch", g.key(), g.of("as", "bs", "al", "at"))
			case 3:
				cmd = args("set", g.of("as", "bs", "al", "at"), "v")
			case 4:
				cmd = args(g.of("get", "del", "incr"), g.of("as", "bs", "al", "at"))
			case 5:
				cmd = args("reset")
				if g.IntN(20) > 0 {
					cmd = args("select", g.of("0", "1", "x"))
				}
			default:
				cmd = g.command()
			}
			name := strings.ToLower(string(cmd[0]))
			if name == "hello" || strings.Contains(name, "ttl") || strings.Contains(name, "expiretime") || name == "dbsize" {
				continue // depends on the time
			}
			history = append(history, fmt.Sprint(who, " ", text(cmd)))
			want := unordered(name, redis[who].do(cmd)[0])
			got := unordered(name, ours[who].do(cmd))
			if name == "exec" {
				// Replies in the array are in no order that we know.
				if want.Kind == resp.Null {
					aborted++
				}
				if want.Kind == resp.Array {
					executed++
				}
				if len(want.Elems) == len(got.Elems) && len(want.Elems) > 0 {
					for k := range want.Elems {
						if a, b := want.Elems[k], got.Elems[k]; a.Kind != b.Kind || a.Kind == resp.Error && string(a.Str) != string(b.Str) || len(a.Elems) != len(b.Elems) {
							t.Errorf("seed %d, command %d, reply %d: redis %s, ours %s", seed, i, k, a, b)
						}
					}
					continue
				}
			}
			if w, g := want.String(), got.String(); w != g {
				t.Fatalf("seed %d, command %d: %s\nredis %s\nours  %s\nbefore: %s", seed, i, text(cmd), w, g, strings.Join(history[max(0, len(history)-12):len(history)-1], "\n        "))
			}
		}
	}
	if aborted < 10 || executed < 10 {
		t.Errorf("only %d transactions were executed, and %d had lost a watched key", executed, aborted)
	}
	check(t, s)
}

func TestWatch(t *testing.T) {
	// What another client does between WATCH and EXEC, and whether EXEC then fails.
	for _, c := range []struct {
		before, between string
		fails           bool
	}{
		{"set k 1", "set k 1", true},
		{"set k 1", "get k", false},
		{"set k 1", "set other 1", false},
		{"set k 1", "del k", true},
		{"", "set k 1", true},
		{"", "set k 1; del k", true},
		{"", "del k", false},
		{"set k 1", "del k; set k 1", true},
		{"set k 1", "pexpire k 100000", true},
		{"set k 1", "flushall", true},
		{"", "flushall", false},
		{"set k 1", "rename k l", true},
		{"", "set l 1; rename l k", true},
		{"set k 1", "swapdb 0 1", true},
		{"", "swapdb 0 1; swapdb 0 1", true},
		{"sadd k 1", "sadd k 1", false},
		{"sadd k 1", "srem k 2", false},
		{"rpush k 1", "lrem k 0 2", false},
		{"zadd k 1 a", "zadd k 1 a", false},
		{"zadd k 1 a", "zadd k 2 a", true},
		{"hset k f v", "hset k f v", true},
		{"set k 1", "expire k -1; set k 1", true},
		{"set k 1", "move k 1", true},
		{"set k 1", "copy k l", false},
		{"set l 1", "copy l k", true},
		{"set k a", "append k b", true},
		{"set k 1 pxat 100", "", true}, // its deadline passes in between
		{"set k 1 pxat 100; expire k -1", "", false},
	} {
		s := New(Limits{})
		run := func(now int64, lines string) {
			for line := range strings.SplitSeq(lines, "; ") {
				if line != "" {
					s.Apply(nil, &Call{Now: now}, split(line))
				}
			}
		}
		run(1, c.before)
		n := NewSession(1)
		n.Handle(nil, s, 50, args("watch", "k"))
		run(60, c.between)
		n.Handle(nil, s, 150, args("multi"))
		n.Handle(nil, s, 150, args("set", "x", "y"))
		if _, action := n.Handle(nil, s, 150, args("exec")); action != Write {
			t.Fatal(action)
		}
		v := parseReply(t, s.Do(nil, &Call{}, n.Request()))
		if fails := v.Kind == resp.Null; fails != c.fails {
			t.Errorf("%q, then %q: EXEC answers %s", c.before, c.between, v)
		}
	}
}

func TestSession(t *testing.T) {
	s := New(Limits{})
	c := &conn{t: t, s: s, n: NewSession(7)}
	want := func(line, reply string) {
		t.Helper()
		if got := c.do(split(line)).String(); got != reply {
			t.Errorf("%s: %s, want %s", line, got, reply)
		}
	}
	want("hello", `*["server" "redis" "version" "7.0.15" "proto" (integer) 2 "id" (integer) 7 "mode" "standalone" "role" "master" "modules" *[]]`)
	want("hello 4", "(error) NOPROTO unsupported protocol version")
	want("hello x", "(error) ERR Protocol version is not an integer or out of range")
	want("hello 3 setname", "(error) ERR Syntax error in HELLO option 'setname'")
	want("hello 3 setname me", `%["server" "redis" "version" "7.0.15" "proto" (integer) 3 "id" (integer) 7 "mode" "standalone" "role" "master" "modules" *[]]`)
	if c.n.Name != "me" || c.n.Proto != 3 {
		t.Error(c.n)
	}
	want("hset h f v", "(integer) 1")
	want("hgetall h", `%["f" "v"]`)
	want("multi", `"OK"`)
	want("select 3", `"QUEUED"`)
	want("set k v", `"QUEUED"`)
	want("unwatch", `"QUEUED"`)
	want("exec", `*["OK" "OK" "OK"]`)
	if c.n.DB != 3 {
		t.Errorf("database %d after SELECT in a transaction", c.n.DB)
	}
	want("get k", `"v"`)
	want("multi", `"OK"`)
	want("hello 2", "(error) ERR Command not allowed inside a transaction")
	want("exec", "(error) EXECABORT Transaction discarded because of previous errors.")

	// Short of memory.
	want("select 0", `"OK"`)
	s.SetMaxMemory(1)
	oom := "(error) OOM command not allowed when used memory > 'maxmemory'."
	want("set a b", oom)
	want("get a", "(nil)")
	want("hget h f", `"v"`)
	want("multi", `"OK"`)
	want("set a b", oom)
	want("exec", "(error) EXECABORT Transaction discarded because of previous errors.")
	s.SetMaxMemory(0)
	want("multi", `"OK"`)
	want("set a b", `"QUEUED"`)
	c.entry = func(*Request) { s.SetMaxMemory(1) }
	want("exec", "(error) EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.")
	c.entry = nil
	want("del h", "(integer) 1")
	want("select 3", `"OK"`)
	want("del k", "(integer) 1")
	want("set a b", `"OK"`)
	if _, action := c.n.Handle(nil, s, 0, args("quit")); action != Close {
		t.Error("QUIT does not close")
	}
	want("reset", `"RESET"`)
	if c.n.Proto != 2 || c.n.DB != 0 {
		t.Error(c.n)
	}
}
