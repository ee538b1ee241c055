package kvserve

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
	"understudy/rsm"
)

const (
	// maxPipeline is how many commands of a connection are on their way at a time, at most.
	maxPipeline = 1024
	// firstPipeline is how many to begin with, while nobody knows how large the replies are.
	firstPipeline = 32
	readBytes     = 16 << 10
	// maxOutBytes of replies are sent before more commands are taken.
	maxOutBytes = 1 << 20
	// maxCommandBytes bounds a command as it is sent, with room for what the log adds.
	maxCommandBytes = rsm.MaxCommandBytes - 64<<10
	// maxUnknownBytes is what a client may send before it has given the password.
	maxUnknownBytes = 64 << 10
)

// What clients are told by a server that is not primary.
const (
	errReadOnly   = "READONLY You can't write against a read only replica."
	errMasterDown = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
	errNoAuth     = "NOAUTH Authentication required."
)

// empty is the store for commands that look at none.
var empty = kv.New(kv.Limits{})

// conn is a client's connection, whoever moves its bytes: serve or the server's loop.
type conn struct {
	s       *Server
	nc      net.Conn
	l       *life
	in      resp.Reader
	session *kv.Session
	shown   shown
	authed  bool
	born    time.Time

	// What has been read and not been answered: replies that are known, and operations between them.
	out     []byte
	pending []pending
	ops     []rsm.Op
	log     []byte // the commands of ops
	spare   []byte
	window  int      // commands that are on their way at a time: about maxOutBytes of replies to reads
	quota   *int     // bytes that the replies to reads may yet have; the executor's while they are carried out
	stalled [][]byte // a command that waits for all those before it
	alone   bool     // nothing may be taken before ops are carried out
	closing bool
}

// pending is a command whose reply comes behind the first `at` bytes of out.
type pending struct {
	at    int
	reply *reply // of a read; nil: it is a command of the log
	exec  bool   // a transaction, which tells the session its database
}

type reply struct{ text []byte }

func newConn(s *Server, nc net.Conn, id int64) *conn {
	c := &conn{s: s, nc: nc, l: s.cur.Load(), session: kv.NewSession(id), authed: s.opt.Password == "", born: time.Now(), window: firstPipeline}
	c.limits()
	return c
}

func (c *conn) limits() {
	c.in.Limits = resp.Limits{MaxBulk: maxCommandBytes, MaxCommand: maxCommandBytes}
	if !c.authed {
		c.in.Limits = resp.Limits{MaxArgs: 10, MaxBulk: maxUnknownBytes, MaxCommand: maxUnknownBytes}
	}
}

// serve moves the bytes of a connection that the loop cannot serve: it is encrypted, say.
func (c *conn) serve(ctx context.Context) {
	for !c.closing && ctx.Err() == nil {
		n, err := c.nc.Read(c.in.Space(readBytes))
		c.in.Commit(n)
		if err != nil {
			return
		}
		for more := true; more && !c.closing; {
			more = c.take()
			if len(c.ops) > 0 && !c.settle(c.l.node.Do(ctx, c.ops)) {
				return
			}
			if c.stalled == nil && !c.send() {
				return
			}
		}
	}
}

// take takes commands that have been read, until there is no more or those taken must be answered first; it reports whether it
// was the latter.
func (c *conn) take() (more bool) {
	for !c.closing {
		if len(c.pending) >= c.window || c.alone || len(c.out) > maxOutBytes {
			return true
		}
		args := c.stalled
		if c.stalled = nil; args == nil {
			var err error
			if args, err = c.in.Next(); err != nil {
				c.out = resp.AppendError(c.out, "ERR "+err.Error())
				c.closing = true
			}
			if args == nil {
				return false
			}
			c.s.commands.Add(1)
		}
		if !c.command(args) {
			c.stalled = args
			return true
		}
	}
	return false
}

// send writes the replies.
func (c *conn) send() bool {
	if len(c.out) == 0 {
		return true
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.s.opt.patience))
	_, err := c.nc.Write(c.out)
	c.sent()
	return err == nil
}

// sent forgets the replies.
func (c *conn) sent() {
	if cap(c.out) > 1<<20 {
		c.out = nil
	}
	c.out = c.out[:0]
}

// settle puts the replies of the operations, which were carried out unless there is an error, in their places. It reports false
// if the connection must end without them: nobody knows what became of the commands.
func (c *conn) settle(err error) bool {
	if err != nil && !errors.Is(err, rsm.ErrNotPrimary) && !errors.Is(err, rsm.ErrTooLarge) {
		c.closing = true
		c.ops, c.pending, c.out, c.log = nil, nil, nil, nil
		return false
	}
	// Should the replies to come be as large as these, there are no more than is sent at a time. Copying many large ones together
	// would keep the machine from all others. Where they are small the window grows in steps.
	replies := 1
	if c.quota != nil {
		replies += c.s.opt.OutputBytes - *c.quota
	}
	c.window = max(1, min(2*c.window, maxPipeline, len(c.pending)*maxOutBytes/replies))
	known, out, from := c.out, c.spare[:0], 0
	for i := range c.pending {
		p := &c.pending[i]
		out = append(out, known[from:p.at]...)
		from = p.at
		db := c.session.DB
		switch {
		case err != nil:
			out = resp.AppendError(out, refusal(err, p.reply == nil))
		case p.reply == nil:
			db = int(c.ops[i].Reply[0])
			out = append(out, c.ops[i].Reply[1:]...)
		default:
			out = append(out, p.reply.text...)
		}
		if p.exec {
			c.session.Done(db)
		}
	}
	c.out, c.spare = append(out, known[from:]...), known
	if cap(c.spare) > 1<<20 {
		c.spare = nil
	}
	if cap(c.log) > 64<<10 {
		c.log = nil
	}
	clear(c.ops)
	clear(c.pending)
	c.ops, c.pending, c.log, c.alone = c.ops[:0], c.pending[:0], c.log[:0], false
	over := len(c.out) > c.s.opt.OutputBytes || c.quota != nil && *c.quota < 0
	if c.quota = nil; over {
		c.s.log.Warn("closed a client whose replies are too large", "client", c.nc.RemoteAddr().String(), "bytes", len(c.out))
		c.closing = true
		return false
	}
	return true
}

// refusal is what a client is told whose command was not executed.
func refusal(err error, write bool) string {
	switch {
	case errors.Is(err, rsm.ErrTooLarge):
		return "ERR command is too large"
	case write:
		return errReadOnly
	}
	return errMasterDown
}

// write adds a command of the log.
func (c *conn) write(q *kv.Request) {
	from := len(c.log)
	c.log = q.Encode(append(c.log, cmdRequest))
	c.ops = append(c.ops, rsm.Op{Command: c.log[from:len(c.log):len(c.log)]})
	c.pending = append(c.pending, pending{at: len(c.out)})
}

// read adds a look at the data.
func (c *conn) read(look func(dst []byte, s *kv.Store) []byte) {
	if c.quota == nil {
		c.quota = new(int)
		*c.quota = c.s.opt.OutputBytes
	}
	r, quota, m := &reply{}, c.quota, c.l.m
	c.pending = append(c.pending, pending{at: len(c.out), reply: r})
	c.ops = append(c.ops, rsm.Op{Read: func() {
		if *quota >= 0 {
			r.text = look(nil, m.s)
			*quota -= len(r.text)
		}
	}})
}

// command takes one command. It reports false if that must wait until all operations are carried out.
func (c *conn) command(args [][]byte) bool {
	name := strings.ToLower(string(args[0][:min(len(args[0]), 32)]))
	if !c.authed && name != "auth" && name != "hello" && name != "quit" && name != "reset" {
		c.out = resp.AppendError(c.out, errNoAuth)
		return true
	}
	if own, ok := ownCommands[name]; ok && (!c.session.InMulti() || name == "auth") {
		if len(c.ops) > 0 {
			return false
		}
		own(c, args)
		return true
	}
	client, number := "", uint64(0)
	switch name {
	case "hello":
		if args = c.authHello(args); args == nil {
			return true
		}
	case "reset":
		c.authed = c.s.opt.Password == ""
		c.limits()
		c.shown.name.Store(nil)
	case onceCommand:
		n, err := uint64(0), error(nil)
		if len(args) >= 4 {
			n, err = strconv.ParseUint(string(args[2]), 10, 64)
		}
		if len(args) < 4 || err != nil || len(args[1]) == 0 || len(args[1]) > kv.MaxClientID || c.session.InMulti() {
			c.out = resp.AppendError(c.out, "ERR want "+strings.ToUpper(onceCommand)+" client number command [argument...], outside of MULTI")
			return true
		}
		client, number, args = string(args[1]), n, args[3:]
		name = strings.ToLower(string(args[0][:min(len(args[0]), 32)]))
	}
	now := time.Now().UnixMilli()
	switch {
	case name == "watch" && !c.session.InMulti(), name == "exec":
		if len(c.ops) > 0 {
			return false
		}
		c.together(now, name, args)
		return true
	}
	var action kv.Action
	c.out, action = c.session.Handle(c.out, empty, now, args)
	switch action {
	case kv.Close:
		c.closing = true
	case kv.Write:
		q := c.session.Request()
		q.Client, q.Number = client, number
		c.write(q)
		c.session.Done(c.session.DB)
	case kv.Read:
		switch name {
		case "ping", "echo", "select", "time", "command":
			c.out = c.session.Read(c.out, empty, 0)
			return true
		}
		args = append([][]byte(nil), args...)
		call := &kv.Call{Now: now, DB: c.session.DB, Proto: c.session.Proto, Seed: seed()}
		c.read(func(dst []byte, s *kv.Store) []byte { return s.Read(dst, call, args) })
		c.session.Done(c.session.DB)
	}
	return true
}

// together takes WATCH and EXEC, which see the session and the data at once: all that came before is done, and what follows waits.
func (c *conn) together(now int64, name string, args [][]byte) {
	c.alone = true
	if name == "watch" {
		c.read(func(dst []byte, s *kv.Store) []byte {
			dst, _ = c.session.Handle(dst, s, now, args)
			return dst
		})
		return
	}
	var action kv.Action
	c.out, action = c.session.Handle(c.out, empty, now, args)
	switch action {
	case kv.Write:
		c.write(c.session.Request())
		c.pending[0].exec = true
	case kv.Read:
		c.read(func(dst []byte, s *kv.Store) []byte { return c.session.Read(dst, s, seed()) })
	default:
		c.alone = false
	}
}
