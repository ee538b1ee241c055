package riscv

// Interrupt numbers, which are also bit numbers in sie and sip.
const (
	irqSoftware = 1
	irqTimer    = 5
	irqExternal = 9
)

// Exception causes (privileged manual, "Supervisor Cause Register").
const (
	causeFetchAccess = 1
	causeIllegal     = 2
	causeBreakpoint  = 3
	causeLoadAlign   = 4
	causeLoadAccess  = 5
	causeStoreAlign  = 6
	causeStoreAccess = 7
	causeEcallU      = 8
	causeFetchPage   = 12
	causeLoadPage    = 13
	causeStorePage   = 15
)

// causeNone stands for "no exception". (Cause 0, a misaligned fetch, cannot occur with compressed
// instructions.)
const causeNone = 0

// Bits of sstatus.
const (
	statusSIE  = 1 << 1
	statusSPIE = 1 << 5
	statusSPP  = 1 << 8
	statusFS   = 3 << 13
	statusSUM  = 1 << 18
	statusMXR  = 1 << 19
	statusUXL  = 2 << 32
	statusSD   = 1 << 63
)

// sip is the register's value at the current position.
func (h *Hart) sip() uint64 {
	var v uint64
	if h.ssip {
		v |= 1 << irqSoftware
	}
	if h.pos >= h.deadline {
		v |= 1 << irqTimer
	}
	if h.seip {
		v |= 1 << irqExternal
	}
	return v
}

// pending gives the interrupts that are pending and enabled in sie.
func (h *Hart) pending() uint64 { return h.sip() & h.sie }

// takeInterrupt enters the handler of the most important interrupt that is pending and enabled. It
// does not count as an instruction.
func (h *Hart) takeInterrupt() {
	p := h.pending()
	if p == 0 || h.priv == privS && h.sstatus&statusSIE == 0 {
		return
	}
	n := uint64(irqTimer)
	switch {
	case p&(1<<irqExternal) != 0:
		n = irqExternal
	case p&(1<<irqSoftware) != 0:
		n = irqSoftware
	}
	vec := h.stvec &^ 3
	if h.stvec&1 != 0 {
		vec += 4 * n
	}
	h.enterTrap(1<<63|n, 0, vec)
}

// exception ends the current instruction, which is at h.pc, with a trap.
func (h *Hart) exception(cause, tval uint64) {
	h.pos++
	h.enterTrap(cause, tval, h.stvec&^3)
}

func (h *Hart) enterTrap(cause, tval, vec uint64) {
	h.scause, h.stval, h.sepc = cause, tval, h.pc
	s := h.sstatus &^ (statusSIE | statusSPIE | statusSPP)
	if h.sstatus&statusSIE != 0 {
		s |= statusSPIE
	}
	if h.priv == privS {
		s |= statusSPP
	}
	h.sstatus, h.priv, h.pc = s, privS, vec
	h.resValid = false
	h.changed, h.mid = true, 0
	h.setContext()
}

// sret returns from a trap.
func (h *Hart) sret() {
	s := h.sstatus &^ (statusSIE | statusSPP)
	if h.sstatus&statusSPIE != 0 {
		s |= statusSIE
	}
	h.priv = privU
	if h.sstatus&statusSPP != 0 {
		h.priv = privS
	}
	h.sstatus, h.pc = s|statusSPIE, h.sepc
	h.resValid = false
	h.changed = true
	h.setContext()
}
