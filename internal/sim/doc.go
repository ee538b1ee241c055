// Package sim runs the replication core in a world of its own: processes, network, arbiter, disks, clocks and
// clients, all made from one seed. The same seed gives the same run, bit for bit, on every host.
//
// The parts of the product that are simulated with are the real ones: replica.Core, view.Core, view.Member and
// arbiter.Decide. Around them the world does what internal/host does with sockets, files and goroutines, in the same
// order, and it may kill a process between any two steps of that.
//
// A seed makes one of three worlds. The pair (world.go) is named beforehand and claims its views itself. The group
// (group.go) has three or four hosts, each with one life of a server at a time, and one or two copies of the view service
// (service.go), which every life pings. A primary calls the backup that its view names and sends it the machine's
// state (join.go). The channel to a backup is opened as often as need be; one life has one at a time.
// In a quarter of the groups the log lags behind the machine, as in checkpoint mode (epochs.go).
//
// The third world is a group of servers of the key-value service. Its state is the real one, kv.Store, executed as package rsm
// does it (server.go): batches of commands as entries, replies that wait at the gate of the core (Reply), reads on what is executed
// (Ask), and states that go to new backups in pieces while commands go on (transfer.go). Its clients (user.go) number their requests
// and repeat them, at whomever they take for the primary; requests and replies are lost, come twice and late. The histories of
// all keys are checked (history.go). In some of these worlds the hosts have disks: what a server wrote, and with a power failure what it
// had synced, outlives it (files.go), and a group whose servers all died comes back.
//
// Scenarios (faults.go, groupfaults.go, servicefaults.go) choose what goes wrong. Watchers (watch.go, storewatch.go) know nothing of the scenario: they see what
// left a replica, what each machine executed and what clients got, and say which rule was broken.
// Mutations (mutate.go) break a rule on purpose, to show that the watchers watch.
//
// Run runs one seed. RunMany runs many on all processors.
//
// # What the world promises to the core
//
// The core is told only of messages from the very process that it met (PeerUp): a message that was meant for a
// former life of a process is not given to its successor, nor one that came by a channel that is no more. The state
// that a backup gets arrives after what was sent before it if the channel is a stream; else it may arrive before or
// after. One answer comes for every claim that Ready hands out, be it "unknown". Clocks never step back. A process does
// not stand still between taking the time for a step of the core and doing what Ready says; a real one can (a signal,
// the scheduler), and an output can then leave as much later. Nothing can be done about that short of a network that
// fences; see "Freshness" in package replica for why it does no harm.
package sim
