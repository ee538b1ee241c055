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
	// maxPipeline is how many commands of a connection are on their way at a time.
	maxPipeline = 1024
	readBytes   = 16 << 10
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

// conn is a client's connection, served by one goroutine.
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
	spare   []byte
	quota   *int // bytes that the replies to reads may yet have; the executor's while they are carried out
	closing bool
}

// pending is a command whose reply comes behind the first `at` bytes of out.
type pending struct {
	at    int
	reply *reply // of a read; nil: it is a command of the log
}

type reply struct{ text []byte }

func newConn(s *Server, nc net.Conn, id int64) *conn {
	c := &conn{s: s, nc: nc, l: s.cur.Load(), session: kv.NewSession(id), authed: s.opt.Password == "", born: time.Now()}
	c.limits()
	return c
}

func (c *conn) limits() {
	c.in.Limits = resp.Limits{MaxBulk: maxCommandBytes, MaxCommand: maxCommandBytes}
	if !c.authed {
		c.in.Limits = resp.Limits{MaxArgs: 10, MaxBulk: maxUnknownBytes, MaxCommand: maxUnknownBytes}
	}
}

func (c *conn) serve(ctx context.Context) {
	for !c.closing && ctx.Err() == nil {
		n, err := c.nc.Read(c.in.Space(readBytes))
		c.in.Commit(n)
		if err != nil {
			return
		}
		for more := true; more && !c.closing; {
			for len(c.pending) < maxPipeline && !c.closing {
				args, err := c.in.Next()
				if err != nil {
					c.out = resp.AppendError(c.out, "ERR "+err.Error())
					c.closing = true
				}
				if more = args != nil; !more {
					break
				}
				c.s.commands.Add(1)
				c.command(ctx, args)
			}
			if !c.flush(ctx) || !c.send() {
				return
			}
		}
	}
}

// send writes the replies.
func (c *conn) send() bool {
	if len(c.out) == 0 {
		return true
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(sendPatience))
	_, err := c.nc.Write(c.out)
	if cap(c.out) > 1<<20 {
		c.out = nil
	}
	c.out = c.out[:0]
	return err == nil
}

// flush has the operations carried out, and puts their replies in their places. It reports false if the connection must end
// without them: nobody knows what became of the commands.
func (c *conn) flush(ctx context.Context) bool {
	if len(c.ops) == 0 {
		return true
	}
	err := c.l.node.Do(ctx, c.ops)
	if err != nil && !errors.Is(err, rsm.ErrNotPrimary) && !errors.Is(err, rsm.ErrTooLarge) {
		c.closing = true
		c.ops, c.pending, c.out = nil, nil, nil
		return false
	}
	known, out, from := c.out, c.spare[:0], 0
	for i := range c.pending {
		p := &c.pending[i]
		out = append(out, known[from:p.at]...)
		from = p.at
		switch {
		case err != nil:
			out = resp.AppendError(out, refusal(err, p.reply == nil))
		case p.reply == nil:
			out = append(out, c.ops[i].Reply[1:]...)
		default:
			out = append(out, p.reply.text...)
		}
	}
	c.out, c.spare = append(out, known[from:]...), known
	if cap(c.spare) > 1<<20 {
		c.spare = nil
	}
	clear(c.ops)
	clear(c.pending)
	c.ops, c.pending = c.ops[:0], c.pending[:0]
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
	c.ops = append(c.ops, rsm.Op{Command: q.Encode([]byte{cmdRequest})})
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

// command takes one command.
func (c *conn) command(ctx context.Context, args [][]byte) {
	name := strings.ToLower(string(args[0][:min(len(args[0]), 32)]))
	if !c.authed && name != "auth" && name != "hello" && name != "quit" && name != "reset" {
		c.out = resp.AppendError(c.out, errNoAuth)
		return
	}
	if own, ok := ownCommands[name]; ok && (!c.session.InMulti() || name == "auth") {
		if c.flush(ctx) {
			own(c, args)
		}
		return
	}
	client, number := "", uint64(0)
	switch name {
	case "hello":
		if args = c.authHello(args); args == nil {
			return
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
			return
		}
		client, number, args = string(args[1]), n, args[3:]
		name = strings.ToLower(string(args[0][:min(len(args[0]), 32)]))
	}
	now := time.Now().UnixMilli()
	switch {
	case name == "watch" && !c.session.InMulti(), name == "exec":
		c.together(ctx, now, name, args)
		return
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
			return
		}
		args = append([][]byte(nil), args...)
		call := &kv.Call{Now: now, DB: c.session.DB, Proto: c.session.Proto, Seed: seed()}
		c.read(func(dst []byte, s *kv.Store) []byte { return s.Read(dst, call, args) })
		c.session.Done(c.session.DB)
	}
}

// together carries out WATCH and EXEC, which see the session and the data at once: all that came before is done first.
func (c *conn) together(ctx context.Context, now int64, name string, args [][]byte) {
	if !c.flush(ctx) {
		return
	}
	var action kv.Action
	if name == "watch" {
		c.read(func(dst []byte, s *kv.Store) []byte {
			dst, _ = c.session.Handle(dst, s, now, args)
			return dst
		})
		c.flush(ctx)
		return
	}
	c.out, action = c.session.Handle(c.out, empty, now, args)
	switch action {
	case kv.Write:
		ops := []rsm.Op{{Command: c.session.Request().Encode([]byte{cmdRequest})}}
		switch err := c.l.node.Do(ctx, ops); {
		case err == nil:
			c.out = append(c.out, ops[0].Reply[1:]...)
			c.session.Done(int(ops[0].Reply[0]))
		case errors.Is(err, rsm.ErrNotPrimary), errors.Is(err, rsm.ErrTooLarge):
			c.out = resp.AppendError(c.out, refusal(err, true))
			c.session.Done(c.session.DB)
		default:
			c.closing, c.out = true, nil
		}
	case kv.Read:
		c.read(func(dst []byte, s *kv.Store) []byte { return c.session.Read(dst, s, seed()) })
		c.flush(ctx)
	}
}
