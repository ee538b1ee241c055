package kv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"understudy/kv/resp"
)

// Request is an entry of the log: one command or a transaction, with all that its execution depends on.
type Request struct {
	Now     int64  // unix milliseconds, by the primary's clock
	Seed    uint64 // from the primary's random source
	DB      int    // the client's selected database
	Proto   int    // the client's protocol, 2 or 3
	Client  string // empty: the request is executed as often as it comes
	Number  uint64 // of the request, counted by the client
	Exec    bool   // Cmds are a transaction; else there is one
	Watches []Watch
	Cmds    [][][]byte
}

// ErrRequest is an entry that is no request.
var ErrRequest = errors.New("malformed request")

const requestVersion = 1

// Encode appends the entry's bytes.
func (q *Request) Encode(dst []byte) []byte {
	dst = append(dst, requestVersion, byte(q.DB), byte(q.Proto))
	flags := byte(0)
	if q.Exec {
		flags |= 1
	}
	if q.Client != "" {
		flags |= 2
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(q.Now))
	dst = binary.LittleEndian.AppendUint64(dst, q.Seed)
	if q.Client != "" {
		dst = appendBytes(dst, q.Client)
		dst = binary.AppendUvarint(dst, q.Number)
	}
	if q.Exec {
		dst = binary.AppendUvarint(dst, uint64(len(q.Watches)))
		for _, w := range q.Watches {
			dst = append(dst, byte(w.DB))
			dst = appendBytes(dst, w.Key)
			dst = binary.AppendUvarint(dst, w.Version)
		}
		dst = binary.AppendUvarint(dst, uint64(len(q.Cmds)))
	}
	for _, args := range q.Cmds {
		dst = binary.AppendUvarint(dst, uint64(len(args)))
		for _, a := range args {
			dst = appendBytes(dst, a)
		}
	}
	return dst
}

func appendBytes[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// decoder takes values off b. After bad, what it returns means nothing; broken: more input would not help.
type decoder struct {
	b           []byte
	bad, broken bool
}

func (d *decoder) number() uint64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.bad, d.broken, d.b = true, k < 0, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

// count reads how many elements of at least one byte follow.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) fixed(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return make([]byte, n)
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.fixed(d.count()) }

// Decode reads an entry's bytes into q, whose slices it reuses; the arguments point into b. The error wraps
// ErrRequest.
func (q *Request) Decode(b []byte) error {
	d := decoder{b: b}
	head := d.fixed(4)
	if head[0] != requestVersion {
		return fmt.Errorf("%w: version %d", ErrRequest, head[0])
	}
	q.DB, q.Proto = int(head[1]), int(head[2])
	q.Exec = head[3]&1 != 0
	q.Now = int64(d.number())
	q.Seed = binary.LittleEndian.Uint64(d.fixed(8))
	q.Client, q.Number = "", 0
	if head[3]&2 != 0 {
		q.Client, q.Number = string(d.bytes()), d.number()
	}
	q.Watches, q.Cmds = q.Watches[:0], q.Cmds[:0]
	cmds := 1
	if q.Exec {
		for range d.count() {
			w := Watch{DB: int(d.fixed(1)[0]), Key: d.bytes(), Version: 0}
			w.Version = d.number()
			q.Watches = append(q.Watches, w)
		}
		cmds = d.count()
	}
	for i := range cmds {
		n := d.count()
		if d.bad || n == 0 {
			return fmt.Errorf("%w: command %d of %d", ErrRequest, i+1, cmds)
		}
		var args [][]byte
		if i < cap(q.Cmds) {
			args = q.Cmds[:i+1][i][:0]
		}
		for range n {
			args = append(args, d.bytes())
		}
		q.Cmds = append(q.Cmds, args)
	}
	switch {
	case d.bad || len(d.b) > 0:
		return fmt.Errorf("%w: %d bytes", ErrRequest, len(b))
	case head[3] > 3, q.DB >= Databases, q.Proto != 2 && q.Proto != 3, q.Now < 0, len(q.Client) > MaxClientID, head[3]&2 != 0 && q.Client == "":
		return fmt.Errorf("%w: field out of range", ErrRequest)
	}
	return nil
}

// Do executes an entry and appends its reply. c is scratch; afterwards c.DB is the selected database. A repetition of
// the client's last request gets the reply that it had then; an older one is answered with an error of code STALE.
func (s *Store) Do(dst []byte, c *Call, q *Request) []byte {
	c.Now, c.Seed, c.DB, c.Proto = q.Now, q.Seed, q.DB, q.Proto
	if q.Client != "" {
		out, done, err := s.known(dst, c, q.Client, q.Number)
		if err != nil {
			return OldRequest(dst, err)
		}
		if done {
			return out
		}
	}
	var out []byte
	switch {
	case q.Exec:
		out = s.Exec(dst, c, q.Watches, q.Cmds)
	case len(q.Cmds) == 1 && len(q.Cmds[0]) > 0:
		out = s.Apply(dst, c, q.Cmds[0])
	default:
		return resp.AppendError(dst, "ERR no command")
	}
	if q.Client != "" {
		s.clients.record(q.Client, q.Number, c.DB, out[len(dst):], &s.cow)
	}
	return out
}
