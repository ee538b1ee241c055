// Package virtio has the board's paravirtual devices: network card, disk, console and entropy source, as in
// the VIRTIO specification 1.2, behind its memory-mapped transport (version 2) with split virtqueues.
//
// A device is made in two steps, NewNet and its siblings and then NewMMIO around it, and lives as long as
// the board:
//
//	nic := virtio.NewNet(mac, 0, sink)
//	window := virtio.NewMMIO(nic, ram, plic.Source(3)) // a device.Device
//	nic.Receive(frame)                                 // between two runs of the hart
//
// Whatever the guest puts into a ring is taken as an attack. Descriptors are copied once before they are
// looked at; every address is checked against RAM; a chain has at most MaxChain segments and a notification
// handles at most as many chains as the ring has places. A ring that breaks the specification puts the
// device into the state DEVICE_NEEDS_RESET (section 2.1), where it does nothing until the driver resets it.
//
// Everything is a function of the calls made, in their order: two devices with the same history have the
// same state, the same guest memory and the same outputs.
package virtio

import "understudy/machine/state"

// Device IDs (section 5).
const (
	idNet     = 1
	idBlock   = 2
	idConsole = 3
	idEntropy = 4
)

// Feature bits of every device (section 6).
const (
	featIndirect = 1 << 28 // VIRTIO_F_INDIRECT_DESC
	featEventIdx = 1 << 29 // VIRTIO_F_EVENT_IDX
	featVersion1 = 1 << 32 // VIRTIO_F_VERSION_1
)

// Bits of the device status (section 2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusFailed      = 128
)

// MaxQueue is the largest number of descriptors of a virtqueue.
const MaxQueue = 256

// MaxChain is the largest number of segments of one request, those of an indirect table included.
const MaxChain = 256

// Backend is a device behind the transport. Net, Block, Console and Entropy implement it.
type Backend interface {
	deviceID() uint32
	// features are those offered beside the ones of every device.
	features() uint64
	// queueSizes gives the largest size of each queue, at most MaxQueue.
	queueSizes() []uint16
	// config is the device's configuration space. The transport only reads it.
	config() []byte
	attach(m *MMIO)
	// notify is called when the driver has put something into queue q, which is ready, of a device that
	// is running. It is also called once for each ready queue when the driver says DRIVER_OK.
	notify(q int)
	// stop is called when queue q stops, by a reset of the device too: its requests are forgotten.
	stop(q int)
	save(e *state.Encoder)
	// load replaces the state only if all of it makes sense.
	load(d *state.Decoder)
}
