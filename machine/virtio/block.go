package virtio

import (
	"encoding/binary"
	"fmt"

	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

// Bounds of the block device.
const (
	// SectorBytes is the unit of addresses on a disk.
	SectorBytes = 512
	// MaxBlockBytes is the most data of one request. The device tells the driver bounds (SEG_MAX times
	// SIZE_MAX) within it; a longer request ends in an error.
	MaxBlockBytes = 8 << 20
	// BlockInFlightBytes bounds the data in flight: while that much or more is, further requests wait in
	// the ring until one completes. So at most BlockInFlightBytes + MaxBlockBytes are in flight.
	BlockInFlightBytes = 16 << 20
	// MaxDiscardSectors is the most that one discard covers (1 GiB).
	MaxDiscardSectors = 2 << 20
)

const (
	blockQueue   = 128 // also the bound of the requests in flight
	blockSegMax  = blockQueue - 2
	blockSizeMax = 64 << 10
)

// Features of the block device (section 5.2.3).
const (
	blockSizeMaxFeature = 1 << 1
	blockSegMaxFeature  = 1 << 2
	blockReadOnly       = 1 << 5
	blockBlkSize        = 1 << 6
	blockFlush          = 1 << 9
	blockDiscard        = 1 << 13
)

// Request types and statuses (section 5.2.6).
const (
	typeIn      = 0
	typeOut     = 1
	typeFlush   = 4
	typeGetID   = 8
	typeDiscard = 11

	statusOK     = 0
	statusIOErr  = 1
	statusUnsupp = 2
)

const (
	blockHeaderBytes  = 16
	blockDiscardBytes = 16 // struct virtio_blk_discard_write_zeroes
	blockIDBytes      = 20
)

// Block is a disk.
type Block struct {
	m        *MMIO
	sink     device.Sink
	device   uint8
	sectors  uint64
	readOnly bool
	serial   [blockIDBytes]byte
	cfg      [60]byte

	nextID        uint64
	inFlight      []blockRequest // by rising ID; Invariant: at most blockQueue
	inFlightBytes uint64         // sum over inFlight
	segs          [][]segment    // lists of segments to use again; no part of the state
}

// blockRequest is a request that waits for its completion.
type blockRequest struct {
	event.DiskRequest
	head uint16
	segs []segment // what the guest lets us write: the data read, if any, and the status byte
}

// bytes is what the request holds of BlockInFlightBytes.
func (r *blockRequest) bytes() uint64 {
	if r.Op == event.DiskRead || r.Op == event.DiskWrite {
		return uint64(r.Count) * SectorBytes
	}
	return 0
}

// NewBlock makes a disk of so many sectors. index is the Device of its outputs (OutDisk); serial, of which 20
// bytes count, is what the guest sees as its ID.
//
// Sectors that were discarded must read as zeros from then on, on every replica, or replicas would drift
// apart.
func NewBlock(sectors uint64, readOnly bool, index uint8, serial string, sink device.Sink) *Block {
	b := &Block{sink: sink, device: index, sectors: sectors, readOnly: readOnly}
	copy(b.serial[:], serial)
	c := b.cfg[:] // struct virtio_blk_config (section 5.2.4)
	binary.LittleEndian.PutUint64(c[0:], sectors)
	binary.LittleEndian.PutUint32(c[8:], blockSizeMax)
	binary.LittleEndian.PutUint32(c[12:], blockSegMax)
	binary.LittleEndian.PutUint32(c[20:], SectorBytes)
	binary.LittleEndian.PutUint16(c[34:], 1) // num_queues
	binary.LittleEndian.PutUint32(c[36:], MaxDiscardSectors)
	binary.LittleEndian.PutUint32(c[40:], 1) // max_discard_seg
	binary.LittleEndian.PutUint32(c[44:], 1) // discard_sector_alignment
	return b
}

func (b *Block) deviceID() uint32 { return idBlock }

func (b *Block) features() uint64 {
	f := uint64(blockSizeMaxFeature | blockSegMaxFeature | blockBlkSize | blockFlush)
	if b.readOnly {
		return f | blockReadOnly
	}
	return f | blockDiscard
}

func (b *Block) queueSizes() []uint16 { return []uint16{blockQueue} }
func (b *Block) config() []byte       { return b.cfg[:] }
func (b *Block) attach(m *MMIO)       { b.m = m }

func (b *Block) notify(q int) {
	for i := uint32(0); i < b.m.queues[q].num && b.inFlightBytes < BlockInFlightBytes && b.m.pop(q); i++ {
		b.start()
	}
	if b.m.active(q) {
		b.m.wantKicks(q, true)
		b.m.signal(q)
	}
}

// start looks at the request in the transport's chain: it is answered, or leaves the machine.
func (b *Block) start() {
	c := &b.m.chain
	if c.outBytes < blockHeaderBytes || c.inBytes < 1 ||
		uint32(len(b.inFlight)) >= b.m.queues[0].num { // a descriptor is used twice
		b.m.fail()
		return
	}
	var h [blockHeaderBytes]byte
	b.m.gather(h[:], c.out, 0)
	typ := binary.LittleEndian.Uint32(h[0:])
	sector := binary.LittleEndian.Uint64(h[8:])
	outBytes, inBytes := c.outBytes-blockHeaderBytes, c.inBytes-1

	switch typ {
	case typeIn:
		if !b.inRange(sector, inBytes) {
			b.answer(statusIOErr, 0)
			return
		}
		b.send(event.DiskRequest{Op: event.DiskRead, Sector: sector, Count: uint32(inBytes / SectorBytes)})
	case typeOut:
		if b.readOnly || !b.inRange(sector, outBytes) {
			b.answer(statusIOErr, 0)
			return
		}
		data := make([]byte, outBytes)
		b.m.gather(data, c.out, blockHeaderBytes)
		b.send(event.DiskRequest{Op: event.DiskWrite, Sector: sector, Count: uint32(outBytes / SectorBytes), Data: data})
	case typeFlush:
		b.send(event.DiskRequest{Op: event.DiskFlush})
	case typeDiscard:
		b.startDiscard(outBytes)
	case typeGetID:
		id := b.serial[:min(inBytes, blockIDBytes)]
		b.m.scatter(c.in, 0, id)
		b.answer(statusOK, uint32(len(id)))
	default:
		b.answer(statusUnsupp, 0)
	}
}

// inRange tells whether n bytes from sector on are whole sectors, at least one, of the disk.
func (b *Block) inRange(sector, n uint64) bool {
	return n > 0 && n <= MaxBlockBytes && n%SectorBytes == 0 &&
		sector <= b.sectors && n/SectorBytes <= b.sectors-sector
}

// startDiscard starts a discard, which has one segment (section 5.2.6.1).
func (b *Block) startDiscard(outBytes uint64) {
	if !b.m.negotiated(blockDiscard) || outBytes != blockDiscardBytes {
		b.answer(statusUnsupp, 0)
		return
	}
	var s [blockDiscardBytes]byte
	b.m.gather(s[:], b.m.chain.out, blockHeaderBytes)
	sector := binary.LittleEndian.Uint64(s[0:])
	count := binary.LittleEndian.Uint32(s[8:])
	switch {
	case binary.LittleEndian.Uint32(s[12:]) != 0: // flags are for another request type
		b.answer(statusUnsupp, 0)
	case count == 0 || count > MaxDiscardSectors || sector > b.sectors || uint64(count) > b.sectors-sector:
		b.answer(statusIOErr, 0)
	default:
		b.send(event.DiskRequest{Op: event.DiskDiscard, Sector: sector, Count: count})
	}
}

// answer ends the request in the transport's chain at once, after so many bytes of data were written.
func (b *Block) answer(status uint8, data uint32) {
	c := &b.m.chain
	b.m.scatter(c.in, c.inBytes-1, []byte{status})
	b.m.push(0, c.head, data+1)
}

// send makes the request in the transport's chain leave the machine.
func (b *Block) send(r event.DiskRequest) {
	var segs []segment
	if n := len(b.segs); n > 0 {
		segs, b.segs = b.segs[n-1][:0], b.segs[:n-1]
	}
	r.ID = b.nextID
	b.nextID++
	f := blockRequest{DiskRequest: r, head: b.m.chain.head, segs: append(segs, b.m.chain.in...)}
	b.inFlight = append(b.inFlight, f)
	b.inFlightBytes += f.bytes()
	b.sink(event.Output{Kind: event.OutDisk, Device: b.device, Disk: &r})
}

// Complete ends a request: the guest gets the data read, the status and an interrupt. Requests that wait in
// the ring for room may start, so that outputs may follow.
//
// A request forgotten by a reset of the device is ignored. An ID that never left the machine, or a read that
// succeeded with another number of bytes than asked for, is an error and changes nothing.
func (b *Block) Complete(d event.DiskDone) error {
	if d.ID >= b.nextID {
		return fmt.Errorf("complete disk request: ID %d was never used", d.ID)
	}
	i := 0
	for i < len(b.inFlight) && b.inFlight[i].ID != d.ID {
		i++
	}
	if i == len(b.inFlight) {
		return nil
	}
	r := b.inFlight[i]
	want := 0
	if r.Op == event.DiskRead && d.Status == event.DiskOK {
		want = int(r.bytes())
		if len(d.Data) != want {
			return fmt.Errorf("complete disk request: ID %d has %d bytes, not %d", d.ID, len(d.Data), want)
		}
	}
	b.inFlight = append(b.inFlight[:i], b.inFlight[i+1:]...)
	b.inFlight[:len(b.inFlight)+1][len(b.inFlight)] = blockRequest{} // let go of its data
	b.inFlightBytes -= r.bytes()
	b.segs = append(b.segs, r.segs)
	if !b.m.active(0) {
		return nil
	}

	b.m.scatter(r.segs, 0, d.Data[:want])
	var room uint64
	for _, s := range r.segs {
		room += uint64(s.n)
	}
	b.m.scatter(r.segs, room-1, []byte{blockStatus(d.Status)})
	b.m.push(0, r.head, uint32(want)+1)
	b.notify(0)
	return nil
}

func blockStatus(s event.DiskStatus) uint8 {
	switch s {
	case event.DiskOK:
		return statusOK
	case event.DiskUnsupported:
		return statusUnsupp
	}
	return statusIOErr
}

// Pending gives the requests in flight, by rising ID. A replica that goes live issues them again.
// The data of writes is shared with the device: it must not be changed.
func (b *Block) Pending() []event.DiskRequest {
	var p []event.DiskRequest
	for i := range b.inFlight {
		p = append(p, b.inFlight[i].DiskRequest)
	}
	return p
}

// stop forgets the requests in flight. IDs are not used again.
func (b *Block) stop(int) { b.inFlight, b.inFlightBytes = nil, 0 }

func (b *Block) save(e *state.Encoder) {
	e.U64(b.nextID)
	e.U32(uint32(len(b.inFlight)))
	for i := range b.inFlight {
		r := &b.inFlight[i]
		e.U64(r.ID)
		e.U8(uint8(r.Op))
		e.U64(r.Sector)
		e.U32(r.Count)
		e.Bytes(r.Data)
		e.U16(r.head)
		saveSegments(e, r.segs)
	}
}

func (b *Block) load(d *state.Decoder) {
	n := Block{nextID: d.U64()}
	count := d.U32()
	if count > blockQueue {
		d.Fail("virtio block: %d requests in flight", count)
	}
	floor := uint64(0) // IDs rise
	for i := uint32(0); i < count && d.Err() == nil; i++ {
		var r blockRequest
		r.ID = d.U64()
		r.Op = event.DiskOp(d.U8())
		r.Sector = d.U64()
		r.Count = d.U32()
		r.Data = d.Bytes(MaxBlockBytes)
		r.head = d.U16()
		var total uint64
		r.segs, total = loadSegments(d, b.m)
		if d.Err() == nil && (r.ID < floor || r.ID >= n.nextID || !b.possible(&r, total)) {
			d.Fail("virtio block: impossible request in flight")
		}
		floor = r.ID + 1
		n.inFlight = append(n.inFlight, r)
		n.inFlightBytes += r.bytes()
	}
	if n.inFlightBytes > BlockInFlightBytes+MaxBlockBytes {
		d.Fail("virtio block: %d bytes in flight", n.inFlightBytes)
	}
	if d.Err() == nil {
		b.nextID, b.inFlight, b.inFlightBytes = n.nextID, n.inFlight, n.inFlightBytes
	}
}

// possible tells whether send could have made r, with so many bytes to write to in the guest.
func (b *Block) possible(r *blockRequest, room uint64) bool {
	bytes := uint64(r.Count) * SectorBytes
	if r.Op != event.DiskWrite && len(r.Data) > 0 || room == 0 {
		return false
	}
	switch r.Op {
	case event.DiskRead:
		return b.inRange(r.Sector, bytes) && room == bytes+1
	case event.DiskWrite:
		return !b.readOnly && b.inRange(r.Sector, bytes) && uint64(len(r.Data)) == bytes
	case event.DiskFlush:
		return r.Sector == 0 && r.Count == 0
	case event.DiskDiscard:
		return !b.readOnly && r.Count > 0 && r.Count <= MaxDiscardSectors &&
			r.Sector <= b.sectors && uint64(r.Count) <= b.sectors-r.Sector
	}
	return false
}
