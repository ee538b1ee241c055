package riscv

// CSR numbers.
const (
	csrFflags     = 0x001
	csrFrm        = 0x002
	csrFcsr       = 0x003
	csrSstatus    = 0x100
	csrSie        = 0x104
	csrStvec      = 0x105
	csrScounteren = 0x106
	csrSenvcfg    = 0x10a
	csrSscratch   = 0x140
	csrSepc       = 0x141
	csrScause     = 0x142
	csrStval      = 0x143
	csrSip        = 0x144
	csrStimecmp   = 0x14d
	csrSatp       = 0x180
	csrCycle      = 0xc00
	csrTime       = 0xc01
	csrInstret    = 0xc02
)

const (
	sieMask     = 1<<irqSoftware | 1<<irqTimer | 1<<irqExternal
	satpSv39    = 8
	satpPPN     = 1<<44 - 1
	senvcfgFIOM = 1
)

// CSR reads control and status register n as S mode would, without side effects. ok is false when it does
// not exist.
func (h *Hart) CSR(n int) (v uint64, ok bool) {
	switch n {
	case csrFflags:
		return uint64(h.fflags), true
	case csrFrm:
		return uint64(h.frm), true
	case csrFcsr:
		return uint64(h.frm)<<5 | uint64(h.fflags), true
	case csrSstatus:
		v = h.sstatus | uint64(h.fs)<<13 | statusUXL
		if h.fs == 3 {
			v |= statusSD
		}
		return v, true
	case csrSie:
		return h.sie, true
	case csrStvec:
		return h.stvec, true
	case csrScounteren:
		return h.scounteren, true
	case csrSenvcfg:
		return h.senvcfg, true
	case csrSscratch:
		return h.sscratch, true
	case csrSepc:
		return h.sepc, true
	case csrScause:
		return h.scause, true
	case csrStval:
		return h.stval, true
	case csrSip:
		return h.sip(), true
	case csrStimecmp:
		return h.stimecmp, true
	case csrSatp:
		return h.satp, true
	case csrTime:
		return h.TimeNs(), true
	case csrCycle, csrInstret:
		return uint64(h.pos), true
	}
	return 0, false
}

// csrAllowed tells whether the current mode may access CSR n, which exists.
func (h *Hart) csrAllowed(n int) bool {
	switch n {
	case csrFflags, csrFrm, csrFcsr:
		return h.fs != 0
	case csrCycle, csrTime, csrInstret:
		return h.priv == privS || h.scounteren>>(n-csrCycle)&1 != 0
	}
	return h.priv == privS
}

// setCSR writes CSR n, which exists and is not read-only.
func (h *Hart) setCSR(n int, v uint64) {
	switch n {
	case csrFflags:
		h.fflags, h.fs = uint8(v&31), 3
	case csrFrm:
		h.frm, h.fs = uint8(v&7), 3
	case csrFcsr:
		h.fflags, h.frm, h.fs = uint8(v&31), uint8(v>>5&7), 3
	case csrSstatus:
		h.sstatus = v & (statusSIE | statusSPIE | statusSPP | statusSUM | statusMXR)
		h.fs = uint8(v >> 13 & 3)
		h.setContext()
	case csrSie:
		h.sie = v & sieMask
	case csrStvec:
		h.stvec = v &^ 2
	case csrScounteren:
		h.scounteren = v & 7
	case csrSenvcfg:
		h.senvcfg = v & senvcfgFIOM
	case csrSscratch:
		h.sscratch = v
	case csrSepc:
		h.sepc = v &^ 1
	case csrScause:
		h.scause = v
	case csrStval:
		h.stval = v
	case csrSip:
		h.ssip = v>>irqSoftware&1 != 0
	case csrStimecmp:
		h.SetTimer(v)
	case csrSatp:
		switch v >> 60 {
		case 0:
			h.satp = 0
		case satpSv39:
			h.satp = v
		}
		h.setContext()
	}
	h.changed = true
}

// csrOp executes a CSR instruction. It reports false when it is illegal.
func (h *Hart) csrOp(raw uint32) bool {
	n := int(raw >> 20)
	rs1 := raw >> 15 & 31
	f3 := raw >> 12 & 7
	operand := uint64(rs1)
	if f3&4 == 0 {
		operand = h.x[rs1]
	}
	write := f3&3 == 1 || rs1 != 0
	old, ok := h.CSR(n)
	if !ok || !h.csrAllowed(n) || write && n>>10 == 3 {
		return false
	}
	if write {
		v := operand
		switch f3 & 3 {
		case 2:
			v = old | operand
		case 3:
			v = old &^ operand
		}
		h.setCSR(n, v)
	}
	h.SetX(int(raw>>7&31), old)
	return true
}
