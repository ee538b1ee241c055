package kvserve

import (
	"encoding/binary"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"understudy/kv"
	"understudy/kv/resp"
	"understudy/rsm"
)

// noLimit is the group's limit of memory after CONFIG SET maxmemory 0. It is not 0, which a primary takes for a limit that nobody
// has set, and replaces by its own.
const noLimit = 1<<62 - 1

// maxMemoryCommand is a command of the log.
func maxMemoryCommand(limit int64) []byte {
	return binary.AppendUvarint([]byte{cmdMaxMemory}, uint64(limit))
}

// shownLimit is what clients are told of the group's limit.
func shownLimit(limit int64) int64 {
	if limit == noLimit {
		return 0
	}
	return limit
}

// maxMemory is the group's limit, or what this server was started with while its state is on its way.
func (c *conn) maxMemory() int64 {
	limit := c.s.opt.MaxMemory
	_ = c.l.node.Peek(func() { limit = shownLimit(c.l.m.s.MaxMemory()) })
	return limit
}

var configArity = map[string]int{"get": -3, "set": -4, "resetstat": 2}

// config answers what clients ask for at their start, and sets what can be set for the whole group.
func (c *conn) config(args [][]byte) {
	if len(args) < 2 {
		c.arity("config")
		return
	}
	sub := strings.ToLower(string(args[1][:min(len(args[1]), 32)]))
	if !c.subcommand(args, configArity[sub]) {
		return
	}
	switch sub {
	case "get":
		values, names := c.settings(), map[string]string{} // by the setting: under which name it was asked for
		for _, pattern := range args[2:] {
			lower := strings.ToLower(string(pattern))
			for name := range values {
				if _, ok := names[name]; ok {
					continue
				}
				if lower == name {
					names[name] = string(pattern)
				} else if ok, err := path.Match(lower, name); ok && err == nil {
					names[name] = name
				}
			}
		}
		c.out = resp.AppendMap(c.out, c.session.Proto, len(names))
		for _, name := range slices.Sorted(maps.Keys(names)) {
			c.out = resp.AppendBulkString(resp.AppendBulkString(c.out, names[name]), values[name])
		}
	case "set":
		if len(args)%2 != 0 {
			c.err("ERR syntax error")
			return
		}
		c.configSet(args[2:])
	case "resetstat":
		c.fine(nil)
	}
}

func (c *conn) settings() map[string]string {
	return map[string]string{
		"maxmemory": strconv.FormatInt(c.maxMemory(), 10), "maxmemory-policy": "noeviction", "databases": strconv.Itoa(kv.Databases),
		"maxclients": strconv.Itoa(c.s.opt.MaxClients), "proto-max-bulk-len": strconv.Itoa(maxCommandBytes), "timeout": "0",
		"appendonly": "no", "save": "", "appendfsync": "no",
	}
}

// configSet sets maxmemory, by a command of the log. Other parameters may be given the value that they have.
func (c *conn) configSet(args [][]byte) {
	values := c.settings()
	limit, set := int64(0), false
	for i := 0; i < len(args); i += 2 {
		name := strings.ToLower(string(args[i]))
		if _, ok := values[name]; !ok && name != "requirepass" {
			c.err("ERR Unknown option or number of arguments for CONFIG SET - '%.128s'", args[i])
			return
		}
	}
	for i := 0; i < len(args); i += 2 {
		name, value := strings.ToLower(string(args[i])), string(args[i+1])
		why := ""
		switch is, known := values[name]; {
		case name == "maxmemory" && set:
			why = "duplicate parameter"
		case name == "maxmemory":
			if limit, set = memoryValue(value); !set {
				why = "argument must be a memory value"
			}
		case !known || name == "databases" || !strings.EqualFold(is, value):
			why = "can't set immutable config"
		}
		if why != "" {
			c.err("ERR CONFIG SET failed (possibly related to argument '%s') - %s", name, why)
			return
		}
	}
	if !set {
		c.fine(nil)
		return
	}
	if limit == 0 {
		limit = noLimit
	}
	c.ops = append(c.ops, rsm.Op{Command: maxMemoryCommand(limit)})
	c.pending = append(c.pending, pending{at: len(c.out)})
}

// memoryValue reads a size as Redis does: 100, 100k (1000), 100kb (1024) and so on.
func memoryValue(text string) (bytes int64, ok bool) {
	digits := strings.TrimRight(strings.ToLower(text), "bkmg")
	unit, known := map[string]int64{
		"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1e6, "mb": 1 << 20, "g": 1e9, "gb": 1 << 30,
	}[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || n >= noLimit/unit {
		return 0, false
	}
	return n * unit, true
}
