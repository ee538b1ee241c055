package debian

import "strings"

// CompareVersions orders two Debian versions: negative when a is older than b, 0 when equal, positive when newer.
// Source: deb-version(7).
func CompareVersions(a, b string) int {
	aEpoch, a := splitEpoch(a)
	bEpoch, b := splitEpoch(b)
	if c := compareDigits(aEpoch, bEpoch); c != 0 {
		return c
	}
	aUpstream, aRevision := splitRevision(a)
	bUpstream, bRevision := splitRevision(b)
	if c := compareParts(aUpstream, bUpstream); c != 0 {
		return c
	}
	return compareParts(aRevision, bRevision)
}

func splitEpoch(v string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(v, ":"); ok {
		return epoch, rest
	}
	return "", v
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareParts alternates between a stretch without digits, compared with '~' before the end before letters before
// all else, and a stretch of digits, compared as numbers.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := charRank(a) - charRank(b); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		i, j := 0, 0
		for i < len(a) && isDigit(a[i]) {
			i++
		}
		for j < len(b) && isDigit(b[j]) {
			j++
		}
		if c := compareDigits(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

func charRank(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// satisfies tells whether version have stands in the relation op ("<<", "<=", "=", ">=", ">>", "" for any) to want.
func satisfies(have, op, want string) bool {
	c := CompareVersions(have, want)
	switch op {
	case "":
		return true
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}
