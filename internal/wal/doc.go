// Package wal keeps the log of a replicated state machine on disk: a snapshot and every entry behind it, so that a group whose
// servers all died comes back.
//
// # Files
//
// A directory belongs to one server of one group; a lock keeps a second process out. Generation g has up to two files:
// g.snap, the state after some entry, and g.log, the entries from there. When the log has grown beyond its bound the next
// generation's log is begun, which continues it (chained), and the snapshot that belongs to it is written beside the work; when
// that is complete it gets its name and older generations are removed. So the state is always the newest snapshot, its log,
// and the chained logs behind that.
//
// Both are eight bytes of magic and then records (record.go). A record of the log has entries, or a mark: the view in which
// this server has its part from then on. A log's header repeats the mark in force, for its predecessors may be gone.
//
// # What a crash leaves
//
// A snapshot has its name only when it is whole and on disk. A log may end in anything, since the newest writes may have
// reached the disk in part and in any order. Every record says up to which byte of its file the log was synced when it was
// written. So a bad record is the torn tail, and is cut off, unless a good one behind it knows that it was synced: then the
// disk has lost what it promised to keep, and the files are not used.
package wal
