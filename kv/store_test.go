package kv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"understudy/kv/resp"
)

// at executes a line at an instant.
func at(t testing.TB, s *Store, now int64, line string) string {
	t.Helper()
	return parseReply(t, s.Apply(nil, &Call{Now: now}, split(line))).String()
}

type step struct {
	now         int64
	line, reply string
}

func transcript(t *testing.T, s *Store, steps []step) {
	t.Helper()
	for _, c := range steps {
		if got := at(t, s, c.now, c.line); got != c.reply {
			t.Errorf("%d %s: %s, want %s", c.now, c.line, got, c.reply)
		}
	}
}

func TestExpiry(t *testing.T) {
	s := New(Limits{})
	transcript(t, s, []step{
		{1000, "set k v px 500", `"OK"`},
		{1499, "pttl k", "(integer) 1"},
		{1500, "get k", "(nil)"},
		{1500, "dbsize", "(integer) 1"}, // reads leave no trace
		{1200, "get k", "(nil)"},        // time does not step back
		{1200, "exists k", "(integer) 0"},
		{1600, "setnx k w", "(integer) 1"},
		{1600, "ttl k", "(integer) -1"},
		{1600, "expire k 10", "(integer) 1"},
		{1600, "expire k 20 nx", "(integer) 0"},
		{1600, "expire k 5 gt", "(integer) 0"},
		{1600, "expire k 20 gt", "(integer) 1"},
		{1600, "ttl k", "(integer) 20"},
		{1600, "set k x keepttl", `"OK"`},
		{1600, "pexpiretime k", "(integer) 21600"},
		{1600, "persist k", "(integer) 1"},
		{1600, "expire k 20 lt", "(integer) 1"},
		{1600, "time", `*["1" "600000"]`},
		{1600, "getex k exat 100", `"x"`},
		{1600, "rename k l", `"OK"`},
		{1600, "pexpiretime l", "(integer) 100000"},
		{1600, "copy l m", "(integer) 1"},
		{1600, "pexpiretime m", "(integer) 100000"},
		{1600, "pexpireat m 1600", "(integer) 1"},
		{1600, "dbsize", "(integer) 1"},
		{100000, "incr l", "(integer) 1"}, // the old value is gone
		{100000, "ttl l", "(integer) -1"},
	})
	check(t, s)

	// Expire goes by deadline, database, key, and does no more than its budget.
	s = New(Limits{})
	if s.Due() != 0 || s.Expire(5, 10) != 0 {
		t.Error("an empty store has something to do")
	}
	for _, k := range []string{"c 30", "a 30", "b 20", "d 40", "z 0"} {
		name, when, _ := strings.Cut(k, " ")
		if at(t, s, 10, "set "+name+" v"); when != "0" {
			at(t, s, 10, "pexpireat "+name+" "+when)
		}
	}
	s.Apply(nil, &Call{DB: 2}, args("set", "0", "v", "pxat", "30"))
	if s.Due() != 20 {
		t.Errorf("due at %d", s.Due())
	}
	left := func() string { // what is stored, dead or not
		var names []string
		for _, d := range s.dbs {
			for i := range d.list.n {
				names = append(names, (*d.list.at(i)).key)
			}
		}
		slices.Sort(names)
		return strings.Join(names, "")
	}
	for _, c := range []struct {
		now       int64
		budget, n int
		left      string
	}{
		{19, 9, 0, "0abcdz"}, {30, 1, 1, "0acdz"}, {20, 1, 1, "0cdz"}, {30, 1, 1, "0dz"}, {30, 9, 1, "dz"}, {40, 0, 0, "dz"}, {40, 9, 1, "z"},
	} {
		if n := s.Expire(c.now, c.budget); n != c.n || left() != c.left {
			t.Errorf("at %d, %d keys of %d were removed, left %s", c.now, n, c.budget, left())
		}
	}
	check(t, s)
}

func TestReadsLeaveNoTrace(t *testing.T) {
	s := New(smallLimits)
	log := entries(5, 2000)
	for i := range log {
		play(s, i, &log[i])
	}
	digest := s.Digest()
	for i := range log {
		q := &log[i]
		for _, cmd := range q.Cmds {
			if c, _ := Find(cmd); c == nil || c.Flags&FlagWrite != 0 {
				v := parseReply(t, s.Read(nil, &Call{Now: q.Now + 1e6}, cmd))
				if v.Kind != resp.Error {
					t.Fatalf("Read of %s: %s", text(cmd), v)
				}
				continue
			}
			s.Read(nil, &Call{Now: q.Now + 1e6, Seed: uint64(i)}, cmd)
		}
	}
	if s.Digest() != digest {
		t.Error("reads changed the state")
	}
}

// Reads may run beside each other. Run with -race.
func TestReadsBesideEachOther(t *testing.T) {
	s := New(smallLimits)
	log := entries(5, 1000)
	for i := range log {
		play(s, i, &log[i])
	}
	done := make(chan bool)
	for seed := range uint64(4) {
		go func() {
			for i := range log {
				for _, cmd := range log[i].Cmds {
					s.Read(nil, &Call{Now: int64(i), Seed: seed}, cmd)
				}
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
}

func TestOnce(t *testing.T) {
	s := New(Limits{Clients: 3, ReplyBytes: 1 << 20})
	var c Call
	do := func(id string, n uint64, line string) string {
		t.Helper()
		out, err := s.ApplyOnce(nil, &c, id, n, split(line))
		if err != nil {
			if !errors.Is(err, ErrOldRequest) && !errors.Is(err, ErrClientID) || len(out) > 0 {
				t.Fatal(err)
			}
			return "old"
		}
		return parseReply(t, out).String()
	}
	for i, c := range []struct {
		id    string
		n     uint64
		reply string
	}{
		{"a", 1, "(integer) 1"},
		{"a", 1, "(integer) 1"},
		{"a", 2, "(integer) 2"},
		{"a", 1, "old"},
		{"b", 1, "(integer) 3"},
		{"c", 9, "(integer) 4"},
		{"a", 2, "(integer) 2"}, // a repetition is no new request: b is not younger for it
		{"d", 1, "(integer) 5"}, // a, of the oldest request, is forgotten
		{"b", 1, "(integer) 3"},
		{"a", 2, "(integer) 6"},
		{"b", 1, "(integer) 7"},
		{"", 1, "old"},
		{strings.Repeat("x", 65), 1, "old"},
		{strings.Repeat("x", 64), 1, "(integer) 8"},
	} {
		if got := do(c.id, c.n, "incr k"); got != c.reply {
			t.Errorf("%d: %s %d: %s, want %s", i, c.id, c.n, got, c.reply)
		}
	}
	check(t, s)

	// Large replies push others out, but never the client's own.
	s = New(Limits{Clients: 100, ReplyBytes: 2000})
	at(t, s, 0, "set k "+strings.Repeat("x", 1000))
	for i := range 9 {
		do(fmt.Sprint("c", i), 1, "get k")
	}
	if n, b := s.Clients(); n != 1 || b < 1000 {
		t.Errorf("%d clients, %d bytes", n, b)
	}
	at(t, s, 0, "set k "+strings.Repeat("x", 5000))
	do("big", 1, "getdel k")
	if got := do("big", 1, "getdel k"); len(got) < 5000 {
		t.Errorf("the reply was lost: %s", got)
	}

	// A repeated transaction has the same effect on the connection.
	q := Request{Proto: 2, Client: "t", Number: 1, Exec: true, Cmds: [][][]byte{args("select", "5"), args("incr", "n")}}
	var first, again Call
	one, two := s.Do(nil, &first, &q), s.Do(nil, &again, &q)
	if !bytes.Equal(one, two) || first.DB != 5 || again.DB != 5 {
		t.Errorf("%q in %d, then %q in %d", one, first.DB, two, again.DB)
	}
	q.Number = 0
	if v := parseReply(t, s.Do(nil, &again, &q)); v.Kind != resp.Error || !strings.HasPrefix(string(v.Str), "STALE ") {
		t.Error(v)
	}
}

// Every element that is there during a whole scan is returned, whatever else comes and goes.
func TestScanMissesNothing(t *testing.T) {
	for _, kind := range []string{"scan 0", "hscan h 0", "sscan t 0", "zscan z 0"} {
		for seed := range uint64(3) {
			s := New(Limits{})
			rnd := random(seed)
			add := func(m string) {
				switch kind[0] {
				case 's':
					if kind[1] == 'c' {
						at(t, s, 0, "set "+m+" v")
					} else {
						at(t, s, 0, "sadd t "+m)
					}
				case 'h':
					at(t, s, 0, "hset h "+m+" v")
				case 'z':
					at(t, s, 0, "zadd z 1 "+m)
				}
			}
			remove := func(m string) {
				at(t, s, 0, map[byte]string{'c': "del ", 's': "srem t "}[kind[1]]+map[byte]string{'h': "hdel h ", 'z': "zrem z "}[kind[0]]+m)
			}
			if kind[0] != 's' {
				remove = func(m string) { at(t, s, 0, map[byte]string{'h': "hdel h ", 'z': "zrem z "}[kind[0]]+m) }
			}
			for i := range 700 {
				add(fmt.Sprint("m", i))
			}
			gone := map[string]bool{}
			seen := map[string]bool{}
			cursor := "0"
			calls := 0
			for {
				line := strings.TrimSuffix(kind, "0") + cursor + " count 7"
				v := parseReply(t, s.Apply(nil, &Call{}, split(line)))
				for _, e := range v.Elems[1].Elems {
					seen[string(e.Str)] = true
				}
				if len(v.Elems[1].Elems) > 14 {
					t.Fatalf("%s returns %d", line, len(v.Elems[1].Elems))
				}
				if cursor = string(v.Elems[0].Str); cursor == "0" {
					break
				}
				if calls++; calls > 1000 {
					t.Fatal(kind, " does not end")
				}
				for range 5 {
					if m := fmt.Sprint("m", rnd.below(700)); rnd.below(2) == 0 {
						gone[m] = true
						remove(m)
					} else {
						add(m)
					}
				}
				add(fmt.Sprint("new", rnd.below(1000)))
			}
			for i := range 700 {
				if m := fmt.Sprint("m", i); !gone[m] && !seen[m] {
					t.Fatalf("%s, seed %d: %s was there throughout and not returned", kind, seed, m)
				}
			}
		}
	}
}

func TestRandomChoices(t *testing.T) {
	s := New(Limits{})
	for i := range 300 {
		at(t, s, 0, fmt.Sprint("sadd t m", i))
		at(t, s, 0, fmt.Sprint("set k", i, " v"))
	}
	at(t, s, 0, "hset h a 1 b 2 c 3")
	at(t, s, 0, "zadd z 1 a 2 b 3 c")
	ask := func(seed uint64, proto int, line string) resp.Value {
		return parseReply(t, s.Read(nil, &Call{Seed: seed, Proto: proto}, split(line)))
	}
	keys := map[string]bool{}
	for seed := range uint64(2000) {
		keys[ask(seed, 2, "randomkey").String()] = true
	}
	if len(keys) < 250 {
		t.Errorf("2000 random keys of 303 are %d different ones", len(keys))
	}
	for _, c := range []struct {
		line     string
		n, width int
		distinct bool
	}{
		{"srandmember t 50", 50, 1, true},
		{"srandmember t 299", 299, 1, true},
		{"srandmember t 1000", 300, 1, true},
		{"srandmember t -1000", 1000, 1, false},
		{"hrandfield h 2", 2, 1, true},
		{"hrandfield h 2 withvalues", 2, 2, true},
		{"hrandfield h -9 withvalues", 9, 2, false},
		{"zrandmember z 9 withscores", 3, 2, true},
		{"zrandmember z -4", 4, 1, false},
	} {
		for _, proto := range []int{2, 3} {
			a, b := ask(1, proto, c.line), ask(1, proto, c.line)
			if a.String() != b.String() {
				t.Errorf("%s: the seed does not decide", c.line)
			}
			var names []string
			for i, e := range a.Elems {
				if c.width == 1 || proto == 2 && i%2 == 0 {
					names = append(names, string(e.Str))
				} else if proto == 3 {
					names = append(names, string(e.Elems[0].Str))
				}
			}
			slices.Sort(names)
			if len(names) != c.n || c.distinct && len(slices.Compact(names)) != c.n {
				t.Errorf("%s in RESP%d: %d names, %d different", c.line, proto, c.n, len(names))
			}
		}
	}
	if v := ask(1, 2, "srandmember t -99999999"); v.Kind != resp.Error {
		t.Error("no bound on repeated members")
	}
	popped := map[string]bool{}
	for _, e := range parseReply(t, s.Apply(nil, &Call{Seed: 3}, args("spop", "t", "100"))).Elems {
		popped[string(e.Str)] = true
	}
	if len(popped) != 100 || at(t, s, 0, "scard t") != "(integer) 200" {
		t.Errorf("%d members popped, %s left", len(popped), at(t, s, 0, "scard t"))
	}
	check(t, s)
}

func TestMemory(t *testing.T) {
	s := New(Limits{})
	s.SetMaxMemory(10000)
	refused := 0
	for i := range 200 {
		if strings.Contains(at(t, s, 0, fmt.Sprint("set k", i, " ", strings.Repeat("x", 50))), "OOM") {
			refused++
		}
	}
	// 160 + 2 to 4 bytes of key + 50: a little more than 46 keys, since one above is let in.
	if refused != 200-47 || s.UsedMemory() <= 10000 || s.UsedMemory() > 10300 {
		t.Errorf("%d of 200 were refused, %d bytes used", refused, s.UsedMemory())
	}
	if got := at(t, s, 0, "del k0 k1"); got != "(integer) 2" {
		t.Error(got)
	}
	if got := at(t, s, 0, "rpush l a"); got != "(integer) 1" {
		t.Error(got)
	}
	at(t, s, 0, "flushall")
	if s.UsedMemory() != 0 {
		t.Errorf("%d bytes in an empty store", s.UsedMemory())
	}
}

func TestFloats(t *testing.T) {
	// As long double on amd64: checked against redis-server 7.0.15.
	for _, c := range []struct{ a, b, sum string }{
		{"0.1", "0.2", "0.3"},
		{"3", "1.1", "4.1"},
		{"10.5", "0.1", "10.6"},
		{"5.0e3", "2.0e2", "5200"},
		{"1", "-1", "0"},
		{"-0", "-0", "0"},
		{"0.1", "-0.1", "0"},
		{"1e-17", "0", "0.00000000000000001"},
		{"1e-18", "0", "0"},
		{"17179869184", "1.5", "17179869185.5"},
		{"9007199254740993", "0.5", "9007199254740993.5"},
		{"0x1p4", "0x.8", "16.5"},
		{"1e4000", "1", "1" + strings.Repeat("0", 4000)},
	} {
		a, ok1 := parseLong([]byte(c.a))
		b, ok2 := parseLong([]byte(c.b))
		if !ok1 || !ok2 {
			t.Errorf("%s, %s: no numbers", c.a, c.b)
			continue
		}
		sum, ok := addLong(a, b)
		got := ""
		if ok {
			got = string(formatLong(nil, sum))
		}
		if c.a == "1e4000" { // 64 bits do not hold it exactly
			if len(got) != 4000 && len(got) != 4001 {
				t.Errorf("%s+%s = %.30s...", c.a, c.b, got)
			}
			continue
		}
		if got != c.sum {
			t.Errorf("%s+%s = %s, want %s", c.a, c.b, got, c.sum)
		}
	}
	for _, bad := range []string{"", " 1", "1 ", "1_0", "x", "nan", "1e", "1e5000", "1e-5000", "1e999999999", "1e-999999999", "0x", "1e9999999999999999999", "--1", "0x1p99999", "1p3", "."} {
		if f, ok := parseLong([]byte(bad)); ok {
			t.Errorf("%q is %s", bad, f.String())
		}
	}
	for _, good := range []string{"0e99999999999", "1e4932", "inf", "-Infinity", "+1", ".5", "5.", "0x1.8p1"} {
		if _, ok := parseLong([]byte(good)); !ok {
			t.Errorf("%q is none", good)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"a*c", "abbbc", true},
		{"a*c", "abbb", false},
		{"[a-c]x", "bx", true},
		{"[c-a]x", "bx", true},
		{"[^a-c]x", "bx", false},
		{"[a\\]]", "]", true},
		{"h?llo", "hallo", true},
		{"h?llo", "hllo", false},
		{"\\*", "*", true},
		{"\\*", "x", false},
		{"[a", "a", true},
		{"a", "", false},
		{strings.Repeat("a*", 30) + "b", strings.Repeat("a", 5000), false}, // ends soon
	} {
		if got := match([]byte(c.pattern), []byte(c.s)); got != c.want {
			t.Errorf("%.40q and %.40q: %v", c.pattern, c.s, got)
		}
	}
}

// Lists against a slice, for what needs many elements.
func TestListBlocks(t *testing.T) {
	rnd := random(1)
	var w cow
	l := &list{}
	var want []string
	for i := range 20000 {
		s := fmt.Sprint(rnd.below(50))
		switch k := rnd.below(12); {
		case k < 3:
			l.pushLeft(s, &w)
			want = slices.Insert(want, 0, s)
		case k < 6:
			l.pushRight(s, &w)
			want = append(want, s)
		case k < 8:
			at := rnd.below(len(want) + 1)
			l.insert(at, s, &w)
			want = slices.Insert(want, at, s)
		case len(want) == 0:
		case k == 8:
			if rnd.below(2) == 0 {
				l.popLeft(&w)
				want = want[1:]
			} else {
				l.popRight(&w)
				want = want[:len(want)-1]
			}
		case k == 9:
			at := rnd.below(len(want))
			l.set(at, s, &w)
			want[at] = s
		case k == 10 && i%20 == 0:
			limit, right := 1+rnd.below(20), rnd.below(2) == 0
			n := l.removeEqual(s, limit, right, &w)
			for range n {
				if !right {
					at := slices.Index(want, s)
					want = slices.Delete(want, at, at+1)
					continue
				}
				for at := len(want) - 1; ; at-- {
					if want[at] == s {
						want = slices.Delete(want, at, at+1)
						break
					}
				}
			}
			if n < limit && slices.Contains(want, s) {
				t.Fatal("removeEqual stopped too early")
			}
		case k == 11 && i%200 == 0:
			from := rnd.below(len(want))
			to := from + rnd.below(len(want)-from) + 1
			l.trim(from, to, &w)
			want = slices.Clone(want[from:to])
		}
		if i%100 == 0 {
			var got []string
			l.each(0, l.n, func(s string) { got = append(got, s) })
			if !slices.Equal(got, want) || l.n != len(want) {
				t.Fatalf("step %d: %d elements, want %d", i, len(got), len(want))
			}
			for j := range want {
				if l.at(j) != want[j] {
					t.Fatalf("element %d", j)
				}
			}
		}
	}
	if len(want) < 500 {
		t.Errorf("only %d elements at the end", len(want))
	}
}

func TestTableAsRedis(t *testing.T) {
	o := startOracle(t)
	for _, cmd := range Commands() {
		v := o.do(args("command", "info", cmd.Name))[0].Elems[0]
		if v.Kind == resp.Null {
			t.Errorf("Redis does not know %s", cmd.Name)
			continue
		}
		if cmd.Name == "object" {
			continue // Redis has it by subcommand
		}
		var flags []string
		for _, f := range v.Elems[2].Elems {
			flags = append(flags, string(f.Str))
		}
		ours := cmd.Flags.Names()
		slices.Sort(flags)
		slices.Sort(ours)
		if int64(cmd.Arity) != v.Elems[1].Int || !slices.Equal(flags, ours) || int64(cmd.First) != v.Elems[3].Int || int64(cmd.Last) != v.Elems[4].Int || int64(cmd.Step) != v.Elems[5].Int {
			t.Errorf("%s: %s, ours %v", cmd.Name, v, cmd)
		}
	}
	// Keys, for commands that Redis can be asked about.
	for _, line := range []string{
		"get a", "mset a 1 b 2", "del a b c", "zunionstore d 2 a b weights 1 2", "lmpop 2 a b left", "sintercard 1 a",
		"rename a b", "bitop and a b c", "zdiff 2 a b", "zmpop 1 a min", "smove a b c", "lmpop 9 a left", "ping x", "nosuch a",
	} {
		cmd := join(args("command", "getkeys"), split(line))
		want := o.do(cmd)[0].String()
		if got := parseReply(t, New(Limits{}).Apply(nil, &Call{}, cmd)).String(); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	s := New(Limits{})
	if n := len(parseReply(t, s.Apply(nil, &Call{Proto: 3}, args("command"))).Elems); n != len(Commands()) {
		t.Errorf("COMMAND lists %d", n)
	}
	if n := len(parseReply(t, s.Apply(nil, &Call{Proto: 3}, args("command", "docs"))).Elems); n != 2*len(Commands()) {
		t.Errorf("COMMAND DOCS lists %d", n)
	}
}

func join(a, b [][]byte) [][]byte { return append(slices.Clone(a), b...) }
