package kv

// match tells whether s matches a pattern of Redis: * ? [a-z] [^a] and \ before any character. Redis's oddities are
// kept: a class that is not closed ends with the pattern. The work is bounded by the product of the lengths: once the
// rest behind a star has run to the end of s in vain, no earlier star need try again.
func match(pattern, s []byte) bool {
	given := false
	return matchFrom(pattern, s, &given)
}

func matchFrom(p, s []byte, giveUp *bool) bool {
	for len(p) > 0 && len(s) > 0 {
		switch p[0] {
		case '*':
			for len(p) > 1 && p[1] == '*' {
				p = p[1:]
			}
			if len(p) == 1 {
				return true
			}
			for len(s) > 0 {
				if matchFrom(p[1:], s, giveUp) {
					return true
				}
				if *giveUp {
					return false
				}
				s = s[1:]
			}
			*giveUp = true
			return false
		case '?':
			s = s[1:]
		case '[':
			var ok bool
			if ok, p = class(p[1:], s[0]); !ok {
				return false
			}
			s = s[1:]
		case '\\':
			if len(p) >= 2 {
				p = p[1:]
			}
			fallthrough
		default:
			if p[0] != s[0] {
				return false
			}
			s = s[1:]
		}
		if len(p) > 0 {
			p = p[1:]
		}
	}
	if len(s) == 0 {
		for len(p) > 0 && p[0] == '*' {
			p = p[1:]
		}
	}
	return len(p) == 0 && len(s) == 0
}

// class matches c against what follows a bracket. It returns the pattern from the closing bracket on.
func class(p []byte, c byte) (bool, []byte) {
	not := len(p) > 0 && p[0] == '^'
	if not {
		p = p[1:]
	}
	found := false
	for {
		switch {
		case len(p) >= 2 && p[0] == '\\':
			p = p[1:]
			found = found || p[0] == c
		case len(p) == 0 || p[0] == ']':
			return found != not, p
		case len(p) >= 3 && p[1] == '-':
			lo, hi := p[0], p[2]
			if lo > hi {
				lo, hi = hi, lo
			}
			p = p[2:]
			found = found || c >= lo && c <= hi
		default:
			found = found || p[0] == c
		}
		p = p[1:]
	}
}
