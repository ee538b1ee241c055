# Entry of the benchmark guest: S mode, translation off, a0 = hart, a1 = device tree.
	.section .text.start
	.globl _start
_start:
	la	sp, stack_top
	li	t0, 1 << 13		# sstatus.FS = initial
	csrs	sstatus, t0
	csrwi	fcsr, 0
	la	t0, trap
	csrw	stvec, t0
	la	t0, __bss_start
	la	t1, __bss_end
1:	sd	zero, 0(t0)
	addi	t0, t0, 8
	bltu	t0, t1, 1b
	mv	a0, a1
	call	guest_main
1:	wfi
	j	1b

	.balign 4
trap:
	csrr	a0, scause
	csrr	a1, sepc
	csrr	a2, stval
	la	sp, stack_top
	call	guest_trap
1:	j	1b

	.bss
	.balign 16
	.space	65536
stack_top:
