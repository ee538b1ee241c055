package virtio

import (
	"bytes"
	"encoding/binary"
	"testing"

	"understudy/event"
	"understudy/machine/mem"
	"understudy/machine/state"
)

// driver is a guest's driver as Linux writes it: it negotiates, sets queues up and keeps to the rules of
// notification in both directions. It holds all memory of its own in the guest's RAM.
type driver struct {
	t        testing.TB
	m        *MMIO
	ram      *mem.RAM
	level    bool // of the interrupt line
	outputs  []event.Output
	features uint64
	free     uint64 // next free byte of RAM
	q        []*driverQueue
}

type driverQueue struct {
	num                  uint64
	desc, driver, device uint64
	nextDesc             uint64
	avail, lastUsed      uint16
	kicked               uint16 // value of avail at the last decision about a kick
}

const testPages = 1024

func newDriver(t testing.TB, backend func(d *driver) Backend) *driver {
	d := &driver{t: t, ram: mem.New(testRAM()), free: mem.Base}
	d.m = NewMMIO(backend(d), d.ram, func(l bool) { d.level = l })
	return d
}

func testRAM() []byte { return make([]byte, testPages*mem.PageBytes) }

func (d *driver) sink(o event.Output) { d.outputs = append(d.outputs, o) }

func (d *driver) take() []event.Output {
	o := d.outputs
	d.outputs = nil
	return o
}

func (d *driver) read(off uint64) uint32     { return uint32(d.m.ReadMMIO(off, 4)) }
func (d *driver) write(off uint64, v uint32) { d.m.WriteMMIO(off, 4, uint64(v)) }

// alloc gives n zeroed bytes of RAM, aligned to 64.
func (d *driver) alloc(n int) uint64 {
	d.free = (d.free + 63) &^ 63
	a := d.free
	d.free += uint64(n)
	if !d.ram.Contains(a, uint64(n)) {
		d.t.Fatal("the test's RAM is full")
	}
	return a
}

func (d *driver) bytes(addr uint64, n int) []byte {
	p := make([]byte, n)
	if !d.ram.Read(addr, p) {
		d.t.Fatalf("read of %#x", addr)
	}
	return p
}

func (d *driver) poke(addr uint64, p []byte) {
	if !d.ram.Write(addr, p) {
		d.t.Fatalf("write of %#x", addr)
	}
}

func (d *driver) poke16(addr uint64, v uint16) {
	d.poke(addr, binary.LittleEndian.AppendUint16(nil, v))
}
func (d *driver) peek16(addr uint64) uint16 { return binary.LittleEndian.Uint16(d.bytes(addr, 2)) }

// init brings the device up with the wanted features among those offered.
func (d *driver) init(want uint64) {
	t := d.t
	t.Helper()
	if d.read(regMagic) != magicValue || d.read(regVersion) != 2 || d.read(regDeviceID) == 0 {
		t.Fatal("not a virtio device")
	}
	d.write(regStatus, 0)
	d.write(regStatus, statusAcknowledge)
	d.write(regStatus, statusAcknowledge|statusDriver)
	d.write(regDeviceFeaturesSel, 1)
	offered := uint64(d.read(regDeviceFeatures)) << 32
	d.write(regDeviceFeaturesSel, 0)
	offered |= uint64(d.read(regDeviceFeatures))
	d.features = offered & (want | featVersion1)
	d.write(regDriverFeaturesSel, 1)
	d.write(regDriverFeatures, uint32(d.features>>32))
	d.write(regDriverFeaturesSel, 0)
	d.write(regDriverFeatures, uint32(d.features))
	const ok = statusAcknowledge | statusDriver | statusFeaturesOK
	d.write(regStatus, ok)
	if d.read(regStatus) != ok {
		t.Fatalf("status %#x after FEATURES_OK", d.read(regStatus))
	}
	d.q = nil
	for i := 0; ; i++ {
		d.write(regQueueSel, uint32(i))
		num := d.read(regQueueNumMax)
		if num == 0 {
			break
		}
		if d.read(regQueueReady) != 0 {
			t.Fatal("queue is ready already")
		}
		q := &driverQueue{num: uint64(num)}
		q.desc = d.alloc(int(16 * num))
		q.driver = d.alloc(int(6 + 2*num))
		q.device = d.alloc(int(6 + 8*num))
		for _, a := range []uint64{q.driver, q.device} {
			d.poke(a, make([]byte, 6))
		}
		d.write(regQueueNum, num)
		for off, a := range map[uint64]uint64{regQueueDescLow: q.desc, regQueueDriverLow: q.driver, regQueueDeviceLow: q.device} {
			d.write(off, uint32(a))
			d.write(off+4, uint32(a>>32))
		}
		d.write(regQueueReady, 1)
		if d.read(regQueueReady) != 1 {
			t.Fatal("queue does not get ready")
		}
		d.q = append(d.q, q)
	}
	d.write(regStatus, ok|statusDriverOK)
}

// piece is a buffer of a request: data to be read by the device, or room for n bytes.
type piece struct {
	data []byte
	n    int
}

func out(p []byte) piece { return piece{data: p} }
func in(n int) piece     { return piece{n: n} }

// add puts a request into queue q. It gives its head and the addresses of its pieces.
func (d *driver) add(qi int, indirect bool, pieces ...piece) (head uint16, addrs []uint64) {
	q := d.q[qi]
	var table []byte
	first := q.nextDesc
	for i, p := range pieces {
		n, flags := p.n, uint16(descWrite)
		if p.data != nil {
			n, flags = len(p.data), 0
		}
		a := d.alloc(n)
		d.poke(a, p.data)
		addrs = append(addrs, a)
		next := uint16(i + 1)
		if !indirect {
			next = uint16((first + uint64(i) + 1) % q.num)
		}
		if i+1 < len(pieces) {
			flags |= descNext
		}
		table = appendDesc(table, a, uint32(n), flags, next)
	}
	head = uint16(first)
	if indirect {
		a := d.alloc(len(table))
		d.poke(a, table)
		table = appendDesc(nil, a, uint32(len(table)), descIndirect, 0)
	}
	for i := 0; i < len(table)/16; i++ {
		d.poke(q.desc+16*q.nextDesc, table[16*i:16*i+16])
		q.nextDesc = (q.nextDesc + 1) % q.num
	}
	d.post(qi, head)
	return head, addrs
}

func appendDesc(b []byte, addr uint64, n uint32, flags, next uint16) []byte {
	b = binary.LittleEndian.AppendUint64(b, addr)
	b = binary.LittleEndian.AppendUint32(b, n)
	b = binary.LittleEndian.AppendUint16(b, flags)
	return binary.LittleEndian.AppendUint16(b, next)
}

// post makes the chain at head available.
func (d *driver) post(qi int, head uint16) {
	q := d.q[qi]
	d.poke16(q.driver+4+2*(uint64(q.avail)%q.num), head)
	q.avail++
	d.poke16(q.driver+2, q.avail)
}

// kick notifies the device of queue qi if it wants to be. It reports whether it did.
func (d *driver) kick(qi int) bool {
	q := d.q[qi]
	old := q.kicked
	q.kicked = q.avail
	need := d.peek16(q.device)&1 == 0
	if d.features&featEventIdx != 0 {
		event := d.peek16(q.device + 4 + 8*q.num)
		need = q.avail-event-1 < q.avail-old
	}
	if need {
		d.write(regQueueNotify, uint32(qi))
	}
	return need
}

// used is a request that came back.
type used struct {
	head uint16
	n    uint32
}

// collect takes what came back on queue qi and asks for an interrupt at the next.
func (d *driver) collect(qi int) []used {
	q := d.q[qi]
	var u []used
	for q.lastUsed != d.peek16(q.device+2) {
		e := d.bytes(q.device+4+8*(uint64(q.lastUsed)%q.num), 8)
		u = append(u, used{uint16(binary.LittleEndian.Uint32(e)), binary.LittleEndian.Uint32(e[4:])})
		q.lastUsed++
	}
	d.poke16(q.driver+4+2*q.num, q.lastUsed) // used_event
	return u
}

// interrupted acknowledges and gives the interrupt status.
func (d *driver) interrupted() uint32 {
	v := d.read(regInterruptStatus)
	if d.level != (v != 0) {
		d.t.Errorf("line is %v with interrupt status %d", d.level, v)
	}
	d.write(regInterruptACK, v)
	if d.level {
		d.t.Error("line stays high after the acknowledgement")
	}
	return v
}

// one collects exactly one request of queue qi.
func (d *driver) one(qi int, head uint16) uint32 {
	d.t.Helper()
	u := d.collect(qi)
	if len(u) != 1 || u[0].head != head {
		d.t.Fatalf("queue %d gave back %v, want head %d", qi, u, head)
	}
	return u[0].n
}

func (d *driver) save() []byte {
	var e state.Encoder
	d.m.Save(&e)
	return e.B
}

// swap replaces the device by a new one that loads the old one's state.
func (d *driver) swap(b Backend) {
	d.t.Helper()
	saved := d.save()
	d.m = NewMMIO(b, d.ram, func(l bool) { d.level = l })
	dec := state.NewDecoder(saved)
	d.m.Load(dec)
	if dec.Err() != nil || dec.Len() != 0 {
		d.t.Fatalf("load: %v, %d bytes left", dec.Err(), dec.Len())
	}
	if !bytes.Equal(saved, d.save()) {
		d.t.Fatal("state differs after load")
	}
}
