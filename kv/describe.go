package kv

import "understudy/kv/resp"

// command answers COMMAND and its subcommands from the table.
func (c *Call) command() {
	if len(c.args) == 1 {
		c.array(len(sorted))
		for _, cmd := range sorted {
			c.describe(cmd)
		}
		return
	}
	names := c.args[2:]
	switch sub := c.args[1]; {
	case is(sub, "count"):
		c.int(int64(len(sorted)))
	case is(sub, "info"):
		if len(names) == 0 {
			c.array(len(sorted))
			for _, cmd := range sorted {
				c.describe(cmd)
			}
			return
		}
		c.array(len(names))
		for _, n := range names {
			if cmd := Lookup(n); cmd != nil {
				c.describe(cmd)
			} else {
				c.nullArray()
			}
		}
	case is(sub, "docs"):
		c.docs(names)
	case is(sub, "list"):
		if len(names) > 0 {
			c.err(errSyntax)
			return
		}
		c.array(len(sorted))
		for _, cmd := range sorted {
			c.bulkString(cmd.Name)
		}
	case is(sub, "getkeys"):
		c.getKeys(names)
	}
}

func (c *Call) getKeys(args [][]byte) {
	cmd := Lookup(args[0])
	switch {
	case cmd == nil:
		c.err("ERR Invalid command specified")
	case cmd.First == 0 && cmd.NumKeys == 0:
		c.err("ERR The command has no key arguments")
	case cmd.Arity > 0 && len(args) != cmd.Arity || len(args) < -cmd.Arity:
		c.err("ERR Invalid number of arguments specified for command")
	default:
		keys, ok := cmd.Keys(args)
		if !ok {
			c.err("ERR Invalid arguments specified for command")
			return
		}
		c.array(len(keys))
		for _, k := range keys {
			c.bulk(k)
		}
	}
}

func (c *Call) statuses(words []string) {
	c.out = resp.AppendSet(c.out, c.Proto, len(words))
	for _, w := range words {
		c.out = resp.AppendSimple(c.out, w)
	}
}

// describe appends what clients route by. Tips, key specifications and subcommands are left empty: first, last and
// step say the same for the commands here.
func (c *Call) describe(cmd *Command) {
	c.array(10)
	c.bulkString(cmd.Name)
	c.int(int64(cmd.Arity))
	c.statuses(cmd.Flags.Names())
	c.int(int64(cmd.First))
	c.int(int64(cmd.Last))
	c.int(int64(cmd.Step))
	c.statuses(cmd.categories())
	c.array(0)
	c.array(0)
	c.array(0)
}

func (cmd *Command) categories() []string {
	var cats []string
	if cmd.Flags&FlagWrite != 0 {
		cats = append(cats, "@write")
	}
	if cmd.Flags&FlagReadOnly != 0 {
		cats = append(cats, "@read")
	}
	switch cmd.Group {
	case "generic":
		cats = append(cats, "@keyspace")
	case "sorted-set":
		cats = append(cats, "@sortedset")
	case "transactions":
		cats = append(cats, "@transaction")
	case "server":
	default:
		cats = append(cats, "@"+cmd.Group)
	}
	if cmd.Flags&FlagFast != 0 {
		return append(cats, "@fast")
	}
	return append(cats, "@slow")
}

func (c *Call) docs(names [][]byte) {
	var found []*Command
	for _, n := range names {
		if cmd := Lookup(n); cmd != nil {
			found = append(found, cmd)
		}
	}
	if len(names) == 0 {
		found = sorted
	}
	c.out = resp.AppendMap(c.out, c.Proto, len(found))
	for _, cmd := range found {
		c.bulkString(cmd.Name)
		c.out = resp.AppendMap(c.out, c.Proto, 3)
		c.bulkString("summary")
		c.bulkString(cmd.Summary)
		c.bulkString("since")
		c.bulkString(cmd.Since)
		c.bulkString("group")
		c.bulkString(cmd.Group)
	}
}
