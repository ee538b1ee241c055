package resp

import (
	"bytes"
	"fmt"
)

// The limits of Redis's own configuration.
const (
	// DefaultMaxArgs is the greatest number of arguments of one command, its name included.
	DefaultMaxArgs = 1024 * 1024
	// DefaultMaxBulk is the greatest length of one argument in bytes (proto-max-bulk-len).
	DefaultMaxBulk = 512 << 20
	// MaxLine is the greatest length in bytes of an inline command or of a line that holds a length.
	MaxLine = 64 << 10
	// keepBuffer is what an idle Reader may hold on to, in bytes.
	keepBuffer = 64 << 10
)

// ProtocolError is input that is no RESP. Its text is the one that Redis answers with; the connection is of no more
// use, since nobody knows where the next command begins.
type ProtocolError string

// Error returns the text without the leading "-ERR ", which AppendError does not add either.
func (e ProtocolError) Error() string { return "Protocol error: " + string(e) }

// Limits bounds what a client can make a Reader hold. Zero fields take the defaults.
type Limits struct {
	MaxArgs    int // arguments of one command
	MaxBulk    int // bytes of one argument
	MaxCommand int // bytes of one whole command as sent; 0: MaxBulk and 1 MiB more
}

type span struct{ from, to int } // offsets from the start of the command

// Reader cuts a stream of bytes into commands. The zero value is ready for use. A Reader is not safe for concurrent
// use.
type Reader struct {
	Limits Limits

	buf   []byte // buf[start:] is what was not consumed yet
	start int    // where the command that is being read begins
	pos   int    // how far it has been parsed, from start
	left  int    // arguments still to come; meaningful while multi
	bulk  int    // length of the argument that is being read, -1 while its length is unknown
	multi bool   // inside a multibulk command
	spans []span
	args  [][]byte
	line  []byte // arguments of an inline command, unquoted
	err   error
}

func (r *Reader) maxArgs() int {
	if r.Limits.MaxArgs > 0 {
		return r.Limits.MaxArgs
	}
	return DefaultMaxArgs
}

func (r *Reader) maxBulk() int {
	if r.Limits.MaxBulk > 0 {
		return r.Limits.MaxBulk
	}
	return DefaultMaxBulk
}

func (r *Reader) maxCommand() int {
	if r.Limits.MaxCommand > 0 {
		return r.Limits.MaxCommand
	}
	return r.maxBulk() + 1<<20
}

// Space returns at least n bytes to read into; Commit tells how many were used. It invalidates the arguments that
// Next returned.
func (r *Reader) Space(n int) []byte {
	if r.start == len(r.buf) {
		r.start = 0
		if cap(r.buf) > keepBuffer && n <= keepBuffer {
			r.buf = nil
		}
		r.buf = r.buf[:0]
	}
	if cap(r.buf)-len(r.buf) < n && r.start > 0 {
		// Moving the rest to the front is cheap: it is less than one command, or the client pipelines.
		r.buf = r.buf[:copy(r.buf, r.buf[r.start:])]
		r.start = 0
	}
	if cap(r.buf)-len(r.buf) < n {
		grown := make([]byte, len(r.buf), max(2*cap(r.buf), len(r.buf)+n))
		copy(grown, r.buf)
		r.buf = grown
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// Commit says that n bytes of what Space returned hold input now.
func (r *Reader) Commit(n int) { r.buf = r.buf[:len(r.buf)+n] }

// Feed appends a copy of b to the input. It invalidates the arguments that Next returned.
func (r *Reader) Feed(b []byte) { r.Commit(copy(r.Space(len(b)), b)) }

// Buffered returns how many bytes of input have not been consumed.
func (r *Reader) Buffered() int { return len(r.buf) - r.start }

// Next returns the next command, or nil while there is no whole one. The arguments stay valid until Feed or Space is
// called; a caller may keep those of many calls of Next in between. Only the slice that holds them is reused by the
// following Next. The error is a ProtocolError and stays.
func (r *Reader) Next() ([][]byte, error) {
	for r.err == nil {
		if !r.multi {
			rest := r.buf[r.start:]
			if len(rest) == 0 {
				return nil, nil
			}
			if rest[0] != '*' {
				args, more := r.inline(rest)
				if more || r.err != nil {
					break
				}
				if len(args) > 0 {
					return args, nil
				}
				continue
			}
			n, ok := r.number("too big mbulk count string")
			if !ok {
				break
			}
			if n > int64(r.maxArgs()) || n == badNumber {
				r.err = ProtocolError("invalid multibulk length")
				break
			}
			if n <= 0 {
				r.start += r.pos
				r.pos = 0
				continue
			}
			r.multi, r.left, r.bulk = true, int(n), -1
			r.spans = r.spans[:0]
		}
		if !r.bulks() {
			break
		}
		data := r.buf[r.start:]
		r.args = r.args[:0]
		for _, s := range r.spans {
			r.args = append(r.args, data[s.from:s.to:s.to])
		}
		r.start += r.pos
		r.pos, r.multi = 0, false
		if cap(r.spans) > 1024 && len(r.spans) < 64 {
			r.spans = nil
		}
		return r.args, nil
	}
	return nil, r.err
}

// bulks reads the arguments that have arrived, and tells whether these are all of the command.
func (r *Reader) bulks() bool {
	for r.left > 0 {
		if r.bulk < 0 {
			if r.start+r.pos >= len(r.buf) {
				return false
			}
			if c := r.buf[r.start+r.pos]; c != '$' {
				// As Redis does, the whole line must be there first; else what a client is told would depend on how
				// its bytes were cut.
				if bytes.IndexByte(r.buf[r.start+r.pos:], '\r') < 0 {
					if len(r.buf)-r.start-r.pos > MaxLine {
						r.err = ProtocolError("too big bulk count string")
					}
					return false
				}
				r.err = ProtocolError(fmt.Sprintf("expected '$', got '%c'", printable(c)))
				return false
			}
			n, ok := r.number("too big bulk count string")
			if !ok {
				return false
			}
			if n < 0 || n > int64(r.maxBulk()) {
				r.err = ProtocolError("invalid bulk length")
				return false
			}
			if int64(r.pos)+n > int64(r.maxCommand()) {
				r.err = ProtocolError("too big command")
				return false
			}
			r.bulk = int(n)
		}
		if len(r.buf)-r.start-r.pos < r.bulk+2 {
			return false
		}
		r.spans = append(r.spans, span{r.pos, r.pos + r.bulk})
		r.pos += r.bulk + 2 // Redis does not look at the two bytes behind an argument either
		r.bulk = -1
		r.left--
	}
	return true
}

func printable(c byte) rune {
	if c < ' ' || c > '~' {
		return '?'
	}
	return rune(c)
}

const badNumber = -1 << 63

// number reads the line at pos, which begins with a type byte, as a number. Not ok: more input is needed, or there
// was an error.
func (r *Reader) number(tooLong ProtocolError) (int64, bool) {
	at := r.buf[r.start+r.pos:]
	end := bytes.IndexByte(at, '\r')
	if end < 0 || end > MaxLine {
		if len(at) > MaxLine {
			r.err = tooLong
		}
		return 0, false
	}
	if end+2 > len(at) {
		return 0, false
	}
	r.pos += end + 2
	return parseInt(at[1:end]), true
}

// parseInt reads a canonical decimal number, as Redis's string2ll does: no plus sign, no leading zero. badNumber is
// what is none.
func parseInt(b []byte) int64 {
	neg := len(b) > 1 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && (len(b) > 1 || neg) {
		return badNumber // nothing that counts bytes has 19 digits
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return badNumber
		}
		n = n*10 + int64(c-'0')
	}
	if neg {
		return -n
	}
	return n
}
