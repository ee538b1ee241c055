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
//     than 3/4 of SuspectAfter ago. See Freshness.
//   - A replica acts without the other's acknowledgement only in a view that the arbiter granted to it.
//     While a claim is open its outcome is unknown, and it is asked again until it is known.
//   - A backup that has claimed a view takes no further entry of the old one, and acknowledges none.
//   - A read is answered on the strength of an acknowledgement of something sent after it came. See Ask.
//   - A message to the backup names as released only outputs that an earlier Ready handed out.
//
// # Freshness
//
// A backup that suspects silence claims the next view no earlier than SuspectAfter after it last heard the
// primary. The primary counts the age of an acknowledgement from when it sent what is acknowledged, which is
// earlier, and stops at 3/4 of SuspectAfter. So a primary that was stopped and resumed releases nothing after
// its successor did, even if old acknowledgements wait in its socket, as long as the backup's clock runs at most
// 4/3 as fast as the primary's (clocks that are 10% off in opposite directions: 11/9). A pause of either side is
// no matter; a jump of the backup's clock counts as a pause if it is longer than a heartbeat, shorter
// ones use the margin up.
//
// Three things can still let output of the old view leave after output of the new one: clocks beyond that
// margin, such as one that stood still while its host was suspended; a backup that claims at once because the
// log channel broke (PeerDown) while the primary lives on; and a primary stopped between taking Ready and doing
// it. No state is harmed by it. What leaves late depends only on entries that were acknowledged, so the new
// primary held them before it claimed and its machine has said the same; and whoever the output answers had
// asked before. The network sees a frame twice or late, as it may from one machine. The rule keeps this rare; the
// arbiter and the acknowledgements, which ask no clock, keep the group's one history.
//
// # What the caller owes
//
// One answer (Claimed) to every Ready.Claim, of that claim. Messages only from the very process that PeerUp
// told of: one that was started again under the same name holds nothing, and its acknowledgements and its log
// are not those of its former life. Inputs one at a time, each Ready carried out before the next input.
package replica
