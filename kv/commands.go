package kv

// The commands by group, with arity, flags and places of keys as Redis 7.0 reports them.

func bitmapCommands() []Command {
	return []Command{
		{"bitcount", -2, r, 1, 1, 1, 0, "2.6.0", "Count the bits that are set", "bitmap", (*Call).bitcount, nil},
		{"bitop", -4, wm, 2, -1, 1, 0, "2.6.0", "Combine strings bit by bit into another", "bitmap", (*Call).bitop, nil},
		{"bitpos", -3, r, 1, 1, 1, 0, "2.8.7", "Find the first bit that is set or clear", "bitmap", (*Call).bitpos, nil},
		{"getbit", 3, r | f, 1, 1, 1, 0, "2.2.0", "Read a bit", "bitmap", (*Call).getbit, nil},
		{"setbit", 4, wm, 1, 1, 1, 0, "2.2.0", "Write a bit", "bitmap", (*Call).setbit, nil},
	}
}

func connectionCommands() []Command {
	return []Command{
		{"echo", 2, FlagLoading | FlagStale | f, 0, 0, 0, 0, "1.0.0", "Answer with the argument", "connection", (*Call).echo, nil},
		{"ping", -1, f, 0, 0, 0, 0, "1.0.0", "Answer", "connection", (*Call).ping, nil},
		{"select", 2, FlagLoading | FlagStale | f, 0, 0, 0, 0, "1.0.0", "Select a database", "connection", (*Call).selectDB, nil},
		{"hello", -1, FlagNoScript | FlagLoading | FlagStale | f | FlagNoAuth | FlagAllowBusy, 0, 0, 0, 0, "6.0.0", "Choose the version of the protocol", "connection", nil, nil},
		{"reset", 1, FlagNoScript | FlagLoading | FlagStale | f | FlagNoAuth | FlagAllowBusy, 0, 0, 0, 0, "6.2.0", "Put the connection back into its first state", "connection", nil, nil},
		{"quit", -1, FlagNoScript | FlagLoading | FlagStale | f | FlagNoAuth | FlagAllowBusy, 0, 0, 0, 0, "1.0.0", "Close the connection", "connection", nil, nil},
	}
}

func genericCommands() []Command {
	return []Command{
		{"copy", -3, wm, 1, 2, 1, 0, "6.2.0", "Copy a key", "generic", (*Call).copyKey, nil},
		{"del", -2, w, 1, -1, 1, 0, "1.0.0", "Remove keys", "generic", (*Call).del, nil},
		{"exists", -2, r | f, 1, -1, 1, 0, "1.0.0", "Count how many of the keys exist", "generic", (*Call).exists, nil},
		{"expire", -3, w | f, 1, 1, 1, 0, "1.0.0", "Give a key a time to live in seconds", "generic", (*Call).expire, nil},
		{"expireat", -3, w | f, 1, 1, 1, 0, "1.2.0", "Give a key a deadline in unix seconds", "generic", (*Call).expire, nil},
		{"expiretime", 2, r | f, 1, 1, 1, 0, "7.0.0", "Tell the deadline in unix seconds", "generic", (*Call).ttl, nil},
		{"keys", 2, r, 0, 0, 0, 0, "1.0.0", "List the keys that match a pattern", "generic", (*Call).keys, nil},
		{"move", 3, w | f, 1, 1, 1, 0, "1.0.0", "Move a key to another database", "generic", (*Call).move, nil},
		{"object", -2, r, 2, 2, 1, 0, "2.2.3", "Look at how a value is stored", "generic", (*Call).object, nil},
		{"persist", 2, w | f, 1, 1, 1, 0, "2.2.0", "Remove the deadline", "generic", (*Call).persist, nil},
		{"pexpire", -3, w | f, 1, 1, 1, 0, "2.6.0", "Give a key a time to live in milliseconds", "generic", (*Call).expire, nil},
		{"pexpireat", -3, w | f, 1, 1, 1, 0, "2.6.0", "Give a key a deadline in unix milliseconds", "generic", (*Call).expire, nil},
		{"pexpiretime", 2, r | f, 1, 1, 1, 0, "7.0.0", "Tell the deadline in unix milliseconds", "generic", (*Call).ttl, nil},
		{"pttl", 2, r | f, 1, 1, 1, 0, "2.6.0", "Tell the time to live in milliseconds", "generic", (*Call).ttl, nil},
		{"randomkey", 1, r, 0, 0, 0, 0, "1.0.0", "Choose a key at random", "generic", (*Call).randomkey, nil},
		{"rename", 3, w, 1, 2, 1, 0, "1.0.0", "Rename a key", "generic", (*Call).rename, nil},
		{"renamenx", 3, w | f, 1, 2, 1, 0, "1.0.0", "Rename a key if the new name is free", "generic", (*Call).rename, nil},
		{"scan", -2, r, 0, 0, 0, 0, "2.8.0", "Walk the keys in steps", "generic", (*Call).scan, nil},
		{"touch", -2, r | f, 1, -1, 1, 0, "3.2.1", "Count how many of the keys exist", "generic", (*Call).exists, nil},
		{"ttl", 2, r | f, 1, 1, 1, 0, "1.0.0", "Tell the time to live in seconds", "generic", (*Call).ttl, nil},
		{"type", 2, r | f, 1, 1, 1, 0, "1.0.0", "Tell the type of a value", "generic", (*Call).typeOf, nil},
		{"unlink", -2, w | f, 1, -1, 1, 0, "4.0.0", "Remove keys", "generic", (*Call).del, nil},
	}
}

func hashCommands() []Command {
	return []Command{
		{"hdel", -3, w | f, 1, 1, 1, 0, "2.0.0", "Remove fields", "hash", (*Call).hdel, nil},
		{"hexists", 3, r | f, 1, 1, 1, 0, "2.0.0", "Tell whether a field exists", "hash", (*Call).hexists, nil},
		{"hget", 3, r | f, 1, 1, 1, 0, "2.0.0", "Read a field", "hash", (*Call).hget, nil},
		{"hgetall", 2, r, 1, 1, 1, 0, "2.0.0", "Read all fields with their values", "hash", (*Call).hgetall, nil},
		{"hincrby", 4, wm | f, 1, 1, 1, 0, "2.0.0", "Add an integer to a field", "hash", (*Call).hincrby, nil},
		{"hincrbyfloat", 4, wm | f, 1, 1, 1, 0, "2.6.0", "Add a floating point number to a field", "hash", (*Call).hincrbyfloat, nil},
		{"hkeys", 2, r, 1, 1, 1, 0, "2.0.0", "Read the names of all fields", "hash", (*Call).hgetall, nil},
		{"hlen", 2, r | f, 1, 1, 1, 0, "2.0.0", "Count the fields", "hash", (*Call).hlen, nil},
		{"hmget", -3, r | f, 1, 1, 1, 0, "2.0.0", "Read several fields", "hash", (*Call).hmget, nil},
		{"hmset", -4, wm | f, 1, 1, 1, 0, "2.0.0", "Write several fields", "hash", (*Call).hset, nil},
		{"hrandfield", -2, r, 1, 1, 1, 0, "6.2.0", "Choose fields at random", "hash", (*Call).hrandfield, nil},
		{"hscan", -3, r, 1, 1, 1, 0, "2.8.0", "Walk the fields in steps", "hash", (*Call).scanFields, nil},
		{"hset", -4, wm | f, 1, 1, 1, 0, "2.0.0", "Write fields", "hash", (*Call).hset, nil},
		{"hsetnx", 4, wm | f, 1, 1, 1, 0, "2.0.0", "Write a field that does not exist", "hash", (*Call).hsetnx, nil},
		{"hstrlen", 3, r | f, 1, 1, 1, 0, "3.2.0", "Tell the length of a field's value", "hash", (*Call).hstrlen, nil},
		{"hvals", 2, r, 1, 1, 1, 0, "2.0.0", "Read all values", "hash", (*Call).hgetall, nil},
	}
}

func listCommands() []Command {
	return []Command{
		{"lindex", 3, r, 1, 1, 1, 0, "1.0.0", "Read an element by its index", "list", (*Call).lindex, nil},
		{"linsert", 5, wm, 1, 1, 1, 0, "2.2.0", "Insert before or after an element", "list", (*Call).linsert, nil},
		{"llen", 2, r | f, 1, 1, 1, 0, "1.0.0", "Tell the length of a list", "list", (*Call).llen, nil},
		{"lmove", 5, wm, 1, 2, 1, 0, "6.2.0", "Move an element from an end of a list to an end of another", "list", (*Call).lmove, nil},
		{"lmpop", -4, w | FlagMovableKeys, 0, 0, 0, 1, "7.0.0", "Remove elements from the first list that has any", "list", (*Call).lmpop, nil},
		{"lpop", -2, w | f, 1, 1, 1, 0, "1.0.0", "Remove elements at the left", "list", (*Call).lpop, nil},
		{"lpos", -3, r, 1, 1, 1, 0, "6.0.6", "Find the places of an element", "list", (*Call).lpos, nil},
		{"lpush", -3, wm | f, 1, 1, 1, 0, "1.0.0", "Add elements at the left", "list", (*Call).lpush, nil},
		{"lpushx", -3, wm | f, 1, 1, 1, 0, "2.2.0", "Add elements at the left of a list that exists", "list", (*Call).lpush, nil},
		{"lrange", 4, r, 1, 1, 1, 0, "1.0.0", "Read a range of elements", "list", (*Call).lrange, nil},
		{"lrem", 4, w, 1, 1, 1, 0, "1.0.0", "Remove elements by their value", "list", (*Call).lrem, nil},
		{"lset", 4, wm, 1, 1, 1, 0, "1.0.0", "Write an element by its index", "list", (*Call).lset, nil},
		{"ltrim", 4, w, 1, 1, 1, 0, "1.0.0", "Keep a range of elements only", "list", (*Call).ltrim, nil},
		{"rpop", -2, w | f, 1, 1, 1, 0, "1.0.0", "Remove elements at the right", "list", (*Call).rpop, nil},
		{"rpoplpush", 3, wm, 1, 2, 1, 0, "1.2.0", "Move the last element of a list to the left of another", "list", (*Call).rpoplpush, nil},
		{"rpush", -3, wm | f, 1, 1, 1, 0, "1.0.0", "Add elements at the right", "list", (*Call).rpush, nil},
		{"rpushx", -3, wm | f, 1, 1, 1, 0, "2.2.0", "Add elements at the right of a list that exists", "list", (*Call).rpush, nil},
	}
}

func serverCommands() []Command {
	return []Command{
		{"dbsize", 1, r | f, 0, 0, 0, 0, "1.0.0", "Count the keys of the database", "server", (*Call).dbsize, nil},
		{"flushall", -1, w, 0, 0, 0, 0, "1.0.0", "Remove the keys of all databases", "server", (*Call).flush, nil},
		{"flushdb", -1, w, 0, 0, 0, 0, "1.0.0", "Remove the keys of the database", "server", (*Call).flush, nil},
		{"swapdb", 3, w | f, 0, 0, 0, 0, "4.0.0", "Exchange two databases", "server", (*Call).swapdb, nil},
		{"time", 1, FlagLoading | FlagStale | f, 0, 0, 0, 0, "2.6.0", "Tell the time", "server", (*Call).time, nil},
		{"command", -1, FlagLoading | FlagStale, 0, 0, 0, 0, "2.8.13", "Describe the commands", "server", (*Call).command, nil},
	}
}

func setCommands() []Command {
	return []Command{
		{"sadd", -3, wm | f, 1, 1, 1, 0, "1.0.0", "Add members", "set", (*Call).sadd, nil},
		{"scard", 2, r | f, 1, 1, 1, 0, "1.0.0", "Count the members", "set", (*Call).scard, nil},
		{"sdiff", -2, r, 1, -1, 1, 0, "1.0.0", "Subtract sets", "set", (*Call).sdiff, nil},
		{"sdiffstore", -3, wm, 1, -1, 1, 0, "1.0.0", "Subtract sets and keep the result", "set", (*Call).sdiffstore, nil},
		{"sinter", -2, r, 1, -1, 1, 0, "1.0.0", "Intersect sets", "set", (*Call).sinter, nil},
		{"sintercard", -3, r | FlagMovableKeys, 0, 0, 0, 1, "7.0.0", "Count the members of an intersection", "set", (*Call).sintercard, nil},
		{"sinterstore", -3, wm, 1, -1, 1, 0, "1.0.0", "Intersect sets and keep the result", "set", (*Call).sinterstore, nil},
		{"sismember", 3, r | f, 1, 1, 1, 0, "1.0.0", "Tell whether something is a member", "set", (*Call).sismember, nil},
		{"smembers", 2, r, 1, 1, 1, 0, "1.0.0", "Read all members", "set", (*Call).smembers, nil},
		{"smismember", -3, r | f, 1, 1, 1, 0, "6.2.0", "Tell for several whether they are members", "set", (*Call).smismember, nil},
		{"smove", 4, w | f, 1, 2, 1, 0, "1.0.0", "Move a member to another set", "set", (*Call).smove, nil},
		{"spop", -2, w | f, 1, 1, 1, 0, "1.0.0", "Remove members at random", "set", (*Call).spop, nil},
		{"srandmember", -2, r, 1, 1, 1, 0, "1.0.0", "Choose members at random", "set", (*Call).srandmember, nil},
		{"srem", -3, w | f, 1, 1, 1, 0, "1.0.0", "Remove members", "set", (*Call).srem, nil},
		{"sscan", -3, r, 1, 1, 1, 0, "2.8.0", "Walk the members in steps", "set", (*Call).scanMembers, nil},
		{"sunion", -2, r, 1, -1, 1, 0, "1.0.0", "Unite sets", "set", (*Call).sunion, nil},
		{"sunionstore", -3, wm, 1, -1, 1, 0, "1.0.0", "Unite sets and keep the result", "set", (*Call).sunionstore, nil},
	}
}

func sortedSetCommands() []Command {
	return []Command{
		{"zadd", -4, wm | f, 1, 1, 1, 0, "1.2.0", "Add members or change their scores", "sorted-set", (*Call).zadd, nil},
		{"zcard", 2, r | f, 1, 1, 1, 0, "1.2.0", "Count the members", "sorted-set", (*Call).zcard, nil},
		{"zcount", 4, r | f, 1, 1, 1, 0, "2.0.0", "Count the members in a range of scores", "sorted-set", (*Call).zcount, nil},
		{"zdiff", -3, r | FlagMovableKeys, 0, 0, 0, 1, "6.2.0", "Subtract sorted sets", "sorted-set", (*Call).zdiff, nil},
		{"zdiffstore", -4, wm | FlagMovableKeys, 1, 1, 1, 2, "6.2.0", "Subtract sorted sets and keep the result", "sorted-set", (*Call).zdiffstore, nil},
		{"zincrby", 4, wm | f, 1, 1, 1, 0, "1.2.0", "Add to a score", "sorted-set", (*Call).zincrby, nil},
		{"zinter", -3, r | FlagMovableKeys, 0, 0, 0, 1, "6.2.0", "Intersect sorted sets", "sorted-set", (*Call).zinter, nil},
		{"zintercard", -3, r | FlagMovableKeys, 0, 0, 0, 1, "7.0.0", "Count the members of an intersection", "sorted-set", (*Call).zintercard, nil},
		{"zinterstore", -4, wm | FlagMovableKeys, 1, 1, 1, 2, "2.0.0", "Intersect sorted sets and keep the result", "sorted-set", (*Call).zinterstore, nil},
		{"zlexcount", 4, r | f, 1, 1, 1, 0, "2.8.9", "Count the members in a range of members", "sorted-set", (*Call).zlexcount, nil},
		{"zmpop", -4, w | FlagMovableKeys, 0, 0, 0, 1, "7.0.0", "Remove members from the first sorted set that has any", "sorted-set", (*Call).zmpop, nil},
		{"zmscore", -3, r | f, 1, 1, 1, 0, "6.2.0", "Read several scores", "sorted-set", (*Call).zmscore, nil},
		{"zpopmax", -2, w | f, 1, 1, 1, 0, "5.0.0", "Remove the members with the highest scores", "sorted-set", (*Call).zpopmax, nil},
		{"zpopmin", -2, w | f, 1, 1, 1, 0, "5.0.0", "Remove the members with the lowest scores", "sorted-set", (*Call).zpopmin, nil},
		{"zrandmember", -2, r, 1, 1, 1, 0, "6.2.0", "Choose members at random", "sorted-set", (*Call).zrandmember, nil},
		{"zrange", -4, r, 1, 1, 1, 0, "1.2.0", "Read a range of members", "sorted-set", (*Call).zrange, nil},
		{"zrangebylex", -4, r, 1, 1, 1, 0, "2.8.9", "Read a range of members by their names", "sorted-set", (*Call).zrangebylex, nil},
		{"zrangebyscore", -4, r, 1, 1, 1, 0, "1.0.5", "Read a range of members by their scores", "sorted-set", (*Call).zrangebyscore, nil},
		{"zrangestore", -5, wm, 1, 2, 1, 0, "6.2.0", "Read a range of members and keep it", "sorted-set", (*Call).zrangestore, nil},
		{"zrank", 3, r | f, 1, 1, 1, 0, "2.0.0", "Tell the place of a member, from the lowest", "sorted-set", (*Call).zrank, nil},
		{"zrem", -3, w | f, 1, 1, 1, 0, "1.2.0", "Remove members", "sorted-set", (*Call).zrem, nil},
		{"zremrangebylex", 4, w, 1, 1, 1, 0, "2.8.9", "Remove a range of members by their names", "sorted-set", (*Call).zremrangebylex, nil},
		{"zremrangebyrank", 4, w, 1, 1, 1, 0, "2.0.0", "Remove a range of members by their places", "sorted-set", (*Call).zremrangebyrank, nil},
		{"zremrangebyscore", 4, w, 1, 1, 1, 0, "1.2.0", "Remove a range of members by their scores", "sorted-set", (*Call).zremrangebyscore, nil},
		{"zrevrange", -4, r, 1, 1, 1, 0, "1.2.0", "Read a range of members from the highest", "sorted-set", (*Call).zrevrange, nil},
		{"zrevrangebylex", -4, r, 1, 1, 1, 0, "2.8.9", "Read a range of members by their names, from the last", "sorted-set", (*Call).zrevrangebylex, nil},
		{"zrevrangebyscore", -4, r, 1, 1, 1, 0, "2.2.0", "Read a range of members by their scores, from the highest", "sorted-set", (*Call).zrevrangebyscore, nil},
		{"zrevrank", 3, r | f, 1, 1, 1, 0, "2.0.0", "Tell the place of a member, from the highest", "sorted-set", (*Call).zrank, nil},
		{"zscan", -3, r, 1, 1, 1, 0, "2.8.0", "Walk the members in steps", "sorted-set", (*Call).scanScored, nil},
		{"zscore", 3, r | f, 1, 1, 1, 0, "1.2.0", "Read a score", "sorted-set", (*Call).zscore, nil},
		{"zunion", -3, r | FlagMovableKeys, 0, 0, 0, 1, "6.2.0", "Unite sorted sets", "sorted-set", (*Call).zunion, nil},
		{"zunionstore", -4, wm | FlagMovableKeys, 1, 1, 1, 2, "2.0.0", "Unite sorted sets and keep the result", "sorted-set", (*Call).zunionstore, nil},
	}
}

func stringCommands() []Command {
	return []Command{
		{"append", 3, wm | f, 1, 1, 1, 0, "2.0.0", "Append to a string; a missing key is an empty one", "string", (*Call).appendText, nil},
		{"decr", 2, wm | f, 1, 1, 1, 0, "1.0.0", "Subtract one", "string", (*Call).decr, nil},
		{"decrby", 3, wm | f, 1, 1, 1, 0, "1.0.0", "Subtract a number", "string", (*Call).decrby, nil},
		{"get", 2, r | f, 1, 1, 1, 0, "1.0.0", "Read a string", "string", (*Call).get, nil},
		{"getdel", 2, w | f, 1, 1, 1, 0, "6.2.0", "Read a string and remove the key", "string", (*Call).getdel, nil},
		{"getex", -2, w | f, 1, 1, 1, 0, "6.2.0", "Read a string and change its deadline", "string", (*Call).getex, nil},
		{"getrange", 4, r, 1, 1, 1, 0, "2.4.0", "Read a part of a string", "string", (*Call).getrange, nil},
		{"getset", 3, wm | f, 1, 1, 1, 0, "1.0.0", "Write a string and answer with the old one", "string", (*Call).getset, nil},
		{"incr", 2, wm | f, 1, 1, 1, 0, "1.0.0", "Add one", "string", (*Call).incr, nil},
		{"incrby", 3, wm | f, 1, 1, 1, 0, "1.0.0", "Add an integer", "string", (*Call).incrby, nil},
		{"incrbyfloat", 3, wm | f, 1, 1, 1, 0, "2.6.0", "Add a floating point number", "string", (*Call).incrbyfloat, nil},
		{"lcs", -3, r, 1, 2, 1, 0, "7.0.0", "Find the longest common subsequence of two strings", "string", (*Call).lcs, nil},
		{"mget", -2, r | f, 1, -1, 1, 0, "1.0.0", "Read several strings", "string", (*Call).mget, nil},
		{"mset", -3, wm, 1, -1, 2, 0, "1.0.1", "Write several strings", "string", (*Call).mset, nil},
		{"msetnx", -3, wm, 1, -1, 2, 0, "1.0.1", "Write several strings if none of the keys exists", "string", (*Call).mset, nil},
		{"psetex", 4, wm, 1, 1, 1, 0, "2.6.0", "Write a string with a time to live in milliseconds", "string", (*Call).psetex, nil},
		{"set", -3, wm, 1, 1, 1, 0, "1.0.0", "Write a string", "string", (*Call).set, nil},
		{"setex", 4, wm, 1, 1, 1, 0, "2.0.0", "Write a string with a time to live in seconds", "string", (*Call).setex, nil},
		{"setnx", 3, wm | f, 1, 1, 1, 0, "1.0.0", "Write a string if the key does not exist", "string", (*Call).setnx, nil},
		{"setrange", 4, wm, 1, 1, 1, 0, "2.2.0", "Overwrite a part of a string", "string", (*Call).setrange, nil},
		{"strlen", 2, r | f, 1, 1, 1, 0, "2.2.0", "Tell the length of a string", "string", (*Call).strlen, nil},
		{"substr", 4, r, 1, 1, 1, 0, "1.0.0", "Read a part of a string", "string", (*Call).getrange, nil},
	}
}

func transactionCommands() []Command {
	return []Command{
		{"multi", 1, FlagNoScript | FlagLoading | FlagStale | f | FlagAllowBusy, 0, 0, 0, 0, "1.2.0", "Begin a transaction", "transactions", nil, nil},
		{"exec", 1, FlagNoScript | FlagLoading | FlagStale | FlagSkipSlowlog, 0, 0, 0, 0, "1.2.0", "Execute the transaction", "transactions", nil, nil},
		{"discard", 1, FlagNoScript | FlagLoading | FlagStale | f | FlagAllowBusy, 0, 0, 0, 0, "2.0.0", "Forget the transaction", "transactions", nil, nil},
		{"watch", -2, FlagNoScript | FlagLoading | FlagStale | f | FlagAllowBusy, 1, -1, 1, 0, "2.2.0", "Let the next transaction fail if a key changes", "transactions", nil, nil},
		{"unwatch", 1, FlagNoScript | FlagLoading | FlagStale | f | FlagAllowBusy, 0, 0, 0, 0, "2.2.0", "Forget the watched keys", "transactions", (*Call).nothing, nil},
	}
}
