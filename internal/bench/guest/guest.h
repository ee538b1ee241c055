// What the benchmark kernels share. They run in S mode without a library.
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int i32;
typedef long i64;

#define noinline __attribute__((noinline))

// A kernel does its work reps times and gives a checksum that depends on all of it.
typedef u64 kernel(u64 reps);

kernel run_chase, run_crc32, run_fib, run_matmul, run_memcpy, run_qsort, run_sha256, run_sieve, run_coremark,
	run_dhrystone, run_nbody, run_dispatch, run_big;

// 8 MiB that a kernel may use as it likes.
extern u8 arena[8 << 20];

// A small generator with the period 2^64.
static inline u64 next_random(u64 *s)
{
	*s += 0x9e3779b97f4a7c15;
	u64 z = *s;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline u64 mix(u64 h, u64 v)
{
	return (h ^ v) * 0x100000001b3;
}

#endif
