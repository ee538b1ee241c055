// Kernels of a few lines each.
#include "guest.h"

// chase follows pointers through 4,096 nodes, one per 64 bytes, in random order.
u64 run_chase(u64 reps)
{
	struct node {
		struct node *next;
		u64 value, pad[6];
	} *nodes = (void *)arena;
	enum { N = 4096 };
	u32 *order = (u32 *)(nodes + N);
	u64 seed = 1;
	for (u32 i = 0; i < N; i++)
		order[i] = i;
	for (u32 i = N - 1; i > 0; i--) {
		u32 j = next_random(&seed) % (i + 1), t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
	for (u32 i = 0; i < N; i++) {
		nodes[order[i]].next = &nodes[order[(i + 1) % N]];
		nodes[order[i]].value = next_random(&seed);
	}
	u64 sum = 0;
	struct node *p = nodes;
	for (u64 r = 0; r < reps * 16 * N; r++) {
		sum = sum * 3 + p->value;
		p = p->next;
	}
	return sum;
}

// crc32 is bytewise with a table, over 64 KiB.
u64 run_crc32(u64 reps)
{
	u32 *table = (u32 *)arena;
	u8 *data = arena + 4096;
	u64 seed = 2, sum = 0;
	for (u32 i = 0; i < 256; i++) {
		u32 c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
		table[i] = c;
	}
	for (u32 i = 0; i < 65536; i++)
		data[i] = next_random(&seed);
	for (u64 r = 0; r < reps * 4; r++) {
		u32 c = ~(u32)r;
		for (u32 i = 0; i < 65536; i++)
			c = table[(c ^ data[i]) & 255] ^ c >> 8;
		sum = mix(sum, ~c);
	}
	return sum;
}

static noinline u64 fib(u64 n)
{
	// The barrier keeps the compiler from unrolling the recursion.
	asm volatile("" : "+r"(n));
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

u64 run_fib(u64 reps)
{
	u64 sum = 0;
	for (u64 r = 0; r < reps; r++)
		sum = mix(sum, fib(22 + (r & 3)));
	return sum;
}

// matmul multiplies matrices of 64 by 64 doubles.
u64 run_matmul(u64 reps)
{
	enum { N = 64 };
	double(*x)[N] = (void *)arena, (*y)[N] = x + N, (*z)[N] = y + N;
	u64 seed = 3, sum = 0;
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			x[i][j] = (double)(i64)(next_random(&seed) >> 40) / 3072;
			y[i][j] = (double)(i64)(next_random(&seed) >> 40) / 12288 - 100;
		}
	for (u64 r = 0; r < reps; r++) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				double s = 0;
				for (int k = 0; k < N; k++)
					s += x[i][k] * y[k][j];
				z[i][j] = s;
			}
		u64 bits;
		__builtin_memcpy(&bits, &z[r % N][r / N % N], 8);
		sum = mix(sum, bits);
		x[r % N][(r + 7) % N] += 0.125;
	}
	return sum;
}

// memcpy copies 64 KiB in words, eight to a turn, as libraries do.
u64 run_memcpy(u64 reps)
{
	u64 *from = (u64 *)arena, *to = from + 8192 + 512;
	u64 seed = 4, sum = 0;
	for (int i = 0; i < 8192; i++)
		from[i] = next_random(&seed);
	for (u64 r = 0; r < reps * 16; r++) {
		const u64 *s = from, *end = from + 8192;
		u64 *d = to;
		for (; s < end; s += 8, d += 8) {
			u64 a = s[0], b = s[1], c = s[2], e = s[3], f = s[4], g = s[5], h = s[6], i = s[7];
			d[0] = a, d[1] = b, d[2] = c, d[3] = e, d[4] = f, d[5] = g, d[6] = h, d[7] = i;
		}
		sum = mix(sum, to[r % 8192]);
		from[r * 31 % 8192] += sum;
	}
	return sum;
}

static noinline int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;
	return x < y ? -1 : x > y;
}

static void sort(u64 *v, i64 n, int (*less)(const void *, const void *))
{
	while (n > 12) {
		u64 pivot = v[n / 2];
		i64 i = 0, j = n - 1;
		for (;;) {
			while (less(&v[i], &pivot) < 0)
				i++;
			while (less(&v[j], &pivot) > 0)
				j--;
			if (i >= j)
				break;
			u64 t = v[i];
			v[i++] = v[j];
			v[j--] = t;
		}
		sort(v, i, less);
		v += i;
		n -= i;
	}
	for (i64 i = 1; i < n; i++)
		for (i64 j = i; j > 0 && less(&v[j], &v[j - 1]) < 0; j--) {
			u64 t = v[j];
			v[j] = v[j - 1];
			v[j - 1] = t;
		}
}

// qsort sorts 4,096 random numbers with a comparison through a pointer.
u64 run_qsort(u64 reps)
{
	u64 *v = (u64 *)arena, seed = 5, sum = 0;
	int (*volatile less)(const void *, const void *) = compare;
	for (u64 r = 0; r < reps; r++) {
		for (int i = 0; i < 4096; i++)
			v[i] = next_random(&seed);
		sort(v, 4096, less);
		sum = mix(sum, v[r % 4096]);
	}
	return sum;
}

// sieve finds the primes below 65,536.
u64 run_sieve(u64 reps)
{
	u8 *out = arena;
	u64 sum = 0;
	for (u64 r = 0; r < reps; r++) {
		u64 *w = (u64 *)out;
		for (int i = 0; i < 65536 / 8; i++)
			w[i] = 0;
		u64 count = 0;
		for (u64 i = 2; i < 65536; i++)
			if (!out[i]) {
				count++;
				for (u64 j = i * 2; j < 65536; j += i)
					out[j] = 1;
			}
		sum = mix(sum, count + r);
	}
	return sum;
}

// nbody moves five bodies: divisions, square roots and additions of doubles.
u64 run_nbody(u64 reps)
{
	struct {
		double p[3], v[3], m;
	} b[5];
	u64 seed = 6;
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 3; k++) {
			b[i].p[k] = (double)(i64)(next_random(&seed) >> 52) / 64 + 8 * i;
			b[i].v[k] = (double)(i64)(next_random(&seed) >> 52) / 4096;
		}
		b[i].m = 1 + i;
	}
	for (u64 r = 0; r < reps * 256; r++) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double d[3], q = 0.01;
				for (int k = 0; k < 3; k++) {
					d[k] = b[i].p[k] - b[j].p[k];
					q += d[k] * d[k];
				}
				double root;
				asm("fsqrt.d %0, %1" : "=f"(root) : "f"(q));
				double g = 0.001 / (q * root);
				for (int k = 0; k < 3; k++) {
					b[i].v[k] -= d[k] * b[j].m * g;
					b[j].v[k] += d[k] * b[i].m * g;
				}
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++)
				b[i].p[k] += 0.001 * b[i].v[k];
	}
	u64 sum = 0, bits;
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 3; k++) {
			__builtin_memcpy(&bits, &b[i].p[k], 8);
			sum = mix(sum, bits);
		}
	return sum;
}

// dispatch interprets a byte code through a table of labels.
u64 run_dispatch(u64 reps)
{
	static void *const labels[8] = {&&add, &&xor, &&shift, &&load, &&store, &&swap, &&skip, &&end};
	u8 *code = arena;
	u64 *memory = (u64 *)(arena + 8192), seed = 7, sum = 0;
	for (int i = 0; i < 4095; i++)
		code[i] = next_random(&seed) % 7;
	code[4095] = code[4096] = 7;
	for (u64 r = 0; r < reps * 32; r++) {
		const u8 *pc = code;
		u64 x = sum, y = r, t;
#define NEXT goto *labels[*pc++]
		NEXT;
	add:
		x += y;
		NEXT;
	xor:
		x ^= y + 1;
		NEXT;
	shift:
		x = x << 7 | x >> 57;
		NEXT;
	load:
		y = memory[x & 1023];
		NEXT;
	store:
		memory[y & 1023] = x;
		NEXT;
	swap:
		t = x, x = y, y = t;
		NEXT;
	skip:
		pc += x & 1;
		NEXT;
	end:
		sum = mix(sum, x ^ y);
	}
	return sum;
}
