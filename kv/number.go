package kv

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// parseInt reads a 64-bit integer as Redis's string2ll does: canonical decimal digits, no plus sign, no leading zero,
// no space.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 {
		return int64(b[0]) - '0', b[0] >= '0' && b[0] <= '9'
	}
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	neg := b[0] == '-'
	d := b
	if neg {
		d = b[1:]
	}
	if len(d) > 19 || d[0] < '1' || d[0] > '9' {
		return 0, false
	}
	var n uint64
	for _, c := range d {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0') // 19 digits fit
	}
	if neg {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// cNumber cuts text into what C's strtod accepts: no space, decimal or 0x, inf, infinity, nan. Go's parser also takes
// underscores and wants a p exponent for hexadecimal digits.
func cNumber(b []byte) (string, bool) {
	if len(b) == 0 || len(b) > 5*1024 {
		return "", false
	}
	hex, exp := false, false
	for i, c := range b {
		switch {
		case c == '_' || c <= ' ' || c > '~':
			return "", false
		case c == 'x' || c == 'X':
			hex = true
		case (c == 'p' || c == 'P') && i > 0:
			exp = true
		}
	}
	s := string(b)
	if hex && !exp {
		s += "p0"
	}
	return s, true
}

// parseFloat reads a double as strtod does. NaN is none.
func parseFloat(b []byte) (float64, bool) {
	if n, ok := parseInt(b); ok && n > -1<<53 && n < 1<<53 {
		return float64(n), true
	}
	s, ok := cNumber(b)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f == 0 && !isZero(s) {
		return 0, false // ERANGE, as in Redis
	}
	return f, true
}

// isZero tells whether the digits of a number are all zero.
func isZero(s string) bool {
	s = strings.ToLower(strings.TrimLeft(s, "+-"))
	exp := "e"
	if strings.HasPrefix(s, "0x") {
		s, exp = s[2:], "p"
	}
	digits, _, _ := strings.Cut(s, exp)
	return strings.Trim(digits, "0.") == ""
}

// Redis adds floating point numbers for INCRBYFLOAT and HINCRBYFLOAT as C's long double: on amd64 the 80-bit format
// of the x87. That has a significand of 64 bits, so big.Float with this precision, rounding to nearest even, gives
// the same digits on every processor. Where Redis itself runs on others (arm64 has 128-bit long doubles), the last
// of 17 digits can differ from ours.
const longBits = 64

var (
	longMax = func() *big.Float { // (1-2^-64) * 2^16384
		f := new(big.Float).SetPrec(longBits).SetInt(new(big.Int).SetUint64(math.MaxUint64))
		return f.SetMantExp(f, 16384-64)
	}()
	longMin = new(big.Float).SetPrec(longBits).SetMantExp(big.NewFloat(1), -16445)
)

// parseLong reads a long double. Infinity is one; NaN and what is out of range is none.
func parseLong(b []byte) (*big.Float, bool) {
	f := new(big.Float).SetPrec(longBits)
	if n, ok := parseInt(b); ok {
		return f.SetInt64(n), true
	}
	s, ok := cNumber(b)
	if !ok {
		return nil, false
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil && !strings.HasSuffix(err.Error(), strconv.ErrRange.Error()) {
		return nil, false
	}
	body := strings.ToLower(strings.TrimLeft(s, "+-"))
	switch {
	case strings.HasPrefix(body, "nan"):
		return nil, false
	case strings.HasPrefix(body, "inf"):
		return f.SetInf(s[0] == '-'), true
	}
	// The exponent is looked at before anything is computed with it: 1e999999999 must cost nothing.
	if i := strings.IndexAny(body, "ep"); i >= 0 && !(strings.HasPrefix(body, "0x") && body[i] == 'e') {
		if e, err := strconv.Atoi(body[i+1:]); err != nil || e > 40000 || e < -40000 {
			return f, isZero(s)
		}
	}
	if strings.HasPrefix(body, "0x") {
		if _, _, err := f.Parse(s, 0); err != nil {
			return nil, false
		}
	} else {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			return nil, false
		}
		f.SetRat(r) // exact until here, so this rounds once, as strtold does
	}
	if f.Sign() != 0 {
		abs := new(big.Float).Abs(f)
		if abs.Cmp(longMax) > 0 || abs.Cmp(longMin) < 0 {
			return nil, false
		}
	}
	return f, true
}

// addLong returns a+b as long doubles. Not ok: the sum is no finite number.
func addLong(a, b *big.Float) (*big.Float, bool) {
	if a.IsInf() || b.IsInf() {
		return nil, false
	}
	sum := new(big.Float).SetPrec(longBits).Add(a, b)
	if new(big.Float).Abs(sum).Cmp(longMax) > 0 {
		return nil, false
	}
	return sum, true
}

// formatLong writes f as Redis does: 17 digits behind the point without trailing zeros.
func formatLong(dst []byte, f *big.Float) []byte {
	from := len(dst)
	dst = f.Append(dst, 'f', 17)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	if dst[len(dst)-1] == '.' {
		dst = dst[:len(dst)-1]
	}
	if string(dst[from:]) == "-0" {
		dst = append(dst[:from], '0')
	}
	return dst
}

// random is a small generator (splitmix64) for the choices of one command. Its seed comes from the entry.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1. The bias of n/2^64 is of no account.
func (r *random) below(n int) int { return int(r.next() >> 1 % uint64(n)) }
