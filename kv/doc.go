// Package kv is the state of a key-value store that speaks Redis's commands: a deterministic state machine, to be
// replicated by shipping its commands.
//
// Store is the state. Apply executes a command that every replica executes, in the order of the log: the instant and
// the seed for random choices come with the entry, so that same entries give same replies and the same state on any
// machine. Read executes a command that only reads, on the primary alone, and leaves no trace. Session is what the
// server keeps for a connection (MULTI, WATCH, SELECT, HELLO); it turns what a client sends into a reply, a read or a
// Request, the entry for the log, which Store.Do executes at most once. Snapshot and Restore move the state to a new
// backup while commands go on. Package resp has the protocol.
//
// Commands, replies and error texts are those of Redis 7.0, without the blocking ones, scripts, streams, geography
// and publish/subscribe.
//
// # Determinism
//
// The order of the keys of a database and of the members of hashes, sets and sorted sets is part of the state (see
// dict); Go's maps only find things. What depends on chance takes it from the entry's seed. Time is the entry's
// instant and never steps back (see Store.Now). A key whose deadline is not after it does not exist, whether it was
// removed yet or not: commands that write remove what they come across, and Expire removes the rest in a fixed order.
// Floating point addition for INCRBYFLOAT is done in software (see parseLong), scores are IEEE 754 doubles.
//
// # What differs from Redis
//
// The order of unordered replies and the values of cursors. OBJECT IDLETIME is always 0, since reads leave no trace;
// OBJECT ENCODING tells what Redis 7.0 would use. DBSIZE counts keys that are due and not yet removed, as Redis's does,
// but reads do not remove them. LCS is limited to tables of 128 Mi entries.
package kv
