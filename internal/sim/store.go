package sim

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"understudy/event"
	"understudy/kv"
)

// kindCommands is the entry of a server of the key-value service.
const kindCommands event.Kind = 64

// expirePerTick bounds the keys that one entry of the clock removes.
const expirePerTick = 3

var errEntry = errors.New("malformed entry")

// store is a replica's state: the real one, executed as internal/kvserve and package rsm do it, and its past.
type store struct {
	kv *kv.Store
	past

	request kv.Request
	call    kv.Call
	scratch []byte
	suffix  string // a mutation: of all clients' names
}

// past is what a state comes from. It goes to a new backup with it.
type past struct {
	clock    int64       // nanoseconds, of the newest entry executed
	seq      event.Seq   // the newest entry executed
	commands uint64      // executed since the beginning
	sum      uint64      // of all entries and all replies so far
	sums     []uint64    // sum after each entry; the first is that of the beginning
	worded   []event.Seq // likewise: the newest entry so far that has commands, on which answers may depend
}

func newStore(l kv.Limits) *store {
	return &store{kv: kv.New(l), past: past{sums: []uint64{0}, worded: []event.Seq{0}}}
}

func (b *past) copy() past {
	c := *b
	c.sums, c.worded = slices.Clip(b.sums), slices.Clip(b.worded) // they only grow
	return c
}

// appendHead begins an entry: whether time passes, the time and the seed. Commands follow with their lengths.
func appendHead(b []byte, tick bool, now int64, seed uint64) []byte {
	flag := byte(0)
	if tick {
		flag = 1
	}
	b = append(b, flag)
	b = binary.LittleEndian.AppendUint64(b, uint64(now))
	return binary.LittleEndian.AppendUint64(b, seed)
}

const headBytes = 17

func appendCommand(b, cmd []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(cmd))), cmd...)
}

// begin is the beginning of an entry.
func (s *store) begin(tick bool, now int64) {
	s.clock = now
	if tick {
		s.kv.Expire(now/int64(time.Millisecond), expirePerTick)
	}
}

// apply executes command i of an entry. The reply belongs to the caller.
func (s *store) apply(seed uint64, i int, cmd []byte) ([]byte, error) {
	if err := s.request.Decode(cmd); err != nil {
		return nil, err
	}
	s.request.Now, s.request.Seed = s.clock/int64(time.Millisecond), mix(seed, uint64(i))
	if s.suffix != "" {
		s.request.Client += s.suffix
	}
	s.scratch = s.kv.Do(s.scratch[:0], &s.call, &s.request)
	s.commands++
	s.sum = mix(s.sum, xxhash.Sum64(s.scratch))
	return slices.Clone(s.scratch), nil
}

// finish is the end of an entry.
func (s *store) finish(e event.Entry) {
	s.seq++
	s.sum = mix(s.sum, xxhash.Sum64(e.Data))
	s.sums = append(s.sums, s.sum)
	worded := s.worded[len(s.worded)-1]
	if hasCommands(e) {
		worded = s.seq
	}
	s.worded = append(s.worded, worded)
}

// replay executes an entry as a backup does.
func (s *store) replay(e event.Entry, clock func(int64) int64) error {
	b := e.Data
	if e.Kind != kindCommands || len(b) < headBytes {
		return errEntry
	}
	now, seed := int64(binary.LittleEndian.Uint64(b[1:])), binary.LittleEndian.Uint64(b[9:])
	if now < s.clock {
		return errors.New("time steps back")
	}
	s.begin(b[0] == 1, clock(now))
	b = b[headBytes:]
	for i := 0; len(b) > 0; i++ {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errEntry
		}
		if _, err := s.apply(seed, i, b[n:n+int(size)]); err != nil {
			return err
		}
		b = b[n+int(size):]
	}
	s.clock = now
	s.finish(e)
	return nil
}

// look executes a read on the state as it is.
func (s *store) look(args [][]byte, now int64, seed uint64) []byte {
	c := kv.Call{Now: now / int64(time.Millisecond), Seed: seed}
	return s.kv.Read(nil, &c, args)
}

func seedOf(e event.Entry) uint64 { return binary.LittleEndian.Uint64(e.Data[9:]) }

func firstCommand(b []byte) (cmd, rest []byte) {
	size, n := binary.Uvarint(b)
	return b[n : n+int(size)], b[n+int(size):]
}
