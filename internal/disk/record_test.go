package disk

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"understudy/event"
	"understudy/machine/virtio"
)

func TestBoundIsTheDevices(t *testing.T) {
	if MaxDataBytes != virtio.MaxBlockBytes || maxResultBytes < virtio.BlockInFlightBytes+virtio.MaxBlockBytes {
		t.Fatal("the device's bounds have changed")
	}
}

// tail is a disk of two whole blocks and a short one.
var tail = geometry{2*BlockBytes/SectorBytes + 3}

func TestRecords(t *testing.T) {
	var scratch []byte
	noise := make([]byte, BlockBytes)
	fill(noise, 7)
	hash := blockHash(noise)
	msg := appendRun(nil, recZeros, 1, 2)
	msg = appendRun(msg, recSame, 0, 3)
	msg = append(appendRun(msg, recHashes, 2, 1), hash[:]...)
	msg = appendBlock(msg, 0, noise, &scratch)
	msg = appendBlock(msg, 2, bytes.Repeat([]byte("ab"), 3*SectorBytes/2), &scratch)
	msg = appendResult(msg, event.DiskDone{ID: 1 << 40, Data: sector(4)})
	msg = appendResult(msg, event.DiskDone{ID: 3, Status: event.DiskError})
	msg = appendEnd(msg, 77)
	want := []record{
		{kind: recZeros, first: 1, count: 2},
		{kind: recSame, count: 3},
		{kind: recHashes, first: 2, count: 1, data: hash[:]},
		{kind: recBlock, first: 0, count: 1, data: noise},
		{kind: recPacked, first: 2, count: 1, data: bytes.Repeat([]byte("ab"), 3*SectorBytes/2)},
		{kind: recResult, done: event.DiskDone{ID: 1 << 40, Data: sector(4)}},
		{kind: recResult, done: event.DiskDone{ID: 3, Status: event.DiskError}},
		{kind: recEnd, sum: 77},
	}
	p := newParser(msg, tail)
	for i, w := range want {
		if r, ok := p.next(); !ok || !reflect.DeepEqual(r, w) {
			t.Fatalf("record %d: %v, %v", i, ok, p.err)
		}
	}
	if _, ok := p.next(); ok || p.err != nil {
		t.Fatalf("at the end: %v", p.err)
	}
	// Cut anywhere, a message gives only whole records.
	for n := range msg {
		p, records := newParser(msg[:n], tail), 0
		for r, ok := p.next(); ok; r, ok = p.next() {
			if !reflect.DeepEqual(r, want[records]) {
				t.Fatalf("cut at %d, record %d differs", n, records)
			}
			records++
		}
		if p.err != nil && !errors.Is(p.err, errMessage) {
			t.Fatal(p.err)
		}
	}
}

func TestHostileRecords(t *testing.T) {
	var scratch []byte
	packed := func(n int) []byte { return appendBlock(nil, 0, make([]byte, n), &scratch) }
	for name, msg := range map[string][]byte{
		"unknown kind":           {99},
		"kind 0":                 {0},
		"no number":              {byte(recZeros)},
		"endless number":         append([]byte{byte(recZeros)}, bytes.Repeat([]byte{0xff}, 20)...),
		"no blocks":              appendRun(nil, recZeros, 0, 0),
		"blocks behind the end":  appendRun(nil, recZeros, 3, 1),
		"too many blocks":        appendRun(nil, recSame, 1, 3),
		"blocks that wrap":       appendRun(nil, recSame, 2, ^uint64(0)),
		"hashes missing":         appendRun(nil, recHashes, 0, 2),
		"block behind the end":   append([]byte{byte(recBlock), 3}, make([]byte, BlockBytes)...),
		"short block":            append([]byte{byte(recBlock), 0}, make([]byte, BlockBytes-1)...),
		"packed too long":        packed(BlockBytes + 1),
		"packed too short":       packed(BlockBytes - 1),
		"packed nonsense":        {byte(recPacked), 0, 5, 0x80, 0x80, 4, 0xff, 0xff},
		"packed bomb":            {byte(recPacked), 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"packed, no bytes":       {byte(recPacked), 0, 100},
		"result of a part":       appendResult(nil, event.DiskDone{Data: make([]byte, 100)}),
		"result with an error":   appendResult(nil, event.DiskDone{Status: event.DiskError, Data: sector(1)}),
		"result, unknown status": appendResult(nil, event.DiskDone{Status: 9}),
		"result too long":        appendResult(nil, event.DiskDone{Data: make([]byte, MaxDataBytes+SectorBytes)}),
		"result cut":             {byte(recResult), 1},
		"end cut":                {byte(recEnd), 0, 0, 0},
		"behind the end":         append(appendEnd(nil, 0), byte(recEnd)),
		"too long":               make([]byte, MaxMessageBytes+1),
	} {
		p := newParser(msg, tail)
		if r, ok := p.next(); ok || !errors.Is(p.err, errMessage) {
			t.Errorf("%s: %v, %v", name, r.kind, p.err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	var scratch []byte
	f.Add(appendRun(appendRun(nil, recZeros, 1, 2), recSame, 0, 3))
	f.Add(appendEnd(appendBlock(nil, 2, make([]byte, 3*SectorBytes), &scratch), 1))
	f.Add(appendResult(nil, event.DiskDone{ID: 5, Data: sector(1)}))
	f.Add(append(appendRun(nil, recHashes, 1, 2), make([]byte, 2*hashBytes)...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		p := newParser(msg, tail)
		for r, ok := p.next(); ok; r, ok = p.next() {
			switch r.kind {
			case recHashes, recZeros, recSame, recBlock, recPacked:
				if r.count == 0 || r.first+r.count > tail.blocks() {
					t.Fatalf("blocks %d and %d more", r.first, r.count)
				}
			}
			switch _, n := tail.span(min(r.first, 2)); r.kind {
			case recHashes:
				if len(r.data) != int(r.count)*hashBytes {
					t.Fatalf("%d bytes of %d hashes", len(r.data), r.count)
				}
			case recBlock, recPacked:
				if len(r.data) != n {
					t.Fatalf("%d bytes of a block of %d", len(r.data), n)
				}
			}
		}
	})
}
