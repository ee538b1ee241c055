// Package host is the shell around the pure cores: sockets, files, clocks and goroutines. A Replica runs
// one machine as primary or backup of a group, or unprotected, as a group of one.
//
// Threads of a Replica: the executor alone touches the machine; the reader of the log channel, the ticker
// and claims step the replication core under one lock and do at once what it asks for, so that an
// acknowledgement releases output without a switch to another thread (VMware FT, section 4.2, does the
// same for the same reason). Nothing that can block is done under that lock: frames, log and console go to
// bounded queues with writers of their own.
package host
