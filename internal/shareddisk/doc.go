// Package shareddisk is a disk that both hosts of a protected machine reach, and that obeys only the one who leads: a
// former primary that wakes up cannot write one block of it.
//
// A plain file on shared storage cannot refuse a write. So a small server stands in front of the file, as a storage
// array with SCSI-3 persistent reservations does for VMware FT:
//
//	s, err := shareddisk.Open("data.raw", shareddisk.ServerOptions{Log: log})
//	err = s.Serve(ctx, listener)
//
// and a replica is its client:
//
//	info, err := shareddisk.Look(ctx, options)   // what disk is there?
//	c := shareddisk.NewClient(options, info)
//	c.Start(wake)
//	c.Lead(view, requestsInFlight)               // as primary of that view
//	c.Submit(request)                            // results: c.Finished
//	c.Rest()                                     // no longer
//
// # The fence
//
// Whoever wants to read or write first announces that it leads view n of its group: n was granted to it by the arbiter,
// which grants each number once. The rules of the server:
//
//   - It remembers the highest view announced, and who leads it: in a file beside the disk, durable before it answers.
//   - It refuses announcements of lower views, and of the same view by another replica.
//   - It carries out the requests of the connection that announced last, and no others: not those of lower views that
//     were in its socket's buffers already, nor those of an earlier connection of the same replica, which
//     the replica has sent anew.
//   - Announcements and requests are carried out one at a time. When an announcement is answered, no request of
//     another connection is under way or ever will be.
//   - A disk belongs to one group. Another group gets it when it was given free (`understudy disk --free`), or when
//     it is the same machine started anew (Options.Takes); a group that has lost it never gets it back by itself.
//
// Requests of one connection are carried out in order. Those that were not answered when a connection broke are sent
// again by the next one, in order, whether they were carried out or not: a guest has no order among requests in flight, so
// it cannot tell.
//
// Backups may read what their group has on the disk (Options.BackupReads; Client.Fetch, Client.Reread): that
// announces nothing and needs no grant, and whoever said hello for it is refused all else. The leader then holds back writes
// until the backup has read what they replace: see hold.go.
//
// What is written is durable after a flush, as with any disk that has a cache. When the server's host was started anew
// (its boot ID tells), what was answered and not flushed may be lost: the guest's next flush then ends in an error.
package shareddisk
