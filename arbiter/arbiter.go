// Package arbiter settles who may act for a protected group: one compare-and-set register per group, each
// number granted at most once, for ever.
//
// A replica that wants to act without its peer's acknowledgement reads the group's record, builds the next
// one (Number one higher, a Claimant of its own) and calls [Register.CompareAndSet]. Won: it may act. Not
// won: somebody else may, and it halts. An error says neither: the claim may or may not have been granted,
// so the claimant asks again with the very same Record (which is harmless, see [Decide]) or stays frozen. It
// never proceeds on an error.
//
// This package is the pure part: the record, its rules and a [Table] of them. The stores are memstore,
// boltstore (with httparb to reach it over the network), etcdstore and dirstore; package open opens the one
// that an address names; arbitertest holds what every Register must pass.
package arbiter

import "context"

// Register is a set of compare-and-set registers, one per group. It is safe for concurrent use unless an
// implementation says otherwise.
//
// Every error wraps one of [ErrInvalid], [ErrRefused] (the request can never succeed as it is: do not
// repeat it) and [ErrUnreachable] (nothing is known about the outcome: repeat the same request).
type Register interface {
	// Get returns the group's current record, or the zero Record when nothing was ever granted.
	Get(ctx context.Context, group string) (Record, error)
	// CompareAndSet installs next if the current record's number is next.Number-1. It returns the record
	// that is current after the call and whether that is next, durably, as [Decide] has it.
	CompareAndSet(ctx context.Context, group string, next Record) (current Record, won bool, err error)
	// Watch returns the group's current record as soon as its number is greater than after. Numbers granted
	// in quick succession may be passed over; the record returned is never older than the last grant that
	// was answered before the call. It returns an error that wraps ErrUnreachable when ctx ends, when the
	// store is closed and when it cannot be reached: wait a little, then watch again with the same number.
	Watch(ctx context.Context, group string, after uint64) (Record, error)
}

// Store is a Register that can also say what it holds.
type Store interface {
	Register
	// All returns the current record of every group that has one.
	All(ctx context.Context) (map[string]Record, error)
	// Close ends the use of the store. Calls after it fail with an error that wraps ErrUnreachable.
	Close() error
}
