package kvserve

import (
	"crypto/subtle"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
)

// onceCommand carries a command whose retries are executed once: client, number, command.
const onceCommand = "understudy.once"

func seed() uint64 { return rand.Uint64() }

// ownCommands are those that look at the server and not at the data.
var ownCommands = map[string]func(*conn, [][]byte){
	"auth": (*conn).auth, "client": (*conn).client, "info": (*conn).info, "config": (*conn).config,
	"wait": (*conn).wait, "role": (*conn).role, "readonly": (*conn).fine, "readwrite": (*conn).fine,
}

func (c *conn) fine([][]byte) { c.out = resp.AppendSimple(c.out, "OK") }

func (c *conn) err(format string, args ...any) {
	c.out = resp.AppendError(c.out, fmt.Sprintf(format, args...))
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
	case len(args) != 2 && len(args) != 3:
		c.arity("auth")
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
		c.err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return nil
	}
	return args
}

func (c *conn) client(args [][]byte) {
	if len(args) < 2 {
		c.arity("client")
		return
	}
	switch sub := strings.ToLower(string(args[1])); {
	case sub == "id" && len(args) == 2:
		c.out = resp.AppendInt(c.out, c.session.ID)
	case sub == "getname" && len(args) == 2:
		if c.session.Name == "" {
			c.out = resp.AppendNull(c.out, c.session.Proto)
		} else {
			c.out = resp.AppendBulkString(c.out, c.session.Name)
		}
	case sub == "setname" && len(args) == 3:
		for _, b := range args[2] {
			if b < '!' || b > '~' {
				c.err("ERR Client names cannot contain spaces, newlines or special characters.")
				return
			}
		}
		c.session.Name = string(args[2])
		c.fine(nil)
	case sub == "setinfo" && len(args) == 4, sub == "no-evict" && len(args) == 3, sub == "no-touch" && len(args) == 3:
		c.fine(nil)
	case sub == "info" && len(args) == 2:
		c.out = resp.AppendVerbatim(c.out, c.session.Proto, "txt", c.line())
	case sub == "list" && len(args) == 2:
		var b strings.Builder
		c.s.mu.Lock()
		for other := range c.s.conns {
			fmt.Fprintf(&b, "id=%d addr=%s laddr=%s age=%d\n", other.session.ID, other.nc.RemoteAddr(), other.nc.LocalAddr(), int(time.Since(other.born).Seconds()))
		}
		c.s.mu.Unlock()
		c.out = resp.AppendVerbatim(c.out, c.session.Proto, "txt", b.String())
	default:
		c.err("ERR unknown subcommand or wrong number of arguments for '%.128s'. Try CLIENT HELP.", args[1])
	}
}

func (c *conn) line() string {
	return fmt.Sprintf("id=%d addr=%s laddr=%s name=%s age=%d db=%d resp=%d\n", c.session.ID, c.nc.RemoteAddr(), c.nc.LocalAddr(), c.session.Name,
		int(time.Since(c.born).Seconds()), c.session.DB, c.session.Proto)
}

// config answers what clients ask for at their start.
func (c *conn) config(args [][]byte) {
	if len(args) < 2 {
		c.arity("config")
		return
	}
	switch sub := strings.ToLower(string(args[1])); {
	case sub == "get" && len(args) > 2:
		values := map[string]string{
			"maxmemory": strconv.FormatInt(c.s.opt.MaxMemory, 10), "maxmemory-policy": "noeviction", "databases": strconv.Itoa(kv.Databases),
			"maxclients": strconv.Itoa(c.s.opt.MaxClients), "proto-max-bulk-len": strconv.Itoa(maxCommandBytes), "timeout": "0",
			"appendonly": "no", "save": "", "appendfsync": "no",
		}
		var names []string
		for name := range values {
			for _, pattern := range args[2:] {
				if ok, err := path.Match(strings.ToLower(string(pattern)), name); ok && err == nil {
					names = append(names, name)
					break
				}
			}
		}
		sort.Strings(names)
		c.out = resp.AppendMap(c.out, c.session.Proto, len(names))
		for _, name := range names {
			c.out = resp.AppendBulkString(resp.AppendBulkString(c.out, name), values[name])
		}
	case sub == "resetstat" && len(args) == 2:
		c.fine(nil)
	case sub == "set":
		c.err("ERR CONFIG SET failed - this server is configured by its command line")
	default:
		c.err("ERR unknown subcommand or wrong number of arguments for '%.128s'. Try CONFIG HELP.", args[1])
	}
}

// wait: whatever was answered before is held by the backup, if there is one.
func (c *conn) wait(args [][]byte) {
	if len(args) != 3 {
		c.arity("wait")
		return
	}
	for _, a := range args[1:] {
		if _, err := strconv.ParseInt(string(a), 10, 64); err != nil {
			c.err("ERR value is not an integer or out of range")
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

func (c *conn) role([][]byte) {
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

func (c *conn) info(args [][]byte) {
	want := func(section string) bool {
		for _, a := range args[1:] {
			switch strings.ToLower(string(a)) {
			case section, "all", "default", "everything":
				return true
			}
		}
		return len(args) == 1
	}
	st := c.l.node.Status()
	primary := c.l.node.IsPrimary()
	var b strings.Builder
	begin := func(section, title string) bool {
		if !want(section) {
			return false
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + title + "\r\n")
		return true
	}
	put := func(name string, value any) { fmt.Fprintf(&b, "%s:%v\r\n", name, value) }
	if begin("server", "Server") {
		_, port := split(c.s.opt.ClientAddr)
		put("redis_version", kv.Version)
		put("redis_mode", "standalone")
		put("os", runtime.GOOS+" "+runtime.GOARCH)
		put("process_id", os.Getpid())
		put("tcp_port", port)
		put("uptime_in_seconds", int(time.Since(c.s.born).Seconds()))
		put("understudy_name", c.s.opt.Name)
		put("understudy_group", c.s.opt.Group)
		put("understudy_role", st.Role)
		put("understudy_view", st.View)
		put("understudy_lives", c.s.fails.Load()+1)
	}
	if begin("clients", "Clients") {
		put("connected_clients", c.s.clients.Load())
		put("maxclients", c.s.opt.MaxClients)
	}
	if begin("stats", "Stats") {
		put("total_connections_received", c.s.total.Load())
		put("total_commands_processed", c.s.commands.Load())
	}
	if begin("replication", "Replication") {
		if primary {
			put("role", "master")
			if st.InSync {
				host, port := split(st.Current.BackupClient)
				put("connected_slaves", 1)
				put("slave0", fmt.Sprintf("ip=%s,port=%s,state=online,offset=%d,lag=0", host, port, st.Acked))
			} else {
				put("connected_slaves", 0)
			}
		} else {
			host, port := split(st.Current.PrimaryClient)
			put("role", "slave")
			put("master_host", host)
			put("master_port", port)
			put("master_link_status", map[bool]string{true: "up", false: "down"}[st.Role == "backup"])
			put("connected_slaves", 0)
		}
		put("master_repl_offset", st.Last)
	}
	type space struct{ keys, expires int }
	var spaces [kv.Databases]space
	var used, limit int64
	err := c.l.node.Peek(func() {
		s := c.l.m.s
		used, limit = s.UsedMemory(), s.MaxMemory()
		for i := range spaces {
			spaces[i].keys, spaces[i].expires = s.Keys(i)
		}
	})
	if err == nil && begin("memory", "Memory") {
		put("used_memory", used)
		put("maxmemory", limit)
		put("maxmemory_policy", "noeviction")
	}
	if err == nil && begin("keyspace", "Keyspace") {
		for i, s := range spaces {
			if s.keys > 0 {
				put(fmt.Sprintf("db%d", i), fmt.Sprintf("keys=%d,expires=%d,avg_ttl=0", s.keys, s.expires))
			}
		}
	}
	c.out = resp.AppendVerbatim(c.out, c.session.Proto, "txt", b.String())
}
