package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"understudy/arbiter"
)

// The reasons for which a store cannot be opened or does not answer. They come wrapped with the path and
// what to do, those of calls also with arbiter.ErrUnreachable.
var (
	// ErrNotStore: the directory was never made an arbiter's store, or the storage is not mounted.
	ErrNotStore = errors.New("not an arbiter's directory")
	// ErrFormat: the directory is an arbiter's store of another version.
	ErrFormat = errors.New("store has an unknown format")
	// ErrCorrupt: a file is damaged or missing. Nothing is repaired: an arbiter that forgot what it granted
	// would grant it twice.
	ErrCorrupt = errors.New("store is damaged")
	// ErrReadOnly: the directory cannot be written.
	ErrReadOnly = errors.New("store cannot be written")
	// ErrFull: the storage is full, or a quota is reached. The register did not change; the store goes on
	// answering.
	ErrFull = errors.New("no space left for the store")
)

// explain says what went wrong in our own words and what to do about it.
func (s *Store) explain(verb string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%s arbiter directory %s: %w (%w): make room, then ask again", verb, s.path, ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s arbiter directory %s: %w (%w): check its owner, its mode and how it is mounted", verb, s.path, ErrReadOnly, err)
	case errors.Is(err, ErrNotStore):
		return fmt.Errorf("%s arbiter directory %s: %w: is the storage mounted? A new store must be asked for", verb, s.path, err)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%s arbiter directory %s: %w: never start over with an empty directory while replicas of its groups live", verb, s.path, err)
	}
	return fmt.Errorf("%s arbiter directory %s: %w", verb, s.path, err)
}

// unknown is explain for calls of a Register.
func (s *Store) unknown(verb string, err error) error {
	return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, s.explain(verb, err))
}

// fail records that the store must not be used any more and returns the error for this and all later calls.
func (s *Store) fail(verb string, err error) error {
	err = s.unknown(verb, err)
	s.failed.CompareAndSwap(nil, &err)
	return err
}
