// Kernels that mix what programs do, in the manner of two well-known benchmarks (but not those benchmarks).
#include "guest.h"

// --- coremark: a linked list, a matrix of integers, a state machine and a CRC over their results ---

static u16 crc16(u16 c, u16 v)
{
	for (int i = 0; i < 16; i++) {
		u16 bit = (v ^ c) & 1;
		v >>= 1;
		c >>= 1;
		if (bit)
			c ^= 0xa001;
	}
	return c;
}

struct item {
	struct item *next;
	short key, data;
};

static noinline struct item *merge_sort(struct item *list, int by_data)
{
	for (int run = 1;; run *= 2) {
		struct item *p = list, *tail = 0;
		int merges = 0;
		list = 0;
		while (p) {
			merges++;
			struct item *q = p;
			int np = 0, nq = run;
			while (np < run && q) {
				np++;
				q = q->next;
			}
			while (np > 0 || (nq > 0 && q)) {
				struct item *e;
				int left = np > 0 && (nq == 0 || !q || (by_data ? p->data <= q->data : p->key <= q->key));
				if (left) {
					e = p;
					p = p->next;
					np--;
				} else {
					e = q;
					q = q->next;
					nq--;
				}
				if (tail)
					tail->next = e;
				else
					list = e;
				tail = e;
			}
			p = q;
		}
		tail->next = 0;
		if (merges <= 1)
			return list;
	}
}

static noinline struct item *reverse(struct item *list)
{
	struct item *out = 0;
	while (list) {
		struct item *next = list->next;
		list->next = out;
		out = list;
		list = next;
	}
	return out;
}

static noinline u16 matrix(short *a, short *b, i32 *c, int n, short add)
{
	u16 crc = 0;
	for (int i = 0; i < n * n; i++)
		a[i] += add;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			i32 s = 0;
			for (int l = 0; l < n; l++) {
				i32 t = a[i * n + l] * b[l * n + j];
				s += (t >> 2 & 15) * (t >> 5 & 127);
			}
			c[i * n + j] = s;
		}
	for (int i = 0; i < n * n; i++)
		crc = crc16(crc, c[i]);
	for (int i = 0; i < n * n; i++)
		a[i] -= add;
	return crc;
}

enum state { START, SIGN, INTEGER, FRACTION, EXPONENT, SCIENCE, BAD, STATES };

static noinline enum state scan(const u8 **text, u32 *counts)
{
	const u8 *s = *text;
	enum state st = START;
	for (; *s && st != BAD; s++) {
		u8 c = *s;
		if (c == ',') {
			s++;
			break;
		}
		int digit = c >= '0' && c <= '9';
		switch (st) {
		case START:
			st = digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : BAD;
			break;
		case SIGN:
			st = digit ? INTEGER : c == '.' ? FRACTION : BAD;
			break;
		case INTEGER:
			st = c == '.' ? FRACTION : digit ? INTEGER : BAD;
			break;
		case FRACTION:
			st = c == 'e' || c == 'E' ? EXPONENT : digit ? FRACTION : BAD;
			break;
		case EXPONENT:
			st = c == '+' || c == '-' ? SCIENCE : BAD;
			break;
		case SCIENCE:
			st = digit ? SCIENCE : BAD;
			break;
		default:
			break;
		}
		counts[st]++;
	}
	*text = s;
	return st;
}

u64 run_coremark(u64 reps)
{
	enum { ITEMS = 100, N = 9 };
	struct item *items = (void *)arena, *list = 0;
	short *a = (short *)(arena + 4096), *b = a + N * N;
	i32 *c = (i32 *)(arena + 8192);
	static const char *const words[] = {"5012", "1234", "-874", "+122", "35.54400", ".1234500", "-110.700", "+0.64400",
		"5.500e+3", "-.123e-2", "-87e+832", "+0.6e-12", "T0.3e-1F", "-T.T++Tq", "1T3.4e4z", "34.0e-T^"};
	u8 *text = arena + 16384, *end = text;
	u64 seed = 9;
	for (int i = 0; i < ITEMS; i++) {
		items[i] = (struct item){list, (short)i, (short)next_random(&seed)};
		list = &items[i];
	}
	for (int i = 0; i < N * N; i++)
		a[i] = i * 7 % 31, b[i] = i * 5 % 29;
	for (int i = 0; i < 64; i++) {
		for (const char *w = words[next_random(&seed) % 16]; *w; w++)
			*end++ = *w;
		*end++ = ',';
	}
	*end = 0;
	u16 crc = 0;
	for (u64 r = 0; r < reps * 8; r++) {
		list = merge_sort(list, 1);
		crc = crc16(crc, list->data);
		for (struct item *p = list; p; p = p->next)
			p->data ^= (short)(r & 7) << (p->key & 7);
		list = reverse(list);
		list = merge_sort(list, 0);
		crc = crc16(crc, list->next->data);
		crc = crc16(crc, matrix(a, b, c, N, (short)(r & 15)));
		u32 counts[STATES] = {0};
		const u8 *s = text;
		while (*s)
			counts[scan(&s, counts)]++;
		for (int i = 0; i < STATES; i++)
			crc = crc16(crc, counts[i]);
	}
	return crc;
}

// --- dhrystone: records, strings and small procedures ---

struct record {
	struct record *next;
	i32 kind, choice, number;
	char text[31];
};

static noinline int compare_strings(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (u8)*a - (u8)*b;
}

static noinline void copy_string(char *d, const char *s)
{
	while ((*d++ = *s++))
		;
}

static i32 global_number, global_flag;
static char global_char;
static i32 vector[50], square[50][50];

static noinline i32 choose(i32 value)
{
	switch (value) {
	case 0:
		return global_number > 100 ? 0 : 3;
	case 1:
		return global_flag ? 2 : 1;
	case 2:
		return 1;
	default:
		return 2;
	}
}

static noinline void add_into(i32 x, i32 y, i32 *z)
{
	*z = y + x + 2;
}

static noinline void arrays(i32 *one, i32 (*two)[50], i32 x, i32 y)
{
	i32 l = x + 5;
	one[l] = y;
	one[l + 1] = one[l];
	one[l + 30] = l;
	for (i32 i = l; i <= l + 1; i++)
		two[l][i] = l;
	two[l][l - 1]++;
	two[l + 5 > 49 ? 49 : l + 5][l] = one[l];
	global_number = 5;
}

static noinline i32 characters(char a, char b)
{
	if (a != b)
		return 0;
	global_char = a;
	return 1;
}

static noinline i32 strings(const char *a, const char *b)
{
	i32 l = 2;
	while (l <= 2)
		if (!characters(a[l], b[l + 1]))
			l++;
		else
			l += 2;
	if (compare_strings(a, b) > 0) {
		global_number = l + 7;
		return 1;
	}
	return 0;
}

static noinline void update(struct record *r)
{
	struct record *n = r->next;
	*n = *r;
	r->number = 5;
	n->number = r->number;
	n->next = r->next;
	if (n->kind == 0) {
		n->number = 6;
		n->choice = choose(r->choice);
		add_into(n->number, 10, &n->number);
	} else {
		*r = *n;
	}
}

u64 run_dhrystone(u64 reps)
{
	static struct record first, second;
	char s1[31], s2[31];
	u64 sum = 0;
	first = (struct record){&second, 0, 2, 40, "PROGRAM OF MANY SMALL STEPS"};
	copy_string(s1, "PROGRAM OF SMALL STEPS, 1ST");
	for (u64 r = 0; r < reps * 256; r++) {
		i32 x = 2, y = 3, z = 0;
		copy_string(s2, "PROGRAM OF SMALL STEPS, 2ND");
		global_flag = !strings(s1, s2);
		while (x < y) {
			z = 5 * x - y;
			add_into(x, y, &z);
			x++;
		}
		arrays(vector, square, x, z);
		update(&first);
		first.kind = r & 1;
		for (char c = 'A'; c <= 'C' + (char)(r & 1); c++)
			if (characters(c, 'C'))
				y = choose(c & 3);
		y *= x;
		x = y / (z ? z : 1);
		y = 7 * (y - z) - x;
		sum = mix(sum, (u64)(u32)(x + y * 3 + z * 5 + global_number + second.number + global_char));
	}
	return sum;
}
