package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"understudy/kv/resp"
)

// ErrSnapshot is input that is no snapshot, or a damaged or incomplete one.
var ErrSnapshot = errors.New("damaged snapshot")

// Restorer makes a store of the frames of a snapshot. It takes memory only for what has arrived, whatever numbers the
// input claims. The zero value is not ready for use; see NewRestorer.
type Restorer struct {
	s     *Store
	frame []byte // of a frame that has not arrived whole
	buf   []byte // payload that was not decoded yet
	sum   *xxhash.Digest
	stage stage
	err   error

	d     *db
	dbs   int    // the lowest database that may come next
	left  uint64 // entries, or clients, that are still to come
	entry *entry // whose elements are being read
	items uint64 // of which so many are still to come
	large bool
}

// NewRestorer returns a Restorer that waits for the first frame.
func NewRestorer() *Restorer { return &Restorer{s: New(Limits{}), sum: xxhash.New()} }

// Restore reads a snapshot up to its last frame and not further. The error wraps ErrSnapshot or is the reader's.
func Restore(from io.Reader) (*Store, error) {
	r := NewRestorer()
	buf := make([]byte, 64<<10)
	for r.stage != stageDone {
		if _, err := io.ReadFull(from, buf[:frameHead]); err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		if err := r.Write(buf[:frameHead]); err != nil {
			return nil, err
		}
		for left := int(binary.LittleEndian.Uint32(buf)); left > 0; {
			n := min(left, len(buf))
			if _, err := io.ReadFull(from, buf[:n]); err != nil {
				return nil, fmt.Errorf("read snapshot: %w", err)
			}
			if err := r.Write(buf[:n]); err != nil {
				return nil, err
			}
			left -= n
		}
	}
	return r.Finish()
}

// Finish returns the store, once the last frame was written.
func (r *Restorer) Finish() (*Store, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.stage != stageDone {
		return nil, fmt.Errorf("%w: it ends too early", ErrSnapshot)
	}
	return r.s, nil
}

// Done tells whether the last frame was written.
func (r *Restorer) Done() bool { return r.stage == stageDone }

func (r *Restorer) bad(format string, args ...any) error {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
	}
	return r.err
}

// Write takes more of the snapshot, cut in any way. Its error wraps ErrSnapshot and stays.
func (r *Restorer) Write(b []byte) error {
	if r.err != nil {
		return r.err
	}
	r.frame = append(r.frame, b...)
	at := r.frame
	for len(at) >= frameHead && r.err == nil {
		n := binary.LittleEndian.Uint32(at)
		if n == 0 || n > maxFrame {
			return r.bad("frame of %d bytes", n)
		}
		if uint32(len(at)-frameHead) < n {
			break
		}
		payload := at[frameHead : frameHead+n]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(at[4:]) {
			return r.bad("wrong checksum of a frame")
		}
		at = at[frameHead+n:]
		r.take(payload)
	}
	r.frame = r.frame[:copy(r.frame, at)]
	if r.stage == stageDone && len(r.frame)+len(r.buf) > 0 {
		return r.bad("more data after its end")
	}
	return r.err
}

func (r *Restorer) take(payload []byte) {
	r.buf = append(r.buf, payload...)
	b := r.buf
	for r.err == nil && r.stage != stageDone {
		d := decoder{b: b}
		ok := r.step(&d, b)
		if d.broken {
			_ = r.bad("number of more than 64 bits")
		}
		if r.err != nil || !ok || d.bad {
			break
		}
		used := len(b) - len(d.b)
		if r.stage != stageDone {
			r.sum.Write(b[:used])
		}
		b = d.b
	}
	r.buf = r.buf[:copy(r.buf, b)]
}

// string reads a string without the memory for it before it is there.
func (r *Restorer) string(d *decoder, limit uint64) []byte {
	n := d.number()
	if d.bad {
		return nil
	}
	if n > limit {
		_ = r.bad("string of %d bytes", n)
		d.bad = true
		return nil
	}
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	return d.fixed(int(n))
}

// step decodes one piece. It must not change anything before it has the whole of it. Not ok: more input is needed.
func (r *Restorer) step(d *decoder, all []byte) bool {
	s := r.s
	switch r.stage {
	case stageHeader:
		if len(all) < len(snapshotMagic) {
			return false
		}
		if string(d.fixed(len(snapshotMagic))) != snapshotMagic {
			_ = r.bad("it does not begin like one")
			return false
		}
		if v := d.number(); !d.bad && v != snapshotVersion {
			_ = r.bad("format version %d, this program reads %d", v, snapshotVersion)
			return false
		}
		var n [6]uint64
		for i := range n {
			n[i] = d.number()
		}
		var slots [watchSlots]uint64
		for i := range slots {
			slots[i] = d.number()
		}
		if d.bad {
			return false
		}
		if n[0] > math.MaxInt64 || n[2] > math.MaxInt64 || n[3] == 0 || n[3] > math.MaxInt32 || n[4] == 0 || n[4] > math.MaxInt64 {
			_ = r.bad("header")
			return false
		}
		s.clock, s.version, s.maxMemory, s.slots = int64(n[0]), n[1], int64(n[2]), slots
		s.clients.init(Limits{Clients: int(n[3]), ReplyBytes: int64(n[4])})
		s.clients.used = n[5]
		r.stage = stageDB
	case stageDB:
		return r.section(d)
	case stageEntries:
		if r.entry != nil {
			return r.element(d)
		}
		if r.left == 0 {
			r.stage = stageDB
			return true
		}
		return r.key(d)
	case stageClients:
		if r.left == 0 {
			if !r.linkClients() {
				return false
			}
			r.stage = stageEnd
			return true
		}
		return r.client(d)
	case stageEnd:
		if len(all) < 9 {
			return false
		}
		r.sum.Write(all[:1])
		if all[0] != 'E' || binary.LittleEndian.Uint64(all[1:]) != r.sum.Sum64() {
			_ = r.bad("wrong digest")
			return false
		}
		d.b = all[9:]
		r.stage = stageDone
	}
	return true
}

// section reads the head of a database or of the clients.
func (r *Restorer) section(d *decoder) bool {
	kind := d.fixed(1)[0]
	if d.bad {
		return false
	}
	switch kind {
	case 'D':
		n := int(d.fixed(1)[0])
		count := d.number()
		if d.bad {
			return false
		}
		if n < r.dbs || n >= Databases || count == 0 {
			_ = r.bad("database %d with %d keys", n, count)
			return false
		}
		r.d, r.dbs, r.left, r.stage = r.s.dbs[n], n+1, count, stageEntries
	case 'C':
		count := d.number()
		if d.bad {
			return false
		}
		if count > uint64(r.s.clients.limits.Clients) {
			_ = r.bad("%d clients", count)
			return false
		}
		r.left, r.stage = count, stageClients
	default:
		_ = r.bad("section %q", kind)
		return false
	}
	return true
}

func (r *Restorer) key(d *decoder) bool {
	head := d.fixed(2)
	if d.bad {
		return false
	}
	e := &entry{kind: kind(head[0]), raw: head[1]&flagRaw != 0}
	if e.kind == kindNone || e.kind > kindZSet || head[1] >= flagDeadline<<1 || e.raw && e.kind != kindString {
		_ = r.bad("key of kind %d with flags %d", head[0], head[1])
		return false
	}
	key := r.string(d, maxString)
	e.version = d.number()
	if head[1]&flagDeadline != 0 {
		at := d.number()
		if !d.bad && (at == 0 || at > math.MaxInt64) {
			_ = r.bad("deadline")
			return false
		}
		e.deadline = int64(at)
	}
	items := uint64(0)
	switch {
	case d.bad:
	case e.kind == kindString:
		e.str = r.string(d, maxString)
	case e.kind == kindInt:
		n := d.number()
		e.num = int64(n>>1) ^ -int64(n&1)
	default:
		if items = d.number(); !d.bad && items == 0 {
			_ = r.bad("value without elements")
		}
	}
	if d.bad || r.err != nil {
		return false
	}
	if e.version > r.s.version || r.d.index[string(key)] != nil || r.d.list.n == math.MaxInt32 {
		_ = r.bad("key %.40q twice, or of a later version", key)
		return false
	}
	e.key = string(key)
	e.str = append([]byte(nil), e.str...)
	switch e.kind {
	case kindList:
		e.val = &list{}
	case kindSet:
		e.val = &set{}
	case kindHash:
		e.val = &hash{}
	case kindZSet:
		e.val = newZSet()
	}
	r.d.add(e, &r.s.cow)
	r.left--
	if e.val == nil {
		r.counted(e)
		return true
	}
	r.entry, r.items, r.large = e, items, head[1]&flagLarge != 0
	return true
}

func (r *Restorer) counted(e *entry) {
	e.mem = e.memory()
	r.d.used += e.mem
}

func (r *Restorer) element(d *decoder) bool {
	w := &r.s.cow
	score := 0.0
	z, isZSet := r.entry.val.(*zset)
	if isZSet {
		score = math.Float64frombits(binary.LittleEndian.Uint64(d.fixed(8)))
	}
	x := r.string(d, maxString)
	var val []byte
	h, isHash := r.entry.val.(*hash)
	if isHash && !d.bad {
		val = r.string(d, maxString)
	}
	if d.bad || r.err != nil {
		return false
	}
	fresh := true
	switch v := r.entry.val.(type) {
	case *list:
		v.pushRight(string(x), w)
	case *set:
		fresh = v.put(x, w)
	case *hash:
		fresh = h.put(x, val, w)
	case *zset:
		if fresh = v.find(x) < 0 && !math.IsNaN(score) && (score != 0 || !math.Signbit(score)); fresh {
			v.add(string(x), score, w)
			v.stored += memZSetElem + int64(len(x))
			v.large = v.large || len(x) > compactBytes || v.len() > compactItems
		}
	}
	if !fresh {
		_ = r.bad("element %.40q of %.40q twice, or of no score", x, r.entry.key)
		return false
	}
	if r.items--; r.items > 0 {
		return true
	}
	switch v := r.entry.val.(type) {
	case *set:
		v.hashed = v.hashed || r.large
	case *hash:
		v.large = v.large || r.large
	case *zset:
		v.large = v.large || r.large
		z.reindex()
	}
	r.counted(r.entry)
	r.entry = nil
	return true
}

func (r *Restorer) client(d *decoder) bool {
	k := &r.s.clients
	id := r.string(d, MaxClientID)
	c := &client{request: d.number(), used: d.number()}
	c.db = d.fixed(1)[0]
	reply := r.string(d, 4*resp.DefaultMaxBulk)
	if d.bad || r.err != nil {
		return false
	}
	c.id = string(id)
	if len(id) == 0 || k.byID[c.id] != nil || c.used > k.used || c.db >= Databases {
		_ = r.bad("client %.70q", id)
		return false
	}
	c.reply = append([]byte(nil), reply...)
	c.place = int32(k.list.n)
	k.list.push(c, &r.s.cow)
	k.byID[c.id] = c
	k.bytes += c.memory()
	r.left--
	return true
}

// linkClients puts the clients into the order of their last requests.
func (r *Restorer) linkClients() bool {
	k := &r.s.clients
	var all []*client
	for i := range k.list.n {
		all = append(all, *k.list.at(i))
	}
	slices.SortFunc(all, func(a, b *client) int {
		if a.used < b.used {
			return -1
		}
		return 1
	})
	for i, c := range all {
		if i > 0 && all[i-1].used == c.used {
			_ = r.bad("two clients at the same time")
			return false
		}
		k.append(c)
	}
	return true
}
