package kvserve

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
)

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
		put("understudy_equal_digests", st.Digests)
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
		used, limit = s.UsedMemory(), shownLimit(s.MaxMemory())
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
