// Package machine is the deterministic computer that Understudy protects: one RV64GC hart, RAM, a PLIC, a
// serial port, a real-time clock and virtio devices, with firmware (SBI) answered by the machine itself.
//
// A Machine is a value that steps: Run executes guest instructions, Deliver hands it one entry of the log
// between two runs, TakeOutputs collects what it said. It holds no goroutine, lock, clock, file, socket or
// random source; everything non-deterministic arrives by Deliver. So two machines of one Config that are
// given the same entries at the same positions are in the same state and have said the same.
//
// The caller owns the RAM that it hands to New and keeps it mapped while the machine is used. A Machine is
// used by one goroutine at a time.
package machine

import (
	"fmt"

	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/mem"
	"understudy/machine/plic"
	"understudy/machine/riscv"
	"understudy/machine/rtc"
	"understudy/machine/state"
	"understudy/machine/uart"
	"understudy/machine/virtio"
)

// Console indices, in outputs and entries of consoles.
const (
	// ConsoleSerial is the 16550 and SBI's debug console: the guest's ttyS0.
	ConsoleSerial = 0
	// ConsoleVirtio is the virtio console: the guest's hvc0.
	ConsoleVirtio = 1
)

// Stop says why Run came back.
type Stop uint8

const (
	// StopPosition: the position asked for is reached.
	StopPosition Stop = iota
	// StopIdle: the guest waits for an interrupt (WFI) and nothing can wake it but an event.
	StopIdle
	// StopOutput: a device said something that should leave soon. Run may be called again at once.
	StopOutput
	// StopDown: the guest has shut down; Down tells how. The machine executes nothing any more.
	StopDown
)

// Down says how a guest ended, by SBI's system reset extension.
type Down uint8

const (
	Up       Down = iota // still running
	PowerOff             // shut down without a failure
	Failure              // shut down, or reset, with "system failure" as the reason
	Reboot               // asked for a reset
)

// String names the way the guest ended.
func (d Down) String() string {
	return [...]string{"up", "power off", "system failure", "reboot"}[d]
}

// Machine is the deterministic computer. See the package comment.
type Machine struct {
	cfg     Config   // without Kernel and Initrd, which are in RAM
	id      [32]byte // Config.Digest
	ram     *mem.RAM
	hart    *riscv.Hart
	plic    *plic.PLIC
	uart    *uart.UART
	rtc     *rtc.RTC
	nets    []*virtio.Net
	disks   []*virtio.Block
	console *virtio.Console
	entropy *virtio.Entropy
	windows []window // sorted by start
	saved   []device.Device

	clock   event.Clock
	clockAt event.Position
	down    Down
	outputs []event.Output
	urgent  bool // an output that should stop the run was produced
	blank   bool // there is no state to run from: see NewBlank

	pages digest
}

// New makes a machine in its first state, with the kernel loaded into ram, whose length must be
// cfg.MemBytes and whose content must be zero.
func New(cfg Config, ram []byte) (*Machine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if uint64(len(ram)) != cfg.MemBytes {
		return nil, fmt.Errorf("make machine: %d bytes of RAM were mapped for %d", len(ram), cfg.MemBytes)
	}
	m := &Machine{cfg: cfg, id: cfg.digest(), ram: mem.New(ram)}
	m.build()
	entry, dtb, err := m.load()
	if err != nil {
		return nil, err
	}
	m.cfg.Kernel, m.cfg.Initrd = nil, nil
	m.hart.Reset(entry, 0, dtb)
	m.clock = event.Clock{NowNs: 0, Rate: cfg.Rate}
	m.hart.SetClock(0, m.clock)
	return m, nil
}

// build makes the hart and the devices and maps them.
func (m *Machine) build() {
	m.hart = riscv.New(m.ram, m, m)
	m.plic = plic.New(m.hart.SetExternal)
	m.saved = append(m.saved, m.plic)
	m.mapWindow(plicBase, plic.WindowBytes, m.plic)

	m.rtc = rtc.New(m.plic.Source(rtcIRQ), func() uint64 { return m.cfg.WallClockNs + m.hart.TimeNs() })
	m.add(rtcBase, rtc.WindowBytes, m.rtc)
	m.uart = uart.New(ConsoleSerial, m.plic.Source(uartIRQ), m.emit)
	m.add(uartBase, uart.WindowBytes, m.uart)

	slot := 0
	virtioSlot := func(d virtio.Backend) {
		irq := m.plic.Source(virtioIRQ + slot)
		m.add(virtioBase+uint64(slot)*virtioStride, virtioStride, virtio.NewMMIO(d, m.ram, irq))
		slot++
	}
	m.console = virtio.NewConsole(ConsoleVirtio, m.emit)
	virtioSlot(m.console)
	m.entropy = virtio.NewEntropy(0, m.emit)
	virtioSlot(m.entropy)
	for i, n := range m.cfg.NICs {
		d := virtio.NewNet(n.MAC, uint8(i), m.emit)
		m.nets = append(m.nets, d)
		virtioSlot(d)
	}
	for i, dk := range m.cfg.Disks {
		d := virtio.NewBlock(dk.Sectors, dk.ReadOnly, uint8(i), dk.Serial, m.emit)
		m.disks = append(m.disks, d)
		virtioSlot(d)
	}
}

func (m *Machine) add(base, size uint64, d device.Device) {
	m.saved = append(m.saved, d)
	m.mapWindow(base, size, d)
}

// emit is the devices' sink. Console bytes that follow each other become one output and do not stop the
// run: they leave at its end.
func (m *Machine) emit(out event.Output) {
	if out.Kind == event.OutConsole {
		if n := len(m.outputs); n > 0 && m.outputs[n-1].Kind == event.OutConsole && m.outputs[n-1].Device == out.Device {
			last := &m.outputs[n-1]
			last.Data = append(last.Data, out.Data...)
			last.Pos = m.hart.Position()
			return
		}
	} else {
		m.urgent = true
		m.hart.Ask()
	}
	out.Pos = m.hart.Position()
	m.outputs = append(m.outputs, out)
}

// Run executes until exactly position until, or comes back earlier and says why.
func (m *Machine) Run(until event.Position) Stop { return m.run(m.hart.Run, until) }

// RunSlice is Run for a caller that does not care where exactly it stops: it may overshoot until by less
// than a basic block.
func (m *Machine) RunSlice(until event.Position) Stop { return m.run(m.hart.RunSlice, until) }

func (m *Machine) run(run func(event.Position) riscv.Stop, until event.Position) Stop {
	if m.blank {
		panic("machine: run before a state was loaded")
	}
	if m.down != Up {
		return StopDown
	}
	stop := run(until)
	switch {
	case m.down != Up:
		return StopDown
	case m.urgent:
		m.urgent = false
		return StopOutput
	case stop == riscv.StopIdle:
		return StopIdle
	case stop == riscv.StopAsked:
		return StopOutput
	}
	return StopPosition
}

// Position is the number of instructions executed since the machine was made.
func (m *Machine) Position() event.Position { return m.hart.Position() }

// TimeNs is guest time at the present position, in nanoseconds since the machine was made.
func (m *Machine) TimeNs() uint64 { return m.hart.TimeNs() }

// Rate is the rate of guest time now in force, see event.Clock.
func (m *Machine) Rate() uint32 { return m.clock.Rate }

// Idle tells whether the guest waits for an interrupt.
func (m *Machine) Idle() bool { return m.hart.Idle() }

// Down tells whether and how the guest ended.
func (m *Machine) Down() Down { return m.down }

// Alarm is the guest time at which the next timer interrupt is due, if one is armed.
func (m *Machine) Alarm() (ns uint64, armed bool) {
	ns, armed = m.hart.Timer()
	if wall, ok := m.rtc.Alarm(); ok {
		at := uint64(0)
		if wall > m.cfg.WallClockNs {
			at = wall - m.cfg.WallClockNs
		}
		if !armed || at < ns {
			ns, armed = at, true
		}
	}
	return ns, armed
}

// TakeOutputs gives what the machine said since the last call, in order. The caller owns it.
func (m *Machine) TakeOutputs() []event.Output {
	out := m.outputs
	m.outputs = nil
	return out
}

// Deliver hands the machine one entry of the log at the present position, which must be the entry's. The
// error says that the entry does not fit this machine: it was damaged, or the machines have diverged.
func (m *Machine) Deliver(e event.Entry) error {
	if e.Pos != m.Position() {
		return fmt.Errorf("deliver entry %d: it is for position %d, the machine is at %d", e.Seq, e.Pos, m.Position())
	}
	said := len(m.outputs)
	m.hart.DropReservation() // a device may have written what an LR read
	err := m.deliver(e)
	m.urgent = false
	for _, o := range m.outputs[said:] {
		// The output rule counts what leaves between two entries; requests to the host are not held by it.
		if o.Kind == event.OutNet || o.Kind == event.OutConsole {
			panic("machine: a device spoke to the world while an entry was delivered")
		}
	}
	if err != nil {
		return fmt.Errorf("deliver entry %d at position %d: %w", e.Seq, e.Pos, err)
	}
	return nil
}

func (m *Machine) deliver(e event.Entry) error {
	switch e.Kind {
	case event.KindClock:
		c, err := event.ParseClock(e.Data)
		if err != nil {
			return err
		}
		if now := m.TimeNs(); c.NowNs < now {
			return fmt.Errorf("guest time would step back from %d to %d ns", now, c.NowNs)
		}
		m.clock, m.clockAt = c, e.Pos
		m.hart.SetClock(e.Pos, c)
		m.rtc.Tick()
	case event.KindNet:
		if int(e.Device) >= len(m.nets) {
			return fmt.Errorf("there is no network device %d", e.Device)
		}
		m.nets[e.Device].Receive(e.Data)
	case event.KindConsole:
		switch e.Device {
		case ConsoleSerial:
			m.uart.Receive(e.Data)
		case ConsoleVirtio:
			m.console.Receive(e.Data)
		default:
			return fmt.Errorf("there is no console %d", e.Device)
		}
	case event.KindDisk:
		d, err := event.ParseDiskDone(e.Data)
		if err != nil {
			return err
		}
		return m.completeDisk(int(e.Device), d)
	case event.KindEntropy:
		m.entropy.Provide(e.Data)
	case event.KindCommit, event.KindDigest:
	default:
		return fmt.Errorf("unknown kind %d", e.Kind)
	}
	return nil
}

func (m *Machine) completeDisk(device int, d event.DiskDone) error {
	if device >= len(m.disks) {
		return fmt.Errorf("there is no disk %d", device)
	}
	return m.disks[device].Complete(d)
}

// PendingDisk gives the disk requests that left the machine and were not completed, oldest first. A
// machine restored from a snapshot, and a replica that goes live without having carried them out, issues
// them again.
func (m *Machine) PendingDisk(device int) []event.DiskRequest { return m.disks[device].Pending() }

// PendingEntropy gives the sizes, in bytes, of the requests for random bytes that were not answered, oldest
// first.
func (m *Machine) PendingEntropy() []int { return m.entropy.Pending() }

// save appends the machine's state without its RAM.
func (m *Machine) save(e *state.Encoder) {
	e.U8(uint8(m.down))
	e.U64(m.clock.NowNs)
	e.U32(m.clock.Rate)
	e.U64(uint64(m.clockAt))
	m.hart.Save(e)
	for _, d := range m.saved {
		d.Save(e)
	}
}

func (m *Machine) loadState(d *state.Decoder) {
	m.down = Down(d.U8())
	if m.down > Reboot {
		d.Fail("unknown way of being down")
	}
	m.clock.NowNs = d.U64()
	m.clock.Rate = d.U32()
	m.clockAt = event.Position(d.U64())
	if m.clock.Rate == 0 {
		d.Fail("a clock that stands still")
	}
	m.hart.Load(d)
	for _, dev := range m.saved {
		dev.Load(d)
	}
	if d.Err() == nil && d.Len() != 0 {
		d.Fail("%d bytes too many", d.Len())
	}
}
