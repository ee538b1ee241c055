package kv

import (
	"bytes"
	"slices"
	"strings"
)

// Flags tell what a command does and needs. The names are Redis's.
type Flags uint32

// The flags that commands here have.
const (
	FlagWrite       Flags = 1 << iota // changes the data: must be applied through the log
	FlagReadOnly                      // only reads keys: may be given to Read
	FlagDenyOOM                       // is refused while memory is short
	FlagNoScript                      // makes no sense within a transaction
	FlagLoading                       // touches no data
	FlagStale                         // touches no data
	FlagSkipSlowlog                   // for COMMAND only
	FlagFast                          // does not walk a collection
	FlagNoAuth                        // for COMMAND only
	FlagMovableKeys                   // its keys follow their number
	FlagAllowBusy                     // for COMMAND only
)

var flagNames = [...]string{
	"write", "readonly", "denyoom", "noscript", "loading", "stale", "skip_slowlog", "fast", "no_auth", "movablekeys",
	"allow_busy",
}

// Short names for the table of commands.
const (
	w  = FlagWrite
	wm = FlagWrite | FlagDenyOOM
	r  = FlagReadOnly
	f  = FlagFast
)

// Names returns the flags as words, in a fixed order.
func (f Flags) Names() []string {
	var names []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// Command describes a command.
type Command struct {
	Name    string // in lower case
	Arity   int    // arguments with the name; -n: at least n
	Flags   Flags
	First   int    // place of the first key among the arguments, 0: none
	Last    int    // place of the last key; negative: from the end
	Step    int    // from one key to the next
	NumKeys int    // place of the number of keys that follow it; 0: none
	Since   string // version of Redis
	Summary string
	Group   string

	run  func(*Call)    // nil: belongs to the connection
	subs map[string]int // subcommands with their arity; nil: the command has none
}

var (
	byName map[string]*Command
	sorted []*Command
)

func init() {
	byName = map[string]*Command{}
	for _, group := range [][]Command{
		stringCommands(), bitmapCommands(), genericCommands(), hashCommands(), listCommands(), setCommands(),
		sortedSetCommands(), serverCommands(), connectionCommands(), transactionCommands(),
	} {
		for i := range group {
			byName[group[i].Name] = &group[i]
			sorted = append(sorted, &group[i])
		}
	}
	byName["object"].subs = map[string]int{"help": 2, "encoding": 3, "freq": 3, "idletime": 3, "refcount": 3}
	byName["command"].subs = map[string]int{"count": 2, "info": -2, "docs": -2, "list": -2, "getkeys": -4}
	slices.SortFunc(sorted, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
}

// Commands returns all commands in the order of their names. The caller must not change them.
func Commands() []*Command { return sorted }

// Lookup returns the command of a name in any case, nil if there is none.
func Lookup(name []byte) *Command {
	var lower [24]byte
	if len(name) > len(lower) {
		return nil
	}
	for i, b := range name {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	return byName[string(lower[:len(name)])]
}

// Find returns the command that args call. If there is none, or the number of arguments is wrong, it returns nil and the
// text that Redis answers with. args must not be empty.
func Find(args [][]byte) (*Command, string) {
	cmd := Lookup(args[0])
	if cmd == nil {
		var rest strings.Builder
		for _, a := range args[1:] {
			if rest.Len() >= 128 {
				break
			}
			rest.WriteString("'" + cString(a, 128-rest.Len()) + "' ")
		}
		return nil, "ERR unknown command '" + cString(args[0], 128) + "', with args beginning with: " + rest.String()
	}
	if cmd.Arity > 0 && len(args) != cmd.Arity || len(args) < -cmd.Arity {
		return nil, "ERR wrong number of arguments for '" + cmd.Name + "' command"
	}
	if cmd.subs != nil && len(args) > 1 {
		sub := strings.ToLower(cString(args[1], 128))
		arity, ok := cmd.subs[sub]
		if !ok {
			return nil, "ERR unknown subcommand '" + cString(args[1], 128) + "'. Try " + strings.ToUpper(cmd.Name) + " HELP."
		}
		if arity > 0 && len(args) != arity || len(args) < -arity {
			return nil, "ERR wrong number of arguments for '" + cmd.Name + "|" + sub + "' command"
		}
	}
	return cmd, ""
}

// cString returns b as C prints it: up to the first NUL, and no more than n bytes.
func cString(b []byte, n int) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b[:min(n, len(b))])
}

// Keys returns the arguments that are keys. Not ok: the arguments are too few or make no sense.
func (c *Command) Keys(args [][]byte) (keys [][]byte, ok bool) {
	if c.First > 0 {
		last := c.Last
		if last < 0 {
			last += len(args)
		}
		if last >= len(args) || last < c.First {
			return nil, false
		}
		for i := c.First; i <= last; i += c.Step {
			keys = append(keys, args[i])
		}
	}
	if c.NumKeys > 0 {
		if len(args) <= c.NumKeys {
			return nil, false
		}
		n, ok := parseInt(args[c.NumKeys])
		if !ok || n < 1 || n > int64(len(args)-c.NumKeys-1) {
			return nil, false
		}
		keys = append(keys, args[c.NumKeys+1:c.NumKeys+1+int(n)]...)
	}
	return keys, true
}
