package virtio

import (
	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

// Bounds of the console device.
const (
	// ConsoleBacklog is the number of received bytes that wait for the driver to add buffers. Those
	// beyond are dropped, and counted (Console.Dropped).
	ConsoleBacklog = 64 << 10
	// MaxConsoleWrite is the longest piece of output in one request; a driver that sends a longer one
	// breaks the device.
	MaxConsoleWrite = 64 << 10
)

// Queues of the console device (section 5.3.2).
const (
	consoleRx = 0
	consoleTx = 1
)

// Console is a console with one port.
type Console struct {
	m      *MMIO
	sink   device.Sink
	device uint8

	backlog []byte // Invariant: at most ConsoleBacklog
	dropped uint64
}

// NewConsole makes a console. index is the Device of its outputs (OutConsole).
func NewConsole(index uint8, sink device.Sink) *Console {
	return &Console{sink: sink, device: index}
}

func (c *Console) deviceID() uint32     { return idConsole }
func (c *Console) features() uint64     { return 0 }
func (c *Console) queueSizes() []uint16 { return []uint16{MaxQueue, MaxQueue} }
func (c *Console) config() []byte       { return nil }
func (c *Console) attach(m *MMIO)       { c.m = m }

func (c *Console) notify(q int) {
	if q == consoleRx {
		c.drain()
		return
	}
	for i := uint32(0); i < c.m.queues[q].num && c.m.pop(q); i++ {
		ch := &c.m.chain
		if ch.inBytes > 0 || ch.outBytes > MaxConsoleWrite {
			c.m.fail()
			return
		}
		if ch.outBytes > 0 {
			p := make([]byte, ch.outBytes)
			c.m.gather(p, ch.out, 0)
			c.sink(event.Output{Kind: event.OutConsole, Device: c.device, Data: p})
		}
		c.m.push(q, ch.head, 0)
	}
	c.m.wantKicks(q, true)
	c.m.signal(q)
}

// stop keeps what was typed: somebody waits for the next driver to read it.
func (c *Console) stop(int) {}

// Receive takes bytes typed at the console, also before the driver runs. Those beyond ConsoleBacklog are
// dropped.
func (c *Console) Receive(p []byte) {
	room := ConsoleBacklog - len(c.backlog)
	if len(p) > room {
		c.dropped += uint64(len(p) - room)
		p = p[:room]
	}
	c.backlog = append(c.backlog, p...)
	if c.m.active(consoleRx) {
		c.drain()
	}
}

// Dropped counts the received bytes that were dropped.
func (c *Console) Dropped() uint64 { return c.dropped }

// drain delivers what waits as far as the driver has buffers.
func (c *Console) drain() {
	for i := uint32(0); i < c.m.queues[consoleRx].num && len(c.backlog) > 0 && c.m.pop(consoleRx); i++ {
		ch := &c.m.chain
		if ch.outBytes > 0 {
			c.m.fail()
			return
		}
		n := min(uint64(len(c.backlog)), ch.inBytes)
		c.m.scatter(ch.in, 0, c.backlog[:n])
		c.m.push(consoleRx, ch.head, uint32(n))
		c.backlog = c.backlog[n:]
	}
	if len(c.backlog) == 0 {
		c.backlog = nil
	}
	if c.m.active(consoleRx) {
		c.m.wantKicks(consoleRx, c.backlog != nil)
		c.m.signal(consoleRx)
	}
}

func (c *Console) save(e *state.Encoder) {
	e.Bytes(c.backlog)
	e.U64(c.dropped)
}

func (c *Console) load(d *state.Decoder) {
	backlog := d.Bytes(ConsoleBacklog)
	dropped := d.U64()
	if d.Err() == nil {
		c.backlog, c.dropped = backlog, dropped
	}
}
