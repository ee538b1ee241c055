package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// entries is a log of random commands that all succeed or fail the same way on every replica.
func entries(seed uint64, n int) []Request {
	g := generator{rand.New(rand.NewPCG(seed, 7))}
	now := int64(1_000_000)
	all := make([]Request, 0, n)
	for i := range n {
		now += int64(g.IntN(50))
		q := Request{Now: now - int64(g.IntN(20)), Seed: g.Uint64(), Proto: 2 + g.IntN(2), Cmds: [][][]byte{g.command()}}
		switch g.IntN(12) {
		case 0:
			q.Cmds = [][][]byte{args("spop", g.kindly("t"), fmt.Sprint(g.IntN(3)))}
		case 1:
			q.Cmds = [][][]byte{args("pexpire", g.anyKey(), fmt.Sprint(g.IntN(3000)))}
		case 2:
			q.Cmds = [][][]byte{args("set", g.kindly("s"), g.value(), "px", fmt.Sprint(1+g.IntN(3000)))}
		case 3:
			q.Cmds = [][][]byte{args(g.of("randomkey", "dbsize")), args("srandmember", g.kindly("t"), "-3")}[:1+g.IntN(2)]
			q.Exec = true
		case 4:
			q.Exec = true
			q.Cmds = [][][]byte{g.command(), g.command(), args("select", g.of("0", "0", "1")), g.command()}
		case 5:
			// Values beyond one chunk, one block and the compact encodings.
			k := g.of("lpush", "rpush", "sadd", "zadd", "hset")
			words := []string{k, g.of("a", "b") + "big" + k}
			for range 40 {
				if k == "zadd" || k == "hset" {
					words = append(words, fmt.Sprint(g.IntN(600)))
				}
				words = append(words, fmt.Sprint(g.IntN(800)))
			}
			q.Cmds = [][][]byte{args(words...)}
		case 6:
			switch k := g.of("a", "b") + "big"; g.IntN(6) {
			case 0:
				q.Cmds = [][][]byte{args("spop", k+"sadd", "20")}
			case 1:
				q.Cmds = [][][]byte{args("zremrangebyrank", k+"zadd", "3", "20")}
			case 2:
				q.Cmds = [][][]byte{args("ltrim", k+"rpush", "5", "-7")}
			case 3:
				q.Cmds = [][][]byte{args("linsert", k+"rpush", "before", fmt.Sprint(g.IntN(800)), "x")}
			case 4:
				q.Cmds = [][][]byte{args("lrem", k+"lpush", fmt.Sprint(g.IntN(3)-1), fmt.Sprint(g.IntN(800)))}
			case 5:
				q.Cmds = [][][]byte{args("lset", k+"lpush", fmt.Sprint(g.IntN(200)), "y")}
			}
		case 7:
			// Overwrites a part of a string that a snapshot may be reading.
			q.Cmds = [][][]byte{args("setrange", g.of("a", "b")+"big", fmt.Sprint(g.IntN(3000)), fmt.Sprint(g.IntN(1e6)))}
		}
		if g.IntN(2) == 0 {
			q.Client, q.Number = "client-"+fmt.Sprint(g.IntN(30)), uint64(i)
		}
		all = append(all, q)
	}
	return all
}

var smallLimits = Limits{Clients: 20, ReplyBytes: 20000}

// play executes an entry, and now and then an expiry step, as a replica would.
func play(s *Store, i int, q *Request) []byte {
	if i%10 == 0 {
		s.Expire(q.Now, 2)
	}
	return s.Do(nil, &Call{}, q)
}

func frames(p *Snapshot, size int) (all [][]byte) {
	for done := false; !done; {
		var f []byte
		f, done = p.Next(nil, size)
		all = append(all, f)
	}
	return all
}

func snapshotOf(s *Store) []byte {
	p := s.BeginSnapshot()
	defer p.Close()
	return bytes.Join(frames(p, 4096), nil)
}

func restored(t testing.TB, b []byte) *Store {
	t.Helper()
	s, err := Restore(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A snapshot that is written while commands go on is the state of the instant when it was begun; what is restored from
// it goes on like the original. Several snapshots are open at a time.
func TestReplicasStayEqual(t *testing.T) {
	n := 12000
	if testing.Short() {
		n = 3000
	}
	for seed := range uint64(3) {
		log := entries(seed, n)
		a, b := New(smallLimits), New(smallLimits)
		a.SetMaxMemory(200000)
		b.SetMaxMemory(200000)
		replicas := []*Store{b}
		type open struct {
			p    *Snapshot
			want uint64
			from int
			data []byte
		}
		var snaps []*open
		g := rand.New(rand.NewPCG(seed, 1))
		for i := range log {
			want := play(a, i, &log[i])
			for k, r := range replicas {
				if got := play(r, i, &log[i]); !bytes.Equal(got, want) {
					t.Fatalf("seed %d, entry %d, replica %d: %s\n%q, not %q", seed, i, k, text(log[i].Cmds[0]), got, want)
				}
			}
			if i%(n/12) == n/24 {
				digest := a.Digest()
				snaps = append(snaps, &open{p: a.BeginSnapshot(), want: digest, from: i + 1})
			}
			for k := 0; k < len(snaps); k++ {
				o := snaps[k]
				if g.IntN(3) > 0 {
					continue
				}
				var done bool
				o.data, done = o.p.Next(o.data, 1024)
				if !done {
					continue
				}
				if o.p.Digest() != o.want {
					t.Fatalf("seed %d: the snapshot of entry %d has digest %x, the state had %x", seed, o.from, o.p.Digest(), o.want)
				}
				o.p.Close()
				snaps = slices.Delete(snaps, k, k+1)
				k--
				r := restored(t, o.data)
				if r.Digest() != o.want {
					t.Fatalf("seed %d: restored from entry %d: another digest", seed, o.from)
				}
				for j := o.from; j <= i; j++ {
					play(r, j, &log[j])
				}
				if len(replicas) > 3 {
					replicas = replicas[:1]
				}
				replicas = append(replicas, r)
			}
		}
		for k, r := range replicas {
			if r.Digest() != a.Digest() || r.UsedMemory() != a.UsedMemory() {
				t.Errorf("seed %d: replica %d has another digest, or %d bytes of memory, not %d", seed, k, r.UsedMemory(), a.UsedMemory())
			}
		}
		if len(replicas) < 2 {
			t.Error("no replica was restored")
		}
		check(t, a)
		for _, r := range replicas {
			check(t, r)
		}
	}
}

// check verifies what the store derives from its state.
func check(t *testing.T, s *Store) {
	t.Helper()
	for n, d := range s.dbs {
		used, due := int64(0), 0
		if len(d.index) != d.list.n {
			t.Fatalf("database %d: %d keys in the index, %d in the list", n, len(d.index), d.list.n)
		}
		for i := range d.list.n {
			e := *d.list.at(i)
			if d.index[e.key] != e || int(e.place) != i {
				t.Fatalf("key %q is lost", e.key)
			}
			if (e.deadline != 0) != (e.heaped >= 0) || e.heaped >= 0 && d.due.at[e.heaped] != e {
				t.Fatalf("deadline of %q is lost", e.key)
			}
			if e.heaped >= 0 {
				due++
			}
			if e.mem != e.memory() {
				t.Fatalf("key %q counts for %d bytes, not %d", e.key, e.mem, e.memory())
			}
			used += e.mem
			checkValue(t, e)
		}
		if used != d.used || due != len(d.due.at) {
			t.Fatalf("database %d: %d bytes, not %d; %d deadlines, not %d", n, d.used, used, len(d.due.at), due)
		}
		for i, e := range d.due.at {
			if i > 0 && d.due.less(e, d.due.at[(i-1)/2]) {
				t.Fatalf("deadlines of database %d are out of order", n)
			}
		}
	}
	bytes, clients := int64(0), 0
	for c := s.clients.ring.next; c != &s.clients.ring; c = c.next {
		if s.clients.byID[c.id] != c || *s.clients.list.at(int(c.place)) != c || c.next != &s.clients.ring && c.next.used <= c.used {
			t.Fatalf("client %q is lost", c.id)
		}
		bytes += c.memory()
		clients++
	}
	if n, b := s.Clients(); n != clients || b != bytes || n != len(s.clients.byID) {
		t.Fatalf("%d clients of %d bytes, not %d of %d", n, b, clients, bytes)
	}
}

func checkDict[V any](t *testing.T, d *dict[V], per int64, size func(pair[V]) int) (sum int64) {
	t.Helper()
	for i := range d.len() {
		p := *d.items.at(i)
		if d.find([]byte(p.key)) != i {
			t.Fatalf("element %q is lost", p.key)
		}
		sum += per + int64(size(p))
	}
	if d.index != nil && len(d.index) != d.len() {
		t.Fatalf("%d elements, %d in the index", d.len(), len(d.index))
	}
	return sum
}

func checkValue(t *testing.T, e *entry) {
	t.Helper()
	var sum int64
	switch v := e.val.(type) {
	case nil:
		return
	case *list:
		n := 0
		v.walk(false, func(i int, s string) bool {
			sum += memListElem + int64(len(s))
			n++
			return true
		})
		if n != v.n {
			t.Fatalf("list %q: %d elements, not %d", e.key, v.n, n)
		}
	case *set:
		sum = checkDict(t, &v.dict, memSetElem, func(p pair[struct{}]) int { return len(p.key) })
	case *hash:
		sum = checkDict(t, &v.dict, memHashElem, func(p pair[string]) int { return len(p.key) + len(p.val) })
	case *zset:
		sum = checkDict(t, &v.dict, memZSetElem, func(p pair[float64]) int { return len(p.key) })
		n := 0
		for p := (zpos{}); p.block < len(v.sorted.blocks); p = v.sorted.next(p) {
			x := v.sorted.get(p)
			if score, ok := v.score([]byte(x.member)); !ok || score != x.score || n > 0 && v.sorted.get(v.sorted.prev(p)).compare(x) >= 0 {
				t.Fatalf("sorted set %q is out of order at %q", e.key, x.member)
			}
			if v.sorted.rank(p) != n || v.sorted.place(n) != p {
				t.Fatalf("sorted set %q: rank %d of %q", e.key, v.sorted.rank(p), x.member)
			}
			n++
		}
		if n != v.len() || n != v.sorted.n {
			t.Fatalf("sorted set %q: %d members, %d in order", e.key, v.len(), n)
		}
	}
	if sum != e.val.memory() || e.val.length() == 0 {
		t.Fatalf("value of %q: %d bytes, not %d; %d elements", e.key, e.val.memory(), sum, e.val.length())
	}
}

// Next may run beside commands. Run with -race.
func TestSnapshotBesideCommands(t *testing.T) {
	s := New(smallLimits)
	log := entries(9, 4000)
	for i := range log[:2000] {
		play(s, i, &log[i])
	}
	want := s.Digest()
	p := s.BeginSnapshot()
	result := make(chan []byte)
	go func() { result <- bytes.Join(frames(p, 1024), nil) }()
	for i := 2000; i < 4000; i++ {
		play(s, i, &log[i])
	}
	data := <-result
	p.Close()
	if r := restored(t, data); r.Digest() != want {
		t.Error("the snapshot is not the state of its instant")
	}
}

// An empty and a full frame, a big string over many frames.
func TestSnapshotSizes(t *testing.T) {
	s := New(Limits{})
	if r := restored(t, snapshotOf(s)); r.Digest() != s.Digest() {
		t.Error("empty store")
	}
	var c Call
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	s.Apply(nil, &c, [][]byte{[]byte("set"), big[:100000], big})
	s.Apply(nil, &c, [][]byte{[]byte("rpush"), []byte("l"), big[:1000], big[:600], big[:512], big[:513]})
	s.Apply(nil, &c, [][]byte{[]byte("hset"), []byte("h"), big[:2000], big[:3000], []byte("f"), nil})
	s.ApplyOnce(nil, &c, "me", 4, args("get", "l"))
	s.ApplyOnce(nil, &c, "you", 4, [][]byte{[]byte("get"), big[:100000]})
	p := s.BeginSnapshot()
	defer p.Close()
	all := frames(p, 0)
	for i, f := range all {
		if len(f) > 1024+frameHead {
			t.Fatalf("frame %d has %d bytes", i, len(f))
		}
	}
	r := NewRestorer()
	for _, b := range bytes.Join(all, nil) {
		if err := r.Write([]byte{b}); err != nil { // byte by byte
			t.Fatal(err)
		}
	}
	n, err := r.Finish()
	if err != nil || n.Digest() != s.Digest() || p.Digest() != s.Digest() {
		t.Fatal(err, "or another digest")
	}
	check(t, n)
}

func TestDamagedSnapshots(t *testing.T) {
	s := New(smallLimits)
	log := entries(3, 600)
	for i := range log {
		play(s, i, &log[i])
	}
	good := snapshotOf(s)
	for i := 0; i < len(good); i += 1 + i/50 {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := Restore(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
		if _, err := Restore(bytes.NewReader(good[:i])); err == nil {
			t.Fatalf("cut at byte %d and nobody noticed", i)
		}
	}
	r := NewRestorer()
	if err := r.Write(append(bytes.Clone(good), 0)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("data behind the end: %v", err)
	}
	if _, err := NewRestorer().Finish(); !errors.Is(err, ErrSnapshot) {
		t.Errorf("nothing at all: %v", err)
	}
}

// reframe gives payload the checksums that it needs to get past them.
func reframe(payload []byte) []byte {
	p := &Snapshot{stage: stageDone, head: payload}
	var out []byte
	for done := false; !done; {
		out, done = p.Next(out, maxFrame)
	}
	return out
}

func payloadOf(frames []byte) (payload []byte) {
	for len(frames) >= frameHead {
		n := int(frames[0]) | int(frames[1])<<8 | int(frames[2])<<16
		payload = append(payload, frames[frameHead:frameHead+n]...)
		frames = frames[frameHead+n:]
	}
	return payload
}

func FuzzRestore(f *testing.F) {
	for seed := range uint64(3) {
		s := New(smallLimits)
		log := entries(seed, 300)
		for i := range log {
			play(s, i, &log[i])
		}
		f.Add(payloadOf(snapshotOf(s)))
	}
	f.Add(payloadOf(snapshotOf(New(Limits{}))))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		r := NewRestorer()
		err := r.Write(reframe(payload))
		if err == nil && r.Done() {
			s, err := r.Finish()
			if err != nil {
				t.Fatal(err)
			}
			check(t, s)
			if again := restored(t, snapshotOf(s)); again.Digest() != s.Digest() {
				t.Fatal("what was restored does not survive a snapshot")
			}
		}
		// The digest keeps the fuzzer out of what lies behind it, so damaged payload is also tried without.
		r = NewRestorer()
		r.take(payload)
		if r.err == nil && r.stage == stageEntries && r.entry == nil {
			g := generator{rand.New(rand.NewPCG(1, 1))}
			for range 50 {
				r.s.Apply(nil, &Call{}, g.command())
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	log := entries(1, 40)
	log[3].Watches = []Watch{{DB: 3, Key: []byte("k"), Version: 9}}
	for i := range log {
		f.Add(log[i].Encode(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var q, again Request
		if q.Decode(b) != nil {
			return
		}
		enc := q.Encode(nil)
		if err := again.Decode(enc); err != nil || !bytes.Equal(again.Encode(nil), enc) {
			t.Fatalf("%v: %q", err, b)
		}
		New(Limits{}).Do(nil, &Call{}, &q)
	})
}

func TestRequestEncoding(t *testing.T) {
	var q Request // used again and again, as a replica does
	for i, want := range entries(4, 2000) {
		if i%3 == 0 && want.Exec {
			want.Watches = []Watch{{1, []byte("a"), 77}, {0, []byte(""), 1 << 60}}
		}
		b := want.Encode(nil)
		if err := q.Decode(b); err != nil {
			t.Fatal(err)
		}
		if a, b := fmt.Sprintf("%q %v", q.Cmds, q.Watches), fmt.Sprintf("%q %v", want.Cmds, want.Watches); a != b {
			t.Fatalf("%s, not %s", a, b)
		}
		if !bytes.Equal(q.Encode(nil), b) {
			t.Fatalf("%q", b)
		}
		if err := new(Request).Decode(b[:len(b)-1]); !errors.Is(err, ErrRequest) {
			t.Fatalf("one byte short: %v", err)
		}
	}
	if err := q.Decode([]byte(strings.Repeat("\xff", 40))); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
}
