package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"understudy/arbiter"
)

const (
	// maxLooks bounds how often one call looks at a group whose grant moves while it looks, with retryDelay
	// between.
	maxLooks   = 100
	retryDelay = 2 * time.Millisecond
	// leftoverAge is the age at which what a crash left of a group being made is removed.
	leftoverAge = time.Hour
)

// CompareAndSet implements arbiter.Register. It answers after the grant is on disk. Once it has begun to
// write it goes on when ctx ends; what became of the claim then is unknown.
func (s *Store) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, false, err
	}
	if err := next.Validate(); err != nil {
		return arbiter.Record{}, false, err
	}
	type answer struct {
		current arbiter.Record
		won     bool
	}
	found := make(chan answer, 1)
	err := s.call(ctx, func() error {
		current, won, err := s.claim(ctx, group, next)
		switch {
		case errors.Is(err, arbiter.ErrRefused), errors.Is(err, arbiter.ErrInvalid), errors.Is(err, arbiter.ErrUnreachable):
			return err
		case err != nil:
			return s.unknown("claim in", err)
		}
		found <- answer{current, won}
		return nil
	})
	if err != nil {
		return arbiter.Record{}, false, err
	}
	a := <-found
	return a.current, a.won, nil
}

func (s *Store) claim(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	ours := newClaimName(next.Number)
	written := false
	for range maxLooks {
		current, at, err := s.read(ctx, group)
		if err != nil {
			return arbiter.Record{}, false, err
		}
		result, won, err := arbiter.Decide(current, next)
		if err != nil || !won || result == current {
			if written && at != ours {
				s.remove(group, ours)
			}
			return result, won, err
		}
		if at == (claimName{}) {
			if err := s.makeGroup(group); err != nil {
				return arbiter.Record{}, false, err
			}
		}
		dir, err := s.root.OpenRoot(group)
		if err != nil {
			return arbiter.Record{}, false, err
		}
		if !written {
			if err := s.propose(dir, group, ours, next); err != nil {
				dir.Close()
				return arbiter.Record{}, false, err
			}
			written = true
		}
		s.at("grant")
		err = dir.Rename(at.grant(), ours.grant())
		if err == nil {
			s.at("sync grant")
			err = s.sync(dir, group, ours)
			if err == nil {
				s.at("prune")
				prune(dir, ours, at)
			}
			dir.Close()
			return next, err == nil, err
		}
		dir.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return arbiter.Record{}, false, err
		}
		// Another claim was granted, or ours was and the file server's answer got lost: look again.
	}
	return arbiter.Record{}, false, fmt.Errorf("group %q changes faster than it can be read", group)
}

// propose writes the record of a claim to disk, under a name that nothing points to yet.
func (s *Store) propose(dir *os.Root, group string, ours claimName, next arbiter.Record) error {
	text, err := encode(group, next)
	if err != nil {
		return err
	}
	s.at("propose")
	if err := writeSynced(dir, ours.record(), text); err != nil {
		return err
	}
	s.at("sync proposal")
	if err := syncDir(dir); err != nil {
		return s.fail("sync", err)
	}
	return nil
}

// read returns the current record of a group and the name of its grant, both zero if nothing was granted,
// when they are on disk.
func (s *Store) read(ctx context.Context, group string) (rec arbiter.Record, at claimName, err error) {
	var missing claimName // the grant whose record was not there the last time
	for look := range maxLooks {
		if look > 0 {
			if err := sleep(ctx, s.closed); err != nil {
				return rec, at, fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
			}
		}
		dir, err := s.root.OpenRoot(group)
		if errors.Is(err, fs.ErrNotExist) {
			// An NFS client may remember that there was no such group; the directory's listing is fresh.
			names, err := list(s.root)
			if err != nil {
				return rec, at, err
			}
			if slices.Contains(names, group) {
				continue
			}
			return rec, at, s.checkMarker()
		}
		if err != nil {
			return rec, at, s.damage(err, group)
		}
		rec, at, err = readGrant(dir, group)
		if err == nil {
			err = s.sync(dir, group, at)
			dir.Close()
			return rec, at, err
		}
		dir.Close()
		switch {
		case errors.Is(err, errMoving):
		case errors.Is(err, fs.ErrNotExist) && at != missing:
			missing = at // granted away between looking at the directory and at the file
		case errors.Is(err, fs.ErrNotExist):
			return arbiter.Record{}, claimName{}, fmt.Errorf("%w: group %q: %s is missing", ErrCorrupt, group, at.record())
		default:
			return arbiter.Record{}, claimName{}, fmt.Errorf("group %q: %w", group, err)
		}
	}
	return arbiter.Record{}, claimName{}, fmt.Errorf("%w: group %q: not one grant file", ErrCorrupt, group)
}

// damage tells a group that is not a directory from storage that does not answer.
func (s *Store) damage(err error, group string) error {
	if info, e := s.root.Lstat(group); e == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is not a directory", ErrCorrupt, group)
	}
	return err
}

// errMoving reports that a look at a directory saw not exactly one grant file, as it may during a rename.
var errMoving = errors.New("the grant moves")

func readGrant(dir *os.Root, group string) (rec arbiter.Record, at claimName, err error) {
	names, err := list(dir)
	if err != nil {
		return rec, at, err
	}
	grants := 0
	for _, n := range names {
		base, ok := strings.CutSuffix(n, grantSuffix)
		if !ok {
			continue
		}
		if at, ok = parseName(base); !ok {
			return rec, claimName{}, fmt.Errorf("%w: %q names no grant", ErrCorrupt, n)
		}
		grants++
	}
	if grants != 1 {
		return rec, claimName{}, errMoving
	}
	if at.number == 0 {
		return rec, at, nil
	}
	text, err := readBounded(dir, at.record(), maxRecordBytes)
	if err != nil {
		return rec, at, err
	}
	rec, err = decode(group, at, text)
	return rec, at, err
}

// sync makes sure that the grant is on disk, and on the first look at a group that the group is.
func (s *Store) sync(dir *os.Root, group string, at claimName) error {
	s.mu.Lock()
	was, known := s.synced[group]
	s.mu.Unlock()
	if known && was == at {
		return nil
	}
	err := syncDir(dir)
	if err == nil && !known {
		err = syncDir(s.root)
	}
	if err != nil {
		return s.fail("sync", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced[group].number <= at.number {
		s.synced[group] = at
	}
	return nil
}

// prune removes the records of claims that can win no more: up to our number, except ours and that of the
// grant before. What cannot be removed is left to the next winner.
func prune(dir *os.Root, ours, before claimName) {
	names, err := list(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		base, ok := strings.CutSuffix(n, recordSuffix)
		if !ok {
			continue
		}
		if c, ok := parseName(base); ok && c.number <= ours.number && c != ours && c != before {
			_ = dir.Remove(n)
		}
	}
}

// remove takes back the record of a claim that lost.
func (s *Store) remove(group string, ours claimName) {
	if dir, err := s.root.OpenRoot(group); err == nil {
		_ = dir.Remove(ours.record())
		dir.Close()
	}
}

// makeGroup makes a group's directory, complete with its first grant file, unless it exists.
func (s *Store) makeGroup(group string) error {
	if _, err := s.root.Stat(group); err == nil {
		return nil
	}
	names, err := list(s.root)
	if err != nil {
		return err
	}
	groups := 0
	for _, n := range names {
		if arbiter.ValidGroup(n) == nil {
			groups++
		}
	}
	if groups >= arbiter.MaxGroups {
		return fmt.Errorf("%w: the store holds %d groups already", arbiter.ErrRefused, arbiter.MaxGroups)
	}
	s.removeOld()
	temporary := newPrefix + randomID()
	s.at("make group")
	if err := s.root.Mkdir(temporary, 0o700); err != nil {
		return err
	}
	dir, err := s.root.OpenRoot(temporary)
	if err == nil {
		s.at("make grant")
		err = writeSynced(dir, claimName{}.grant(), nil)
		if err == nil {
			err = syncDir(dir)
		}
		dir.Close()
	}
	if err == nil {
		s.at("name group")
		err = s.root.Rename(temporary, group)
	}
	if err != nil {
		_ = s.root.RemoveAll(temporary)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil // another was faster
	}
	return err
}

// removeOld removes what crashes left in the root, after leftoverAge. It takes a thing away by name before it
// takes it apart: whoever was only slow must not come back and name half a group.
func (s *Store) removeOld() {
	names, err := list(s.root)
	if err != nil {
		return
	}
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, newPrefix), strings.HasPrefix(n, probePrefix):
			if info, err := s.root.Lstat(n); err == nil && time.Since(info.ModTime()) > leftoverAge {
				old := oldPrefix + randomID()
				if s.root.Rename(n, old) == nil {
					_ = s.root.RemoveAll(old)
				}
			}
		case strings.HasPrefix(n, oldPrefix):
			_ = s.root.RemoveAll(n)
		}
	}
}

// readAll reads every group that has a record.
func (s *Store) readAll(ctx context.Context) (map[string]arbiter.Record, error) {
	names, err := list(s.root)
	if err != nil {
		return nil, err
	}
	all := make(map[string]arbiter.Record)
	for _, n := range names {
		if arbiter.ValidGroup(n) != nil {
			continue
		}
		rec, at, err := s.read(ctx, n)
		if err != nil {
			return nil, err
		}
		if at.number != 0 {
			all[n] = rec
		}
	}
	return all, nil
}

func sleep(ctx context.Context, closed <-chan struct{}) error {
	t := time.NewTimer(retryDelay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return errors.New("the store is closed")
	}
}

func (s *Store) at(step string) {
	if s.step != nil {
		s.step(step)
	}
}
