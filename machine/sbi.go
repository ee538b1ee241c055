package machine

import (
	"understudy/event"
	"understudy/machine/riscv"
)

// SBI extension ids and error codes, from the RISC-V Supervisor Binary Interface Specification 2.0.
const (
	sbiBase  = 0x10
	sbiTime  = 0x54494D45
	sbiIPI   = 0x735049
	sbiFence = 0x52464E43
	sbiHSM   = 0x48534D
	sbiSRST  = 0x53525354
	sbiDBCN  = 0x4442434E

	sbiOK            = 0
	sbiNotSupported  = ^uint64(1) // -2
	sbiInvalidParam  = ^uint64(2) // -3
	sbiAlreadyAvail  = ^uint64(5) // -6
	sbiSpecVersion   = 2 << 24    // 2.0
	sbiImplID        = 0x756e6473 // "unds": not a registered id
	sbiImplVersion   = 1
	maxConsoleWrite  = 4096 // bytes per DBCN write; the guest calls again for the rest
	hartStarted      = 0
	legacyLast       = 8
	resetShutdown    = 0
	resetCold        = 1
	resetWarm        = 2
	reasonNone       = 0
	reasonSysFailure = 1
)

// SBI answers an ecall from S mode, as firmware would (SBI specification, chapter 3: extension in a7,
// function in a6, error to a0, value to a1).
func (m *Machine) SBI(h *riscv.Hart) {
	ext, fn := h.X(17), h.X(16)
	if ext <= legacyLast {
		m.sbiLegacy(h, ext)
		return
	}
	err, val := m.sbiCall(h, ext, fn)
	h.SetX(10, err)
	h.SetX(11, val)
}

func (m *Machine) sbiCall(h *riscv.Hart, ext, fn uint64) (err, val uint64) {
	a0, a1 := h.X(10), h.X(11)
	switch ext {
	case sbiBase:
		switch fn {
		case 0:
			return sbiOK, sbiSpecVersion
		case 1:
			return sbiOK, sbiImplID
		case 2:
			return sbiOK, sbiImplVersion
		case 3:
			switch a0 {
			case sbiBase, sbiTime, sbiIPI, sbiFence, sbiHSM, sbiSRST, sbiDBCN:
				return sbiOK, 1
			}
			if a0 <= legacyLast {
				return sbiOK, 1
			}
			return sbiOK, 0
		case 4, 5, 6: // mvendorid, marchid, mimpid
			return sbiOK, 0
		}
	case sbiTime:
		if fn == 0 {
			h.SetTimer(a0)
			return sbiOK, 0
		}
	case sbiIPI:
		if fn == 0 {
			return m.sbiIPI(h, a0, a1), 0
		}
	case sbiFence:
		// The hart's translations and decoded code are never stale, so a fence has nothing to do. Functions 3
		// to 6 are for hypervisors.
		if fn <= 2 {
			return hartMask(a0, a1), 0
		}
	case sbiHSM:
		return m.sbiHSM(fn, a0)
	case sbiSRST:
		if fn == 0 {
			return m.sbiReset(uint32(a0), uint32(a1)), 0
		}
	case sbiDBCN:
		return m.sbiDebugConsole(h, fn, a0, a1)
	}
	return sbiNotSupported, 0
}

// hartMask checks a hart mask of a machine whose only hart is 0.
func hartMask(mask, base uint64) uint64 {
	if base == ^uint64(0) || base == 0 && mask&^1 == 0 || mask == 0 {
		return sbiOK
	}
	return sbiInvalidParam
}

func (m *Machine) sbiIPI(h *riscv.Hart, mask, base uint64) uint64 {
	if err := hartMask(mask, base); err != sbiOK {
		return err
	}
	if base == ^uint64(0) || mask&1 != 0 {
		h.RaiseSoftware()
	}
	return sbiOK
}

func (m *Machine) sbiHSM(fn, hart uint64) (err, val uint64) {
	switch fn {
	case 0: // start
		if hart == 0 {
			return sbiAlreadyAvail, 0
		}
		return sbiInvalidParam, 0
	case 2: // status
		if hart == 0 {
			return sbiOK, hartStarted
		}
		return sbiInvalidParam, 0
	}
	// Stopping or suspending the only hart is not offered: Linux falls back to WFI.
	return sbiNotSupported, 0
}

func (m *Machine) sbiReset(kind, reason uint32) uint64 {
	if kind > resetWarm || reason > reasonSysFailure {
		return sbiInvalidParam
	}
	switch {
	case reason == reasonSysFailure:
		m.shut(Failure)
	case kind == resetShutdown:
		m.shut(PowerOff)
	default:
		m.shut(Reboot)
	}
	return sbiOK
}

func (m *Machine) shut(how Down) {
	m.down = how
	m.hart.Ask()
}

func (m *Machine) say(p []byte) {
	m.emit(event.Output{Kind: event.OutConsole, Device: ConsoleSerial, Data: p})
}

func (m *Machine) sbiDebugConsole(h *riscv.Hart, fn, n, addr uint64) (err, val uint64) {
	switch fn {
	case 0: // write
		if h.X(12) != 0 || !m.ram.Contains(addr, n) {
			return sbiInvalidParam, 0
		}
		n = min(n, maxConsoleWrite)
		p := make([]byte, n)
		m.ram.Read(addr, p)
		if n > 0 {
			m.say(p)
		}
		return sbiOK, n
	case 1: // read: input goes to the serial port and the virtio console, never here
		if h.X(12) != 0 || !m.ram.Contains(addr, n) {
			return sbiInvalidParam, 0
		}
		return sbiOK, 0
	case 2: // write byte
		m.say([]byte{byte(n)})
		return sbiOK, 0
	}
	return sbiNotSupported, 0
}

// sbiLegacy answers the extensions of SBI 0.1 (specification, chapter 5), which return in a0 alone.
func (m *Machine) sbiLegacy(h *riscv.Hart, ext uint64) {
	ret := uint64(0)
	switch ext {
	case 0:
		h.SetTimer(h.X(10))
	case 1:
		m.say([]byte{byte(h.X(10))})
	case 2:
		ret = ^uint64(0) // no character waits: see sbiDebugConsole
	case 3:
		h.ClearSoftware()
	case 4:
		// a0 is the virtual address of a mask; with one hart the call can only mean that hart.
		h.RaiseSoftware()
	case 8:
		m.shut(PowerOff)
	}
	h.SetX(10, ret)
}

var _ riscv.Bus = (*Machine)(nil)
