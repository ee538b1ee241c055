package kvserve

import (
	"crypto/subtle"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"understudy/kv/resp"
)

// onceCommand carries a command whose retries are executed once: client, number, command.
const onceCommand = "understudy.once"

func seed() uint64 { return rand.Uint64() }

// ownCommands are those that look at the server and not at the data.
var ownCommands = map[string]func(*conn, [][]byte){
	"auth": (*conn).auth, "hello": (*conn).hello, "client": (*conn).client, "info": (*conn).info, "config": (*conn).config,
	"wait": (*conn).wait, "role": (*conn).role, "readonly": (*conn).fine, "readwrite": (*conn).fine,
}

func (c *conn) fine([][]byte) { c.out = resp.AppendSimple(c.out, "OK") }

func (c *conn) err(format string, args ...any) {
	c.out = resp.AppendError(c.out, fmt.Sprintf(format, args...))
}

// subcommand tells whether args, beginning with a command and its subcommand, are as many as arity says, which is as in kv's table
// of commands: negative means at least. 0 is a subcommand that we do not have. If not, the reply has been appended.
func (c *conn) subcommand(args [][]byte, arity int) bool {
	command, sub := strings.ToLower(string(args[0])), args[1][:min(len(args[1]), 128)]
	switch {
	case arity == 0:
		c.err("ERR unknown subcommand '%s'. Try %s HELP.", sub, strings.ToUpper(command))
		return false
	case arity > 0 && len(args) != arity, len(args) < -arity:
		c.arity(command + "|" + strings.ToLower(string(sub)))
		return false
	}
	return true
}

func (c *conn) arity(name string) { c.err("ERR wrong number of arguments for '%s' command", name) }

// check compares a password, in a time that says nothing about it, and notes the result.
func (c *conn) check(user, password string) bool {
	want := c.s.opt.Password
	ok := user == "default" && (want == "" || subtle.ConstantTimeCompare([]byte(password), []byte(want)) == 1)
	if ok {
		c.authed = true
		c.limits()
	} else {
		c.err("WRONGPASS invalid username-password pair or user is disabled.")
	}
	return ok
}

func (c *conn) auth(args [][]byte) {
	switch {
	case len(args) == 2 && c.s.opt.Password == "":
		c.err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case len(args) == 2 && c.check("default", string(args[1])), len(args) == 3 && c.check(string(args[1]), string(args[2])):
		c.fine(nil)
	case len(args) < 2:
		c.arity("auth")
	case len(args) > 3:
		c.err("ERR syntax error")
	}
}

// authHello takes AUTH out of HELLO. Nil: it is answered.
func (c *conn) authHello(args [][]byte) [][]byte {
	for i := 2; i < len(args); i++ {
		if strings.EqualFold(string(args[i]), "setname") {
			i++
		} else if strings.EqualFold(string(args[i]), "auth") && i+2 < len(args) {
			if !c.check(string(args[i+1]), string(args[i+2])) {
				return nil
			}
			rest := append([][]byte(nil), args[:i]...)
			args = append(rest, args[i+3:]...)
			break
		}
	}
	if !c.authed {
		c.err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return nil
	}
	return args
}

// hello is HELLO outside of a transaction.
func (c *conn) hello(args [][]byte) {
	if args = c.authHello(args); args != nil {
		c.session.Replica = !c.l.node.IsPrimary()
		c.out, _ = c.session.Handle(c.out, empty, time.Now().UnixMilli(), args)
		c.show()
	}
}

// wait: whatever was answered before is held by the backup, if there is one.
func (c *conn) wait(args [][]byte) {
	if len(args) != 3 {
		c.arity("wait")
		return
	}
	for i, a := range args[1:] {
		n, err := strconv.ParseInt(string(a), 10, 64)
		switch {
		case err != nil && i == 0:
			c.err("ERR value is not an integer or out of range")
			return
		case err != nil:
			c.err("ERR timeout is not an integer or out of range")
			return
		case n < 0 && i == 1:
			c.err("ERR timeout is negative")
			return
		}
	}
	if !c.l.node.IsPrimary() {
		c.err("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
		return
	}
	n := int64(0)
	if c.l.node.Status().InSync {
		n = 1
	}
	c.out = resp.AppendInt(c.out, n)
}

func (c *conn) role(args [][]byte) {
	if len(args) != 1 {
		c.arity("role")
		return
	}
	st := c.l.node.Status()
	if c.l.node.IsPrimary() {
		c.out = resp.AppendInt(resp.AppendBulkString(resp.AppendArray(c.out, 3), "master"), int64(st.Last))
		host, port := split(st.Current.BackupClient)
		if !st.InSync || host == "" {
			c.out = resp.AppendArray(c.out, 0)
			return
		}
		c.out = resp.AppendArray(resp.AppendArray(c.out, 1), 3)
		for _, text := range []string{host, port, strconv.FormatUint(st.Acked, 10)} {
			c.out = resp.AppendBulkString(c.out, text)
		}
		return
	}
	host, port := split(st.Current.PrimaryClient)
	n, _ := strconv.ParseInt(port, 10, 64)
	state := "connect"
	if st.Role == "backup" {
		state = "connected"
	}
	c.out = resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(c.out, 5), "slave"), host)
	c.out = resp.AppendInt(resp.AppendBulkString(resp.AppendInt(c.out, n), state), int64(st.Last))
}

func split(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}
