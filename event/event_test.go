package event

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func sample() []Entry {
	return []Entry{
		{Seq: 7, Pos: 1000, Kind: KindClock, Data: AppendClock(nil, Clock{NowNs: 12345, Rate: 1 << RateShift})},
		{Seq: 8, Pos: 1000, Kind: KindNet, Device: 1, Data: bytes.Repeat([]byte{0xAB}, 1514)},
		{Seq: 9, Pos: 1 << 50, Kind: KindCommit},
		{Seq: 10, Pos: 1<<50 + 3, Kind: KindDisk, Data: AppendDiskDone(nil, DiskDone{ID: 3, Status: DiskError})},
	}
}

func TestBatchRoundTrip(t *testing.T) {
	want := sample()
	b := AppendBatch([]byte("head"), want)
	got, rest, err := ParseBatch(append(b[4:], "tail"...))
	if err != nil || string(rest) != "tail" || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, rest %q, %v", got, rest, err)
	}
}

func TestBatchCutAnywhere(t *testing.T) {
	b := AppendBatch(nil, sample())
	for n := range b {
		if _, _, err := ParseBatch(b[:n:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d of %d: %v", n, len(b), err)
		}
	}
}

func TestPayloads(t *testing.T) {
	c := Clock{NowNs: 1 << 60, Rate: 7}
	if got, err := ParseClock(AppendClock(nil, c)); err != nil || got != c {
		t.Fatal(got, err)
	}
	if _, err := ParseClock(AppendClock(nil, Clock{NowNs: 1})); err == nil {
		t.Fatal("a clock that stands still was accepted")
	}
	d := DiskDone{ID: 900, Status: DiskOK, Data: []byte("abc")}
	if got, err := ParseDiskDone(AppendDiskDone(nil, d)); err != nil || !reflect.DeepEqual(got, d) {
		t.Fatal(got, err)
	}
	if _, err := ParseDiskDone([]byte{1, 9}); err == nil {
		t.Fatal("an unknown status was accepted")
	}
	sum := DiskSum{ID: 900, Sector: 1 << 40, Count: 16384, Sum: 1 << 63}
	b := AppendDiskSum(nil, sum)
	if got, err := ParseDiskSum(b); err != nil || got != sum {
		t.Fatal(got, err)
	}
	for n := range b {
		if _, err := ParseDiskSum(b[:n]); err == nil {
			t.Fatalf("cut at %d of %d and accepted", n, len(b))
		}
	}
	for _, d := range []DiskSum{{Count: 0}, {Count: MaxEntryBytes/512 + 1}} {
		if _, err := ParseDiskSum(AppendDiskSum(nil, d)); err == nil {
			t.Fatalf("%d sectors were accepted", d.Count)
		}
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add(AppendBatch(nil, sample()))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, rest, err := ParseBatch(b)
		if err != nil {
			return
		}
		again, _, err := ParseBatch(AppendBatch(nil, entries))
		if err != nil || len(again) != len(entries) || len(rest) > len(b) {
			t.Fatalf("parsed %d entries, again %d, %v", len(entries), len(again), err)
		}
	})
}
