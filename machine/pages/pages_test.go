package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"

	"understudy/machine/mem"
)

const testPages = 64

// change makes a page another one, in one of the ways in which guests do.
func change(r *rand.Rand, p []byte) {
	switch r.IntN(8) {
	case 0:
		clear(p)
	case 1: // random data
		for i := range p {
			p[i] = byte(r.Uint32())
		}
	case 2: // text
		words := []string{"the ", "understudy ", "goes ", "on ", "stage\n", "0123456789"}
		for i := 0; i < len(p); i += copy(p[i:], words[r.IntN(len(words))]) {
		}
	case 3: // page-table entries
		for i := 0; i < len(p); i += 8 {
			binary.LittleEndian.PutUint64(p[i:], uint64(r.IntN(1<<18))<<10|0xcf)
		}
	case 4: // nothing
	case 5: // one byte
		p[r.IntN(len(p))]++
	case 6: // counters
		for range r.IntN(200) {
			p[r.IntN(len(p)/8)*8]++
		}
	case 7: // a piece
		from := r.IntN(len(p))
		to := from + r.IntN(len(p)-from) + 1
		for i := from; i < to; i++ {
			p[i] = byte(r.Uint32())
		}
	}
}

func TestWhatIsSentArrives(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		ram, there := make([]byte, testPages*mem.PageBytes), make([]byte, testPages*mem.PageBytes)
		page := func(b []byte, n int) []byte { return b[n*mem.PageBytes:][:mem.PageBytes] }
		shadow := NewShadow(make([]byte, len(ram)))
		var (
			e   Encoder
			d   Decoder
			set Set
		)
		for round := range 40 {
			set.Reset()
			for n := range testPages {
				if r.IntN(3) == 0 {
					change(r, page(ram, n))
					set.Add(uint32(n), page(ram, n))
				}
			}
			prefix := []byte("before")
			e.Begin(prefix)
			for i := range set.Len() {
				if n, p := set.At(i); round%5 == 4 {
					e.Add(n, p, nil)
					copy(shadow.b[int(n)*mem.PageBytes:], p)
				} else {
					shadow.Add(&e, n, p)
				}
			}
			size, count := e.Len(), e.Count()
			b := e.Finish()
			if !bytes.HasPrefix(b, prefix) || len(b) != len(prefix)+size || int(binary.LittleEndian.Uint32(b[len(prefix):])) != count {
				t.Fatal("Begin, Len and Count do not fit the batch")
			}
			b = b[len(prefix):]
			if err := d.Check(b, testPages); err != nil {
				t.Fatal(err)
			}
			for range 1 + r.IntN(2) { // twice does no harm
				install := func(n int, p []byte) error { copy(page(there, n), p); return nil }
				if err := d.Decode(b, testPages, func(n int) []byte { return page(there, n) }, install); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(ram, there) {
				t.Fatalf("seed %d, round %d: the receiver has other pages", seed, round)
			}
		}
		for k := range kinds {
			if e.Stats.Pages[k] == 0 {
				t.Errorf("seed %d: no page was %v", seed, k)
			}
		}
	}
}

// TestDeltasAreSmall holds the encoder to its purpose.
func TestDeltasAreSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	old := make([]byte, mem.PageBytes)
	change0 := func() []byte { // random bytes, so that nothing else is small
		for i := range old {
			old[i] = byte(r.Uint32())
		}
		return bytes.Clone(old)
	}
	for name, c := range map[string]struct {
		change func(p []byte)
		kind   Kind
		most   int
	}{
		"nothing":       {func(p []byte) {}, Unchanged, 0},
		"zeros":         {func(p []byte) { clear(p) }, Zero, 2},
		"first byte":    {func(p []byte) { p[0]++ }, Delta, 6},
		"last byte":     {func(p []byte) { p[len(p)-1]++ }, Delta, 7},
		"two far apart": {func(p []byte) { p[8]++; p[4000]++ }, Delta, 11},
		"two words":     {func(p []byte) { p[7]++; p[8]++ }, Delta, 7},
		"most of it":    {func(p []byte) { copy(p, bytes.Repeat([]byte("text"), 700)) }, S2, 1500},
		"cleared half":  {func(p []byte) { clear(p[:2000]) }, DeltaS2, 150},
		"all of it":     {func(p []byte) { change0(); copy(p, old); change0() }, Raw, 4098},
	} {
		p := change0()
		c.change(p)
		var e Encoder
		e.Begin(nil)
		added := e.Add(0, p, old)
		if added == (c.kind == Unchanged) || e.Stats.Pages[c.kind] != 1 || e.Len()-4 > c.most {
			t.Errorf("%s: %d bytes, %v", name, e.Len()-4, e.Stats)
		}
	}
}

// entry is one handmade entry.
func entry(skip uint64, k Kind, body []byte) []byte {
	b := append(binary.AppendUvarint(nil, skip), byte(k))
	if k != Zero && k != Raw {
		b = binary.AppendUvarint(b, uint64(len(body)))
	}
	return append(b, body...)
}

func batchOf(entries ...[]byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(entries))), slices.Concat(entries...)...)
}

func TestBadBatches(t *testing.T) {
	page := make([]byte, mem.PageBytes)
	bomb := s2.Encode(nil, make([]byte, 1<<20))
	over := binary.AppendUvarint(nil, 1<<62)
	for name, b := range map[string][]byte{
		"empty":                 {},
		"no count":              {1, 0, 0},
		"entries missing":       {1, 0, 0, 0},
		"many entries":          {0xff, 0xff, 0xff, 0xff, 0, 0},
		"too many bytes":        append(batchOf(entry(0, Zero, nil)), 0),
		"page out of range":     batchOf(entry(testPages, Zero, nil)),
		"second out of range":   batchOf(entry(testPages-1, Zero, nil), entry(0, Zero, nil)),
		"page number wraps":     batchOf(entry(1, Zero, nil), entry(^uint64(0), Zero, nil)),
		"number of 11 bytes":    batchOf(append(bytes.Repeat([]byte{0xff}, 11), 0)),
		"unknown kind":          batchOf(entry(0, kinds, nil)),
		"unchanged":             batchOf(entry(0, Unchanged, nil)),
		"short page":            batchOf(entry(0, Raw, page[1:])),
		"length beyond end":     batchOf([]byte{0, byte(Delta), 200, 0}),
		"huge length":           batchOf(append([]byte{0, byte(Delta)}, over...)),
		"large compressed":      batchOf(entry(0, S2, bomb)),
		"large runs":            batchOf(entry(0, DeltaS2, bomb)),
		"small compressed":      batchOf(entry(0, S2, s2.Encode(nil, page[1:]))),
		"corrupt compressed":    batchOf(entry(0, S2, []byte{0x80, 0x20, 0xff, 0xff})),
		"corrupt runs":          batchOf(entry(0, DeltaS2, []byte{0x10, 0xff, 0xff})),
		"no compressed":         batchOf(entry(0, S2, nil)),
		"no runs":               batchOf(entry(0, Delta, nil)),
		"no runs, compressed":   batchOf(entry(0, DeltaS2, s2.Encode(nil, nil))),
		"empty run":             batchOf(entry(0, Delta, []byte{1, 0})),
		"run cut short":         batchOf(entry(0, Delta, []byte{1, 3, 9})),
		"run beyond page":       batchOf(entry(0, Delta, append(binary.AppendUvarint(nil, 4095), 2, 1, 1))),
		"second run beyond":     batchOf(entry(0, Delta, append(binary.AppendUvarint([]byte{0, 1, 1}, 4095), 1, 1))),
		"huge run":              batchOf(entry(0, Delta, append(append([]byte{0}, over...), 1))),
		"leave wraps":           batchOf(entry(0, Delta, append(binary.AppendUvarint(nil, ^uint64(0)), 1, 1))),
		"list of runs too long": batchOf(entry(0, Delta, bytes.Repeat([]byte{0, 1, 1}, deltaMax/3+1))),
	} {
		var d Decoder
		if err := d.Check(b, testPages); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := errors.New("full")
	var d Decoder
	err := d.Decode(batchOf(entry(0, Zero, nil)), 1, nil, func(int, []byte) error { return full })
	if err != full {
		t.Errorf("install's error became %v", err)
	}
}

// FuzzDecode: nothing that is read is out of bounds, what Check accepts Decode accepts over any pages.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	ram, shadow := make([]byte, testPages*mem.PageBytes), NewShadow(make([]byte, testPages*mem.PageBytes))
	for range 10 {
		var e Encoder
		e.Begin(nil)
		for n := range testPages {
			p := ram[n*mem.PageBytes:][:mem.PageBytes]
			change(r, p)
			if r.IntN(8) == 0 {
				shadow.Add(&e, uint32(n), p)
			}
		}
		f.Add(e.Finish())
	}
	have := bytes.Repeat([]byte{0xa5}, mem.PageBytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		last := -1
		err := d.Decode(b, testPages, func(int) []byte { return have }, func(n int, p []byte) error {
			if n <= last || n >= testPages || len(p) != mem.PageBytes {
				t.Fatalf("page %d of %d bytes after %d", n, len(p), last)
			}
			last = n
			return nil
		})
		if check := d.Check(b, testPages); (err == nil) != (check == nil) || err != nil && !errors.Is(err, ErrBatch) {
			t.Fatalf("decoded: %v; checked: %v", err, check)
		}
	})
}

// BenchmarkCodec encodes and decodes one page of each kind; MB/s are of pages.
func BenchmarkCodec(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 3))
	fill := func(p []byte, f func(i int) byte) {
		for i := range p {
			p[i] = f(i)
		}
	}
	text := []byte(fmt.Sprint(r.Perm(900)))
	for _, c := range []struct {
		name     string
		old, new func(p []byte)
	}{
		{"unchanged", func(p []byte) { copy(p, text) }, func(p []byte) {}},
		{"zero", func(p []byte) { copy(p, text) }, func(p []byte) { clear(p) }},
		{"raw", nil, func(p []byte) { fill(p, func(int) byte { return byte(r.Uint32()) }) }},
		{"s2", nil, func(p []byte) { copy(p, text) }},
		{"delta", func(p []byte) { copy(p, text) }, func(p []byte) {
			for range 20 {
				p[r.IntN(len(p))]++
			}
		}},
		{"delta+s2", func(p []byte) { copy(p, text) }, func(p []byte) { clear(p[500:2000]) }},
	} {
		old, p := make([]byte, mem.PageBytes), make([]byte, mem.PageBytes)
		if c.old != nil {
			c.old(old)
		}
		copy(p, old)
		if c.new(p); c.old == nil {
			old = nil
		}
		var e Encoder
		e.Begin(nil)
		e.Add(0, p, old)
		batch := bytes.Clone(e.Finish())
		b.Run(c.name+"/encode", func(b *testing.B) {
			b.SetBytes(mem.PageBytes)
			for b.Loop() {
				e.Begin(e.batch[:0])
				e.Add(0, p, old)
			}
			b.ReportMetric(float64(e.Len()-4), "bytes/page")
		})
		if old == nil {
			old = zeroPage[:]
		}
		b.Run(c.name+"/decode", func(b *testing.B) {
			var d Decoder
			b.SetBytes(mem.PageBytes)
			for b.Loop() {
				if err := d.Decode(batch, 1, func(int) []byte { return old }, func(int, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
