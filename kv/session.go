package kv

import (
	"slices"

	"understudy/kv/resp"
)

// Action is what is to be done with a command.
type Action uint8

const (
	// Answered means that the reply has been appended.
	Answered Action = iota
	// Read means that Session.Read gives the reply, on the primary and without an entry in the log. For a
	// linearizable read the primary must know that it still is the primary.
	Read
	// Write means that Session.Request is to be logged and executed with Store.Do; Session.Done must follow.
	Write
	// Close means that the reply has been appended and the connection ends after it.
	Close
)

// Bounds of what a client can make a Session hold.
const (
	maxQueued      = 1 << 20 // commands of a transaction
	maxQueuedBytes = 1 << 30 // bytes of them
	maxWatches     = 1 << 16
)

// Session is what a server keeps for a connection: selected database, version of the protocol, an open transaction
// and the watched keys. It is not part of the replicated state; a client that connects to another primary begins
// anew. The zero value is not ready for use; see NewSession.
type Session struct {
	DB    int    // the selected database
	Proto int    // 2 or 3
	ID    int64  // what HELLO tells
	Name  string // what HELLO SETNAME said
	// Replica is what HELLO tells of the server's part. The caller sets it.
	Replica bool

	multi   bool
	failed  bool // a command of the transaction was refused
	queue   [][][]byte
	bytes   int
	writes  bool // queue has a command that writes
	watches []Watch

	call Call
	req  Request
	one  [1][][]byte
}

// NewSession returns the session of a connection that was just made.
func NewSession(id int64) *Session { return &Session{Proto: 2, ID: id} }

// InMulti tells whether a transaction is open.
func (n *Session) InMulti() bool { return n.multi }

// Handle takes a command and says what is to be done with it. now is the present, in unix milliseconds. args are not
// kept when Handle answered; otherwise they are in use until Read or Done. Handle reads s and may run beside Reads.
func (n *Session) Handle(dst []byte, s *Store, now int64, args [][]byte) ([]byte, Action) {
	cmd, text := Find(args)
	if cmd == nil {
		n.failed = n.multi
		return resp.AppendError(dst, text), Answered
	}
	if n.multi {
		return n.handleMulti(dst, s, now, cmd, args)
	}
	switch cmd.Name {
	case "multi":
		n.multi, n.failed = true, false
		return appendOK(dst), Answered
	case "exec", "discard":
		return resp.AppendError(dst, map[string]string{"exec": "ERR EXEC without MULTI", "discard": "ERR DISCARD without MULTI"}[cmd.Name]), Answered
	case "watch":
		return n.watch(dst, s, now, args[1:]), Answered
	case "unwatch":
		n.watches = nil
		return appendOK(dst), Answered
	case "hello":
		return n.hello(dst, args), Answered
	case "reset":
		n.reset()
		return resp.AppendSimple(dst, "RESET"), Answered
	case "quit":
		return appendOK(dst), Close
	}
	n.one[0] = args
	n.req = Request{Now: now, DB: n.DB, Proto: n.Proto, Cmds: n.one[:], Watches: n.req.Watches[:0]}
	if cmd.Flags&FlagWrite != 0 {
		return dst, Write
	}
	return dst, Read
}

func appendOK(dst []byte) []byte { return append(dst, "+OK\r\n"...) }

func (n *Session) handleMulti(dst []byte, s *Store, now int64, cmd *Command, args [][]byte) ([]byte, Action) {
	refuse := func(text string) ([]byte, Action) {
		n.failed = true
		return resp.AppendError(dst, text), Answered
	}
	switch cmd.Name {
	case "multi":
		return resp.AppendError(dst, "ERR MULTI calls can not be nested"), Answered
	case "watch":
		return resp.AppendError(dst, "ERR WATCH inside MULTI is not allowed"), Answered
	case "quit":
		return appendOK(dst), Close
	case "reset":
		n.reset()
		return resp.AppendSimple(dst, "RESET"), Answered
	case "discard":
		n.forget()
		return appendOK(dst), Answered
	case "hello":
		return refuse("ERR Command not allowed inside a transaction")
	case "exec":
		if n.failed {
			n.forget()
			return resp.AppendError(dst, "EXECABORT Transaction discarded because of previous errors."), Answered
		}
		n.req = Request{Now: now, DB: n.DB, Proto: n.Proto, Exec: true, Cmds: n.queue, Watches: n.watches}
		writes := n.writes
		n.forget()
		if writes {
			return dst, Write
		}
		return dst, Read
	}
	if cmd.Flags&FlagDenyOOM != 0 && s.full() {
		return refuse(refusesAbove)
	}
	kept := make([][]byte, len(args))
	for i, a := range args {
		kept[i] = slices.Clone(a)
		n.bytes += len(a) + 24
	}
	if len(n.queue) >= maxQueued || n.bytes > maxQueuedBytes {
		return refuse("ERR transaction is too large")
	}
	n.queue = append(n.queue, kept)
	n.writes = n.writes || cmd.Flags&FlagWrite != 0
	return resp.AppendSimple(dst, "QUEUED"), Answered
}

// reset makes the session new. It does not write the ID, which other connections may read.
func (n *Session) reset() {
	n.DB, n.Proto, n.Name, n.Replica = 0, 2, "", false
	n.forget()
}

// forget ends the transaction and the watching.
func (n *Session) forget() {
	n.multi, n.failed, n.writes, n.bytes = false, false, false, 0
	n.queue, n.watches = nil, nil
}

func (n *Session) watch(dst []byte, s *Store, now int64, keys [][]byte) []byte {
next:
	for _, k := range keys {
		for _, w := range n.watches {
			if w.DB == n.DB && string(w.Key) == string(k) {
				continue next // the first version counts
			}
		}
		if len(n.watches) >= maxWatches {
			return resp.AppendError(dst, "ERR too many watched keys")
		}
		n.watches = append(n.watches, Watch{n.DB, slices.Clone(k), s.Version(now, n.DB, k)})
	}
	return appendOK(dst)
}

func (n *Session) hello(dst []byte, args [][]byte) []byte {
	proto, name := n.Proto, n.Name
	if len(args) > 1 {
		v, ok := parseInt(args[1])
		if !ok {
			return resp.AppendError(dst, "ERR Protocol version is not an integer or out of range")
		}
		if v != 2 && v != 3 {
			return resp.AppendError(dst, "NOPROTO unsupported protocol version")
		}
		proto = int(v)
		for i := 2; i < len(args); i++ {
			if !is(args[i], "setname") || i+1 >= len(args) {
				return resp.AppendError(dst, "ERR Syntax error in HELLO option '"+cString(args[i], 128)+"'")
			}
			i++
			name = string(args[i])
			for _, b := range args[i] {
				if b < '!' || b > '~' {
					return resp.AppendError(dst, "ERR Client names cannot contain spaces, newlines or special characters.")
				}
			}
		}
	}
	n.Proto, n.Name = proto, name
	dst = resp.AppendMap(dst, proto, 7)
	for _, kv := range [][2]string{{"server", "redis"}, {"version", Version}} {
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, kv[0]), kv[1])
	}
	dst = resp.AppendInt(resp.AppendBulkString(dst, "proto"), int64(proto))
	dst = resp.AppendInt(resp.AppendBulkString(dst, "id"), n.ID)
	role := "master"
	if n.Replica {
		role = "replica"
	}
	for _, kv := range [][2]string{{"mode", "standalone"}, {"role", role}} {
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, kv[0]), kv[1])
	}
	return resp.AppendArray(resp.AppendBulkString(dst, "modules"), 0)
}

// Version is the version of Redis whose behaviour this is.
const Version = "7.0.15"

// Request returns the entry to log after Handle said Write. The caller sets Seed, and Client and Number if the client
// named them.
func (n *Session) Request() *Request { return &n.req }

// Read executes what Handle said is a read. seed is for commands that choose at random.
func (n *Session) Read(dst []byte, s *Store, seed uint64) []byte {
	c := &n.call
	c.Now, c.Seed, c.DB, c.Proto = n.req.Now, seed, n.req.DB, n.req.Proto
	if n.req.Exec {
		dst = s.ReadExec(dst, c, n.req.Watches, n.req.Cmds)
	} else {
		dst = s.Read(dst, c, n.req.Cmds[0])
	}
	n.Done(c.DB)
	return dst
}

// Done tells the session the database that is selected after its request was executed (Call.DB after Store.Do).
func (n *Session) Done(db int) {
	n.DB = db
	n.one[0] = nil
	n.req.Cmds, n.req.Watches = nil, nil
}
