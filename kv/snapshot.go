package kv

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A snapshot is a sequence of frames: four bytes length and four bytes CRC-32C of the payload that follows, little
// endian. How the payloads are cut means nothing; together they are, in numbers of variable length (LEB128):
//
//	"UKVS", format version, clock, changes so far, limit of the memory, limits for clients, requests of clients so
//	far, 1024 counters for missing keys
//	for each database that has keys: 'D', its number, number of keys, and for each key:
//		kind, flags, key, version, [deadline], value: a string, an integer, or a number of elements and these
//	'C', number of clients, and for each: name, request, its place in time, database, reply
//	'E', xxHash64 of all payload up to here, eight bytes
//
// Strings have their length in front. Keys and elements are in their order, which is part of the state. Two stores with
// the same state have the same snapshot.
const (
	snapshotMagic   = "UKVS"
	snapshotVersion = 1
	frameHead       = 8
	// maxFrame bounds the payload of a frame in bytes.
	maxFrame = 16 << 20
)

const (
	flagRaw = 1 << iota
	flagLarge
	flagDeadline
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot is the state at the instant when it was begun. Taking it costs a word for every 256 keys; from then on the
// store copies what it changes before it does (at most 256 elements for one change, or one string if that is
// overwritten in part), so commands go on at their pace.
//
// Next may run in another goroutine beside commands; BeginSnapshot and Close may not.
type Snapshot struct {
	s      *Store
	number uint32

	clock     int64
	version   uint64
	slots     [watchSlots]uint64
	maxMemory int64
	dbs       [Databases]vec[*entry]
	clients   vec[*client]
	limits    Limits
	requests  uint64

	stage stage
	db    int
	at    int    // entry or client
	value value  // whose elements are being written
	item  int    // element of value
	part  int    // string of the element
	block int    // list: block of the element
	inner int    // list: place in the block
	head  []byte // encoded and not taken yet
	tail  []byte // the rest of a string that is not copied to head
	text  string // the same of a string
	sum   xxhash.Digest
	total uint64
}

type stage uint8

const (
	stageHeader stage = iota
	stageDB
	stageEntries
	stageClients
	stageEnd
	stageDone
)

// inlineBytes is up to where a string is copied to head with the rest.
const inlineBytes = 512

// BeginSnapshot begins a snapshot of the state as it is now. Close must be called.
func (s *Store) BeginSnapshot() *Snapshot {
	s.cow.newest++
	s.open = append(s.open, s.cow.newest)
	s.cow.active = s.cow.newest
	p := &Snapshot{
		s: s, number: s.cow.newest, clock: s.clock, version: s.version, slots: s.slots, maxMemory: s.maxMemory,
		clients: s.clients.list.clone(), limits: s.clients.limits, requests: s.clients.used,
	}
	for i, d := range s.dbs {
		p.dbs[i] = d.list.clone()
	}
	p.sum.Reset()
	return p
}

// Close ends the snapshot, finished or not, so that the store need not copy for it any more.
func (p *Snapshot) Close() {
	s := p.s
	s.open = slices.DeleteFunc(s.open, func(n uint32) bool { return n == p.number })
	s.cow.active = 0
	if len(s.open) > 0 {
		s.cow.active = slices.Max(s.open)
	}
}

// Next appends the next frame, with a payload of up to maxBytes (at most 16 MiB, at least 1 KiB), to dst. done is true
// with the last one.
func (p *Snapshot) Next(dst []byte, maxBytes int) (out []byte, done bool) {
	from := len(dst)
	dst = append(dst, make([]byte, frameHead)...)
	dst = p.fill(dst, from+frameHead+min(max(maxBytes, 1<<10), maxFrame))
	payload := dst[from+frameHead:]
	binary.LittleEndian.PutUint32(dst[from:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[from+4:], crc32.Checksum(payload, castagnoli))
	return dst, p.stage == stageDone && len(p.head) == 0
}

// fill appends payload until dst has the length limit, or to the end.
func (p *Snapshot) fill(dst []byte, limit int) []byte {
	for len(dst) < limit {
		room := limit - len(dst)
		switch {
		case len(p.head) > 0:
			n := min(room, len(p.head))
			dst = append(dst, p.head[:n]...)
			p.head = p.head[n:]
		case len(p.tail) > 0:
			n := min(room, len(p.tail))
			p.sum.Write(p.tail[:n])
			dst = append(dst, p.tail[:n]...)
			p.tail = p.tail[n:]
		case len(p.text) > 0:
			n := min(room, len(p.text))
			p.sum.WriteString(p.text[:n])
			dst = append(dst, p.text[:n]...)
			p.text = p.text[n:]
		case p.stage == stageDone:
			return dst
		default:
			p.head = p.head[:0:cap(p.head)]
			for len(p.head) < 1<<10 && len(p.tail) == 0 && len(p.text) == 0 && p.stage != stageDone {
				p.step()
			}
			if p.stage != stageDone {
				p.sum.Write(p.head)
			}
		}
	}
	return dst
}

func (p *Snapshot) number64(n uint64) { p.head = binary.AppendUvarint(p.head, n) }

func (p *Snapshot) string(s string) {
	p.number64(uint64(len(s)))
	if len(s) <= inlineBytes {
		p.head = append(p.head, s...)
	} else {
		p.text = s
	}
}

func (p *Snapshot) bytes(b []byte) {
	p.number64(uint64(len(b)))
	if len(b) <= inlineBytes {
		p.head = append(p.head, b...)
	} else {
		p.tail = b
	}
}

// step encodes the next piece, which has at most one long string, at its end.
func (p *Snapshot) step() {
	switch p.stage {
	case stageHeader:
		p.head = append(p.head, snapshotMagic...)
		for _, n := range []uint64{
			snapshotVersion, uint64(p.clock), p.version, uint64(p.maxMemory), uint64(p.limits.Clients),
			uint64(p.limits.ReplyBytes), p.requests,
		} {
			p.number64(n)
		}
		for _, n := range p.slots {
			p.number64(n)
		}
		p.stage = stageDB
	case stageDB:
		for p.db < Databases && p.dbs[p.db].n == 0 {
			p.db++
		}
		if p.db == Databases {
			p.head = append(p.head, 'C')
			p.number64(uint64(p.clients.n))
			p.stage, p.at, p.part = stageClients, 0, 0
			return
		}
		p.head = append(p.head, 'D', byte(p.db))
		p.number64(uint64(p.dbs[p.db].n))
		p.stage, p.at, p.part = stageEntries, 0, 0
	case stageEntries:
		if p.value != nil {
			p.element()
			return
		}
		list := &p.dbs[p.db]
		if p.at == list.n {
			p.db++
			p.stage = stageDB
			return
		}
		p.entry(*list.at(p.at))
	case stageClients:
		if p.at == p.clients.n {
			p.stage = stageEnd
			return
		}
		c := *p.clients.at(p.at)
		p.string(c.id)
		p.number64(c.request)
		p.number64(c.used)
		p.head = append(p.head, c.db)
		p.bytes(c.reply)
		p.at++
	case stageEnd:
		p.head = append(p.head, 'E')
		p.sum.Write(p.head)
		p.total = p.sum.Sum64()
		p.head = binary.LittleEndian.AppendUint64(p.head, p.total)
		p.stage = stageDone
	}
}

// entry encodes a key in two pieces: up to the key, and the rest with the value's beginning.
func (p *Snapshot) entry(e *entry) {
	if p.part == 0 {
		flags := byte(0)
		if e.raw {
			flags |= flagRaw
		}
		if isLarge(e.val) {
			flags |= flagLarge
		}
		if e.deadline != 0 {
			flags |= flagDeadline
		}
		p.head = append(p.head, byte(e.kind), flags)
		p.string(e.key)
		p.part = 1
		return
	}
	p.part = 0
	p.number64(e.version)
	if e.deadline != 0 {
		p.number64(uint64(e.deadline))
	}
	p.at++
	switch e.kind {
	case kindString:
		p.bytes(e.str)
	case kindInt:
		p.head = binary.AppendVarint(p.head, e.num)
	default:
		p.number64(uint64(e.val.length()))
		p.value, p.item, p.block, p.inner = e.val, 0, 0, 0
	}
}

func isLarge(v value) bool {
	switch v := v.(type) {
	case *hash:
		return v.large
	case *set:
		return v.hashed
	case *zset:
		return v.large
	}
	return false
}

// element encodes an element of a value, or a half of it.
func (p *Snapshot) element() {
	switch v := p.value.(type) {
	case *list:
		items := v.blocks()[p.block].items
		p.string(items[p.inner])
		if p.inner++; p.inner == len(items) {
			p.block, p.inner = p.block+1, 0
		}
	case *set:
		p.string(v.items.at(p.item).key)
	case *zset:
		x := v.items.at(p.item)
		p.head = binary.LittleEndian.AppendUint64(p.head, math.Float64bits(x.val))
		p.string(x.key)
	case *hash:
		x := v.items.at(p.item)
		if p.part == 0 {
			p.string(x.key)
			p.part = 1
			return
		}
		p.part = 0
		p.string(x.val)
	}
	if p.item++; p.item == p.value.length() {
		p.value = nil
	}
}

// Digest returns the xxHash64 of the snapshot, once Next has returned the last frame or Hash has returned true. Stores
// with the same state have the same digest, on whatever machine and restored or not.
func (p *Snapshot) Digest() uint64 { return p.total }

// Hash is Next for whom the digest is enough: it goes through about maxBytes and tells whether that was all. scratch
// is returned to be used again.
func (p *Snapshot) Hash(scratch []byte, maxBytes int) (again []byte, done bool) {
	scratch = p.fill(scratch[:0], max(maxBytes, 1<<10))
	return scratch, p.stage == stageDone && len(p.head) == 0
}

// Digest returns the digest of the whole state. It takes as long as the state is large: where commands must go on,
// use BeginSnapshot and Hash.
func (s *Store) Digest() uint64 {
	p := s.BeginSnapshot()
	defer p.Close()
	var scratch []byte
	for done := false; !done; {
		scratch, done = p.Hash(scratch, 64<<10)
	}
	return p.Digest()
}
