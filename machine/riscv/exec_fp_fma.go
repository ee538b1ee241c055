//go:build amd64.v3 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x

package riscv

// hostFMA says that math.FMA compiles to one instruction. Elsewhere it may be a call, which the
// interpreter must not contain: the compiler would keep its variables in memory.
const hostFMA = true
