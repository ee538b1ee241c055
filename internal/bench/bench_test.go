package bench

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"understudy/event"
)

// checkReps makes every kernel run for a few million instructions.
func checkReps(k Kernel) uint64 { return max(k.Reps/200, 2) }

// TestKernelsAgreeWithQEMU runs every kernel in both and compares what they print.
func TestKernelsAgreeWithQEMU(t *testing.T) {
	qemu := QEMU("QEMU", "-icount", "shift=0")
	if err := qemu.Available(); err != nil {
		t.Skip(err)
	}
	ours := Machine()
	for _, k := range Kernels {
		t.Run(k.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			want, _, err := qemu.Run(ctx, k.Name, checkReps(k))
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := ours.Run(ctx, k.Name, checkReps(k))
			if err != nil {
				t.Fatal(err)
			}
			// QEMU may count the instruction that reads the count; ours does not.
			if d := int64(want.Instret - got.Instret); d < -2 || d > 2 {
				t.Errorf("%d instructions, QEMU counts %d", got.Instret, want.Instret)
			}
			want.Instret = got.Instret
			if got != want {
				t.Errorf("got %+v, QEMU has %+v", got, want)
			}
		})
	}
}

// The generator and the mixing function of guest.h.
func nextRandom(s *uint64) uint64 {
	*s += 0x9e3779b97f4a7c15
	z := *s
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func mix(h, v uint64) uint64 { return (h ^ v) * 0x100000001b3 }

// TestKernelsAgreeWithGo computes some checksums natively, so that a bug common to all emulators, or a kernel that
// does not do what its name says, is seen.
func TestKernelsAgreeWithGo(t *testing.T) {
	run := func(name string, reps uint64) uint64 {
		r, _, err := Machine().Run(t.Context(), name, reps)
		if err != nil {
			t.Fatal(err)
		}
		return r.Checksum
	}
	seed := uint64(8)
	data := make([]byte, 65536)
	for i := range 16384 {
		data[i] = byte(nextRandom(&seed))
	}
	h := sha256.New()
	h.Write(data[:16384])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for i := range 8 { // the state follows a four-byte magic
		sum = mix(sum, uint64(binary.BigEndian.Uint32(state[4+4*i:])))
	}
	if got := run("sha256", 1); got != sum {
		t.Errorf("sha256 gives %x, want %x", got, sum)
	}

	seed, sum = 2, 0
	for i := range data {
		data[i] = byte(nextRandom(&seed))
	}
	for r := range uint32(4) {
		sum = mix(sum, uint64(crc32.Update(r, crc32.IEEETable, data)))
	}
	if got := run("crc32", 1); got != sum {
		t.Errorf("crc32 gives %x, want %x", got, sum)
	}

	var fib func(n uint64) uint64
	fib = func(n uint64) uint64 {
		if n < 2 {
			return n
		}
		return fib(n-1) + fib(n-2)
	}
	if got, want := run("fib", 2), mix(mix(0, fib(22)), fib(23)); got != want {
		t.Errorf("fib gives %x, want %x", got, want)
	}
	if got, want := run("sieve", 1), mix(0, 6542); got != want {
		t.Errorf("sieve gives %x, want %x", got, want)
	}
}

// TestCutRunsAgree runs kernels in one piece and cut at random positions: same result, same count.
func TestCutRunsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, k := range Kernels {
		outs := [2]string{}
		ends := [2]event.Position{}
		for i := range outs {
			g, err := NewGuest(k.Name, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			for n := 0; !g.Ended; n++ {
				step := event.Position(sliceInstructions)
				if i == 1 && n < 30000 {
					step = 1 + event.Position(r.Uint64N(40))
				}
				if _, err := g.Run(t.Context(), step); err != nil {
					t.Fatal(err)
				}
			}
			outs[i], ends[i] = g.Out.String(), g.Hart.Position()
		}
		if outs[0] != outs[1] || ends[0] != ends[1] {
			t.Errorf("in one piece %q at %d, cut %q at %d", outs[0], ends[0], outs[1], ends[1])
		}
	}
}

func TestParseResult(t *testing.T) {
	r, err := ParseResult([]byte("firmware says hello\nresult crc32 20 ff 123\n"))
	if err != nil || r != (Result{"crc32", 20, 255, 123}) {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"", "trap 2 80200000 0\n", "result a b c d\n", "result a 1 1\n"} {
		if _, err := ParseResult([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestSectionMarkdown(t *testing.T) {
	s := Section{Title: "T", Notes: []string{"n"}}
	s.Table.Header = []string{"a", "b"}
	s.Table.Add("x", "1")
	var b strings.Builder
	if err := s.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	want := "## T\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n\nn\n\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// BenchmarkInterp executes 50 million instructions of each kernel, which no kernel ends within, and reports millions
// of instructions per second of processor time.
func BenchmarkInterp(b *testing.B) {
	const budget = 50_000_000
	for _, k := range Kernels {
		b.Run(k.Name, func(b *testing.B) {
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				g, err := NewGuest(k.Name, 1<<40)
				if err != nil {
					b.Fatal(err)
				}
				before := cpuTime()
				b.StartTimer()
				if _, err := g.Run(b.Context(), budget); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				used += cpuTime() - before
				g.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(budget)*float64(b.N)/used.Seconds()/1e6, "Minstr/s")
		})
	}
}
