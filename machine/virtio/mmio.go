package virtio

import (
	"encoding/binary"

	"understudy/machine/device"
	"understudy/machine/mem"
	"understudy/machine/state"
)

// WindowBytes is the size of the register window: the registers and 256 bytes of configuration space.
const WindowBytes = 0x200

// Register offsets (section 4.2.2). Each is 4 bytes wide.
const (
	regMagic             = 0x000
	regVersion           = 0x004
	regDeviceID          = 0x008
	regVendorID          = 0x00c
	regDeviceFeatures    = 0x010
	regDeviceFeaturesSel = 0x014
	regDriverFeatures    = 0x020
	regDriverFeaturesSel = 0x024
	regQueueSel          = 0x030
	regQueueNumMax       = 0x034
	regQueueNum          = 0x038
	regQueueReady        = 0x044
	regQueueNotify       = 0x050
	regInterruptStatus   = 0x060
	regInterruptACK      = 0x064
	regStatus            = 0x070
	regQueueDescLow      = 0x080
	regQueueDescHigh     = 0x084
	regQueueDriverLow    = 0x090
	regQueueDriverHigh   = 0x094
	regQueueDeviceLow    = 0x0a0
	regQueueDeviceHigh   = 0x0a4
	regSHMLenLow         = 0x0b0
	regSHMLenHigh        = 0x0b4
	regSHMBaseLow        = 0x0b8
	regSHMBaseHigh       = 0x0bc
	regConfigGeneration  = 0x0fc
	regConfig            = 0x100
)

const (
	magicValue  = 0x74726976 // "virt"
	versionMMIO = 2
	vendorID    = 0x54535255 // "URST"
)

// Bits of the interrupt status.
const (
	isrUsed   = 1
	isrConfig = 2
)

// MMIO is the memory-mapped transport (section 4.2) of one device.
type MMIO struct {
	dev Backend
	ram *mem.RAM
	irq device.Line

	status         uint8
	isr            uint8
	featuresSel    uint32
	driverSel      uint32
	driverFeatures uint64 // Invariant: a subset of what is offered once FEATURES_OK is set
	queueSel       uint32
	queues         []virtqueue

	// chain is the request that pop took last; its slices are used again by the next.
	chain chain
}

// NewMMIO puts dev behind a transport that works on ram and interrupts through irq.
func NewMMIO(dev Backend, ram *mem.RAM, irq device.Line) *MMIO {
	m := &MMIO{dev: dev, ram: ram, irq: irq}
	for _, max := range dev.queueSizes() {
		m.queues = append(m.queues, virtqueue{max: max})
	}
	dev.attach(m)
	return m
}

// offered are the features of the device.
func (m *MMIO) offered() uint64 {
	return m.dev.features() | featVersion1 | featIndirect | featEventIdx
}

// negotiated tells whether the driver accepted a feature.
func (m *MMIO) negotiated(feature uint64) bool { return m.driverFeatures&feature != 0 }

// running tells whether the device may look at its queues.
func (m *MMIO) running() bool {
	const need = statusFeaturesOK | statusDriverOK
	return m.status&need == need && m.status&(statusNeedsReset|statusFailed) == 0
}

// active tells whether the device may look at queue q.
func (m *MMIO) active(q int) bool { return m.running() && m.queues[q].ready }

// fail stops the device because the driver broke the rules: it needs a reset.
func (m *MMIO) fail() {
	if m.status&statusNeedsReset != 0 {
		return
	}
	m.status |= statusNeedsReset
	if m.status&statusDriverOK != 0 {
		m.interrupt(isrConfig)
	}
}

func (m *MMIO) interrupt(why uint8) {
	m.isr |= why
	m.irq(true)
}

// reset puts the device back to where it was when the machine was created.
func (m *MMIO) reset() {
	for i := range m.queues {
		m.stop(i)
		m.queues[i] = virtqueue{max: m.queues[i].max}
	}
	m.status, m.isr = 0, 0
	m.featuresSel, m.driverSel, m.queueSel = 0, 0, 0
	m.driverFeatures = 0
	m.irq(false)
}

// stop ends the work on queue q. Its indices start at 0 when it becomes ready again.
func (m *MMIO) stop(q int) {
	v := &m.queues[q]
	v.ready = false
	v.next, v.used, v.signalled = 0, 0, 0
	m.dev.stop(q)
}

// selected is the queue that the queue registers are about, or nil.
func (m *MMIO) selected() *virtqueue {
	if uint64(m.queueSel) < uint64(len(m.queues)) {
		return &m.queues[m.queueSel]
	}
	return nil
}

// ReadMMIO implements device.Device.
func (m *MMIO) ReadMMIO(off uint64, size int) uint64 {
	if off >= regConfig {
		return m.readConfig(off-regConfig, size)
	}
	if size != 4 || off%4 != 0 {
		return 0
	}
	switch off {
	case regMagic:
		return magicValue
	case regVersion:
		return versionMMIO
	case regDeviceID:
		return uint64(m.dev.deviceID())
	case regVendorID:
		return vendorID
	case regDeviceFeatures:
		if m.featuresSel < 2 {
			return m.offered() >> (32 * m.featuresSel) & 0xffff_ffff
		}
	case regQueueNumMax:
		if q := m.selected(); q != nil {
			return uint64(q.max)
		}
	case regQueueReady:
		if q := m.selected(); q != nil && q.ready {
			return 1
		}
	case regInterruptStatus:
		return uint64(m.isr)
	case regStatus:
		return uint64(m.status)
	case regSHMLenLow, regSHMLenHigh, regSHMBaseLow, regSHMBaseHigh:
		return 0xffff_ffff // there is no shared memory region (section 4.2.2.1)
	case regConfigGeneration:
		return 0 // no configuration space ever changes
	}
	return 0
}

// readConfig reads the configuration space; what lies beyond it reads as 0.
func (m *MMIO) readConfig(off uint64, size int) uint64 {
	c := m.dev.config()
	switch size {
	case 1, 2, 4, 8:
	default:
		return 0
	}
	if off >= uint64(len(c)) {
		return 0
	}
	var b [8]byte
	copy(b[:size], c[off:])
	return binary.LittleEndian.Uint64(b[:])
}

// WriteMMIO implements device.Device. The configuration spaces have nothing to write.
func (m *MMIO) WriteMMIO(off uint64, size int, v uint64) {
	if size != 4 || off%4 != 0 || off >= regConfig {
		return
	}
	w := uint32(v)
	switch off {
	case regDeviceFeaturesSel:
		m.featuresSel = w
	case regDriverFeaturesSel:
		m.driverSel = w
	case regDriverFeatures:
		if m.status&statusFeaturesOK == 0 && m.driverSel < 2 {
			shift := 32 * m.driverSel
			m.driverFeatures = m.driverFeatures&^(0xffff_ffff<<shift) | uint64(w)<<shift
		}
	case regQueueSel:
		m.queueSel = w
	case regQueueNotify:
		// Without VIRTIO_F_NOTIFICATION_DATA the value is the queue's number.
		if uint64(w) < uint64(len(m.queues)) && m.active(int(w)) {
			m.dev.notify(int(w))
		}
	case regInterruptACK:
		m.isr &^= uint8(w)
		m.irq(m.isr != 0)
	case regStatus:
		m.writeStatus(uint8(w))
	default:
		m.writeQueue(off, w)
	}
}

// writeStatus follows the driver through the initialisation (section 3.1.1). A driver can set bits, and
// clear them all by writing 0; DEVICE_NEEDS_RESET is ours.
func (m *MMIO) writeStatus(v uint8) {
	if v == 0 {
		m.reset()
		return
	}
	ran := m.running()
	v = v&^statusNeedsReset | m.status
	if v&statusFeaturesOK != 0 && m.status&statusFeaturesOK == 0 {
		if m.driverFeatures&^m.offered() != 0 || m.driverFeatures&featVersion1 == 0 {
			v &^= statusFeaturesOK // the driver reads it back and gives up
		}
	}
	m.status = v
	if !ran && m.running() {
		for q := range m.queues {
			if m.active(q) {
				m.dev.notify(q)
			}
		}
	}
}

// writeQueue writes a register of the selected queue. A queue that is ready does not change.
func (m *MMIO) writeQueue(off uint64, w uint32) {
	q := m.selected()
	if q == nil {
		return
	}
	if off == regQueueReady {
		switch {
		case w&1 == 0:
			if q.ready {
				m.stop(int(m.queueSel))
			}
		case !q.ready:
			if !q.valid(m.ram) {
				m.fail()
				return
			}
			q.ready = true
		}
		return
	}
	if q.ready {
		return
	}
	low := func(p *uint64) { *p = *p&^0xffff_ffff | uint64(w) }
	high := func(p *uint64) { *p = *p&0xffff_ffff | uint64(w)<<32 }
	switch off {
	case regQueueNum:
		q.num = w
	case regQueueDescLow:
		low(&q.desc)
	case regQueueDescHigh:
		high(&q.desc)
	case regQueueDriverLow:
		low(&q.driver)
	case regQueueDriverHigh:
		high(&q.driver)
	case regQueueDeviceLow:
		low(&q.device)
	case regQueueDeviceHigh:
		high(&q.device)
	}
}

// Save implements device.Device.
func (m *MMIO) Save(e *state.Encoder) {
	e.U8(m.status)
	e.U8(m.isr)
	e.U32(m.featuresSel)
	e.U32(m.driverSel)
	e.U64(m.driverFeatures)
	e.U32(m.queueSel)
	for i := range m.queues {
		m.queues[i].save(e)
	}
	m.dev.save(e)
}

// Load implements device.Device. RAM must have its size, not its contents. It does not drive the interrupt
// line: the controller's state holds its level.
func (m *MMIO) Load(d *state.Decoder) {
	n := MMIO{dev: m.dev, ram: m.ram, irq: m.irq, chain: m.chain}
	n.status = d.U8()
	n.isr = d.U8()
	n.featuresSel = d.U32()
	n.driverSel = d.U32()
	n.driverFeatures = d.U64()
	n.queueSel = d.U32()
	for i := range m.queues {
		q := virtqueue{max: m.queues[i].max}
		q.load(d, m.ram)
		n.queues = append(n.queues, q)
	}
	if n.status&statusFeaturesOK != 0 && (n.driverFeatures&^m.offered() != 0 || n.driverFeatures&featVersion1 == 0) {
		d.Fail("virtio: features %#x were never offered", n.driverFeatures)
	}
	if d.Err() != nil {
		return
	}
	m.dev.load(d)
	if d.Err() == nil {
		*m = n
	}
}
