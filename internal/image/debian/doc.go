// Package debian is a small client of the Debian archive. It needs no root, no apt and no dpkg.
//
// Trust runs in one chain, each link checked before the next is read:
// an archive key → dists/SUITE/InRelease (OpenPGP) → main/binary-ARCH/Packages.xz (SHA-256) → .deb (SHA-256, size).
// The keys are the host's own /usr/share/keyrings/debian-archive-keyring.gpg, or, on a host that is not Debian,
// the copies of the trixie archive keys within this package.
//
// No mirror is built in: Open asks its options, the environment (UNDERSTUDY_MIRROR) and then apt's configuration.
// Everything that was fetched lies in a cache and is checked by its hash each time it is read; what is cached
// needs no network.
//
// Start with Open, then Archive.Resolve for a closure of dependencies and Archive.Files for their content.
// Maintainer scripts are never run: callers take files.
package debian
