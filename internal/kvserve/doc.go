// Package kvserve is the key-value server: connections that speak RESP in front of package kv's state, replicated by package
// rsm. Commands are executed on the primary only; the others send clients away as a replica of Redis does that serves no old
// data. What a connection knows (selected database, MULTI, WATCH) ends with it.
package kvserve
