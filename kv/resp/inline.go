package resp

import "bytes"

// inline reads a command that is a line of words, as a person types it.
func (r *Reader) inline(rest []byte) (args [][]byte, more bool) {
	end := bytes.IndexByte(rest, '\n')
	if end < 0 || end > MaxLine {
		if len(rest) > MaxLine {
			r.err = ProtocolError("too big inline request")
		}
		return nil, true
	}
	r.start += end + 1
	line := rest[:end]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		line = line[:i] // Redis takes the line for a C string
	}
	r.line = make([]byte, 0, len(line)) // fresh: earlier commands of this input may still be in use
	r.args = r.args[:0]
	ok := true
	r.args, ok = splitWords(r.args, r.line, line)
	if !ok {
		r.err = ProtocolError("unbalanced quotes in request")
		return nil, false
	}
	return r.args, false
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// SplitWords cuts a line into words by the rules of redis-cli and of inline commands: words are separated by white
// space; "double quotes" know \n \r \t \b \a \xHH and \ before any other character, 'single quotes' know \' only; a
// closing quote must be followed by white space or the end. Not ok: quotes are not balanced.
func SplitWords(line []byte) (words [][]byte, ok bool) {
	return splitWords(nil, make([]byte, 0, len(line)), line)
}

func splitWords(words [][]byte, store, line []byte) ([][]byte, bool) {
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		from := len(store) // words never need more room than the line has
		quote := byte(0)
	word:
		for {
			if i == len(line) {
				if quote != 0 {
					return nil, false
				}
				break
			}
			c := line[i]
			switch {
			case quote == '"' && c == '\\' && i+3 < len(line) && line[i+1] == 'x' && hex(line[i+2]) >= 0 && hex(line[i+3]) >= 0:
				store = append(store, byte(hex(line[i+2])<<4|hex(line[i+3])))
				i += 3
			case quote == '"' && c == '\\' && i+1 < len(line):
				i++
				store = append(store, unescape(line[i]))
			case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
				i++
				store = append(store, '\'')
			case quote != 0 && c == quote:
				i++
				if i < len(line) && !isSpace(line[i]) {
					return nil, false
				}
				break word
			case quote != 0:
				store = append(store, c)
			case isSpace(c):
				break word
			case c == '"' || c == '\'':
				quote = c
			default:
				store = append(store, c)
			}
			i++
		}
		words = append(words, store[from:len(store):len(store)])
	}
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
