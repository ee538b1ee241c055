//go:build !(amd64.v3 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x)

package riscv

// hostFMA: see the file for hosts that have it.
const hostFMA = false
