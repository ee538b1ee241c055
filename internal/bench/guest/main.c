// The benchmark guest: it maps its memory, reads which kernel to run from the boot arguments ("crc32 20"), runs
// it and prints
//
//	result NAME REPS CHECKSUM(hex) INSTRUCTIONS
//
// where the instructions are those that the kernel alone retired, as far as the machine counts them exactly.
#include "guest.h"

u8 arena[8 << 20] __attribute__((aligned(4096)));

static const struct {
	const char *name;
	kernel *run;
} kernels[] = {
	{"chase", run_chase}, {"crc32", run_crc32}, {"fib", run_fib}, {"matmul", run_matmul},
	{"memcpy", run_memcpy}, {"qsort", run_qsort}, {"sha256", run_sha256}, {"sieve", run_sieve},
	{"coremark", run_coremark}, {"dhrystone", run_dhrystone}, {"nbody", run_nbody},
	{"dispatch", run_dispatch}, {"big", run_big},
};

// --- the firmware ---

struct sbiret {
	i64 error, value;
};

static struct sbiret sbi(u64 ext, u64 fn, u64 x, u64 y, u64 z)
{
	register u64 a0 asm("a0") = x;
	register u64 a1 asm("a1") = y;
	register u64 a2 asm("a2") = z;
	register u64 a6 asm("a6") = fn;
	register u64 a7 asm("a7") = ext;
	asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
	return (struct sbiret){a0, a1};
}

#define EXT_BASE 0x10
#define EXT_DBCN 0x4442434e
#define EXT_SRST 0x53525354

static int has_dbcn;

static void put(char c)
{
	if (has_dbcn)
		sbi(EXT_DBCN, 2, (u8)c, 0, 0);
	else
		sbi(1, 0, (u8)c, 0, 0);
}

static void put_string(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_number(u64 v, u64 base)
{
	char digits[24];
	int n = 0;
	do
		digits[n++] = "0123456789abcdef"[v % base];
	while (v /= base);
	while (n)
		put(digits[--n]);
}

static void shutdown(void)
{
	sbi(EXT_SRST, 0, 0, 0, 0);
	sbi(8, 0, 0, 0, 0);
	for (;;)
		asm volatile("wfi");
}

void guest_trap(u64 cause, u64 pc, u64 value)
{
	put_string("trap ");
	put_number(cause, 16);
	put(' ');
	put_number(pc, 16);
	put(' ');
	put_number(value, 16);
	put('\n');
	shutdown();
}

// --- the device tree: only as much as finds one property ---

static u32 be32(const u8 *p)
{
	return (u32)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static const char *bootargs(const u8 *tree)
{
	if (be32(tree) != 0xd00dfeed)
		return "";
	const u8 *p = tree + be32(tree + 8);
	const char *names = (const char *)tree + be32(tree + 12);
	for (;;) {
		u32 token = be32(p);
		p += 4;
		if (token == 1) {
			while (*p)
				p++;
			p = (const u8 *)(((u64)p + 4) & ~3UL);
		} else if (token == 3) {
			u32 size = be32(p);
			if (same(names + be32(p + 4), "bootargs"))
				return (const char *)p + 8;
			p += 8 + ((size + 3) & ~3U);
		} else if (token == 9) {
			return "";
		}
	}
}

// --- paging: the first 64 MiB of RAM mapped onto themselves in 4 KiB pages ---

#define MAPPED (64UL << 20)
#define RAM 0x80000000UL

static u64 root[512] __attribute__((aligned(4096)));
static u64 middle[512] __attribute__((aligned(4096)));
static u64 leaves[MAPPED / 4096] __attribute__((aligned(4096)));

static void paging_on(void)
{
	root[RAM >> 30] = (u64)middle >> 12 << 10 | 1;
	for (u64 i = 0; i < MAPPED >> 21; i++)
		middle[i] = (u64)(leaves + 512 * i) >> 12 << 10 | 1;
	for (u64 i = 0; i < MAPPED >> 12; i++)
		leaves[i] = (RAM + (i << 12)) >> 12 << 10 | 0xcf;
	asm volatile("sfence.vma\n\tcsrw satp, %0\n\tsfence.vma" : : "r"(8UL << 60 | (u64)root >> 12) : "memory");
}

static u64 instret(void)
{
	u64 v;
	asm volatile("rdinstret %0" : "=r"(v));
	return v;
}

void guest_main(const u8 *tree)
{
	char name[16];
	int n = 0;
	has_dbcn = sbi(EXT_BASE, 3, EXT_DBCN, 0, 0).value != 0;
	const char *s = bootargs(tree);
	while (*s && *s != ' ' && n < 15)
		name[n++] = *s++;
	name[n] = 0;
	u64 reps = 0;
	while (*s == ' ')
		s++;
	while (*s >= '0' && *s <= '9')
		reps = reps * 10 + (*s++ - '0');
	paging_on();
	u64 sum = 0, before = instret(), after = before;
	for (u64 i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
		if (same(name, kernels[i].name)) {
			sum = kernels[i].run(reps);
			after = instret();
		}
	put_string("result ");
	put_string(name);
	put(' ');
	put_number(reps, 10);
	put(' ');
	put_number(sum, 16);
	put(' ');
	put_number(after - before, 10);
	put('\n');
	shutdown();
}

// The compiler may call these.
void *memset(void *d, int c, u64 n)
{
	for (u8 *p = d; n; n--)
		*p++ = c;
	return d;
}

void *memcpy(void *d, const void *s, u64 n)
{
	u8 *p = d;
	for (const u8 *q = s; n; n--)
		*p++ = *q++;
	return d;
}
