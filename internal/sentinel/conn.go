package sentinel

import (
	"context"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/kv"
	"understudy/kv/resp"
	"understudy/view"
)

// conn is a client's connection.
type conn struct {
	s  *Server
	nc net.Conn

	mu       sync.Mutex // guards writing and what follows
	proto    int
	channels map[string]bool
	patterns map[string]bool
}

const maxSubscriptions = 100

func (c *conn) serve(ctx context.Context) {
	in := resp.Reader{Limits: resp.Limits{MaxArgs: 128, MaxBulk: 4096, MaxCommand: 64 << 10}}
	for ctx.Err() == nil {
		n, err := c.nc.Read(in.Space(4096))
		in.Commit(n)
		if err != nil {
			return
		}
		for {
			args, err := in.Next()
			if err != nil {
				c.write(resp.AppendError(nil, "ERR "+err.Error()))
				return
			}
			if args == nil {
				break
			}
			words := make([]string, len(args))
			for i, a := range args {
				words[i] = string(a)
			}
			if !c.command(ctx, words) {
				return
			}
		}
	}
}

func (c *conn) write(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLocked(b)
}

func (c *conn) writeLocked(b []byte) bool {
	_ = c.nc.SetWriteDeadline(time.Now().Add(sendPatience))
	_, err := c.nc.Write(b)
	if err != nil {
		c.nc.Close()
	}
	return err == nil
}

// publish tells a subscriber.
func (c *conn) publish(channel, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b []byte
	if c.channels[channel] {
		b = resp.AppendPush(b, c.proto, 3)
		for _, w := range []string{"message", channel, text} {
			b = resp.AppendBulkString(b, w)
		}
	}
	for p := range c.patterns {
		if ok, err := path.Match(p, channel); ok && err == nil {
			b = resp.AppendPush(b, c.proto, 4)
			for _, w := range []string{"pmessage", p, channel, text} {
				b = resp.AppendBulkString(b, w)
			}
		}
	}
	if len(b) > 0 {
		c.writeLocked(b)
	}
}

// command answers one command, and reports false if the connection ends.
func (c *conn) command(ctx context.Context, args []string) bool {
	var b []byte
	switch name := strings.ToLower(args[0]); name {
	case "ping":
		c.mu.Lock()
		subscribed := c.proto == 2 && len(c.channels)+len(c.patterns) > 0
		c.mu.Unlock()
		text := ""
		if len(args) > 1 {
			text = args[1]
		}
		switch {
		case subscribed:
			b = resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(b, 2), "pong"), text)
		case text != "":
			b = resp.AppendBulkString(b, text)
		default:
			b = resp.AppendSimple(b, "PONG")
		}
	case "quit":
		c.write(resp.AppendSimple(b, "OK"))
		return false
	case "hello":
		b = c.hello(args)
	case "client", "auth":
		b = resp.AppendSimple(b, "OK")
	case "role":
		c.s.discover(ctx)
		names := c.s.names()
		b = resp.AppendArray(resp.AppendBulkString(resp.AppendArray(b, 2), "sentinel"), len(names))
		for _, n := range names {
			b = resp.AppendBulkString(b, n)
		}
	case "info":
		b = c.info(ctx, b)
	case "subscribe", "psubscribe", "unsubscribe", "punsubscribe":
		return c.subscribe(name, args[1:])
	case "sentinel":
		b = c.sentinel(ctx, args[1:])
	default:
		rest := ""
		for _, a := range args[1:] {
			if len(rest) < 128 {
				rest += fmt.Sprintf("'%.*s' ", 128-len(rest), a)
			}
		}
		b = resp.AppendError(b, fmt.Sprintf("ERR unknown command '%.128s', with args beginning with: %s", args[0], rest))
	}
	return c.write(b)
}

func (c *conn) info(ctx context.Context, b []byte) []byte {
	c.s.discover(ctx)
	names, masters := c.s.names(), ""
	for i, n := range names {
		if a, ok := c.s.ask(ctx, n); ok {
			replicas := 0
			if a.InSync {
				replicas = 1
			}
			masters += fmt.Sprintf("master%d:name=%s,status=ok,address=%s,slaves=%d,sentinels=1\r\n", i, n, a.PrimaryClient, replicas)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return resp.AppendVerbatim(b, c.proto, "txt", fmt.Sprintf("# Server\r\nredis_version:%s\r\nredis_mode:sentinel\r\n\r\n# Sentinel\r\nsentinel_masters:%d\r\n%s",
		kv.Version, len(names), masters))
}

func (c *conn) hello(args []string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(args) > 1 {
		if args[1] != "2" && args[1] != "3" {
			return resp.AppendError(nil, "NOPROTO unsupported protocol version")
		}
		c.proto, _ = strconv.Atoi(args[1])
	}
	b := resp.AppendMap(nil, c.proto, 5)
	for _, f := range [][2]string{{"server", "redis"}, {"version", kv.Version}, {"mode", "sentinel"}} {
		b = resp.AppendBulkString(resp.AppendBulkString(b, f[0]), f[1])
	}
	b = resp.AppendInt(resp.AppendBulkString(b, "proto"), int64(c.proto))
	return resp.AppendArray(resp.AppendBulkString(b, "modules"), 0)
}

func (c *conn) subscribe(name string, topics []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.channels
	if strings.HasPrefix(name, "p") {
		set = c.patterns
	}
	add := !strings.Contains(name, "unsub")
	if !add && len(topics) == 0 {
		for t := range set {
			topics = append(topics, t)
		}
	}
	var b []byte
	if len(topics) == 0 {
		if add {
			return c.writeLocked(resp.AppendError(nil, "ERR wrong number of arguments for '"+name+"' command"))
		}
		b = resp.AppendNull(resp.AppendBulkString(resp.AppendPush(b, c.proto, 3), name), c.proto)
		return c.writeLocked(resp.AppendInt(b, int64(len(c.channels)+len(c.patterns))))
	}
	for _, t := range topics {
		if !add {
			delete(set, t)
		} else if len(c.channels)+len(c.patterns) < maxSubscriptions {
			set[t] = true
		}
		b = resp.AppendBulkString(resp.AppendBulkString(resp.AppendPush(b, c.proto, 3), name), t)
		b = resp.AppendInt(b, int64(len(c.channels)+len(c.patterns)))
	}
	return c.writeLocked(b)
}

// arity is how many words the subcommands of SENTINEL have, with themselves.
var arity = map[string]int{"masters": 1, "master": 2, "sentinels": 2, "replicas": 2, "slaves": 2, "get-master-addr-by-name": 2, "ckquorum": 2}

const errNoSuch = "ERR No such master with that name"

func (c *conn) sentinel(ctx context.Context, args []string) []byte {
	if len(args) == 0 {
		return resp.AppendError(nil, "ERR wrong number of arguments for 'sentinel' command")
	}
	sub := strings.ToLower(args[0])
	switch n := arity[sub]; {
	case n == 0:
		return resp.AppendError(nil, fmt.Sprintf("ERR unknown subcommand '%.128s'. Try SENTINEL HELP.", args[0]))
	case n != len(args):
		return resp.AppendError(nil, fmt.Sprintf("ERR wrong number of arguments for 'sentinel|%s' command", sub))
	case sub == "masters":
		c.s.discover(ctx)
		names := c.s.names()
		var found [][]string
		for _, n := range names {
			if a, ok := c.s.ask(ctx, n); ok {
				found = append(found, describe(n, a, true))
			}
		}
		b := resp.AppendArray(nil, len(found))
		for _, f := range found {
			b = c.fields(b, f)
		}
		return b
	}
	a, ok := c.s.ask(ctx, args[1])
	if sub == "get-master-addr-by-name" {
		if !ok {
			return resp.AppendNullArray(nil, c.proto)
		}
		host, port, _ := net.SplitHostPort(a.PrimaryClient)
		return resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 2), host), port)
	}
	switch {
	case !ok:
		return resp.AppendError(nil, errNoSuch)
	case sub == "master":
		return c.fields(nil, describe(args[1], a, true))
	case sub == "ckquorum":
		return resp.AppendSimple(nil, "OK 1 usable Sentinels. Quorum and failover authorization can be reached")
	case sub == "sentinels", a.BackupClient == "" || !a.InSync:
		return resp.AppendArray(nil, 0)
	}
	return c.fields(resp.AppendArray(nil, 1), describe(args[1], a, false))
}

func (c *conn) fields(b []byte, f []string) []byte {
	b = resp.AppendMap(b, c.proto, len(f)/2)
	for _, w := range f {
		b = resp.AppendBulkString(b, w)
	}
	return b
}

// describe gives the fields that clients look at.
func describe(name string, a view.Answer, primary bool) []string {
	host, port, _ := net.SplitHostPort(a.PrimaryClient)
	if primary {
		replicas := "0"
		if a.InSync {
			replicas = "1"
		}
		return []string{
			"name", name, "ip", host, "port", port, "flags", "master", "role-reported", "master", "num-slaves", replicas,
			"num-other-sentinels", "0", "quorum", "1", "config-epoch", strconv.FormatUint(uint64(a.View.Number), 10),
		}
	}
	h, p, _ := net.SplitHostPort(a.BackupClient)
	return []string{
		"name", a.BackupClient, "ip", h, "port", p, "flags", "slave", "role-reported", "slave", "master-link-status", "ok",
		"master-host", host, "master-port", port,
	}
}
