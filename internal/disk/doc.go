// Package disk is a guest's disk on this host: a raw file and the worker that carries out the machine's
// requests on it, in the order in which they left the machine (Disk).
//
// # Copying to a new backup
//
// A new backup's disk is brought to the state of the primary's at one position of the machine, the cut, while
// the primary runs. Source reads the primary's disk, Target writes the new copy; both make and take messages,
// which someone else carries, in order. The target first tells what it has already (Target.Hashes to
// Source.Compare; a target that has nothing says so), then the source sends (Source.Next to Target.Apply):
// every block once, and again each block that changed after it was read. Where the new copy is behind by little,
// the caller stops the machine and makes the cut.
//
// The contract of the cut, for the caller on the primary:
//
//  1. The machine is stopped. Every request that it has made was submitted (its outputs were taken), and every
//     result that Finished gave was delivered to it. Nothing is submitted until the source is done.
//  2. Source.Cut with the machine's requests in flight. It waits until all that was submitted is carried out.
//  3. Source.Next until it is done. What it gives may be kept in memory, to be sent after the machine goes on.
//  4. The machine's state is that of the same stop. The log for the backup starts there.
//
// At the cut nothing is half done: the disk holds the effect of exactly the requests that left the machine.
// Those in flight are carried out, but the machine does not know their results yet. To carry them out once more
// on the new copy would be wrong: a read would see the writes that were made after it. So their results are
// part of the cut. The primary delivers its own after the stop and logs that; the backup finds the same results
// waiting at its disk (Await), as if it had carried out the requests itself.
//
// A copy grows under a name of its own, the disk's with ".incoming" behind it, and gets the disk's name when it
// is complete and durable. A half-received copy is never opened as a disk. It, or the disk that was there
// before, may serve another transfer as a source of bytes, each block verified by its hash.
//
// # Checkpoints
//
// In checkpoint mode the backup's disk follows in epochs. A Journal stages what the guest wrote in an epoch
// and applies it when the epoch is committed: all of it or nothing, whenever this host dies.
package disk
