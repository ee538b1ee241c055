package kv

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func benchApply(b *testing.B, keys int, prepare func(s *Store, i int), make func(i int) [][]byte) {
	s := New(Limits{})
	for i := range keys {
		if prepare != nil {
			prepare(s, i)
		}
	}
	cmds := [1024][][]byte{}
	for i := range cmds {
		cmds[i] = make(rand.IntN(max(keys, 1)))
	}
	var c Call
	var out []byte
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		out = s.Apply(out[:0], &c, cmds[i%len(cmds)])
		i++
	}
}

func key(i int) string { return fmt.Sprintf("key:%012d", i) }

func fill(s *Store, i int) {
	s.Apply(nil, &Call{}, args("set", key(i), "a value of a usual size, or so"))
}

const benchKeys = 100_000

func BenchmarkGet(b *testing.B) {
	benchApply(b, benchKeys, fill, func(i int) [][]byte { return args("GET", key(i)) })
}

func BenchmarkSet(b *testing.B) {
	benchApply(b, benchKeys, fill, func(i int) [][]byte { return args("SET", key(i), "another value of a usual size") })
}

func BenchmarkSetEx(b *testing.B) {
	benchApply(b, benchKeys, fill, func(i int) [][]byte {
		return args("SET", key(i), "another value of a usual size", "PX", strconv.Itoa(1000+i))
	})
}

func BenchmarkIncr(b *testing.B) {
	benchApply(b, benchKeys, nil, func(i int) [][]byte { return args("INCR", key(i)) })
}

func BenchmarkLPush(b *testing.B) {
	benchApply(b, 16, nil, func(i int) [][]byte { return args("LPUSH", key(i), "element") })
}

func BenchmarkHSet(b *testing.B) {
	benchApply(b, benchKeys, nil, func(i int) [][]byte { return args("HSET", key(i%100), key(i), "value") })
}

func BenchmarkSAdd(b *testing.B) {
	benchApply(b, benchKeys, nil, func(i int) [][]byte { return args("SADD", key(i%100), key(i)) })
}

func BenchmarkZAdd(b *testing.B) {
	benchApply(b, benchKeys, func(s *Store, i int) {
		s.Apply(nil, &Call{}, args("ZADD", "z", strconv.Itoa(i), key(i)))
	}, func(i int) [][]byte { return args("ZADD", "z", strconv.Itoa(rand.IntN(1e6)), key(i)) })
}

func BenchmarkZRank(b *testing.B) {
	benchApply(b, 1_000_000, func(s *Store, i int) {
		s.Apply(nil, &Call{}, args("ZADD", "z", strconv.Itoa(i*7919%1_000_003), key(i)))
	}, func(i int) [][]byte { return args("ZRANK", "z", key(i)) })
}

// BenchmarkDo is a SET that came as an entry of the log from a client that numbers its requests.
func BenchmarkDo(b *testing.B) {
	s := New(Limits{})
	for i := range benchKeys {
		fill(s, i)
	}
	var c Call
	var q Request
	var out, entry []byte
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		w := Request{Proto: 2, Client: "client-17", Number: n, Cmds: [][][]byte{args("SET", key(int(n%benchKeys)), "another value")}}
		entry = w.Encode(entry[:0])
		if err := q.Decode(entry); err != nil {
			b.Fatal(err)
		}
		out = s.Do(out[:0], &c, &q)
	}
}

// threadTime is the processor time of this thread: unlike the clock it does not count what others on the host do.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Skip(err)
	}
	return time.Duration(t.Nano())
}

// BenchmarkSnapshot takes a snapshot of a million keys while SETs go on, and reports the most processor time that the
// beginning, a SET and a frame took.
func BenchmarkSnapshot(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := New(Limits{})
	for i := range 1_000_000 {
		fill(s, i)
	}
	var c Call
	var out, frame []byte
	var begin, set, next, from time.Duration
	commands := 0
	for b.Loop() {
		from = threadTime(b)
		p := s.BeginSnapshot()
		begin = max(begin, threadTime(b)-from)
		for done := false; !done; {
			from = threadTime(b)
			frame, done = p.Next(frame[:0], 64<<10)
			next = max(next, threadTime(b)-from)
			for range 500 {
				cmd := args("SET", key(rand.IntN(1_000_000)), "another value of a usual size")
				from = threadTime(b)
				out = s.Apply(out[:0], &c, cmd)
				set = max(set, threadTime(b)-from)
				commands++
			}
		}
		p.Close()
	}
	b.ReportMetric(float64(begin.Microseconds())/1000, "ms-begin")
	b.ReportMetric(float64(set.Microseconds())/1000, "ms-slowest-set")
	b.ReportMetric(float64(next.Microseconds())/1000, "ms-slowest-frame")
	b.ReportMetric(float64(commands)/float64(b.N), "sets/op")
}
