// Package uart is a 16550A serial port, the board's early console, which Linux drives as "ns16550a".
//
// The wire is infinitely fast: a byte written to the transmitter has left at once, so the transmitter is
// always empty, and received bytes are there as soon as the guest can take them. The baud rate divisor,
// the line format and the modem lines are kept and change nothing.
package uart

import (
	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

// WindowBytes is the size of the register window: eight registers of one byte (reg-shift 0).
const WindowBytes = 8

// FIFOBytes is the depth of the receive FIFO that the guest sees.
const FIFOBytes = 16

// QueueBytes is the bound of received bytes that wait for the guest, FIFO included. What comes on top is
// dropped and counted (Dropped).
const QueueBytes = 16 << 10

// Register offsets (16550 data sheet). Some differ by direction or by the divisor latch bit (DLAB).
const (
	regData = 0 // RBR, THR; DLL with DLAB
	regIER  = 1 // DLM with DLAB
	regIIR  = 2 // read; FCR when written
	regLCR  = 3
	regMCR  = 4
	regLSR  = 5
	regMSR  = 6
	regSCR  = 7
)

// Bits of the registers.
const (
	ierRx   = 0x01
	ierTx   = 0x02
	ierLine = 0x04
	ierMask = 0x0f

	iirNone    = 0x01
	iirTx      = 0x02
	iirRx      = 0x04
	iirTimeout = 0x0c // bytes wait, fewer than the trigger level
	iirFIFO    = 0xc0

	fcrEnable  = 0x01
	fcrClearRx = 0x02

	lcrDLAB = 0x80

	mcrMask = 0x1f
	mcrLoop = 0x10

	lsrReady = 0x01
	lsrEmpty = 0x60 // THRE and TEMT: the transmitter is always empty

	msrLines = 0xb0 // DCD, DSR, CTS: somebody listens
)

// triggers are the receive trigger levels that FCR's upper two bits choose.
var triggers = [4]int{1, 4, 8, 14}

// UART is one serial port.
type UART struct {
	irq    device.Line
	sink   device.Sink
	device uint8

	ier, fcr, lcr, mcr, scr, dll, dlm uint8

	txEmpty bool   // the "transmitter empty" interrupt is waiting: set by a byte sent, cleared by reading IIR
	rx      []byte // Invariant: at most QueueBytes. The FIFO that the guest sees is its head.
	dropped uint64
}

// New makes a serial port. index is the Device of its outputs (OutConsole).
func New(index uint8, irq device.Line, sink device.Sink) *UART {
	return &UART{irq: irq, sink: sink, device: index}
}

// Receive takes bytes typed at the console. Those beyond QueueBytes are dropped.
func (u *UART) Receive(p []byte) {
	room := QueueBytes - len(u.rx)
	if len(p) > room {
		u.dropped += uint64(len(p) - room)
		p = p[:room]
	}
	u.rx = append(u.rx, p...)
	u.update()
}

// Dropped counts the received bytes that were dropped.
func (u *UART) Dropped() uint64 { return u.dropped }

// cause gives the interrupt identification (IIR without the FIFO bits), the highest priority first.
func (u *UART) cause() uint8 {
	if u.ier&ierRx != 0 && len(u.rx) > 0 {
		if u.fcr&fcrEnable != 0 && len(u.rx) < triggers[u.fcr>>6] {
			// A real port waits four characters' time before it reports fewer bytes than the trigger.
			// Ours has no clock, and no reason to keep the guest waiting.
			return iirTimeout
		}
		return iirRx
	}
	if u.ier&ierTx != 0 && u.txEmpty {
		return iirTx
	}
	return iirNone
}

func (u *UART) update() { u.irq(u.cause() != iirNone) }

// ReadMMIO implements device.Device. Registers are one byte wide; a wider read gives the one at off.
func (u *UART) ReadMMIO(off uint64, size int) uint64 {
	switch off {
	case regData:
		if u.lcr&lcrDLAB != 0 {
			return uint64(u.dll)
		}
		if len(u.rx) == 0 {
			return 0
		}
		c := u.rx[0]
		u.drop(1)
		u.update()
		return uint64(c)
	case regIER:
		if u.lcr&lcrDLAB != 0 {
			return uint64(u.dlm)
		}
		return uint64(u.ier)
	case regIIR:
		c := u.cause()
		if c == iirTx {
			u.txEmpty = false
			u.update()
		}
		if u.fcr&fcrEnable != 0 {
			c |= iirFIFO
		}
		return uint64(c)
	case regLCR:
		return uint64(u.lcr)
	case regMCR:
		return uint64(u.mcr)
	case regLSR:
		if len(u.rx) > 0 {
			return lsrEmpty | lsrReady
		}
		return lsrEmpty
	case regMSR:
		if u.mcr&mcrLoop != 0 {
			// DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
			m := u.mcr
			return uint64(m&1<<5 | m&2<<3 | m&4<<4 | m&8<<4)
		}
		return msrLines
	case regSCR:
		return uint64(u.scr)
	}
	return 0
}

// drop forgets the first n received bytes.
func (u *UART) drop(n int) {
	u.rx = u.rx[n:]
	if len(u.rx) == 0 {
		u.rx = nil
	}
}

// WriteMMIO implements device.Device. Registers are one byte wide; a wider write goes to the one at off.
func (u *UART) WriteMMIO(off uint64, size int, v uint64) {
	b := uint8(v)
	switch off {
	case regData:
		if u.lcr&lcrDLAB != 0 {
			u.dll = b
			return
		}
		if u.mcr&mcrLoop != 0 {
			if len(u.rx) < QueueBytes {
				u.rx = append(u.rx, b)
			}
		} else {
			u.sink(event.Output{Kind: event.OutConsole, Device: u.device, Data: []byte{b}})
		}
		u.txEmpty = true
	case regIER:
		if u.lcr&lcrDLAB != 0 {
			u.dlm = b
			return
		}
		if b&ierTx != 0 && u.ier&ierTx == 0 {
			u.txEmpty = true // enabling the interrupt with an empty transmitter raises it
		}
		u.ier = b & ierMask
	case regIIR: // FCR
		if b&fcrClearRx != 0 || (b^u.fcr)&fcrEnable != 0 {
			// Only the FIFO is cleared: what waits behind it is still on the wire.
			u.drop(min(FIFOBytes, len(u.rx)))
		}
		u.fcr = b & (fcrEnable | 0xc0)
	case regLCR:
		u.lcr = b
	case regMCR:
		u.mcr = b & mcrMask
	case regSCR:
		u.scr = b
	}
	u.update()
}

// Save implements device.Device.
func (u *UART) Save(e *state.Encoder) {
	for _, r := range [...]uint8{u.ier, u.fcr, u.lcr, u.mcr, u.scr, u.dll, u.dlm} {
		e.U8(r)
	}
	e.Bool(u.txEmpty)
	e.Bytes(u.rx)
	e.U64(u.dropped)
}

// Load implements device.Device. It does not drive the interrupt line: the controller's state holds its
// level.
func (u *UART) Load(d *state.Decoder) {
	n := UART{irq: u.irq, sink: u.sink, device: u.device}
	for _, r := range [...]*uint8{&n.ier, &n.fcr, &n.lcr, &n.mcr, &n.scr, &n.dll, &n.dlm} {
		*r = d.U8()
	}
	n.txEmpty = d.Bool()
	n.rx = d.Bytes(QueueBytes)
	n.dropped = d.U64()
	if n.ier&^ierMask != 0 || n.fcr&^(fcrEnable|0xc0) != 0 || n.mcr&^mcrMask != 0 {
		d.Fail("uart: impossible registers")
	}
	if d.Err() == nil {
		*u = n
	}
}
