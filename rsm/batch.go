package rsm

import (
	"encoding/binary"
	"errors"

	"understudy/event"
)

// The kinds of entries in the log of a state machine; those of package event belong to the virtual machine.
const (
	kindCommands event.Kind = 64 + iota // see appendHead
	kindMark                            // the state after this entry is to be digested
	kindSum                             // number of a mark's entry, the primary's digest; both 64 bits, big endian
)

// maxEntryBytes is up to where commands share an entry.
const maxEntryBytes = 256 << 10

var errEntry = errors.New("malformed entry")

// appendHead begins the data of a kindCommands entry: flags (1: time passes), time (uvarint), seed (64 bits, big endian). Each
// command follows as length (uvarint) and bytes. All commands of an entry have its time; command i has the seed mix(seed, i).
func appendHead(b []byte, tick bool, now int64, seed uint64) []byte {
	flags := byte(0)
	if tick {
		flags = 1
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(now))
	return binary.BigEndian.AppendUint64(b, seed)
}

func appendCommand(b, cmd []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(cmd)))
	return append(b, cmd...)
}

// mix gives the seed of a command: SplitMix64 of the entry's and the command's place in it.
func mix(seed uint64, i int) uint64 {
	z := seed + uint64(i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// parse calls each for every entry of a machine that a kindCommands entry of the log holds.
func parse(b []byte, each func(Entry)) (now int64, err error) {
	if len(b) == 0 || b[0] > 1 {
		return 0, errEntry
	}
	tick := b[0] == 1
	t, n := binary.Uvarint(b[1:])
	if n <= 0 || int64(t) < 0 || len(b) < 1+n+8 {
		return 0, errEntry
	}
	now = int64(t)
	seed := binary.BigEndian.Uint64(b[1+n:])
	b = b[1+n+8:]
	if tick {
		each(Entry{Time: now, Seed: mix(seed, -1)})
	}
	for i := 0; len(b) > 0; i++ {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return 0, errEntry
		}
		end := n + int(size)
		each(Entry{Time: now, Seed: mix(seed, i), Command: b[n:end:end]})
		b = b[end:]
	}
	return now, nil
}
