package rsm

import "io"

// Entry is what the primary gives to every replica's machine in the same order.
type Entry struct {
	// Time is the primary's clock in nanoseconds since 1970. It never steps back, whoever is primary.
	Time int64
	// Seed is random, of this entry alone: the source of all chance.
	Seed uint64
	// Command is what was proposed. Nil: nothing was, only time passes (see Options.ClockEvery).
	Command []byte
}

// Machine is a deterministic state machine. A Node calls its methods one at a time. What it does may depend on its state and on
// entries, and on nothing else: no clock, no random source, no order of a map.
type Machine interface {
	// Apply executes an entry and appends its reply to dst. It keeps neither dst nor e.Command. What it appends for an
	// entry without a command goes nowhere.
	Apply(dst []byte, e Entry) []byte
	// Snapshot begins to copy the state of this instant.
	Snapshot() Snapshot
	// Restore replaces the state, whatever it is, by a snapshot's, and reads that to its end. After an error the state is
	// worth nothing; another Restore may follow.
	Restore(from io.Reader) error
}

// Snapshot is the state of the instant in which it was begun. Several may be open.
type Snapshot interface {
	// Next appends up to about max bytes of it, at least one unless it is at its end. done: that is all. It is called while
	// the machine goes on; a machine that cannot copy its state bit by bit copies it in Machine.Snapshot, see Bytes.
	Next(dst []byte, max int) (out []byte, done bool)
	// Close is called once, while nothing else is called.
	Close()
}

// Bytes is the snapshot of a machine whose state is encoded quickly.
func Bytes(b []byte) Snapshot { return &bytesSnapshot{b} }

type bytesSnapshot struct{ rest []byte }

func (s *bytesSnapshot) Next(dst []byte, max int) ([]byte, bool) {
	n := min(max, len(s.rest))
	dst = append(dst, s.rest[:n]...)
	s.rest = s.rest[n:]
	return dst, len(s.rest) == 0
}

func (s *bytesSnapshot) Close() {}
