package dirstore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"understudy/arbiter"
)

const (
	markerName   = ".understudy-arbiter"
	markerText   = "understudy-arbiter-dir 1\n"
	newPrefix    = ".new-"
	oldPrefix    = ".old-"
	probePrefix  = ".probe-"
	grantSuffix  = ".grant"
	recordSuffix = ".json"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// claimName is what a claim's record file and, if it wins, the grant file are called, less the suffix.
type claimName struct {
	number uint64
	id     string // 16 hex digits; empty only with number 0
}

func newClaimName(number uint64) claimName { return claimName{number: number, id: randomID()} }

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (c claimName) String() string {
	if c.number == 0 {
		return "0"
	}
	return strconv.FormatUint(c.number, 10) + "-" + c.id
}

func (c claimName) grant() string  { return c.String() + grantSuffix }
func (c claimName) record() string { return c.String() + recordSuffix }

// parseName reads a name less its suffix. Every name has one spelling.
func parseName(s string) (c claimName, ok bool) {
	if s == "0" {
		return c, true
	}
	number, id, _ := strings.Cut(s, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	c = claimName{number: n, id: id}
	if err != nil || n == 0 || len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" || c.String() != s {
		return claimName{}, false
	}
	return c, true
}

// maxRecordBytes bounds a record's file. A record with every byte escaped as \u00xx fits.
const maxRecordBytes = 8 << 10

// recordFile is the content of a record's file.
type recordFile struct {
	Group  string          `json:"group"`
	Record json.RawMessage `json:"record"`
	CRC32C uint32          `json:"crc32c"`
}

func checksum(group string, record []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(group+"\n"), castagnoli), castagnoli, record)
}

func encode(group string, rec arbiter.Record) ([]byte, error) {
	text, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	file, err := json.Marshal(recordFile{Group: group, Record: text, CRC32C: checksum(group, text)})
	return append(file, '\n'), err
}

// decode reads the record file of a claim.
func decode(group string, name claimName, text []byte) (rec arbiter.Record, err error) {
	var file recordFile
	switch err := json.Unmarshal(text, &file); {
	case len(text) == 0:
		return rec, fmt.Errorf("%w: %s is empty", ErrCorrupt, name.record())
	case err != nil:
		return rec, fmt.Errorf("%w: %s: %w", ErrCorrupt, name.record(), err)
	case file.CRC32C != checksum(file.Group, file.Record):
		return rec, fmt.Errorf("%w: %s has a bad checksum", ErrCorrupt, name.record())
	case file.Group != group:
		return rec, fmt.Errorf("%w: %s belongs to group %q", ErrCorrupt, name.record(), file.Group)
	}
	if err := json.Unmarshal(file.Record, &rec); err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, name.record(), err)
	}
	if err := rec.Validate(); err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: %s: %v", ErrCorrupt, name.record(), err)
	}
	if rec.Number != name.number {
		return arbiter.Record{}, fmt.Errorf("%w: %s holds number %d", ErrCorrupt, name.record(), rec.Number)
	}
	return rec, nil
}
