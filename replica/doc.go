// Package replica is the replication core: the rules by which a group of replicas of one deterministic
// state machine ships its log, holds its output, detects failures and goes live.
//
// Core is a pure state machine in the manner of etcd-io/raft. Inputs are method calls that carry the local
// monotonic clock: Tick, Step (a message), PeerUp and PeerDown (the log channel), Append and Hold (what the
// running machine consumed and said), ExecutedTo (what a backup executed), Join and Restored (the state that is sent to
// a new backup), StoredTo and Recoverable (files), HandOver and Stopped (a planned change of roles), Claimed (the arbiter's answer) and Adopt (a view that
// others made). After each input the caller takes Ready and does what it says: send the messages, close the channel,
// release the outputs, ask the arbiter. The core holds no goroutine, lock, clock or socket and knows nothing of the machine: an
// entry is a sequence number with opaque content, an output is any value.
//
// # Invariants
//
//   - acked ≤ sent ≤ last on a primary; applied ≤ last on a backup.
//   - An output is released only when the entry that follows it (its need) is held by the backup, or when
//     the view was granted to the releaser without a backup, or with one that is not told yet that it may take
//     over (Solo). This is the output rule of VMware FT (section 2.2).
//   - Before a primary tells anybody, the backup or the view service, that the backup may take over, its gate closes;
//     it does not open again within the view.
//   - Whoever holds the entry SyncAt holds all that ever left. See Joining.
//   - The part that view n gives is taken only by who had a part in view n-1, or founds the group, or is sent the state by
//     the primary of n, or holds in its files what it held in n-1. Who has missed a view halts.
//   - A view is claimed for the backup only when it has executed the whole log, all outputs have left, and the machine
//     stands still.
//   - With a backup, outputs are released only on the strength of an acknowledgement of something sent less
//     than 3/4 of SuspectAfter ago. See Freshness.
//   - A replica acts without the other's acknowledgement only in a view that the arbiter granted to it.
//     While a claim is open its outcome is unknown, and it is asked again until it is known.
//   - With Config.Durable a follower acknowledges and executes only what is on its disk. See files.go.
//   - A backup that has claimed a view takes no further entry of the old one, and acknowledges none.
//   - A read is answered on the strength of an acknowledgement of something sent after it came. See Ask.
//   - A message to the backup names as released only outputs that an earlier Ready handed out, and no entry that does
//     not exist yet: the machine may say more that needs it.
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
// A backup that others make primary (Adopt) has perhaps heard the former primary a moment ago, and waits until
// SuspectAfter from then. It does not wait if the channel broke, nor if the former primary handed over to it.
//
// Three things can still let output of the old view leave after output of the new one: clocks beyond that
// margin, such as one that stood still while its host was suspended; a backup that claims at once because the
// log channel broke (PeerDown), or goes live at once for that reason, while the primary lives on; and a primary stopped between taking Ready and doing
// it. No state is harmed by it. What leaves late depends only on entries that were acknowledged, so the new
// primary held them before it claimed and its machine has said the same; and whoever the output answers had
// asked before. The network sees a frame twice or late, as it may from one machine. The rule keeps this rare; the
// arbiter and the acknowledgements, which ask no clock, keep the group's one history.
//
// # Joining
//
// A primary without a backup, or with one that is new in its view, acts alone: its outputs leave at once. The state of
// the machine goes to the new backup as of a stop (Join), after entry j say, and the log from j+1 on. The first
// acknowledgement of at least j says that the backup holds the state. Then the gate closes. The newest entry is n
// by then. The machine has perhaps said something since n, which has left: to say the same the backup needs
// entry n+1, which is not made yet. So SyncAt is n+1: the caller appends one soon (WantsEntry), and who holds it may
// take over. Outputs that left before entry n+1 was made may leave again if the primary dies right then: nobody can
// tell them from those that waited for it.
//
// Until it holds SyncAt the backup is Joining: it may not take over, for the primary may have acted without it. When
// the channel breaks it forgets the state and is a Spare again. If the primary dies, the group has lost its state and
// stops.
//
// # What the caller owes
//
// One answer (Claimed) to every Ready.Claim, of that claim. Messages only from the very process that PeerUp
// told of: one that was started again under the same name holds nothing, and its acknowledgements and its log
// are not those of its former life; nor may what a former channel to the same process still carries reach the core
// (a channel per PeerUp, closed by HangUp or PeerDown). Inputs one at a time, each Ready carried out before the next input,
// in this order: messages, HangUp, outputs, claim. A claim for the backup must not be made before the last outputs have left.
//
// Of a member of a group also:
//
//   - Every record that comes along goes to Adopt: the view service's answers, a claim's too.
//   - The primary calls the backup that its view names while it does not ship (Peer, Ships), and pauses between
//     attempts. The one that is called agrees only if it knows the view and is meant by it in this very life
//     (view.Member.MayJoin); while it is not in sync it lets a new call of the same primary replace the channel.
//   - The state that is sent with Join is that of the very stop, with what the disk still owes the machine; all that
//     the machine said before has been told to Hold.
//   - When WantsEntry or Stopping, an entry is appended at the next stop even if nothing happens. After Stopped the
//     machine neither runs nor is given anything while Full. It then goes on from where it stands, as primary or, by
//     Next, as backup.
//   - The view service is told that a part is taken when the role and view say so, and that the backup is in sync when
//     InSync does. A backup that was granted its view takes that part when it is Primary.
//   - A replica that has halted is not used again. Its host may start a new life, which is a spare.
package replica
