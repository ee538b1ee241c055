package virtio

import (
	"encoding/binary"

	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

// Bounds of the network device.
const (
	// MTU is what the device tells the driver.
	MTU = 1500
	// MinFrameBytes is an Ethernet header. Shorter frames are ignored.
	MinFrameBytes = 14
	// MaxFrameBytes is the longest frame taken or sent. Longer ones are ignored.
	MaxFrameBytes = 65550
	// NetBacklog is the number of received frames that wait for the driver to add buffers. The newest
	// is dropped beyond, and counted (Net.Dropped).
	NetBacklog = 256
)

// Queues of the network device (section 5.1.2).
const (
	netRx = 0
	netTx = 1
)

// Features of the network device (section 5.1.3). There is no checksum offload and no segmentation: the log
// carries whole frames, whose checksums hold from end to end.
const (
	netMTU    = 1 << 3
	netMAC    = 1 << 5
	netStatus = 1 << 16
)

// netHeaderBytes is struct virtio_net_hdr of a device with VIRTIO_F_VERSION_1 (section 5.1.6).
const netHeaderBytes = 12

// Net is a network card.
type Net struct {
	m      *MMIO
	sink   device.Sink
	device uint8
	cfg    [12]byte

	backlog [][]byte // Invariant: at most NetBacklog frames of MinFrameBytes to MaxFrameBytes
	dropped uint64
}

// NewNet makes a network card. index is the Device of its outputs (OutNet).
func NewNet(mac [6]byte, index uint8, sink device.Sink) *Net {
	n := &Net{sink: sink, device: index}
	copy(n.cfg[:], mac[:])
	binary.LittleEndian.PutUint16(n.cfg[6:], 1) // VIRTIO_NET_S_LINK_UP
	binary.LittleEndian.PutUint16(n.cfg[8:], 1) // max_virtqueue_pairs
	binary.LittleEndian.PutUint16(n.cfg[10:], MTU)
	return n
}

func (n *Net) deviceID() uint32     { return idNet }
func (n *Net) features() uint64     { return netMTU | netMAC | netStatus }
func (n *Net) queueSizes() []uint16 { return []uint16{MaxQueue, MaxQueue} }
func (n *Net) config() []byte       { return n.cfg[:] }
func (n *Net) attach(m *MMIO)       { n.m = m }

func (n *Net) notify(q int) {
	if q == netRx {
		n.drain()
		return
	}
	for i := uint32(0); i < n.m.queues[q].num && n.m.pop(q); i++ {
		c := &n.m.chain
		if c.inBytes > 0 {
			n.m.fail() // section 5.1.6.2: the driver offers nothing to write to
			return
		}
		if c.outBytes >= netHeaderBytes+MinFrameBytes && c.outBytes <= netHeaderBytes+MaxFrameBytes {
			frame := make([]byte, c.outBytes-netHeaderBytes)
			n.m.gather(frame, c.out, netHeaderBytes)
			n.sink(event.Output{Kind: event.OutNet, Device: n.device, Data: frame})
		}
		n.m.push(q, c.head, 0)
	}
	n.m.wantKicks(q, true)
	n.m.signal(q)
}

func (n *Net) stop(q int) {
	if q == netRx {
		n.backlog = nil
	}
}

// Receive takes an Ethernet frame without checksum (FCS) from the network. It does not keep frame. A frame is
// dropped, and counted, when the driver is not running, when the backlog is full, when it is shorter than
// MinFrameBytes or longer than MaxFrameBytes, or when the driver's next buffer is too small for it.
func (n *Net) Receive(frame []byte) {
	if len(frame) < MinFrameBytes || len(frame) > MaxFrameBytes || !n.m.active(netRx) {
		n.dropped++
		return
	}
	if len(n.backlog) == 0 && n.deliver(frame) {
		n.m.signal(netRx)
		return
	}
	if !n.m.active(netRx) || len(n.backlog) == NetBacklog {
		n.dropped++
		return
	}
	n.backlog = append(n.backlog, append([]byte(nil), frame...))
	n.m.wantKicks(netRx, true)
}

// Dropped counts the received frames that were dropped.
func (n *Net) Dropped() uint64 { return n.dropped }

// drain delivers what waits, now that the driver has added buffers.
func (n *Net) drain() {
	i := 0
	for i < len(n.backlog) && n.deliver(n.backlog[i]) {
		n.backlog[i] = nil
		i++
	}
	n.backlog = n.backlog[i:]
	if len(n.backlog) == 0 {
		n.backlog = nil
	}
	if n.m.active(netRx) {
		n.m.wantKicks(netRx, n.backlog != nil)
		n.m.signal(netRx)
	}
}

// deliver puts a frame into the driver's next buffer, or drops it when the buffer is too small. It reports
// false, with the frame still to be delivered, when there is no buffer.
func (n *Net) deliver(frame []byte) bool {
	if !n.m.pop(netRx) {
		return false
	}
	c := &n.m.chain
	total := uint64(netHeaderBytes + len(frame))
	if c.outBytes > 0 {
		n.m.fail()
		return false
	}
	if total > c.inBytes {
		n.m.unpop(netRx)
		n.dropped++
		return true
	}
	header := [netHeaderBytes]byte{10: 1} // num_buffers
	n.m.scatter(c.in, 0, header[:])
	n.m.scatter(c.in, netHeaderBytes, frame)
	n.m.push(netRx, c.head, uint32(total))
	return true
}

func (n *Net) save(e *state.Encoder) {
	e.U32(uint32(len(n.backlog)))
	for _, f := range n.backlog {
		e.Bytes(f)
	}
	e.U64(n.dropped)
}

func (n *Net) load(d *state.Decoder) {
	count := d.U32()
	if count > NetBacklog {
		d.Fail("virtio net: %d frames wait", count)
	}
	var backlog [][]byte
	for i := uint32(0); i < count && d.Err() == nil; i++ {
		f := d.Bytes(MaxFrameBytes)
		if len(f) < MinFrameBytes {
			d.Fail("virtio net: frame of %d bytes", len(f))
		}
		backlog = append(backlog, f)
	}
	dropped := d.U64()
	if d.Err() == nil {
		n.backlog, n.dropped = backlog, dropped
	}
}
