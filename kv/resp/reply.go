package resp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Kind is the type of a Value: the byte that it begins with on the wire.
type Kind byte

// The kinds of RESP2 and RESP3. A null of RESP2 ("$-1", "*-1") is read as Null.
const (
	Simple   Kind = '+'
	Error    Kind = '-'
	Int      Kind = ':'
	Bulk     Kind = '$'
	Array    Kind = '*'
	Null     Kind = '_'
	Double   Kind = ','
	Bool     Kind = '#'
	BigError Kind = '!'
	Verbatim Kind = '='
	Big      Kind = '('
	Map      Kind = '%'
	Set      Kind = '~'
	Push     Kind = '>'
)

// Value is one reply.
type Value struct {
	Kind  Kind
	Str   []byte  // Simple, Error, Bulk, BigError, Verbatim (with its format), Big
	Int   int64   // Int; Bool: 1 or 0
	Float float64 // Double
	Elems []Value // Array, Set, Push; Map: keys and values in turn
}

// ErrReply is input that is no reply.
var ErrReply = errors.New("malformed reply")

const (
	maxDepth = 32
	// A server is trusted with the size of its answers up to here; memory is taken as data arrives.
	maxElems = 1 << 28
)

// ReplyReader reads replies from a stream, with the limits of a Reader for strings.
type ReplyReader struct{ r *bufio.Reader }

// NewReplyReader returns a ReplyReader on r.
func NewReplyReader(r io.Reader) *ReplyReader { return &ReplyReader{bufio.NewReaderSize(r, 16<<10)} }

// Buffered returns how many bytes were received and not yet returned.
func (r *ReplyReader) Buffered() int { return r.r.Buffered() }

// Read returns the next reply. The error wraps ErrReply, or is the stream's own: io.EOF only between two replies. An
// error reply is a Value, not an error. Attributes of RESP3 are skipped.
func (r *ReplyReader) Read() (Value, error) { return r.read(0) }

func (r *ReplyReader) read(depth int) (Value, error) {
	for attributes := false; ; attributes = true {
		line, err := r.line(depth > 0 || attributes)
		if err != nil {
			return Value{}, err
		}
		v := Value{Kind: Kind(line[0])}
		text := line[1:]
		switch v.Kind {
		case Simple, Error, Big:
			v.Str = append([]byte{}, text...)
		case Int:
			if v.Int, err = strconv.ParseInt(string(text), 10, 64); err != nil {
				return v, fmt.Errorf("%w: integer %.40q", ErrReply, text)
			}
		case Double:
			if v.Float, err = strconv.ParseFloat(string(text), 64); err != nil {
				return v, fmt.Errorf("%w: double %.40q", ErrReply, text)
			}
		case Bool:
			if string(text) != "t" && string(text) != "f" {
				return v, fmt.Errorf("%w: boolean %.40q", ErrReply, text)
			}
			if text[0] == 't' {
				v.Int = 1
			}
		case Null:
			if len(text) != 0 {
				return v, fmt.Errorf("%w: null %.40q", ErrReply, text)
			}
		case Bulk, BigError, Verbatim:
			n := parseInt(text)
			if n == -1 && v.Kind == Bulk {
				return Value{Kind: Null}, nil
			}
			if n < 0 || n > DefaultMaxBulk {
				return v, fmt.Errorf("%w: length %.40q", ErrReply, text)
			}
			if v.Str, err = r.bytes(int(n)); err != nil {
				return v, err
			}
		case Array, Set, Push, Map, '|':
			n := parseInt(text)
			if n == -1 && v.Kind == Array {
				return Value{Kind: Null}, nil
			}
			if n < 0 || n > maxElems {
				return v, fmt.Errorf("%w: count %.40q", ErrReply, text)
			}
			if depth >= maxDepth {
				return v, fmt.Errorf("%w: nested deeper than %d", ErrReply, maxDepth)
			}
			if v.Kind == Map || v.Kind == '|' {
				n *= 2
			}
			v.Elems = make([]Value, 0, min(n, 1024))
			for range n {
				e, err := r.read(depth + 1)
				if err != nil {
					return v, err
				}
				v.Elems = append(v.Elems, e)
			}
			if v.Kind == '|' {
				continue
			}
		default:
			return v, fmt.Errorf("%w: type %q", ErrReply, line[0])
		}
		return v, nil
	}
}

// line returns the next line without its end, at least one byte long.
func (r *ReplyReader) line(inside bool) ([]byte, error) {
	line, err := r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		// Only simple strings, errors and big numbers can be that long.
		long := append([]byte{}, line...)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= 2*MaxLine {
			line, err = r.r.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("%w: line of more than %d bytes", ErrReply, len(line)-1)
		}
		if errors.Is(err, io.EOF) && (inside || len(line) > 0) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: line %.40q", ErrReply, line)
	}
	return line[:len(line)-2], nil
}

// bytes reads n bytes and a line end. Memory is taken in steps: a length is only a promise.
func (r *ReplyReader) bytes(n int) ([]byte, error) {
	b := make([]byte, 0, min(n, 1<<20)+2)
	for len(b) < n+2 {
		step := min(n+2-len(b), max(len(b), 1<<20))
		from := len(b)
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r.r, b[from:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return nil, fmt.Errorf("%w: string of %d bytes without its end", ErrReply, n)
	}
	return b[:n:n], nil
}

// String returns a text for people, as redis-cli would nearly print it.
func (v Value) String() string {
	switch v.Kind {
	case Null:
		return "(nil)"
	case Int:
		return "(integer) " + strconv.FormatInt(v.Int, 10)
	case Bool:
		return strconv.FormatBool(v.Int == 1)
	case Double:
		return "(double) " + string(AppendFloat(nil, v.Float))
	case Error, BigError:
		return "(error) " + string(v.Str)
	case Array, Set, Map, Push:
		s := string(rune(v.Kind)) + "["
		for i, e := range v.Elems {
			if i > 0 {
				s += " "
			}
			s += e.String()
		}
		return s + "]"
	}
	return strconv.Quote(string(v.Str))
}
