package sim

import "time"

// rng is the only source of chance: SplitMix64 (Steele, Lea, Flood 2014).
type rng struct{ state uint64 }

func (r *rng) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// intn is a number from 0 to n-1.
func (r *rng) intn(n int) int { return int(r.next() >> 1 % uint64(n)) }

// chance is true in one of n cases.
func (r *rng) chance(n int) bool { return r.intn(n) == 0 }

// permille is true in p of a thousand cases.
func (r *rng) permille(p int) bool { return r.intn(1000) < p }

// between is a duration from lo to hi.
func (r *rng) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.next()>>1%uint64(hi-lo))
}

// mix folds a value into a hash.
func mix(h, v uint64) uint64 {
	z := h ^ (v + 0x9e3779b97f4a7c15 + h<<6 + h>>2)
	z = (z ^ z>>33) * 0xff51afd7ed558ccd
	return z ^ z>>29
}
