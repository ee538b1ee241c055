package kv

// Memory is counted by a rule, not measured, so that every replica refuses the same command: the bytes of keys and
// values, and for each key and element what it costs on a 64-bit machine, roughly. How much room a slice or a map has
// to spare does not count, since a replica that was restored from a snapshot has other room to spare.
const (
	memKey       = 160 // entry, place in the order, slot of the index
	memDeadline  = 8
	memValue     = 64 // a list, set, hash or sorted set without elements
	memListElem  = 24
	memSetElem   = 40
	memHashElem  = 56
	memZSetElem  = 96
	memClient    = 192
	refusesAbove = "OOM command not allowed when used memory > 'maxmemory'."
)

func (e *entry) memory() int64 {
	n := memKey + int64(len(e.key)) + int64(len(e.str))
	if e.deadline != 0 {
		n += memDeadline
	}
	if e.val != nil {
		n += memValue + e.val.memory()
	}
	return n
}

func (l *list) memory() int64 { return l.stored }

// UsedMemory returns the bytes that the databases count for; see memory.go for the rule. Replies that are kept for
// clients have a bound of their own and are not part of it.
func (s *Store) UsedMemory() int64 {
	var n int64
	for _, d := range s.dbs {
		n += d.used
	}
	return n
}

// SetMaxMemory sets the limit in bytes above which commands that may need more memory are refused; 0: none. It is
// part of the state: all replicas must set it at the same entry.
func (s *Store) SetMaxMemory(bytes int64) { s.maxMemory = max(bytes, 0) }

// MaxMemory returns the limit.
func (s *Store) MaxMemory() int64 { return s.maxMemory }

func (s *Store) full() bool { return s.maxMemory > 0 && s.UsedMemory() > s.maxMemory }
