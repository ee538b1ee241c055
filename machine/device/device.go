// Package device defines what the board asks of a memory-mapped device.
//
// A device never learns its address or its interrupt number: the board maps its window and hands it an
// interrupt line. It holds no goroutine, clock or file: what it says leaves through a Sink, what it is
// told arrives through methods that the board calls between two runs of the hart.
package device

import (
	"understudy/event"
	"understudy/machine/state"
)

// Device is a memory-mapped device with a register window.
type Device interface {
	// ReadMMIO reads size bytes (1, 2, 4 or 8) at offset off of the device's window. An access that the
	// device does not support, of an odd size say, gives 0. It may be called by a hostile guest with any
	// offset inside the window.
	ReadMMIO(off uint64, size int) uint64
	// WriteMMIO writes the low size bytes of v. An access that is not supported is ignored.
	WriteMMIO(off uint64, size int, v uint64)
	// Save appends the device's whole state.
	Save(e *state.Encoder)
	// Load replaces the device's state by what Save wrote. It must survive arbitrary bytes: anything
	// that does not make sense is reported with d.Fail.
	Load(d *state.Decoder)
}

// Line sets the level of a device's interrupt line.
type Line func(level bool)

// Sink takes what a device says. The board fills in Pos. The sink must not call back into the device.
type Sink func(out event.Output)
