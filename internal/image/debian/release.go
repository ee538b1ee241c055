package debian

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Release is the verified content of a suite's InRelease file.
type Release struct {
	Suite, Codename, Version string
	Date                     time.Time
	// ValidUntil is zero when the suite sets no limit, as Debian's stable suites do.
	ValidUntil time.Time
	ByHash     bool
	// SignedBy names the key that vouches for it.
	SignedBy string
	files    map[string]releaseFile
}

type releaseFile struct {
	sizeBytes int64
	sha256    [32]byte
}

// VerifyRelease checks the cleartext signature over an InRelease file (RFC 9580, section 7) against keys and reads
// what was signed, and nothing beside it.
func VerifyRelease(inRelease []byte, keys openpgp.EntityList, now time.Time) (*Release, error) {
	block, _ := clearsign.Decode(inRelease)
	if block == nil {
		return nil, fmt.Errorf("InRelease: %w: it is no signed message", ErrSignature)
	}
	signer, err := block.VerifySignature(keys, &packet.Config{Time: func() time.Time { return now }})
	if err != nil {
		return nil, fmt.Errorf("InRelease: %w: %w", ErrSignature, err)
	}
	r, err := parseRelease(block.Plaintext)
	if err != nil {
		return nil, err
	}
	r.SignedBy = fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint)
	if id := signer.PrimaryIdentity(); id != nil {
		r.SignedBy = id.Name
	}
	return r, nil
}

func parseRelease(plain []byte) (*Release, error) {
	f, err := newControlReader(bytes.NewReader(plain)).next()
	if err != nil {
		return nil, fmt.Errorf("read InRelease: %w", err)
	}
	r := &Release{
		Suite: f["suite"], Codename: f["codename"], Version: f["version"], ByHash: f["acquire-by-hash"] == "yes",
		files: map[string]releaseFile{},
	}
	if r.Date, err = parseDate(f["date"]); err != nil {
		return nil, fmt.Errorf("%w InRelease: Date %.60q", ErrFormat, f["date"])
	}
	if v := f["valid-until"]; v != "" {
		if r.ValidUntil, err = parseDate(v); err != nil {
			return nil, fmt.Errorf("%w InRelease: Valid-Until %.60q", ErrFormat, v)
		}
	}
	for line := range strings.SplitSeq(f["sha256"], "\n") {
		part := strings.Fields(line)
		if len(part) == 0 {
			continue
		}
		var rf releaseFile
		h, err := hex.DecodeString(part[0])
		if err != nil || len(h) != len(rf.sha256) || len(part) != 3 {
			return nil, fmt.Errorf("%w InRelease: line %.120q", ErrFormat, line)
		}
		copy(rf.sha256[:], h)
		if rf.sizeBytes, err = strconv.ParseInt(part[1], 10, 64); err != nil || rf.sizeBytes < 0 {
			return nil, fmt.Errorf("%w InRelease: line %.120q", ErrFormat, line)
		}
		r.files[part[2]] = rf
	}
	return r, nil
}

func parseDate(s string) (time.Time, error) {
	// Policy asks for RFC 5322 dates; the archive writes its zone as "UTC".
	for _, layout := range []string{time.RFC1123, time.RFC1123Z, "Mon, _2 Jan 2006 15:04:05 MST", "Mon, _2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, ErrFormat
}
