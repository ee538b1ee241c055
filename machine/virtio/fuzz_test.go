package virtio

import (
	"bytes"
	"encoding/binary"
	"testing"

	"understudy/event"
	"understudy/machine/mem"
	"understudy/machine/state"
)

const (
	fuzzPages = 16
	guard     = 4096 // bytes beside RAM that nobody may write
)

// hostile is a device in the hands of a hostile guest: RAM is 16 pages between guards.
type hostile struct {
	t       *testing.T
	host    []byte
	ram     *mem.RAM
	dev     Backend
	m       *MMIO
	outputs int
	bytes   int // of outputs
	disk    []event.DiskRequest
}

func newHostile(t *testing.T, kind byte) *hostile {
	h := &hostile{t: t, host: bytes.Repeat([]byte{0xa5}, fuzzPages*mem.PageBytes+2*guard)}
	h.ram = mem.New(h.host[guard : guard+fuzzPages*mem.PageBytes])
	clear(h.ram.Bytes())
	h.plug(kind)
	return h
}

func (h *hostile) plug(kind byte) {
	switch kind % 4 {
	case 0:
		h.dev = NewNet([6]byte{2}, 0, h.sink)
	case 1:
		h.dev = NewBlock(64, kind&4 != 0, 0, "x", h.sink)
	case 2:
		h.dev = NewConsole(0, h.sink)
	case 3:
		h.dev = NewEntropy(0, h.sink)
	}
	h.m = NewMMIO(h.dev, h.ram, func(bool) {})
}

func (h *hostile) sink(o event.Output) {
	h.outputs++
	h.bytes += len(o.Data)
	if o.Disk != nil {
		h.bytes += len(o.Disk.Data)
		h.disk = append(h.disk, *o.Disk)
	}
}

// do runs f and checks what holds of every call, whatever the guest did: the work is bounded, nothing beside
// RAM is written, and every page that changed is marked dirty.
func (h *hostile) do(f func()) {
	h.ram.ClearDirty(mem.AllDirty, nil)
	before := append([]byte(nil), h.ram.Bytes()...)
	h.outputs, h.bytes = 0, 0
	f()
	if h.outputs > 2*MaxQueue || h.bytes > 2*MaxQueue*MaxFrameBytes {
		h.t.Fatalf("%d outputs of %d bytes in one call", h.outputs, h.bytes)
	}
	for p := 0; p < fuzzPages; p++ {
		lo, hi := p*mem.PageBytes, (p+1)*mem.PageBytes
		if h.ram.PageFlags()[p]&mem.AllDirty != mem.AllDirty && !bytes.Equal(before[lo:hi], h.ram.Bytes()[lo:hi]) {
			h.t.Fatalf("page %d changed and is not dirty", p)
		}
	}
}

func (h *hostile) checkGuards() {
	for i := 0; i < guard; i++ {
		if h.host[i] != 0xa5 || h.host[len(h.host)-1-i] != 0xa5 {
			h.t.Fatal("memory beside RAM was written")
		}
	}
}

// world does what comes from outside: n chooses.
func (h *hostile) world(n byte) {
	p := bytes.Repeat([]byte{n}, int(n)*8)
	switch b := h.dev.(type) {
	case *Net:
		b.Receive(p)
	case *Console:
		b.Receive(p)
	case *Entropy:
		b.Provide(p)
	case *Block:
		if len(h.disk) == 0 {
			return
		}
		i := int(n) % len(h.disk)
		r := h.disk[i]
		h.disk = append(h.disk[:i], h.disk[i+1:]...)
		done := event.DiskDone{ID: r.ID, Status: event.DiskStatus(n % 3)}
		if r.Op == event.DiskRead && done.Status == event.DiskOK {
			done.Data = make([]byte, r.Count*SectorBytes)
		}
		if err := b.Complete(done); err != nil {
			h.t.Fatal(err)
		}
	}
}

// reload has the device save, and a new one load.
func (h *hostile) reload(kind byte) {
	var e, again state.Encoder
	h.m.Save(&e)
	h.plug(kind)
	dec := state.NewDecoder(e.B)
	h.m.Load(dec)
	if dec.Err() != nil || dec.Len() != 0 {
		h.t.Fatalf("own state does not load: %v", dec.Err())
	}
	h.m.Save(&again)
	if !bytes.Equal(e.B, again.B) {
		h.t.Fatal("state differs after load")
	}
}

// setUp brings the queues up at fixed places, two pages for each.
func (h *hostile) setUp(features uint64, log2 uint) {
	w := func(off uint64, v uint64) { h.m.WriteMMIO(off, 4, v&0xffff_ffff) }
	w(regStatus, 0)
	w(regStatus, statusAcknowledge|statusDriver)
	features = features&h.m.offered() | featVersion1
	w(regDriverFeatures, features)
	w(regDriverFeaturesSel, 1)
	w(regDriverFeatures, features>>32)
	w(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK)
	for q, size := range h.dev.queueSizes() {
		at := uint64(mem.Base + q*2*mem.PageBytes)
		w(regQueueSel, uint64(q))
		w(regQueueNum, uint64(min(uint(size), 1<<log2)))
		w(regQueueDescLow, at)
		w(regQueueDriverLow, at+0x1000)
		w(regQueueDeviceLow, at+0x1800)
		w(regQueueReady, 1)
		if h.m.ReadMMIO(regQueueReady, 4) != 1 {
			h.t.Fatal("queue not ready")
		}
	}
	w(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK|statusDriverOK)
}

// script reads small numbers from the fuzzer's bytes; it gives zeros at the end.
type script struct{ b []byte }

func (s *script) u8() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *script) u16() uint16 { return uint16(s.u8()) | uint16(s.u8())<<8 }

func (s *script) u64() uint64 {
	var v uint64
	for i := 0; i < 8; i++ {
		v |= uint64(s.u8()) << (8 * i)
	}
	return v
}

// FuzzRings has a guest fill descriptor tables and rings as it likes.
func FuzzRings(f *testing.F) {
	// The steps of the script below, in its bytes.
	type steps []byte
	u16 := func(b steps, v ...uint16) steps {
		for _, x := range v {
			b = append(b, byte(x), byte(x>>8))
		}
		return b
	}
	desc := func(b steps, queue, slot byte, addr, n uint16, flags, next byte) steps {
		return append(u16(append(b, 0, queue, slot), addr, n), flags, next)
	}
	inner := func(b steps, at, addr uint16, n, flags byte) steps {
		return append(u16(append(b, 6), at, addr), n, flags)
	}
	post := func(b steps, queue, slot, head, index byte) steps { return append(b, 1, queue, slot, head, index) }
	notify := func(b steps, queue byte) steps { return append(b, 2, queue) }
	world := func(b steps, n byte) steps { return append(b, 3, n) }
	poke := func(b steps, at uint16, v ...byte) steps { return append(u16(append(b, 5), at), v...) }

	for kind := byte(0); kind < 8; kind++ {
		for _, features := range []byte{0, 0xff} {
			start := steps{kind, features, features, 4}
			// Something to read on the second queue, room on the first: what a card or a console has.
			b := desc(start[:4:4], 1, 0, 0x9000, 28, 0, 0)
			b = notify(post(b, 1, 0, 0, 1), 1)
			b = world(world(b, 9), 20)
			b = desc(b, 0, 0, 0xa000, 200, descWrite, 0)
			b = world(notify(post(b, 0, 0, 0, 1), 0), 5)
			b = notify(post(b, 0, 1, 0, 2), 0)
			f.Add([]byte(append(b, 4, 0, 8, 0)))
			// A disk's read, which succeeds, and requests of other types; the first byte tells them apart.
			b = desc(start[:4:4], 0, 0, 0x9000, 16, descNext, 1)
			b = desc(b, 0, 1, 0xa000, 513, descWrite, 0)
			b = world(append(notify(post(b, 0, 0, 0, 1), 0), 4, 0), 21)
			for i, typ := range []byte{typeFlush, typeGetID, 99} {
				b = notify(post(poke(b, 0x9000, typ, 0, 0), 0, byte(i+1), 0, byte(i+2)), 0)
			}
			f.Add([]byte(world(world(b, 1), 2)))
			// A disk's write and discard, the latter of one sector.
			b = desc(start[:4:4], 0, 0, 0x9000, 16, descNext, 1)
			b = desc(b, 0, 1, 0xa000, 512, descNext, 2)
			b = desc(b, 0, 2, 0xb000, 1, descWrite, 0)
			b = notify(post(poke(b, 0x9000, typeOut, 0, 0), 0, 0, 0, 1), 0)
			b = poke(poke(b, 0x9000, typeDiscard, 0, 0), 0xa008, 1, 0, 0)
			b = desc(append(b, 4, 0), 0, 1, 0xa000, 16, descNext, 2)
			b = notify(post(b, 0, 1, 0, 2), 0)
			f.Add([]byte(world(world(b, 0), 0)))
			// An indirect table.
			b = desc(start[:4:4], 0, 0, 0x9000, 32, descIndirect, 0)
			b = inner(inner(b, 0x9000, 0xa000, 16, descNext), 0x9010, 0xb000, 200, descWrite)
			f.Add([]byte(world(notify(post(b, 0, 0, 0, 1), 0), 3)))
			// Descriptors from anywhere.
			b = append(start[:4:4], 7, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 2, 0, 1, 0)
			f.Add([]byte(notify(post(b, 0, 0, 0, 1), 0)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{data}
		kind := s.u8()
		h := newHostile(t, kind)
		features, log2 := uint64(s.u8())<<24|uint64(s.u8())<<8, uint(s.u8()%9)
		h.setUp(features|featVersion1, log2)
		queue := func() uint64 { return uint64(int(s.u8())%len(h.m.queues)) * 2 * mem.PageBytes }
		for n := 0; len(s.b) > 0 && n < 200; n++ {
			switch s.u8() % 9 {
			case 0: // a descriptor that points near RAM
				at := mem.Base + queue() + 16*uint64(s.u8())
				d := appendDesc(nil, mem.Base+uint64(s.u16()), uint32(s.u16()), uint16(s.u8()), uint16(s.u8()))
				h.ram.Write(at, d)
			case 1: // the available ring
				at := mem.Base + queue() + 0x1000
				slot, head := uint64(s.u8()), uint16(s.u8())
				h.ram.Write(at+4+2*slot, binary.LittleEndian.AppendUint16(nil, head))
				h.ram.Write(at+2, binary.LittleEndian.AppendUint16(nil, uint16(s.u8())))
			case 2:
				q := uint64(s.u8())
				h.do(func() { h.m.WriteMMIO(regQueueNotify, 4, q) })
			case 3:
				v := s.u8()
				h.do(func() { h.world(v) })
			case 4:
				if v := s.u8(); v == 0 {
					h.reload(kind)
				}
			case 5: // anything anywhere
				h.ram.Write(mem.Base+uint64(s.u16()), []byte{s.u8(), s.u8(), s.u8()})
			case 6: // the descriptor of an indirect table
				at := mem.Base + uint64(s.u16())
				h.ram.Write(at, appendDesc(nil, mem.Base+uint64(s.u16()), uint32(s.u8()), uint16(s.u8()), 0))
			case 7: // any descriptor at all
				at := mem.Base + queue() + 16*uint64(s.u8()%8)
				h.ram.Write(at, appendDesc(nil, s.u64(), uint32(s.u64()), s.u16(), s.u16()))
			case 8:
				if v := s.u8(); v == 0 {
					h.do(func() { h.setUp(features, log2) })
				}
			}
		}
		h.reload(kind)
		h.checkGuards()
	})
}

// FuzzMMIO has a guest write any register in any order.
func FuzzMMIO(f *testing.F) {
	step := func(b []byte, op byte, off uint16, size byte, v uint64) []byte {
		b = binary.LittleEndian.AppendUint16(append(b, op), off)
		return binary.LittleEndian.AppendUint64(append(b, size), v)
	}
	for kind := byte(0); kind < 4; kind++ {
		b := []byte{kind}
		b = step(b, 0, regStatus, 2, 3)
		b = step(b, 0, regDriverFeaturesSel, 2, 1)
		b = step(b, 0, regDriverFeatures, 2, 1)
		b = step(b, 0, regStatus, 2, 11)
		b = step(b, 0, regQueueNum, 2, 4)
		b = step(b, 0, regQueueDescLow, 2, mem.Base)
		b = step(b, 0, regQueueDriverLow, 2, mem.Base+0x1000)
		b = step(b, 0, regQueueDeviceLow, 2, mem.Base+0x2000)
		b = step(b, 0, regQueueReady, 2, 1)
		b = step(b, 2, 0x1002, 0, 1)
		b = step(b, 0, regStatus, 2, 15)
		b = step(b, 0, regQueueNotify, 2, 0)
		b = step(b, 3, 0, 0, 9)
		b = step(b, 1, regConfig, 3, 0)
		b = step(b, 0, regInterruptACK, 2, 3)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{data}
		kind := s.u8()
		h := newHostile(t, kind)
		for n := 0; len(s.b) > 0 && n < 200; n++ {
			op, off, size, v := s.u8(), uint64(s.u16()), 1<<(s.u8()%4), s.u64()
			switch op % 5 {
			case 0:
				h.do(func() { h.m.WriteMMIO(off, size, v) })
			case 1:
				h.do(func() {
					if got := h.m.ReadMMIO(off, size); size < 8 && got>>(8*size) != 0 {
						t.Fatalf("read of %d bytes gives %#x", size, got)
					}
				})
			case 2:
				h.ram.Write(mem.Base+off, binary.LittleEndian.AppendUint64(nil, v))
			case 3:
				h.do(func() { h.world(byte(v)) })
			case 4:
				h.reload(kind)
			}
		}
		h.checkGuards()
	})
}

// FuzzLoad has a device load anything. What it takes must save as it was loaded, and work.
func FuzzLoad(f *testing.F) {
	for kind := byte(0); kind < 4; kind++ {
		h := newHostile(&testing.T{}, kind)
		var e state.Encoder
		h.m.Save(&e)
		f.Add(kind, e.B)
		h.setUp(allFeatures, 4)
		h.ram.Write(mem.Base, appendDesc(nil, mem.Base+0x9000, 16, descNext, 1))
		h.ram.Write(mem.Base+16, appendDesc(nil, mem.Base+0xa000, 513, descWrite, 0))
		h.ram.Write(mem.Base+0x1002, []byte{1})
		h.m.WriteMMIO(regQueueNotify, 4, 0)
		h.world(20)
		h.world(30)
		e = state.Encoder{}
		h.m.Save(&e)
		f.Add(kind, e.B)
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		h := newHostile(t, kind)
		d := state.NewDecoder(data)
		h.do(func() { h.m.Load(d) })
		if d.Err() == nil {
			h.reload(kind)
		}
		if b, ok := h.dev.(*Block); ok {
			h.disk = b.Pending()
		}
		// Whether it loaded or not, the device must stand what comes.
		for i := 0; i < 4; i++ {
			h.do(func() { h.world(byte(i * 16)) })
			h.do(func() { h.m.WriteMMIO(regQueueNotify, 4, uint64(i&1)) })
		}
		h.reload(kind)
		h.do(func() { h.m.WriteMMIO(regStatus, 4, 0) })
		h.checkGuards()
	})
}
