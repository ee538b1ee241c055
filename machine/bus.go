package machine

import "understudy/machine/device"

// The board's memory map (guest-physical) and its interrupt numbers at the PLIC. RAM is at mem.Base.
const (
	rtcBase      = 0x0010_1000
	plicBase     = 0x0c00_0000
	uartBase     = 0x1000_0000
	virtioBase   = 0x1000_1000
	virtioStride = 0x1000

	virtioIRQ = 1 // slot i has virtioIRQ+i
	uartIRQ   = 30
	rtcIRQ    = 31

	maxVirtioSlots = uartIRQ - virtioIRQ
)

type window struct {
	start, size uint64
	dev         device.Device
}

func (m *Machine) mapWindow(start, size uint64, d device.Device) {
	m.windows = append(m.windows, window{start, size, d})
}

func (m *Machine) find(addr uint64, size int) (w *window, ok bool) {
	for i := range m.windows {
		w = &m.windows[i]
		if off := addr - w.start; off < w.size && uint64(size) <= w.size-off {
			return w, true
		}
	}
	return nil, false
}

// Read answers the hart's load outside RAM. Where no device is, it is an access fault.
func (m *Machine) Read(addr uint64, size int) (uint64, bool) {
	w, ok := m.find(addr, size)
	if !ok {
		return 0, false
	}
	return w.dev.ReadMMIO(addr-w.start, size), true
}

// Write carries out the hart's store outside RAM.
func (m *Machine) Write(addr uint64, size int, v uint64) bool {
	w, ok := m.find(addr, size)
	if !ok {
		return false
	}
	w.dev.WriteMMIO(addr-w.start, size, v)
	return true
}
