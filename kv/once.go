package kv

import (
	"errors"
	"fmt"

	"understudy/kv/resp"
)

// MaxClientID is the greatest length of a client's name in bytes.
const MaxClientID = 64

// ErrOldRequest is a request older than the last one of its client, whose reply is not kept any more. The client has
// seen a later reply, or sends its requests in parallel: then it needs several names.
var ErrOldRequest = errors.New("request is older than the client's last one")

// ErrClientID is a client name that is empty or too long.
var ErrClientID = errors.New("client name is empty or longer than 64 bytes")

// client is what is kept for a client: its last request and the reply to that. It is replaced, not changed, when a
// snapshot shares it; snapshots do not read the fields from epoch on.
type client struct {
	id      string
	request uint64
	used    uint64 // the count of requests at the last one: the order in which clients are forgotten
	db      uint8  // selected after it
	reply   []byte
	epoch   uint32

	place      int32
	prev, next *client // by used
}

// clients keeps the last reply of each client. When there are more clients than Limits.Clients, or their replies take
// more than Limits.ReplyBytes, those are forgotten that made no request for the longest time; never the one that is
// making one. A client that was forgotten and repeats its request is executed again: the limit must be well above
// what clients can do while one of them is still trying.
type clients struct {
	limits Limits
	byID   map[string]*client
	list   vec[*client]
	ring   client // ring.next is the client of the oldest request, ring.prev of the newest
	used   uint64
	bytes  int64
}

func (k *clients) init(l Limits) {
	if l.Clients <= 0 {
		l.Clients = 65536
	}
	if l.ReplyBytes <= 0 {
		l.ReplyBytes = 64 << 20
	}
	k.limits, k.byID = l, map[string]*client{}
	k.ring.prev, k.ring.next = &k.ring, &k.ring
}

func (k *clients) unlink(c *client) { c.prev.next, c.next.prev = c.next, c.prev }

func (k *clients) append(c *client) {
	c.prev, c.next = k.ring.prev, &k.ring
	c.prev.next, c.next.prev = c, c
}

func (c *client) memory() int64 { return memClient + int64(len(c.id)+len(c.reply)) }

func (k *clients) remove(c *client, w *cow) {
	k.unlink(c)
	k.bytes -= c.memory()
	delete(k.byID, c.id)
	if i := int(c.place); k.list.remove(i, w) {
		(*k.list.at(i)).place = int32(i)
	}
}

// record keeps the reply to a client's request.
func (k *clients) record(id string, request uint64, db int, reply []byte, w *cow) {
	c := k.byID[id]
	if c != nil {
		k.unlink(c)
		k.bytes -= c.memory()
		if w.shared(c.epoch) {
			n := &client{id: c.id, place: c.place, epoch: w.newest}
			*k.list.mut(int(n.place), w) = n
			k.byID[n.id] = n
			c = n
		}
		if cap(c.reply) > 2*len(reply)+64 {
			c.reply = nil
		}
	} else {
		c = &client{id: id, place: int32(k.list.n), epoch: w.newest}
		k.list.push(c, w)
		k.byID[id] = c
	}
	k.used++
	c.request, c.used, c.db = request, k.used, uint8(db)
	c.reply = append(c.reply[:0], reply...)
	k.bytes += c.memory()
	k.append(c)
	for old := k.ring.next; old != c && (k.list.n > k.limits.Clients || k.bytes > k.limits.ReplyBytes); old = k.ring.next {
		k.remove(old, w)
	}
}

// known looks for an earlier execution of a request. Done: the reply has been appended, or the error says why there
// is none.
func (s *Store) known(dst []byte, call *Call, id string, request uint64) (out []byte, done bool, err error) {
	if len(id) == 0 || len(id) > MaxClientID {
		return dst, true, ErrClientID
	}
	c := s.clients.byID[id]
	switch {
	case c == nil || request > c.request:
		return dst, false, nil
	case request < c.request:
		return dst, true, fmt.Errorf("%w: %d after %d of %q", ErrOldRequest, request, c.request, id)
	}
	call.DB = int(c.db)
	return append(dst, c.reply...), true, nil
}

// ApplyOnce is Apply for a client that numbers its requests upwards, and repeats one with the same number until it has
// a reply: the request is executed once, and a repetition gets the reply of then. The error wraps ErrOldRequest or
// ErrClientID; it changes nothing and appends nothing.
func (s *Store) ApplyOnce(dst []byte, c *Call, id string, request uint64, args [][]byte) ([]byte, error) {
	out, done, err := s.known(dst, c, id, request)
	if done {
		return out, err
	}
	out = s.Apply(dst, c, args)
	s.clients.record(id, request, c.DB, out[len(dst):], &s.cow)
	return out, nil
}

// Clients returns for how many clients a reply is kept, and the bytes that they count for.
func (s *Store) Clients() (n int, bytes int64) { return s.clients.list.n, s.clients.bytes }

// OldRequest appends what a client is told that repeats a request whose reply is not kept.
func OldRequest(dst []byte, err error) []byte { return resp.AppendError(dst, "STALE "+err.Error()) }
