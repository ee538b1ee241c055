package resp

import (
	"math"
	"strconv"
	"strings"
)

// AppendSimple appends a simple string. Line breaks in s become spaces.
func AppendSimple(dst []byte, s string) []byte { return appendLine(append(dst, '+'), s) }

// AppendError appends an error. text begins with its code, for example "ERR syntax error" or "WRONGTYPE ...". Line
// breaks become spaces, those at the end are dropped.
func AppendError(dst []byte, text string) []byte {
	return appendLine(append(dst, '-'), strings.TrimRight(text, "\r\n"))
}

func appendLine(dst []byte, s string) []byte {
	from := len(dst)
	dst = append(dst, s...)
	for i := from; i < len(dst); i++ {
		if dst[i] == '\r' || dst[i] == '\n' {
			dst[i] = ' '
		}
	}
	return append(dst, '\r', '\n')
}

func appendHead(dst []byte, kind byte, n int64) []byte {
	dst = append(dst, kind)
	if n >= 0 && n < 10 {
		dst = append(dst, byte('0'+n))
	} else {
		dst = strconv.AppendInt(dst, n, 10)
	}
	return append(dst, '\r', '\n')
}

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte { return appendHead(dst, ':', n) }

// AppendBulk appends a bulk string.
func AppendBulk(dst, b []byte) []byte {
	dst = appendHead(dst, '$', int64(len(b)))
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString appends a bulk string.
func AppendBulkString(dst []byte, s string) []byte {
	dst = appendHead(dst, '$', int64(len(s)))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendBulkInt appends a bulk string that holds a decimal number.
func AppendBulkInt(dst []byte, n int64) []byte {
	var text [20]byte
	return AppendBulk(dst, strconv.AppendInt(text[:0], n, 10))
}

// AppendNull appends what stands for a missing string: the null of RESP3, the null bulk string of RESP2. proto is 2
// or 3, here and below.
func AppendNull(dst []byte, proto int) []byte {
	if proto >= 3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "$-1\r\n"...)
}

// AppendNullArray appends what stands for a missing array.
func AppendNullArray(dst []byte, proto int) []byte {
	if proto >= 3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "*-1\r\n"...)
}

// AppendArray appends the head of an array; n elements follow.
func AppendArray(dst []byte, n int) []byte { return appendHead(dst, '*', int64(n)) }

// AppendMap appends the head of a map of n pairs: keys and values follow in turn. In RESP2 that is an array.
func AppendMap(dst []byte, proto, n int) []byte {
	if proto >= 3 {
		return appendHead(dst, '%', int64(n))
	}
	return appendHead(dst, '*', 2*int64(n))
}

// AppendSet appends the head of a set; n elements follow. In RESP2 that is an array.
func AppendSet(dst []byte, proto, n int) []byte {
	if proto >= 3 {
		return appendHead(dst, '~', int64(n))
	}
	return appendHead(dst, '*', int64(n))
}

// AppendPush appends the head of a push message, which is out of turn, of n elements. In RESP2 that is an array.
func AppendPush(dst []byte, proto, n int) []byte {
	if proto >= 3 {
		return appendHead(dst, '>', int64(n))
	}
	return appendHead(dst, '*', int64(n))
}

// AppendBool appends a boolean, in RESP2 the integers 1 and 0.
func AppendBool(dst []byte, proto int, b bool) []byte {
	switch {
	case proto >= 3 && b:
		return append(dst, "#t\r\n"...)
	case proto >= 3:
		return append(dst, "#f\r\n"...)
	case b:
		return append(dst, ":1\r\n"...)
	}
	return append(dst, ":0\r\n"...)
}

// AppendFloat appends the text that Redis 7.0 gives a double: up to 17 significant digits as C's %.17g has them, inf,
// -inf and nan.
func AppendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15 && (f != 0 || !math.Signbit(f)):
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return strconv.AppendFloat(dst, f, 'g', 17, 64)
}

// AppendDouble appends a double, in RESP2 a bulk string with its text.
func AppendDouble(dst []byte, proto int, f float64) []byte {
	if proto >= 3 {
		dst = AppendFloat(append(dst, ','), f)
		return append(dst, '\r', '\n')
	}
	var text [32]byte
	return AppendBulk(dst, AppendFloat(text[:0], f))
}

// AppendVerbatim appends a text with its format, three letters such as "txt". In RESP2 that is a bulk string.
func AppendVerbatim(dst []byte, proto int, format, text string) []byte {
	if proto < 3 {
		return AppendBulkString(dst, text)
	}
	dst = appendHead(dst, '=', int64(len(text)+4))
	dst = append(dst, (format + "   ")[:3]...)
	dst = append(dst, ':')
	dst = append(dst, text...)
	return append(dst, '\r', '\n')
}

// AppendBigNumber appends an integer of any size, given as decimal digits. In RESP2 that is a bulk string.
func AppendBigNumber(dst []byte, proto int, digits string) []byte {
	if proto < 3 {
		return AppendBulkString(dst, digits)
	}
	return appendLine(append(dst, '('), digits)
}

// AppendCommand appends a command as clients send it: an array of bulk strings.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = AppendArray(dst, len(args))
	for _, a := range args {
		dst = AppendBulk(dst, a)
	}
	return dst
}
