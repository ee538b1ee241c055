package virtio

import (
	"encoding/binary"

	"understudy/machine/mem"
	"understudy/machine/state"
)

// Flags of a descriptor (section 2.7.5).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

const descBytes = 16

// virtqueue is a split virtqueue (section 2.7).
type virtqueue struct {
	max    uint16 // the largest num; constant
	num    uint32 // descriptors; Invariant: once ready, a power of two in 1..max
	ready  bool
	desc   uint64 // descriptor table
	driver uint64 // available ring
	device uint64 // used ring; Invariant: once ready, all three lie within RAM, aligned

	next      uint16 // index of the available ring that is looked at next, modulo 2^16
	used      uint16 // index of the used ring that is written next, modulo 2^16
	signalled uint16 // value of used when the driver's wish for an interrupt was last looked at
}

// valid tells whether the driver's choice of size and addresses can work.
func (q *virtqueue) valid(ram *mem.RAM) bool {
	n := uint64(q.num)
	return n != 0 && n <= uint64(q.max) && n&(n-1) == 0 &&
		q.desc%16 == 0 && q.driver%2 == 0 && q.device%4 == 0 &&
		ram.Contains(q.desc, descBytes*n) && ram.Contains(q.driver, 6+2*n) && ram.Contains(q.device, 6+8*n)
}

func (q *virtqueue) save(e *state.Encoder) {
	e.U32(q.num)
	e.Bool(q.ready)
	e.U64(q.desc)
	e.U64(q.driver)
	e.U64(q.device)
	e.U16(q.next)
	e.U16(q.used)
	e.U16(q.signalled)
}

func (q *virtqueue) load(d *state.Decoder, ram *mem.RAM) {
	q.num = d.U32()
	q.ready = d.Bool()
	q.desc = d.U64()
	q.driver = d.U64()
	q.device = d.U64()
	q.next = d.U16()
	q.used = d.U16()
	q.signalled = d.U16()
	if q.ready && !q.valid(ram) {
		d.Fail("virtio: impossible queue")
		q.ready = false
	}
}

// segment is a piece of guest memory. Invariant: it lies within RAM, and is not empty.
type segment struct {
	addr uint64
	n    uint32
}

// chain is one request: what the device may read, and what it may write.
type chain struct {
	head     uint16
	out, in  []segment
	outBytes uint64 // sum of out; at most MaxChain * 2^32, so it cannot overflow
	inBytes  uint64
}

func (m *MMIO) read16(addr uint64) uint16 {
	var b [2]byte
	m.ram.Read(addr, b[:]) // a ready queue lies within RAM
	return binary.LittleEndian.Uint16(b[:])
}

func (m *MMIO) write16(addr uint64, v uint16) {
	var b [2]byte
	binary.LittleEndian.PutUint16(b[:], v)
	m.ram.Write(addr, b[:])
}

// available gives the number of requests that wait in queue q. More than fit is a broken ring.
func (m *MMIO) available(q int) (n uint16, ok bool) {
	v := &m.queues[q]
	n = m.read16(v.driver+2) - v.next
	if uint32(n) > v.num {
		m.fail()
		return 0, false
	}
	return n, true
}

// pop takes the next request of queue q into m.chain. It reports false when there is none, and when the
// ring is broken, which leaves the device in need of a reset. Only an active queue may be asked.
func (m *MMIO) pop(q int) bool {
	n, ok := m.available(q)
	if !ok || n == 0 {
		return false
	}
	v := &m.queues[q]
	head := m.read16(v.driver + 4 + 2*uint64(uint32(v.next)&(v.num-1)))
	if !m.walk(v, head) {
		m.fail()
		return false
	}
	v.next++
	return true
}

// unpop puts the request that pop took last back into queue q.
func (m *MMIO) unpop(q int) { m.queues[q].next-- }

// walk reads the chain of descriptors that starts at head into m.chain, each descriptor once.
func (m *MMIO) walk(v *virtqueue, head uint16) bool {
	c := &m.chain
	c.head = head
	c.out, c.in = c.out[:0], c.in[:0]
	c.outBytes, c.inBytes = 0, 0

	table, entries := v.desc, v.num
	indirect := false
	at := uint32(head)
	// A chain that visits more descriptors than the table has is a loop.
	for seen := uint32(0); ; seen++ {
		if seen == entries || seen == MaxChain || at >= entries {
			return false
		}
		var d [descBytes]byte
		if !m.ram.Read(table+descBytes*uint64(at), d[:]) {
			return false
		}
		addr := binary.LittleEndian.Uint64(d[0:])
		n := binary.LittleEndian.Uint32(d[8:])
		flags := binary.LittleEndian.Uint16(d[12:])

		if flags&descIndirect != 0 {
			// Section 2.7.5.3: negotiated, not nested, and nothing follows in the outer table.
			if indirect || flags&descNext != 0 || !m.negotiated(featIndirect) ||
				n == 0 || n%descBytes != 0 || n > descBytes*MaxQueue || !m.ram.Contains(addr, uint64(n)) {
				return false
			}
			indirect = true
			table, entries, at = addr, n/descBytes, 0
			seen = ^uint32(0)
			continue
		}
		if !m.ram.Contains(addr, uint64(n)) {
			return false
		}
		switch {
		case flags&descWrite != 0:
			if n > 0 {
				c.in = append(c.in, segment{addr, n})
			}
			c.inBytes += uint64(n)
		case len(c.in) > 0:
			return false // what is read comes before what is written (section 2.7.4.2)
		default:
			if n > 0 {
				c.out = append(c.out, segment{addr, n})
			}
			c.outBytes += uint64(n)
		}
		if flags&descNext == 0 {
			// Descriptors before an indirect one are allowed; the sum is bounded all the same.
			return len(c.out)+len(c.in) <= MaxChain
		}
		at = uint32(binary.LittleEndian.Uint16(d[14:]))
	}
}

// push returns the request that began at descriptor head to the driver of queue q, with the number of bytes
// written to it.
func (m *MMIO) push(q int, head uint16, written uint32) {
	v := &m.queues[q]
	var b [8]byte
	binary.LittleEndian.PutUint32(b[0:], uint32(head))
	binary.LittleEndian.PutUint32(b[4:], written)
	m.ram.Write(v.device+4+8*uint64(uint32(v.used)&(v.num-1)), b[:])
	v.used++
	m.write16(v.device+2, v.used)
}

// signal interrupts the driver if requests of queue q were returned since the last call and the driver
// wants to know (section 2.7.7).
func (m *MMIO) signal(q int) {
	v := &m.queues[q]
	if v.used == v.signalled {
		return
	}
	old := v.signalled
	v.signalled = v.used
	want := false
	if m.negotiated(featEventIdx) {
		event := m.read16(v.driver + 4 + 2*uint64(v.num)) // used_event
		want = v.used-event-1 < v.used-old
	} else {
		want = m.read16(v.driver)&1 == 0 // VIRTQ_AVAIL_F_NO_INTERRUPT
	}
	if want {
		m.interrupt(isrUsed)
	}
}

// wantKicks tells the driver of queue q whether it should notify the device of further requests
// (section 2.7.10).
func (m *MMIO) wantKicks(q int, want bool) {
	v := &m.queues[q]
	if m.negotiated(featEventIdx) {
		event := v.next
		if !want {
			event-- // the driver passes it 2^16 requests from now, and a kick too many does no harm
		}
		m.writeChanged16(v.device+4+8*uint64(v.num), event) // avail_event
		return
	}
	flags := uint16(0)
	if !want {
		flags = 1 // VIRTQ_USED_F_NO_NOTIFY
	}
	m.writeChanged16(v.device, flags)
}

// writeChanged16 writes v unless memory holds it already, which leaves the page clean.
func (m *MMIO) writeChanged16(addr uint64, v uint16) {
	if m.read16(addr) != v {
		m.write16(addr, v)
	}
}

// gather copies what the segments hold, from byte skip on, into p, as far as it goes.
func (m *MMIO) gather(p []byte, segs []segment, skip uint64) {
	for _, s := range segs {
		if len(p) == 0 {
			return
		}
		n := uint64(s.n)
		if skip >= n {
			skip -= n
			continue
		}
		k := min(n-skip, uint64(len(p)))
		m.ram.Read(s.addr+skip, p[:k])
		p = p[k:]
		skip = 0
	}
}

// scatter copies p into the segments from byte skip on, as far as they go.
func (m *MMIO) scatter(segs []segment, skip uint64, p []byte) {
	for _, s := range segs {
		if len(p) == 0 {
			return
		}
		n := uint64(s.n)
		if skip >= n {
			skip -= n
			continue
		}
		k := min(n-skip, uint64(len(p)))
		m.ram.Write(s.addr+skip, p[:k])
		p = p[k:]
		skip = 0
	}
}
