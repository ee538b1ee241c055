// Package view decides who is primary and who is backup of each protected group: the view service of MIT
// 6.824 lab 2, over a compare-and-set register.
//
// Core is a pure state machine in the manner of etcd-io/raft and of package replica. Inputs are method calls
// that carry the local monotonic clock: Ping and Get (answered at once from what is known), Tick, Switch,
// Drain, and Result (what the arbiter answered). After each input the caller takes Ready and does what it
// says: make the arbiter calls, each of which comes back as one Result, and tell the notices. Nothing in it
// blocks. Member is the other side, what a server has to say in its pings. Package httpview has the shell: a
// service with a clock, an HTTP server and clients.
//
// # Rules
//
// They hold for each group by itself.
//
//  1. A server pings every PingInterval with the number of the newest view that it knows and, for a view that
//     names it, has taken its part in. The answer is the newest view that the service knows.
//  2. A server that was silent for more than DeadPings intervals is dead. A primary or backup that pings 0
//     after having been in a view, or that pings in another life (Incarnation), has crashed: it counts as
//     dead until a view leaves it out, however loudly it pings. It lost its state; that its process is up
//     again does not help.
//  3. The first server that pings a group whose register is empty becomes primary of view 1.
//  4. A view changes only after its primary has acknowledged it, that is: has pinged its number. Else the
//     service could run ahead of the servers, and the primary of view n+2 could be one that never learned
//     that it was backup in n+1. Then: a dead primary is replaced by its backup, if that lives and the
//     primary had said that it is in sync, and an idle server becomes the new backup in the same step; a
//     dead or missing backup is replaced by an idle server; a dead backup without a replacement is dropped.
//  5. Nobody becomes primary who was not in the last view. If nobody may, the group stops and says so: a
//     stopped group can be helped, one that forgot what it had told its clients cannot.
//     It is helped by files: if nobody alive holds the state, a new life of a member of the newest view, whose
//     files say that they hold everything of that very view (Ping.Files), becomes primary of the next, alone.
//  6. One number never names two views: every change is a compare-and-set of the arbiter's register from n
//     to n+1, so of two copies of the service, or of the service and a replica that claims n+1 itself, one
//     wins. The other adopts what it finds.
//  7. The service is in nobody's way: replicas ship their log, and even claim views, without it.
//
// # What the service does not know
//
// Liveness, acknowledgement and in-sync are memory. A service that starts, or finds a view it did not make,
// has none: it declares nobody dead before it has itself listened for a dead interval, and does not touch a
// view before it has itself heard the primary ping its number. If the primary died meanwhile that is never,
// and the group has to be helped by its backup's own claim.
//
// Time is counted only while the service listens: the clock of Core moves by at most two PingIntervals
// between two inputs, and that of a group by at most two between two of its servers' pings. So neither a
// pause of the process, nor a jump of its clock, nor a cut of its own link makes a server dead: when all come
// back, the first to be heard does not find the others dead.
//
// Every copy of the service needs the pings of every server: a copy that gets none holds everybody for
// dead, and after it had an acknowledgement it would act on that. It stays safe (rule 6), but fails over for
// no good reason.
//
// # What the servers owe
//
//   - In a view {n, p, b} the primary may release output without b's acknowledgement until it first tells
//     anybody, b or the service, that b is in sync. From then on it needs b's, until a higher view is
//     granted. In-sync, once told, is never taken back within a view, and is told anew in the next.
//   - A server that does not hold the state never acts as primary, even if a view names it. It keeps pinging
//     what it pinged before (0, if it has just started).
//   - It takes the primary's part in view n only if it had a part in n-1: what it holds of an older view is old.
//   - A server that has restarted pings 0 until a view leaves it out. Member does that.
//   - A primary that is asked to hand over (Answer.HandOver) stops, lets its backup catch up, and claims
//     {n+1: backup, itself} with its own incarnation. Both hold the same state then: the new primary needs the
//     acknowledgements of the old one from the start, and each may take over from the other.
//   - A server that offers files has loaded them, and has seen the register hold their view. It says so in
//     its files before it acts in a view.
//   - A server pings only while it could take the backup's place: a halted replica falls silent.
package view
