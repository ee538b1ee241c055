package kv

import (
	"understudy/kv/resp"
)

// Databases is the number of databases that SELECT knows.
const Databases = 16

// watchSlots is the number of counters that stand for the keys that do not exist; see Store.Version.
const watchSlots = 1024

// Store is the state of a key-value store. Its methods are not safe for concurrent use, but any number of Read may run
// at the same time, and Snapshot.Next beside everything.
type Store struct {
	dbs       [Databases]*db
	clock     int64  // the latest instant of an entry, unix milliseconds
	version   uint64 // changes so far; versions of keys are taken from it
	slots     [watchSlots]uint64
	maxMemory int64
	clients   clients
	cow       cow
	open      []uint32 // numbers of the open snapshots
}

// Limits bounds what the store keeps for clients. They are part of the state.
type Limits struct {
	Clients    int   // clients whose last reply is kept; 0: 65536
	ReplyBytes int64 // bytes of all these replies; 0: 64 MiB
}

// New returns an empty store.
func New(l Limits) *Store {
	s := &Store{}
	for i := range s.dbs {
		s.dbs[i] = newDB()
	}
	s.clients.init(l)
	return s
}

// Call is what a command needs to know besides its arguments. A caller may use one Call again and again, but never
// for two commands at a time.
type Call struct {
	Now   int64  // the instant of the entry, unix milliseconds
	Seed  uint64 // for the choices of SPOP, RANDOMKEY and the like; from the entry
	DB    int    // the selected database; SELECT changes it
	Proto int    // 2 or 3: the version of RESP in which to answer; 0 is 2

	s        *Store
	d        *db
	args     [][]byte
	out      []byte
	now      int64
	rnd      random
	readOnly bool
	name     string // of the command, for messages
}

// Now returns the latest instant that an entry brought, in unix milliseconds. An entry with an earlier one is executed
// at this: time does not step back, whatever the clock of a new primary says.
func (s *Store) Now() int64 { return s.clock }

// Apply executes a command and appends its reply to dst. Same entries, same replies and same state. args must not be
// empty; the store keeps nothing of it. Commands of the connection (MULTI, WATCH, HELLO and so on) are the business of
// Session and are answered with an error.
func (s *Store) Apply(dst []byte, c *Call, args [][]byte) []byte {
	s.begin(dst, c, false)
	s.run(c, args, true)
	return c.end()
}

// Read executes a command with FlagReadOnly, or one that touches no key, without changing anything: it is not logged,
// so the replicas must not be able to tell that it was executed. Other commands are answered with an error. Any number
// of Reads, each with its own Call, may run at the same time, but none beside Apply.
func (s *Store) Read(dst []byte, c *Call, args [][]byte) []byte {
	s.begin(dst, c, true)
	s.run(c, args, true)
	return c.end()
}

func (s *Store) begin(dst []byte, c *Call, readOnly bool) {
	c.s, c.out, c.readOnly = s, dst, readOnly
	c.rnd = random(c.Seed)
	c.now = max(c.Now, s.clock)
	if !readOnly {
		s.clock = c.now
	}
	if c.DB < 0 || c.DB >= Databases {
		c.DB = 0
	}
	c.d = s.dbs[c.DB]
	if c.Proto != 3 {
		c.Proto = 2
	}
}

func (c *Call) end() []byte {
	out := c.out
	c.s, c.d, c.args, c.out = nil, nil, nil, nil
	return out
}

func (s *Store) run(c *Call, args [][]byte, oom bool) {
	cmd, text := Find(args)
	if cmd == nil {
		c.err(text)
		return
	}
	c.args, c.name = args, cmd.Name
	switch {
	case cmd.run == nil:
		c.err("ERR " + cmd.Name + " belongs to the connection, not to the data")
	case c.readOnly && cmd.Flags&FlagWrite != 0:
		c.err("ERR " + cmd.Name + " changes the data")
	case oom && cmd.Flags&FlagDenyOOM != 0 && s.full():
		c.err(refusesAbove)
	default:
		cmd.run(c)
	}
}

// Watch is a key that must not have changed when a transaction is executed.
type Watch struct {
	DB      int
	Key     []byte
	Version uint64 // as Version returned it
}

// Version returns the version of a key at an instant: a number that differs after every command that changed the key,
// or created or removed it. It does not change anything, may run beside Reads, and gives the same on all replicas.
//
// A key that does not exist has the version of one of 1024 counters that creating a key advances, so that a key
// which was created and removed again in between is noticed. Two keys can share a counter: a transaction that watches
// a missing key can then fail for nothing, which its client must expect of any transaction.
func (s *Store) Version(now int64, db int, key []byte) uint64 {
	if db < 0 || db >= Databases {
		return 0
	}
	if e := s.dbs[db].index[string(key)]; e != nil && !e.dead(max(now, s.clock)) {
		return e.version<<1 | 1
	}
	return s.slots[slot(key)] << 1
}

func slot[K string | []byte](key K) uint32 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return (h ^ h>>16) % watchSlots
}

// Exec executes commands as one transaction and appends the array of their replies, or a null if a watched key has
// changed. Commands that fail do not stop the others, as in Redis. SELECT holds from there on and changes c.DB.
func (s *Store) Exec(dst []byte, c *Call, watches []Watch, cmds [][][]byte) []byte {
	s.begin(dst, c, false)
	return s.exec(c, watches, cmds)
}

// ReadExec is Exec for a transaction of which every command could be given to Read.
func (s *Store) ReadExec(dst []byte, c *Call, watches []Watch, cmds [][][]byte) []byte {
	s.begin(dst, c, true)
	return s.exec(c, watches, cmds)
}

func (s *Store) exec(c *Call, watches []Watch, cmds [][][]byte) []byte {
	for _, w := range watches {
		if s.Version(c.now, w.DB, w.Key) != w.Version {
			c.out = resp.AppendNullArray(c.out, c.Proto)
			return c.end()
		}
	}
	if s.full() {
		for _, args := range cmds {
			if cmd, _ := Find(args); cmd != nil && cmd.Flags&FlagDenyOOM != 0 {
				c.err("EXECABORT Transaction discarded because of: " + refusesAbove)
				return c.end()
			}
		}
	}
	c.out = resp.AppendArray(c.out, len(cmds))
	for _, args := range cmds {
		s.run(c, args, false)
	}
	return c.end()
}

// Replies.

func (c *Call) err(text string)     { c.out = resp.AppendError(c.out, text) }
func (c *Call) ok()                 { c.out = append(c.out, "+OK\r\n"...) }
func (c *Call) int(n int64)         { c.out = resp.AppendInt(c.out, n) }
func (c *Call) null()               { c.out = resp.AppendNull(c.out, c.Proto) }
func (c *Call) nullArray()          { c.out = resp.AppendNullArray(c.out, c.Proto) }
func (c *Call) array(n int)         { c.out = resp.AppendArray(c.out, n) }
func (c *Call) bulk(b []byte)       { c.out = resp.AppendBulk(c.out, b) }
func (c *Call) bulkString(s string) { c.out = resp.AppendBulkString(c.out, s) }
func (c *Call) double(f float64)    { c.out = resp.AppendDouble(c.out, c.Proto, f) }

func (c *Call) bool(b bool) {
	if b {
		c.int(1)
	} else {
		c.int(0)
	}
}

const (
	errSyntax    = "ERR syntax error"
	errInteger   = "ERR value is not an integer or out of range"
	errFloat     = "ERR value is not a valid float"
	errWrongType = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errNoKey     = "ERR no such key"
	errRange     = "ERR index out of range"
	errPositive  = "ERR value is out of range, must be positive"
)

// integer reads an argument. Not ok: the error has been answered.
func (c *Call) integer(arg []byte) (int64, bool) {
	n, ok := parseInt(arg)
	if !ok {
		c.err(errInteger)
	}
	return n, ok
}

// find returns a live key to be read, or nil.
func (c *Call) find(key []byte) *entry {
	if e := c.d.index[string(key)]; e != nil && !e.dead(c.now) {
		return e
	}
	return nil
}

// findKind is find for commands of one type. Not ok: the error has been answered.
func (c *Call) findKind(key []byte, k kind) (*entry, bool) {
	e := c.find(key)
	if e != nil && e.kind != k && !(k == kindString && e.kind == kindInt) {
		c.err(errWrongType)
		return nil, false
	}
	return e, true
}

// take returns a live key to be changed, or nil. A dead one is removed.
func (c *Call) take(key []byte) *entry {
	e := c.d.index[string(key)]
	if e == nil {
		return nil
	}
	c.mayChange()
	if e.dead(c.now) {
		c.d.remove(e, &c.s.cow)
		return nil
	}
	return c.d.own(e, &c.s.cow)
}

// takeKind is take for commands of one type. Not ok: the error has been answered.
func (c *Call) takeKind(key []byte, k kind) (*entry, bool) {
	if _, ok := c.findKind(key, k); !ok {
		return nil, false
	}
	return c.take(key), true
}

func (c *Call) mayChange() {
	if c.readOnly {
		panic("kv: " + c.name + " changes the state from within Read")
	}
}

// create adds a key that does not exist (take returned nil). changed must follow.
func (c *Call) create(key []byte, k kind) *entry {
	c.mayChange()
	e := &entry{key: string(key), kind: k, epoch: c.s.cow.newest}
	c.d.add(e, &c.s.cow)
	c.s.version++
	c.s.slots[slot(key)] = c.s.version
	return e
}

// changed is called after every change of a key: it gives it a new version, counts its memory, and removes it if it
// is a collection without elements.
func (c *Call) changed(e *entry) {
	c.s.version++
	e.version = c.s.version
	if e.val != nil && e.val.length() == 0 {
		c.d.remove(e, &c.s.cow)
		return
	}
	m := e.memory()
	c.d.used += m - e.mem
	e.mem = m
}

// drop removes a key that take returned.
func (c *Call) drop(e *entry) { c.d.remove(e, &c.s.cow) }

// replace makes room for a new value of any kind under key, without a deadline: what was there is forgotten.
func (c *Call) replace(key []byte, k kind) *entry {
	e := c.take(key)
	if e == nil {
		return c.create(key, k)
	}
	if e.deadline != 0 {
		c.d.setDeadline(e, 0)
	}
	e.kind, e.val, e.raw, e.num = k, nil, false, 0
	if k != kindString {
		e.str, e.borrowed = nil, false
	}
	return e
}
