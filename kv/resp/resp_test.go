package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// commands feeds input in pieces and returns what comes out.
func commands(r *Reader, input []byte, piece func() int) (out [][]string, err error) {
	for len(input) > 0 {
		n := min(piece(), len(input))
		r.Feed(input[:n])
		input = input[n:]
		for {
			args, err := r.Next()
			if err != nil {
				return out, err
			}
			if args == nil {
				break
			}
			var words []string
			for _, a := range args {
				words = append(words, string(a))
			}
			out = append(out, words)
		}
	}
	return out, nil
}

func whole() int { return math.MaxInt }
func one() int   { return 1 }

func TestReader(t *testing.T) {
	long := strings.Repeat("x", MaxLine+1)
	for _, c := range []struct {
		input string
		want  string
		err   string
	}{
		{"*1\r\n$4\r\nPING\r\n", "[[PING]]", ""},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$1\r\na\r\n", "[[GET ] [a]]", ""},
		{"*0\r\n*-1\r\n*1\r\n$1\r\na\r\n", "[[a]]", ""},
		{"PING\r\n  get  a\n\r\n\nx", "[[PING] [get a]]", ""},
		{`set "a b" 'c d' "\x41\n\q" 'it\'s \n'` + "\n", "[[set a b c d A\nq it's \\n]]", ""},
		{"set \"\" ''\n", "[[set  ]]", ""},
		{"ab\x00cd\n", "[[ab]]", ""},
		{"a\"b c\"\n", "[[ab c]]", ""},
		{"set \"a\n", "[]", "Protocol error: unbalanced quotes in request"},
		{"set \"a\"b\n", "[]", "Protocol error: unbalanced quotes in request"},
		{"ok\nset 'a'b\n", "[[ok]]", "Protocol error: unbalanced quotes in request"},
		{long, "[]", "Protocol error: too big inline request"},
		{"*" + long, "[]", "Protocol error: too big mbulk count string"},
		{"*1\r\n$" + long, "[]", "Protocol error: too big bulk count string"},
		{"*x\r\n", "[]", "Protocol error: invalid multibulk length"},
		{"*99999999999\r\n", "[]", "Protocol error: invalid multibulk length"},
		{"*1048577\r\n", "[]", "Protocol error: invalid multibulk length"},
		{"*1\r\nx\r\n", "[]", "Protocol error: expected '$', got 'x'"},
		{"*1\r\n$-1\r\n", "[]", "Protocol error: invalid bulk length"},
		{"*1\r\n$x\r\n", "[]", "Protocol error: invalid bulk length"},
		{"*1\r\n$536870913\r\n", "[]", "Protocol error: invalid bulk length"},
		{"*2\r\n$1\r\na\r\n*", "[]", ""},
	} {
		for _, piece := range []func() int{whole, one} {
			got, err := commands(&Reader{}, []byte(c.input), piece)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if s := fmt.Sprint(got); s != c.want || text != c.err {
				t.Errorf("%.60q: %q, %q", c.input, s, text)
			}
		}
	}
	r := &Reader{Limits: Limits{MaxArgs: 3, MaxBulk: 10, MaxCommand: 30}}
	for input, want := range map[string]string{
		"*4\r\n": "invalid multibulk length", "*1\r\n$11\r\n": "invalid bulk length",
		"*3\r\n$10\r\n0123456789\r\n$10\r\n": "too big command",
	} {
		*r = Reader{Limits: r.Limits}
		if _, err := commands(r, []byte(input), whole); err == nil || err.Error() != "Protocol error: "+want {
			t.Errorf("%q: %v", input, err)
		}
		r.Feed([]byte("PING\r\n"))
		if args, err := r.Next(); args != nil || err == nil {
			t.Error("the reader goes on after an error")
		}
	}
}

// Arguments of several commands stay valid until more input is fed.
func TestReaderKeepsArguments(t *testing.T) {
	r := &Reader{}
	r.Feed([]byte("*1\r\n$3\r\nabc\r\n'd e' f\r\n*2\r\n$1\r\ng\r\n$1\r\nh\r\ni j\r\n"))
	var all [][]byte
	for {
		args, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if args == nil {
			break
		}
		all = append(all, args...)
	}
	if s := fmt.Sprintf("%s", all); s != "[abc d e f g h i j]" {
		t.Error(s)
	}
	if r.Buffered() != 0 {
		t.Errorf("%d bytes left", r.Buffered())
	}
}

func TestReaderShrinks(t *testing.T) {
	r := &Reader{}
	big := AppendCommand(nil, []byte("set"), []byte("k"), make([]byte, 4<<20))
	if got, _ := commands(r, big, func() int { return 50000 }); len(got) != 1 {
		t.Fatal(len(got))
	}
	r.Feed([]byte("PING\r\n"))
	if cap(r.buf) > keepBuffer {
		t.Errorf("an idle reader holds %d bytes", cap(r.buf))
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n", "set \"a\\x41\" 'b'\r\n", "*1\r\n$1\r\n", "*-1\r\n*3\r\n$1\r\na\r\n$2\r\nbb\r\n$3\r\nccc\r\nx",
		"*1\r\nx", "\"a\\", "*1\r\n$5\r\nab",
	} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		limits := Limits{MaxArgs: 100, MaxBulk: 1000}
		want, wantErr := commands(&Reader{Limits: limits}, input, whole)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for _, piece := range []func() int{one, func() int { return 1 + rnd.IntN(20) }} {
			r := &Reader{Limits: limits}
			got, err := commands(r, input, piece)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.EqualFunc(got, want, slices.Equal[[]string]) {
				t.Fatalf("how the input is cut matters: %q, %v; %q, %v", got, err, want, wantErr)
			}
		}
		for _, words := range want {
			var args [][]byte
			for _, w := range words {
				args = append(args, []byte(w))
			}
			again, err := commands(&Reader{}, AppendCommand(nil, args...), one)
			if err != nil || len(again) != 1 || !slices.Equal(again[0], words) {
				t.Fatalf("%q does not survive: %q, %v", words, again, err)
			}
		}
	})
}

func TestAppend(t *testing.T) {
	for _, c := range []struct{ two, three []byte }{
		{AppendNull(nil, 2), AppendNull(nil, 3)},
		{AppendNullArray(nil, 2), AppendNullArray(nil, 3)},
		{AppendMap(nil, 2, 2), AppendMap(nil, 3, 2)},
		{AppendSet(nil, 2, 12), AppendSet(nil, 3, 12)},
		{AppendPush(nil, 2, 1), AppendPush(nil, 3, 1)},
		{AppendBool(nil, 2, true), AppendBool(nil, 3, true)},
		{AppendBool(nil, 2, false), AppendBool(nil, 3, false)},
		{AppendDouble(nil, 2, 0.1), AppendDouble(nil, 3, 0.1)},
		{AppendDouble(nil, 2, math.Inf(-1)), AppendDouble(nil, 3, math.Inf(1))},
		{AppendVerbatim(nil, 2, "txt", "a\nb"), AppendVerbatim(nil, 3, "txt", "a\nb")},
		{AppendBigNumber(nil, 2, "123"), AppendBigNumber(nil, 3, "123")},
		{AppendSimple(nil, "a\r\nb"), AppendError(nil, "ERR a\nb\r\n")},
		{AppendInt(nil, -5), AppendInt(nil, 9)},
		{AppendBulkInt(nil, math.MinInt64), AppendBulkString(nil, "")},
	} {
		fmt.Fprintf(&transcript, "%q %q\n", c.two, c.three)
	}
	want := `"$-1\r\n" "_\r\n"
"*-1\r\n" "_\r\n"
"*4\r\n" "%2\r\n"
"*12\r\n" "~12\r\n"
"*1\r\n" ">1\r\n"
":1\r\n" "#t\r\n"
":0\r\n" "#f\r\n"
"$19\r\n0.10000000000000001\r\n" ",0.10000000000000001\r\n"
"$4\r\n-inf\r\n" ",inf\r\n"
"$3\r\na\nb\r\n" "=7\r\ntxt:a\nb\r\n"
"$3\r\n123\r\n" "(123\r\n"
"+a  b\r\n" "-ERR a b\r\n"
":-5\r\n" ":9\r\n"
"$20\r\n-9223372036854775808\r\n" "$0\r\n\r\n"
`
	if transcript.String() != want {
		t.Error(transcript.String())
	}
}

var transcript strings.Builder

// C's printf says the same of these, with %.17g.
func TestAppendFloat(t *testing.T) {
	for f, want := range map[float64]string{
		1: "1", -3: "-3", 1e14: "100000000000000", 1e16: "10000000000000000", 1e17: "1e+17", 1.5: "1.5", 0.1: "0.10000000000000001",
		1e-5: "1.0000000000000001e-05", 0.0001: "0.0001", math.MaxFloat64: "1.7976931348623157e+308", 5e-324: "4.9406564584124654e-324",
		123456789012345678: "1.2345678901234568e+17", 3.3: "3.2999999999999998",
	} {
		if got := string(AppendFloat(nil, f)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := string(AppendFloat(nil, math.Copysign(0, -1))); got != "-0" {
		t.Error(got)
	}
}

func TestReplyReader(t *testing.T) {
	for _, c := range []struct{ input, want string }{
		{"+OK\r\n", `"OK"`},
		{"-ERR x\r\n", "(error) ERR x"},
		{":-12\r\n", "(integer) -12"},
		{"$3\r\na\r\n\r\n", `"a\r\n"`},
		{"$-1\r\n", "(nil)"},
		{"*-1\r\n", "(nil)"},
		{"_\r\n", "(nil)"},
		{"*2\r\n:1\r\n*1\r\n+a\r\n", `*[(integer) 1 *["a"]]`},
		{"%1\r\n+a\r\n:1\r\n", `%["a" (integer) 1]`},
		{"~1\r\n#t\r\n", "~[true]"},
		{"|1\r\n+ttl\r\n:1\r\n,1.5\r\n", "(double) 1.5"},
		{",-inf\r\n", "(double) -inf"},
		{"=5\r\ntxt:a\r\n", `"txt:a"`},
		{"(123456789012345678901234567890\r\n", `"123456789012345678901234567890"`},
		{"!5\r\nERR x\r\n", "(error) ERR x"},
		{"+" + strings.Repeat("y", 100000) + "\r\n", `"` + strings.Repeat("y", 100000) + `"`},
	} {
		v, err := NewReplyReader(strings.NewReader(c.input)).Read()
		if err != nil || v.String() != c.want {
			t.Errorf("%.40q: %.60s, %v", c.input, v, err)
		}
		for n := range min(len(c.input), 50) {
			_, err := NewReplyReader(strings.NewReader(c.input[:n])).Read()
			if n == 0 && err != io.EOF || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q: %v", c.input[:n], err)
			}
		}
	}
	for _, bad := range []string{
		"x\r\n", "\r\n", ":x\r\n", "$x\r\n", "$-2\r\n", "$3\r\nabcde", "*-5\r\n", "#x\r\n", "_x\r\n", ",x\r\n", "+a\n",
		strings.Repeat("*1\r\n", 40), "+" + strings.Repeat("y", 1<<20), "$999999999999\r\n", "*999999999999\r\n",
	} {
		if _, err := NewReplyReader(strings.NewReader(bad)).Read(); !errors.Is(err, ErrReply) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func FuzzReplyReader(f *testing.F) {
	for _, s := range []string{
		"*2\r\n:1\r\n$1\r\na\r\n", "%1\r\n+a\r\n~1\r\n_\r\n", "|1\r\n+a\r\n+b\r\n:3\r\n", "=5\r\ntxt:a\r\n", "!5\r\nERR x\r\n", ",1.5\r\n,-inf\r\n", "(12\r\n",
		"#t\r\n#f\r\n", "$-1\r\n*-1\r\n$0\r\n\r\n", ">3\r\n+message\r\n$1\r\nc\r\n$1\r\nx\r\n", "*1\r\n*1\r\n*1\r\n:1\r\n", "$536870912\r\nab", "*268435456\r\n:1\r\n", "-ERR x\r\n+OK",
	} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		want, wantErr := replies(bytes.NewReader(b))
		if wantErr != io.EOF && !errors.Is(wantErr, io.ErrUnexpectedEOF) && !errors.Is(wantErr, ErrReply) {
			t.Fatalf("%q: %v", b, wantErr)
		}
		// How the stream is cut makes no difference, nor does more of it afterwards to what came before.
		rnd := rand.New(rand.NewPCG(seed, 0))
		for _, in := range []io.Reader{iotest.OneByteReader(bytes.NewReader(b)), &pieces{b, rnd}} {
			got, err := replies(in)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.Equal(texts(got), texts(want)) {
				t.Fatalf("%q: %v, %v; whole: %v, %v", b, got, err, want, wantErr)
			}
		}
		for _, v := range want {
			// What was read can be written, and is read as the same.
			again, err := NewReplyReader(bytes.NewReader(appendValue(nil, v))).Read()
			if err != nil || again.String() != v.String() {
				t.Fatalf("%v becomes %v, %v", v, again, err)
			}
		}
		if n := count(want); n > len(b) {
			t.Fatalf("%d values of %d bytes", n, len(b))
		}
	})
}

// replies reads to the end, or the first error.
func replies(in io.Reader) (all []Value, err error) {
	r := NewReplyReader(in)
	for {
		v, err := r.Read()
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
}

func texts(all []Value) (s []string) {
	for _, v := range all {
		s = append(s, string(rune(v.Kind))+v.String())
	}
	return s
}

func count(all []Value) (n int) {
	for _, v := range all {
		n += 1 + count(v.Elems)
	}
	return n
}

// pieces gives a stream in pieces of random length.
type pieces struct {
	rest []byte
	rnd  *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(len(p.rest), 1+p.rnd.IntN(7))])
	p.rest = p.rest[n:]
	return n, nil
}

// appendValue writes a reply as a server of RESP3 does.
func appendValue(b []byte, v Value) []byte {
	switch v.Kind {
	case Null:
		return AppendNull(b, 3)
	case Int:
		return AppendInt(b, v.Int)
	case Bool:
		return AppendBool(b, 3, v.Int == 1)
	case Double:
		return AppendDouble(b, 3, v.Float)
	case Simple, Error, Big:
		return append(append(append(b, byte(v.Kind)), v.Str...), "\r\n"...)
	case Bulk, BigError, Verbatim:
		b = fmt.Appendf(b, "%c%d\r\n", v.Kind, len(v.Str))
		return append(append(b, v.Str...), "\r\n"...)
	}
	n := len(v.Elems)
	if v.Kind == Map {
		n /= 2
	}
	b = fmt.Appendf(b, "%c%d\r\n", v.Kind, n)
	for _, e := range v.Elems {
		b = appendValue(b, e)
	}
	return b
}

func BenchmarkReader(b *testing.B) {
	var pipeline []byte
	for range 100 {
		pipeline = AppendCommand(pipeline, []byte("SET"), []byte("key:000000000001"), []byte("some value of a usual size"))
	}
	r := &Reader{}
	b.ReportAllocs()
	for b.Loop() {
		r.Feed(pipeline)
		for {
			args, _ := r.Next()
			if args == nil {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "commands/s")
}
