package asm

import "fmt"

// Text is the instruction in assembly, with register numbers (x5, f7) and distances relative to it.
func (o *Op) Text(a Args) string {
	d, s1, s2, s3 := reg(o.F&FRd, a.Rd), reg(o.F&FRs1, a.Rs1), reg(o.F&FRs2, a.Rs2), reg(o.F&FRs3, a.Rs3)
	n := o.Name
	switch a.AqRl {
	case 1:
		n += ".rl"
	case 2:
		n += ".aq"
	case 3:
		n += ".aqrl"
	}
	rm := [8]string{"rne", "rtz", "rdn", "rup", "rmm", "?5", "?6", "dyn"}[a.RM&7]
	switch o.Format {
	case FormatNone, FormatCNone:
		return n
	case FormatR:
		return fmt.Sprintf("%s %s, %s, %s", n, d, s1, s2)
	case FormatRRM:
		return fmt.Sprintf("%s %s, %s, %s, %s", n, d, s1, s2, rm)
	case FormatR1:
		return fmt.Sprintf("%s %s, %s", n, d, s1)
	case FormatR1RM:
		return fmt.Sprintf("%s %s, %s, %s", n, d, s1, rm)
	case FormatR4:
		return fmt.Sprintf("%s %s, %s, %s, %s, %s", n, d, s1, s2, s3, rm)
	case FormatI, FormatShift, FormatShiftW:
		return fmt.Sprintf("%s %s, %s, %d", n, d, s1, a.Imm)
	case FormatLoad, FormatJALR, FormatCL4, FormatCL8:
		return fmt.Sprintf("%s %s, %d(%s)", n, d, a.Imm, s1)
	case FormatStore, FormatCS4, FormatCS8:
		return fmt.Sprintf("%s %s, %d(%s)", n, s2, a.Imm, s1)
	case FormatB:
		return fmt.Sprintf("%s %s, %s, .%+d", n, s1, s2, a.Imm)
	case FormatU, FormatCLUI:
		return fmt.Sprintf("%s %s, %#x", n, d, uint32(a.Imm)&0xfffff)
	case FormatJ:
		return fmt.Sprintf("%s %s, .%+d", n, d, a.Imm)
	case FormatAMO:
		return fmt.Sprintf("%s %s, %s, (%s)", n, d, s2, s1)
	case FormatLR:
		return fmt.Sprintf("%s %s, (%s)", n, d, s1)
	case FormatCSR:
		return fmt.Sprintf("%s %s, %#x, %s", n, d, a.CSR, s1)
	case FormatCSRI:
		return fmt.Sprintf("%s %s, %#x, %d", n, d, a.CSR, a.Imm)
	case FormatFence, FormatCI16SP:
		return fmt.Sprintf("%s %d", n, a.Imm)
	case FormatCIW, FormatCI, FormatCShift, FormatCBShift, FormatCBI:
		return fmt.Sprintf("%s %s, %d", n, d, a.Imm)
	case FormatCA, FormatCR:
		return fmt.Sprintf("%s %s, %s", n, d, s2)
	case FormatCJ:
		return fmt.Sprintf("%s .%+d", n, a.Imm)
	case FormatCB:
		return fmt.Sprintf("%s %s, .%+d", n, s1, a.Imm)
	case FormatCILSP4, FormatCILSP8:
		return fmt.Sprintf("%s %s, %d(x2)", n, d, a.Imm)
	case FormatCSS4, FormatCSS8:
		return fmt.Sprintf("%s %s, %d(x2)", n, s2, a.Imm)
	case FormatCJR:
		return fmt.Sprintf("%s %s", n, s1)
	}
	return n + " ?"
}

func reg(float uint8, n uint8) string {
	if float != 0 {
		return fmt.Sprintf("f%d", n)
	}
	return fmt.Sprintf("x%d", n)
}
