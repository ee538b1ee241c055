// Package dirstore keeps an arbiter's registers in a directory that several hosts share, such as an NFS mount.
// Every host opens the directory itself; there is no server beside the file server.
//
// # How a number is granted once
//
// A group is a directory with exactly one file that ends in ".grant". It is empty; its name says what the
// register holds: "7-9f02ab4411d3c05e.grant" means that number 7 was granted to the claim whose record is in
// "7-9f02ab4411d3c05e.json". A claim writes its record under a name of its own (the number and 64 random
// bits), syncs it, and then renames the grant file from the current name to its own. Rename is atomic, and
// each name of the grant file comes and goes once: of the claims of one number one finds the old name, all
// others are told that it does not exist, however long they slept in between.
//
// That is why the grant is a rename of one file and not the exclusive creation (link) of a file per number. A
// claimant that read number 5, was stopped, and goes on when 6 has been granted and cleaned away could
// create the file of 6 again, and be granted what another held.
//
// # What a crash leaves
//
// A claimant that dies before the rename leaves its record's file, which nothing points to. The winner of
// any later number removes all records up to its own, except its own and its predecessor's. A record of the next
// number is never removed before that number is granted, whatever its age: its claimant may only be slow.
// A group is made under another name and renamed when complete; what a crash leaves of that is removed
// after an hour.
//
// # What the storage must do
//
// Rename within a directory must be atomic for all hosts, and sync (of files and directories) must mean
// what it says, and all hosts must open it as the same user (files are made with mode 0600): NFS version 4 with "hard" mounts and a server that exports "sync", cluster file systems, local
// disks. Claims are safe whatever a client caches, because the server carries out the rename; reads are fresh
// because each opens the group's directory anew, which makes an NFS client ask the server unless it is mounted
// with "nocto". The directory must not be restored from an older copy: numbers granted after the copy was
// made would be granted again.
//
// Layout, format 1:
//
//	.understudy-arbiter      "understudy-arbiter-dir 1\n"; without it nothing is read or written
//	GROUP/0.grant            a group of which no number was granted yet
//	GROUP/N-ID.grant         the current grant
//	GROUP/N-ID.json          {"group":"GROUP","record":{...},"crc32c":C}; C is the checksum of GROUP, a newline and
//	                         the record's text
//	.new-ID, .old-ID         groups being made or thrown away
//
// Other files are left alone and are no error, so that ".nfs..." files and editors' backups do no harm.
package dirstore
