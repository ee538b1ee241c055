// SHA-256 (FIPS 180-4) over 16 KiB.
#include "guest.h"

static u32 k[64];

static u32 rotate(u32 x, int n)
{
	return x >> n | x << (32 - n);
}

// constants computes the first 32 bits of the fractional parts of the cube roots of the first primes.
static void constants(void)
{
	u32 p = 2;
	for (int n = 0; n < 64; p++) {
		u32 d = 2;
		while (d * d <= p && p % d)
			d++;
		if (d * d <= p)
			continue;
		// The cube root of p with 32 fraction bits, by bisection: r^3 <= p * 2^96.
		u64 r = 0;
		for (int bit = 34; bit >= 0; bit--) {
			unsigned __int128 t = r | 1UL << bit;
			if (t * t * t < (unsigned __int128)p << 96)
				r = t;
		}
		k[n++] = r;
	}
}

static noinline void block(u32 h[8], const u8 *p)
{
	u32 w[64];
	for (int i = 0; i < 16; i++)
		w[i] = (u32)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		u32 x = w[i - 15], y = w[i - 2];
		w[i] = w[i - 16] + w[i - 7] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
	}
	u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], i = h[7];
	for (int t = 0; t < 64; t++) {
		u32 x = i + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + k[t] + w[t];
		u32 y = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
		i = g, g = f, f = e, e = d + x, d = c, c = b, b = a, a = x + y;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += i;
}

u64 run_sha256(u64 reps)
{
	u32 h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	u64 seed = 8, sum = 0;
	constants();
	for (u64 i = 0; i < 16384; i++)
		arena[i] = next_random(&seed);
	for (u64 r = 0; r < reps; r++)
		for (u64 i = 0; i < 16384; i += 64)
			block(h, arena + i);
	for (int i = 0; i < 8; i++)
		sum = mix(sum, h[i]);
	return sum;
}
