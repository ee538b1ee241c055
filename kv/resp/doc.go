// Package resp reads and writes RESP, the protocol between Redis clients and servers, versions 2 and 3.
//
// Reader is the server's side of the input: it is fed whatever bytes have arrived and gives commands, without
// blocking and without an allocation per command. The Append functions are the server's side of the output: they
// append one element to a buffer that the caller owns. ReplyReader is the client's side, for the Go client and for
// tests. Nothing in this package touches a socket or a clock.
//
// The syntax and the texts of the protocol errors are those of Redis 7; the specification is "RESP protocol spec" in
// the Redis documentation.
package resp
