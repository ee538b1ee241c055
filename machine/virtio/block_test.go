package virtio

import (
	"bytes"
	"encoding/binary"
	"testing"

	"understudy/event"
	"understudy/machine/state"
)

func blkHeader(typ uint32, sector uint64) []byte {
	p := binary.LittleEndian.AppendUint32(nil, typ)
	p = binary.LittleEndian.AppendUint32(p, 0)
	return binary.LittleEndian.AppendUint64(p, sector)
}

// request starts one disk request and gives what left the machine, the head and the address of the first
// writable piece and of the status byte.
func (d *driver) request(typ uint32, sector uint64, data []byte, room int) (o []event.Output, head uint16, room0, status uint64) {
	pieces := []piece{out(blkHeader(typ, sector))}
	if len(data) > 0 {
		pieces = append(pieces, out(data))
	}
	if room > 0 {
		pieces = append(pieces, in(room))
	}
	pieces = append(pieces, in(1))
	head, a := d.add(0, d.features&featIndirect != 0, pieces...)
	d.poke(a[len(a)-1], []byte{0xee})
	if !d.kick(0) {
		d.t.Fatal("the disk wants no kick")
	}
	return d.take(), head, a[max(len(a)-2, 0)], a[len(a)-1]
}

func (d *driver) wantStatus(addr uint64, want byte) {
	d.t.Helper()
	if got := d.bytes(addr, 1)[0]; got != want {
		d.t.Errorf("status %#x, want %#x", got, want)
	}
}

func TestBlockRequests(t *testing.T) {
	for _, features := range []uint64{0, allFeatures} {
		d := newDriver(t, testBlock)
		b := d.m.dev.(*Block)
		d.init(features)
		if c := d.m.ReadMMIO(regConfig, 8); c != 1<<20 {
			t.Errorf("capacity %d", c)
		}

		data := frame(4096, 3)
		o, head, _, status := d.request(typeOut, 77, data, 0)
		if len(o) != 1 || o[0].Kind != event.OutDisk || o[0].Device != 3 {
			t.Fatalf("outputs %v", o)
		}
		r := o[0].Disk
		if r.Op != event.DiskWrite || r.Sector != 77 || r.Count != 8 || !bytes.Equal(r.Data, data) {
			t.Errorf("request %v", r)
		}
		d.wantStatus(status, 0xee)
		if err := b.Complete(event.DiskDone{ID: r.ID}); err != nil {
			t.Fatal(err)
		}
		d.wantStatus(status, statusOK)
		if d.interrupted() != isrUsed || d.one(0, head) != 1 {
			t.Error("write did not come back")
		}

		o, head, room, status := d.request(typeIn, 1<<20-2, nil, 1024)
		r = o[0].Disk
		if r.Op != event.DiskRead || r.Sector != 1<<20-2 || r.Count != 2 || r.Data != nil {
			t.Errorf("request %v", r)
		}
		if err := b.Complete(event.DiskDone{ID: r.ID, Data: data[:1023]}); err == nil {
			t.Error("a short read is taken")
		}
		if err := b.Complete(event.DiskDone{ID: r.ID + 1}); err == nil {
			t.Error("a completion from nowhere is taken")
		}
		d.wantStatus(status, 0xee)
		if err := b.Complete(event.DiskDone{ID: r.ID, Data: data[:1024]}); err != nil {
			t.Fatal(err)
		}
		d.wantStatus(status, statusOK)
		if !bytes.Equal(d.bytes(room, 1024), data[:1024]) || d.one(0, head) != 1025 {
			t.Error("read differs")
		}
		if err := b.Complete(event.DiskDone{ID: r.ID}); err != nil || len(d.collect(0)) != 0 {
			t.Errorf("second completion: %v", err)
		}

		// A read that fails, a flush, a discard.
		o, _, _, status = d.request(typeIn, 0, nil, 512)
		b.Complete(event.DiskDone{ID: o[0].Disk.ID, Status: event.DiskError})
		d.wantStatus(status, statusIOErr)
		o, _, _, status = d.request(typeFlush, 0, nil, 0)
		if r := o[0].Disk; r.Op != event.DiskFlush || r.Count != 0 {
			t.Errorf("request %v", r)
		}
		b.Complete(event.DiskDone{ID: o[0].Disk.ID, Status: event.DiskUnsupported})
		d.wantStatus(status, statusUnsupp)
		seg := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 40), 8) // sector, sectors, flags
		o, _, _, status = d.request(typeDiscard, 0, seg, 0)
		if features == 0 {
			d.wantStatus(status, statusUnsupp)
		} else if r := o[0].Disk; r.Op != event.DiskDiscard || r.Sector != 40 || r.Count != 8 {
			t.Errorf("request %v", r)
		}
	}
}

func TestBlockRefusals(t *testing.T) {
	discard := func(sector uint64, count, flags uint32) []byte {
		p := binary.LittleEndian.AppendUint64(nil, sector)
		p = binary.LittleEndian.AppendUint32(p, count)
		return binary.LittleEndian.AppendUint32(p, flags)
	}
	for _, c := range []struct {
		name     string
		readOnly bool
		typ      uint32
		sector   uint64
		data     []byte
		room     int
		want     byte
	}{
		{"read beyond", false, typeIn, 1 << 20, nil, 512, statusIOErr},
		{"read across the end", false, typeIn, 1<<20 - 1, nil, 1024, statusIOErr},
		{"read overflow", false, typeIn, 1<<64 - 1, nil, 1024, statusIOErr},
		{"read of half a sector", false, typeIn, 0, nil, 256, statusIOErr},
		{"read of nothing", false, typeIn, 0, nil, 0, statusIOErr},
		{"write beyond", false, typeOut, 1 << 20, make([]byte, 512), 0, statusIOErr},
		{"write of half a sector", false, typeOut, 0, make([]byte, 513), 0, statusIOErr},
		{"write to a read-only disk", true, typeOut, 0, make([]byte, 512), 0, statusIOErr},
		{"discard on a read-only disk", true, typeDiscard, 0, discard(0, 1, 0), 0, statusUnsupp},
		{"discard of nothing", false, typeDiscard, 0, discard(0, 0, 0), 0, statusIOErr},
		{"discard beyond", false, typeDiscard, 0, discard(1<<20, 1, 0), 0, statusIOErr},
		{"discard overflow", false, typeDiscard, 0, discard(1<<64-1, 2, 0), 0, statusIOErr},
		{"discard with flags", false, typeDiscard, 0, discard(0, 1, 1), 0, statusUnsupp},
		{"discard of two pieces", false, typeDiscard, 0, make([]byte, 32), 0, statusUnsupp},
		{"unknown", false, 99, 0, nil, 512, statusUnsupp},
	} {
		d := newDriver(t, func(d *driver) Backend { return NewBlock(1<<20, c.readOnly, 0, "", d.sink) })
		d.init(allFeatures)
		o, head, _, status := d.request(c.typ, c.sector, c.data, c.room)
		if len(o) != 0 {
			t.Errorf("%s: left the machine: %v", c.name, o)
		}
		if got := d.bytes(status, 1)[0]; got != c.want {
			t.Errorf("%s: status %#x", c.name, got)
		}
		d.one(0, head)
		if d.interrupted() != isrUsed {
			t.Errorf("%s: no interrupt", c.name)
		}
	}
}

func TestBlockID(t *testing.T) {
	d := newDriver(t, testBlock)
	d.init(allFeatures)
	o, head, room, status := d.request(typeGetID, 0, nil, blockIDBytes)
	if len(o) != 0 || d.one(0, head) != blockIDBytes+1 {
		t.Error("not answered at once")
	}
	d.wantStatus(status, statusOK)
	if got := d.bytes(room, blockIDBytes); string(got) != "serial-number\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("serial %q", got)
	}
}

// TestBlockAnyOrder completes requests in another order than they were made, across a snapshot.
func TestBlockAnyOrder(t *testing.T) {
	d := newDriver(t, testBlock)
	d.init(allFeatures)
	type flight struct {
		event.DiskRequest
		head         uint16
		room, status uint64
	}
	var fs []flight
	for i := 0; i < 8; i++ {
		var o []event.Output
		var f flight
		if i%2 == 0 {
			o, f.head, f.room, f.status = d.request(typeIn, uint64(i), nil, 512)
		} else {
			o, f.head, f.room, f.status = d.request(typeOut, uint64(i), frame(512, byte(i)), 0)
		}
		f.DiskRequest = *o[0].Disk
		fs = append(fs, f)
	}
	d.swap(testBlock(d))
	b := d.m.dev.(*Block)
	if len(d.outputs) != 0 {
		t.Error("loading made outputs")
	}
	pending := b.Pending()
	if len(pending) != len(fs) {
		t.Fatalf("%d requests pending", len(pending))
	}
	for i, p := range pending {
		w := fs[i].DiskRequest
		if p.ID != w.ID || p.Op != w.Op || p.Sector != w.Sector || p.Count != w.Count || !bytes.Equal(p.Data, w.Data) {
			t.Errorf("pending %v, want %v", p, w)
		}
	}
	for _, i := range []int{5, 0, 7, 6, 1, 2, 4, 3} {
		done := event.DiskDone{ID: fs[i].ID}
		if i%2 == 0 {
			done.Data = frame(512, byte(100+i))
		}
		if err := b.Complete(done); err != nil {
			t.Fatal(err)
		}
		d.one(0, fs[i].head)
		d.wantStatus(fs[i].status, statusOK)
		if i%2 == 0 && !bytes.Equal(d.bytes(fs[i].room, 512), done.Data) {
			t.Errorf("data of request %d differ", i)
		}
	}
	if b.Pending() != nil || b.inFlightBytes != 0 {
		t.Error("requests are left")
	}
}

// TestBlockReset resets the device with requests in flight: their completions change nothing.
func TestBlockReset(t *testing.T) {
	d := newDriver(t, testBlock)
	b := d.m.dev.(*Block)
	d.init(allFeatures)
	o, _, room, status := d.request(typeIn, 0, nil, 512)
	d.init(allFeatures)
	d.m.ram.ClearDirty(0xff, nil)
	if err := b.Complete(event.DiskDone{ID: o[0].Disk.ID, Data: frame(512, 1)}); err != nil {
		t.Fatal(err)
	}
	d.m.ram.ClearDirty(0xff, func(p int) { t.Errorf("page %d was written", p) })
	d.wantStatus(status, 0xee)
	if d.bytes(room, 1)[0] != 0 || d.level {
		t.Error("the guest noticed")
	}
	o2, _, _, _ := d.request(typeIn, 0, nil, 512)
	if o2[0].Disk.ID == o[0].Disk.ID {
		t.Error("an ID was used again")
	}
}

// TestBlockBackPressure has more data in flight than the bound: requests wait in the ring and follow when
// there is room.
func TestBlockBackPressure(t *testing.T) {
	d := newDriver(t, testBlock)
	b := d.m.dev.(*Block)
	d.init(allFeatures)
	const big = 1 << 20
	data := d.alloc(big)
	head := d.alloc(16)
	d.poke(head, blkHeader(typeOut, 0))
	var table []byte
	table = appendDesc(table, head, 16, descNext, 1)
	table = appendDesc(table, data, big, descNext, 2)
	table = appendDesc(table, d.alloc(1), 1, descWrite, 0)
	d.poke(d.q[0].desc, table)
	for i := 0; i < 40; i++ {
		d.post(0, 0)
	}
	d.kick(0)
	want := BlockInFlightBytes / big
	if got := len(d.take()); got != want {
		t.Fatalf("%d requests in flight, want %d", got, want)
	}
	for i := 0; i < 40; i++ {
		if err := b.Complete(event.DiskDone{ID: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		if got := len(d.take()); (got == 1) != (want+i < 40) {
			t.Fatalf("completion %d made %d outputs", i, got)
		}
	}
	if u := d.collect(0); len(u) != 40 {
		t.Errorf("%d came back", len(u))
	}
}

// TestBlockDescriptorsTwice has a guest that makes more requests than it has descriptors.
func TestBlockDescriptorsTwice(t *testing.T) {
	d := newDriver(t, testBlock)
	d.init(allFeatures)
	d.add(0, false, out(blkHeader(typeFlush, 0)), in(1))
	d.kick(0)
	for i := 0; i < 3*blockQueue; i++ {
		d.post(0, 0)
		d.write(regQueueNotify, 0)
	}
	if n := len(d.m.dev.(*Block).Pending()); n > blockQueue || d.read(regStatus)&statusNeedsReset == 0 {
		t.Errorf("%d requests in flight, status %#x", n, d.read(regStatus))
	}
}

// TestBlockLoadRefuses has states in which a request in flight is impossible.
func TestBlockLoadRefuses(t *testing.T) {
	for name, change := range map[string]func(b *Block){
		"":              func(b *Block) {},
		"op":            func(b *Block) { b.inFlight[0].Op = 9 },
		"sector":        func(b *Block) { b.inFlight[0].Sector = 1 << 20 },
		"count":         func(b *Block) { b.inFlight[0].Count = 2 },
		"ID":            func(b *Block) { b.inFlight[1].ID = b.inFlight[0].ID },
		"ID beyond":     func(b *Block) { b.inFlight[1].ID = b.nextID },
		"data":          func(b *Block) { b.inFlight[1].Data = b.inFlight[1].Data[1:] },
		"segment":       func(b *Block) { b.inFlight[0].segs[0].addr = 0 },
		"no segments":   func(b *Block) { b.inFlight[1].segs = nil },
		"empty segment": func(b *Block) { b.inFlight[1].segs[0].n = 0 },
	} {
		d := newDriver(t, testBlock)
		d.init(allFeatures)
		d.request(typeIn, 0, nil, 512)
		d.request(typeOut, 0, frame(512, 0), 0)
		change(d.m.dev.(*Block))
		dec := state.NewDecoder(d.save())
		newDriverOn(d).Load(dec)
		if (dec.Err() == nil) != (name == "") {
			t.Errorf("%q: %v", name, dec.Err())
		}
	}
}

func newDriverOn(d *driver) *MMIO { return NewMMIO(testBlock(d), d.ram, func(bool) {}) }
