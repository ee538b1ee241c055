package kvserve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"understudy/kv/resp"
)

// shown is what other connections may know of one.
type shown struct{ name atomic.Pointer[string] }

// show tells the others of the session's name.
func (c *conn) show() {
	if name := c.session.Name; name != c.shown.get() {
		c.shown.name.Store(&name)
	}
}

func (s *shown) get() string {
	if p := s.name.Load(); p != nil {
		return *p
	}
	return ""
}

// clientArity is of CLIENT's subcommands, see subcommand.
var clientArity = map[string]int{
	"id": 2, "getname": 2, "setname": 3, "setinfo": 4, "info": 2, "list": -2, "kill": -3, "no-evict": 3, "no-touch": 3,
}

func (c *conn) client(args [][]byte) {
	if len(args) < 2 {
		c.arity("client")
		return
	}
	sub := strings.ToLower(string(args[1][:min(len(args[1]), 32)]))
	if !c.subcommand(args, clientArity[sub]) {
		return
	}
	switch sub {
	case "id":
		c.out = resp.AppendInt(c.out, c.session.ID)
	case "getname":
		if c.session.Name == "" {
			c.out = resp.AppendNull(c.out, c.session.Proto)
		} else {
			c.out = resp.AppendBulkString(c.out, c.session.Name)
		}
	case "setname":
		for _, b := range args[2] {
			if b < '!' || b > '~' {
				c.err("ERR Client names cannot contain spaces, newlines or special characters.")
				return
			}
		}
		c.session.Name = string(args[2])
		c.show()
		c.fine(nil)
	case "setinfo":
		c.fine(nil)
	case "no-evict", "no-touch":
		// Nothing is ever evicted here.
		if on := strings.ToLower(string(args[2])); on != "on" && on != "off" {
			c.err("ERR syntax error")
			return
		}
		c.fine(nil)
	case "info":
		c.out = resp.AppendVerbatim(c.out, c.session.Proto, "txt", c.line(c))
	case "list":
		c.list(args[2:])
	case "kill":
		c.kill(args[2:])
	}
}

// line describes a connection to its own client or to another's.
func (c *conn) line(of *conn) string {
	text := fmt.Sprintf("id=%d addr=%s laddr=%s name=%s age=%d flags=N", of.session.ID, of.nc.RemoteAddr(), of.nc.LocalAddr(), of.shown.get(),
		int(time.Since(of.born).Seconds()))
	if of == c {
		// The session is its own goroutine's.
		text += fmt.Sprintf(" db=%d user=default resp=%d", c.session.DB, c.session.Proto)
	}
	return text + "\n"
}

// others are all connections, this one among them, by the time when they came.
func (c *conn) others() []*conn {
	c.s.mu.Lock()
	all := make([]*conn, 0, len(c.s.conns))
	for o := range c.s.conns {
		all = append(all, o)
	}
	c.s.mu.Unlock()
	slices.SortFunc(all, func(a, b *conn) int { return int(a.session.ID - b.session.ID) })
	return all
}

// clientTypes tells which types of Redis's clients ours can be.
var clientTypes = map[string]bool{"normal": true, "master": false, "replica": false, "slave": false, "pubsub": false}

func (c *conn) list(args [][]byte) {
	keep := func(*conn) bool { return true }
	switch {
	case len(args) == 0:
	case len(args) == 2 && strings.EqualFold(string(args[0]), "type"):
		ours, ok := clientTypes[strings.ToLower(string(args[1]))]
		if !ok {
			c.err("ERR Unknown client type '%.128s'", args[1])
			return
		}
		keep = func(*conn) bool { return ours }
	case len(args) > 1 && strings.EqualFold(string(args[0]), "id"):
		ids := map[int64]bool{}
		for _, a := range args[1:] {
			id, err := strconv.ParseInt(string(a), 10, 64)
			if err != nil || id < 1 {
				c.err("ERR Invalid client ID")
				return
			}
			ids[id] = true
		}
		keep = func(o *conn) bool { return ids[o.session.ID] }
	default:
		c.err("ERR syntax error")
		return
	}
	var b strings.Builder
	for _, o := range c.others() {
		if keep(o) {
			b.WriteString(c.line(o))
		}
	}
	c.out = resp.AppendVerbatim(c.out, c.session.Proto, "txt", b.String())
}

// kill closes connections. What their commands under way have come to nobody tells their clients.
func (c *conn) kill(args [][]byte) {
	old := len(args) == 1
	var tests []func(*conn) bool
	skipMe := true
	if old {
		skipMe = false
		tests = append(tests, func(o *conn) bool { return o.nc.RemoteAddr().String() == string(args[0]) })
	} else if len(args)%2 != 0 {
		c.err("ERR syntax error")
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		value := string(args[i+1])
		switch strings.ToLower(string(args[i])) {
		case "id":
			id, err := strconv.ParseInt(value, 10, 64)
			if err != nil || id < 1 {
				c.err("ERR client-id should be greater than 0")
				return
			}
			tests = append(tests, func(o *conn) bool { return o.session.ID == id })
		case "addr":
			tests = append(tests, func(o *conn) bool { return o.nc.RemoteAddr().String() == value })
		case "laddr":
			tests = append(tests, func(o *conn) bool { return o.nc.LocalAddr().String() == value })
		case "type":
			ours, ok := clientTypes[strings.ToLower(value)]
			if !ok {
				c.err("ERR Unknown client type '%.128s'", value)
				return
			}
			tests = append(tests, func(*conn) bool { return ours })
		case "user":
			if value != "default" {
				c.err("ERR No such user '%.128s'", value)
				return
			}
		case "skipme":
			if skipMe = strings.EqualFold(value, "yes"); !skipMe && !strings.EqualFold(value, "no") {
				c.err("ERR syntax error")
				return
			}
		default:
			c.err("ERR syntax error")
			return
		}
	}
	killed := 0
	for _, o := range c.others() {
		if o == c && skipMe || slices.ContainsFunc(tests, func(ok func(*conn) bool) bool { return !ok(o) }) {
			continue
		}
		killed++
		if o == c {
			c.closing = true // when it has its reply
		} else {
			o.nc.Close()
		}
	}
	switch {
	case !old:
		c.out = resp.AppendInt(c.out, int64(killed))
	case killed == 0:
		c.err("ERR No such client")
	default:
		c.fine(nil)
	}
}
