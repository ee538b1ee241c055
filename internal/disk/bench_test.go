package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func benchmarkDisk(b *testing.B, blocks int, block func(i int, p []byte)) *Disk {
	d, err := Create(filepath.Join(b.TempDir(), "primary.raw"), uint64(blocks)*BlockBytes/SectorBytes)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	p := make([]byte, BlockBytes)
	for i := range blocks {
		clear(p)
		block(i, p)
		if !isZero(p) {
			if _, err := d.file.WriteAt(p, int64(i)*BlockBytes); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.SetBytes(d.size.bytes())
	return d
}

var kinds = []struct {
	name  string
	block func(i int, p []byte)
}{
	{"noise", func(i int, p []byte) { fill(p, uint64(i)) }},
	{"text", func(i int, p []byte) {
		for len(p) > 0 {
			n := copy(p, fmt.Sprintf("%d: the quick brown fox jumps over the lazy dog\n", i*i))
			p, i = p[n:], i+1
		}
	}},
	{"holes", func(int, []byte) {}},
}

// BenchmarkCopy is the whole way without a network; the final sync is not in it.
func BenchmarkCopy(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			d := benchmarkDisk(b, 512, kind.block)
			path := filepath.Join(b.TempDir(), "backup.raw")
			var buf []byte
			for b.Loop() {
				tg, err := NewTarget(path, d.size.sectors, false)
				if err != nil {
					b.Fatal(err)
				}
				s, _ := NewSource(d)
				_, _ = s.Compare(appendEnd(nil, 0))
				_, _, _ = tg.Hashes(nil)
				_ = s.Cut(nil)
				for done := false; !done; {
					if buf, done, err = s.Next(buf); err == nil {
						_, err = tg.Apply(buf)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				s.Close()
				tg.Close()
			}
		})
	}
}

// BenchmarkSource is the primary's part alone.
func BenchmarkSource(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			d := benchmarkDisk(b, 512, kind.block)
			var buf []byte
			for b.Loop() {
				s, _ := NewSource(d)
				_, _ = s.Compare(appendEnd(nil, 0))
				_ = s.Cut(nil)
				var err error
				for done := false; !done; {
					if buf, done, err = s.Next(buf); err != nil {
						b.Fatal(err)
					}
				}
				s.Close()
			}
		})
	}
}

// BenchmarkHashes is what a target with an old copy does before the transfer.
func BenchmarkHashes(b *testing.B) {
	d := benchmarkDisk(b, 512, kinds[0].block)
	path := filepath.Join(b.TempDir(), "backup.raw"+incomingSuffix)
	if err := os.WriteFile(path, func() []byte { p, _ := os.ReadFile(d.path); return p }(), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		tg, err := NewTarget(strings.TrimSuffix(path, incomingSuffix), d.size.sectors, true)
		if err != nil {
			b.Fatal(err)
		}
		for last := false; !last; {
			if _, last, err = tg.Hashes(nil); err != nil {
				b.Fatal(err)
			}
		}
		tg.Close()
	}
}
