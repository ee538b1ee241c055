// Package replica is the replication core: the rules by which a group of replicas of one deterministic
// state machine ships its log, holds its output, detects failures and goes live.
//
// Core is a pure state machine in the manner of etcd-io/raft. Inputs are method calls that carry the local
// monotonic clock: Tick, Step (a message), PeerUp and PeerDown (the log channel), Append and Hold (what the
// running machine consumed and said), Applied (what a backup executed), Claimed (the arbiter's answer).
// After each input the caller takes Ready and does what it says: send the messages, release the outputs,
// ask the arbiter. The core holds no goroutine, lock, clock or socket and knows nothing of the machine: an
// entry is a sequence number with opaque content, an output is any value.
//
// # Invariants
//
//   - acked ≤ sent ≤ last on a primary; applied ≤ last on a backup.
//   - An output is released only when the entry that follows it (its need) is held by the backup, or when
//     the releaser has won a view in which it is alone. This is the output rule of VMware FT (section 2.2).
//   - With a backup, outputs are released only on the strength of an acknowledgement of something sent less
//     than SuspectAfter ago. The backup claims the next view no earlier than SuspectAfter after it heard
//     that same message, so a primary that was stopped and resumed releases nothing, even if old
//     acknowledgements wait in its socket.
//   - A replica acts without the other's acknowledgement only in a view that the arbiter granted to it.
//     While a claim is open its outcome is unknown, and it is asked again until it is known.
//   - A backup that has claimed a view takes no further entry of the old one.
package replica
