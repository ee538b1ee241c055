package arbiter

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Bounds on what a Register accepts.
const (
	// MaxGroupBytes bounds a group's name.
	MaxGroupBytes = 63
	// MaxNameBytes bounds Record.Primary and Record.Backup.
	MaxNameBytes = 255
	// MaxClaimantBytes bounds Record.Claimant.
	MaxClaimantBytes = 64
	// MaxGroups bounds the groups of one store.
	MaxGroups = 10_000
)

var (
	// ErrInvalid reports a group name or a record that breaks the rules of this package. The register did
	// not change.
	ErrInvalid = errors.New("invalid arbiter request")
	// ErrRefused reports a request that the arbiter understood and will never carry out, such as one more
	// group than MaxGroups. The register did not change.
	ErrRefused = errors.New("arbiter refused")
	// ErrUnreachable reports that the outcome is unknown: a network error, a time-out, a store that cannot
	// write. The claim may have been granted. Repeat it unchanged, or stay frozen.
	ErrUnreachable = errors.New("arbiter unreachable")
)

// Record is what a group's register holds: one granted number and what it grants. Records are compared
// with ==.
type Record struct {
	Number  uint64 `json:"number"`  // the granted view number; 0 only in the zero Record, "never set"
	Primary string `json:"primary"` // who may act; 1 to MaxNameBytes bytes
	Backup  string `json:"backup"`  // whose acknowledgement the primary needs; empty: nobody's; up to MaxNameBytes bytes
	// Claimant is a random id of the incarnation that wrote the record, 1 to MaxClaimantBytes bytes. It
	// tells a claimant's own repeated request from the same claim by a namesake, such as a former life of
	// the same host.
	Claimant string `json:"claimant"`
}

// ValidGroup returns nil if name is a group's name: a letter a-z or digit, then up to 62 of a-z, 0-9, dot,
// underscore and hyphen. Otherwise the error wraps ErrInvalid.
func ValidGroup(name string) error {
	if name == "" || len(name) > MaxGroupBytes {
		return fmt.Errorf("%w: group name of %d bytes, want 1 to %d", ErrInvalid, len(name), MaxGroupBytes)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return fmt.Errorf("%w: group name %q: byte %d is not allowed, want [a-z0-9][a-z0-9._-]*", ErrInvalid, name, i)
		}
	}
	return nil
}

// Validate returns nil if r can be claimed, else an error that wraps ErrInvalid.
func (r Record) Validate() error {
	switch {
	case r.Number == 0:
		return fmt.Errorf("%w: number 0, the first is 1", ErrInvalid)
	case r.Primary == "":
		return fmt.Errorf("%w: no primary", ErrInvalid)
	case r.Primary == r.Backup:
		return fmt.Errorf("%w: %q is both primary and backup", ErrInvalid, r.Primary)
	case r.Claimant == "":
		return fmt.Errorf("%w: no claimant id", ErrInvalid)
	}
	for _, f := range []struct {
		what, text string
		max        int
	}{{"primary", r.Primary, MaxNameBytes}, {"backup", r.Backup, MaxNameBytes}, {"claimant", r.Claimant, MaxClaimantBytes}} {
		if err := validText(f.what, f.text, f.max); err != nil {
			return err
		}
	}
	return nil
}

// validText holds names to what every encoding (JSON, a log line, a terminal) carries unchanged. Invalid
// UTF-8 in particular would come back from JSON as a different string, and an idempotent retry would lose.
func validText(what, s string, maxBytes int) error {
	if len(s) > maxBytes {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrInvalid, what, len(s), maxBytes)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, what)
	}
	for _, c := range s {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return fmt.Errorf("%w: %s %q holds a control character", ErrInvalid, what, s)
		}
	}
	return nil
}

// Decide is the whole rule of a register: what becomes of current when next is claimed.
//
//   - next.Number is current.Number+1: next is granted; result is next, won is true.
//   - next equals current in every field: its claimant asks again because an answer was lost; won is true.
//   - anything else: refused; result is current, won is false. Also a claimant that repeats a claim it won
//     once, after a later number went to another: what it won is no longer worth anything.
//
// The error wraps ErrInvalid if next is not a valid record; then result is current.
func Decide(current, next Record) (result Record, won bool, err error) {
	if err := next.Validate(); err != nil {
		return current, false, err
	}
	switch {
	case next == current:
		return current, true, nil
	case current.Number != math.MaxUint64 && next.Number == current.Number+1:
		return next, true, nil
	}
	return current, false, nil
}
