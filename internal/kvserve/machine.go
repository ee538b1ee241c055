package kvserve

import (
	"encoding/binary"
	"io"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
	"understudy/rsm"
)

// format names commands and snapshots to other servers.
const format = "understudy kv 1"

// The first byte of a command of the log.
const (
	cmdRequest   = 'R' // kv.Request
	cmdMaxMemory = 'M' // uvarint: the limit in bytes, 0 is none
)

// expirePerTick bounds the keys that one entry of the clock removes; those that are due count as missing anyway.
const expirePerTick = 2000

// machine is kv's state as package rsm wants it. The reply to a request is the number of the database that is selected after it
// and what the client is told.
type machine struct {
	s    *kv.Store
	q    kv.Request
	call kv.Call
}

func newMachine() *machine { return &machine{s: kv.New(kv.Limits{})} }

// Apply implements rsm.Machine.
func (m *machine) Apply(dst []byte, e rsm.Entry) []byte {
	now := e.Time / int64(time.Millisecond)
	switch {
	case e.Command == nil:
		m.s.Expire(now, expirePerTick)
	case len(e.Command) > 0 && e.Command[0] == cmdRequest:
		at := len(dst)
		dst = append(dst, 0)
		if err := m.q.Decode(e.Command[1:]); err != nil {
			return resp.AppendError(dst, "ERR "+err.Error())
		}
		m.q.Now, m.q.Seed = now, e.Seed
		dst = m.s.Do(dst, &m.call, &m.q)
		dst[at] = byte(m.call.DB)
	case len(e.Command) > 0 && e.Command[0] == cmdMaxMemory:
		if n, k := binary.Uvarint(e.Command[1:]); k > 0 {
			m.s.SetMaxMemory(int64(n & noLimit))
		}
		dst = resp.AppendSimple(append(dst, 0), "OK")
	}
	return dst
}

// Snapshot implements rsm.Machine.
func (m *machine) Snapshot() rsm.Snapshot { return m.s.BeginSnapshot() }

// Restore implements rsm.Machine.
func (m *machine) Restore(from io.Reader) error {
	s, err := kv.Restore(from)
	if err != nil {
		return err
	}
	m.s = s
	return nil
}
