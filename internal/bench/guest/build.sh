#!/bin/sh
# Builds ../testdata/kernels.elf. Needs riscv64-linux-gnu-gcc (Debian package gcc-riscv64-linux-gnu) and go.
# The result is committed, so that no compiler is needed to run the benchmarks.
set -eu
cd "$(dirname "$0")"
out=../testdata/kernels.elf
big=$(mktemp --suffix=.c)
trap 'rm -f "$big"' EXIT
go run big.go >"$big"
flags="-march=rv64gc -mabi=lp64d -mcmodel=medany -ffreestanding -fno-pic -fno-stack-protector
	-fno-tree-loop-distribute-patterns -fno-asynchronous-unwind-tables -fno-ident -Wall -Wextra -I."
mkdir -p ../testdata
# big is optimised for size: what counts is that there is much of it.
riscv64-linux-gnu-gcc $flags -Os -c -o "$big.o" "$big"
riscv64-linux-gnu-gcc $flags -O2 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-T,link.ld -Wl,-s \
	-Wl,-z,max-page-size=4096 -o "$out" start.S main.c small.c sha256.c mixed.c "$big.o"
rm -f "$big.o"
ls -l "$out"
