package virtio

import (
	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

// MaxEntropy is the number of bytes that one request of the entropy device gets at most.
const MaxEntropy = 256

// entropyQueue is the size of the one queue, and so the bound of the requests that wait.
const entropyQueue = 64

// Entropy is a source of random bytes.
type Entropy struct {
	m      *MMIO
	sink   device.Sink
	device uint8

	waiting []entropyRequest // oldest first; Invariant: at most entropyQueue
}

type entropyRequest struct {
	head uint16
	want uint32 // 1..MaxEntropy; Invariant: at most the sum of segs
	segs []segment
}

// NewEntropy makes an entropy source. index is the Device of its outputs (OutEntropy).
func NewEntropy(index uint8, sink device.Sink) *Entropy {
	return &Entropy{sink: sink, device: index}
}

func (r *Entropy) deviceID() uint32     { return idEntropy }
func (r *Entropy) features() uint64     { return 0 }
func (r *Entropy) queueSizes() []uint16 { return []uint16{entropyQueue} }
func (r *Entropy) config() []byte       { return nil }
func (r *Entropy) attach(m *MMIO)       { r.m = m }

func (r *Entropy) notify(q int) {
	for i := uint32(0); i < r.m.queues[q].num && r.m.pop(q); i++ {
		c := &r.m.chain
		// A driver that makes more requests than the ring has places uses descriptors twice.
		if c.outBytes > 0 || uint32(len(r.waiting)) >= r.m.queues[q].num {
			r.m.fail()
			return
		}
		if c.inBytes == 0 {
			r.m.push(q, c.head, 0)
			continue
		}
		w := entropyRequest{head: c.head, want: uint32(min(c.inBytes, MaxEntropy))}
		w.segs = append(w.segs, c.in...)
		r.waiting = append(r.waiting, w)
		r.sink(event.Output{Kind: event.OutEntropy, Device: r.device, Want: int(w.want)})
	}
	r.m.wantKicks(q, true)
	r.m.signal(q)
}

func (r *Entropy) stop(int) { r.waiting = nil }

// Provide gives the oldest request that waits the bytes p, or as many of them as it asked for. Without a
// request, after a reset of the device for instance, they are ignored. No bytes end no request.
func (r *Entropy) Provide(p []byte) {
	if len(r.waiting) == 0 || len(p) == 0 {
		return
	}
	w := r.waiting[0]
	r.waiting = r.waiting[1:]
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
	if !r.m.active(0) {
		return
	}
	p = p[:min(len(p), int(w.want))]
	r.m.scatter(w.segs, 0, p)
	r.m.push(0, w.head, uint32(len(p)))
	r.m.signal(0)
}

// Pending gives the number of bytes that each request which waits asked for, oldest first: a replica that
// goes live asks for them again.
func (r *Entropy) Pending() []int {
	var want []int
	for _, w := range r.waiting {
		want = append(want, int(w.want))
	}
	return want
}

func (r *Entropy) save(e *state.Encoder) {
	e.U32(uint32(len(r.waiting)))
	for _, w := range r.waiting {
		e.U16(w.head)
		e.U32(w.want)
		saveSegments(e, w.segs)
	}
}

func (r *Entropy) load(d *state.Decoder) {
	count := d.U32()
	if count > entropyQueue {
		d.Fail("virtio entropy: %d requests wait", count)
	}
	var waiting []entropyRequest
	for i := uint32(0); i < count && d.Err() == nil; i++ {
		w := entropyRequest{head: d.U16(), want: d.U32()}
		var total uint64
		w.segs, total = loadSegments(d, r.m)
		if w.want == 0 || w.want > MaxEntropy || uint64(w.want) > total {
			d.Fail("virtio entropy: request of %d bytes", w.want)
		}
		waiting = append(waiting, w)
	}
	if d.Err() == nil {
		r.waiting = waiting
	}
}

// saveSegments appends the segments of a request in flight.
func saveSegments(e *state.Encoder, segs []segment) {
	e.U16(uint16(len(segs)))
	for _, s := range segs {
		e.U64(s.addr)
		e.U32(s.n)
	}
}

// loadSegments reads what saveSegments wrote, and gives the sum of the lengths.
func loadSegments(d *state.Decoder, m *MMIO) (segs []segment, total uint64) {
	count := d.U16()
	if count > MaxChain {
		d.Fail("virtio: request of %d segments", count)
	}
	for i := uint16(0); i < count && d.Err() == nil; i++ {
		s := segment{d.U64(), d.U32()}
		if s.n == 0 || !m.ram.Contains(s.addr, uint64(s.n)) {
			d.Fail("virtio: segment outside of RAM")
		}
		segs = append(segs, s)
		total += uint64(s.n)
	}
	return segs, total
}
