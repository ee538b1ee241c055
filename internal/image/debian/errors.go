package debian

import "errors"

var (
	// ErrNoMirror: no Debian archive is configured.
	ErrNoMirror = errors.New("no Debian mirror is known")
	// ErrSignature: the archive's InRelease is not signed by a key we trust.
	ErrSignature = errors.New("signature not accepted")
	// ErrMismatch: a file's size or hash is not what the signed index promises.
	ErrMismatch = errors.New("content does not match its hash")
	// ErrNotCached: offline, and the cache does not hold what is needed.
	ErrNotCached = errors.New("not in the cache")
	// ErrNoPackage: the archive does not have the package.
	ErrNoPackage = errors.New("no such package in the archive")
	// ErrFormat: a file is not what its format's manual allows.
	ErrFormat = errors.New("malformed")
)

// HintError is an error for which the next step is known.
type HintError struct {
	Err  error
	Hint string
}

// Error is the error without the hint.
func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap gives the error within.
func (e *HintError) Unwrap() error { return e.Err }

// Try says what to do next; the command line shows it on a line of its own.
func (e *HintError) Try() string { return e.Hint }

func hint(err error, try string) error { return &HintError{Err: err, Hint: try} }
