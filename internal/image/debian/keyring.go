package debian

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// hostKeyring is where Debian keeps its archive keys, all releases in one file.
const hostKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// The public keys that sign trixie: the one of the automatic signing process and the one of the stable release, as Debian
// ships them in debian-archive-keyring.
//
//go:embed keys/debian-archive-trixie-automatic.gpg
var trixieAutomaticKey []byte

//go:embed keys/debian-archive-trixie-stable.gpg
var trixieStableKey []byte

// ArchiveKeys gives the keys that Debian's archive is verified with: the host's keyring together with the built-in
// trixie keys (an old host's keyring does not hold them).
func ArchiveKeys() (openpgp.EntityList, error) {
	keys, err := builtinKeys()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(hostKeyring)
	if err != nil {
		return keys, nil // not a Debian host
	}
	// A keyring that our OpenPGP library cannot read in full is no reason to stop: the built-in keys do.
	if host, err := openpgp.ReadKeyRing(bytes.NewReader(data)); err == nil {
		keys = append(host, keys...)
	}
	return keys, nil
}

func builtinKeys() (openpgp.EntityList, error) {
	var keys openpgp.EntityList
	for _, data := range [][]byte{trixieAutomaticKey, trixieStableKey} {
		k, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read built-in archive key: %w", err)
		}
		keys = append(keys, k...)
	}
	return keys, nil
}
