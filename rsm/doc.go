// Package rsm replicates a state machine: whatever has Apply, Snapshot and Restore survives the death of the process and
// the host that it runs on.
//
// A Node is one server of a group. Any number of servers may belong to a group; the view service makes one of them the
// primary and one its backup, the others are spares. Every command is given to the primary (Node.Propose), which logs it,
// ships it to the backup and executes it. The reply is given out once the backup holds the command, or once the primary has
// won the right to act alone. When the primary dies the backup goes on with all that was ever answered; a spare then receives
// the state while commands go on, and becomes the new backup.
//
// # What is promised
//
//   - A command that was answered is never lost as long as the primary and its backup do not both lose their state.
//   - Commands and reads are linearizable. A read (Node.Read) costs no log entry, but an acknowledgement that the backup
//     gave after the read came; many reads share one. A server that was primary once, partitioned or stopped and resumed,
//     answers nothing.
//   - A command whose Propose failed with ErrUnknown may have been executed or may yet be; with any other error it is not.
//     A machine that must execute retried commands once keeps the last reply per client as part of its state.
//   - A group whose servers have all lost the state stops. It does not begin anew. With files (Options.Dir) it comes back from
//     those of its newest view; servers with older files do not lead.
//
// # What the machine owes
//
// Same entries, same replies and same state, on any host: see Machine. Time, chance and the client's identity reach it only in
// entries.
//
// # How it is put together
//
// A Node is a shell around understudy/replica: that package has the rules, by which commands are acknowledged, failures
// suspected and parts taken; understudy/arbiter settles who may act, understudy/view says who is next. A Node is one life: when
// its part went to another, Run returns ErrHalted, and a new Node with an empty machine may take its place.
package rsm
