// Package boltstore keeps an arbiter's registers in one bbolt file, durable before they are answered.
//
// The file belongs to one process at a time (it is locked while open). It must not be restored from an
// older copy: a number granted after the copy was made would be granted again.
//
// Format 1: bucket "meta" holds "format" = "understudy-arbiter 1"; bucket "groups" holds, per group, the
// CRC-32C (big endian, 4 bytes) of what follows, then the record as JSON.
package boltstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"understudy/arbiter"
	"understudy/arbiter/internal/bell"
)

const formatName = "understudy-arbiter 1"

// DefaultLockTimeout is how long Open waits for another process to let go of the file.
const DefaultLockTimeout = time.Second

var (
	metaBucket  = []byte("meta")
	groupBucket = []byte("groups")
	formatKey   = []byte("format")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// The reasons for which Open fails, and for which a store stops answering. They come wrapped with the
// file's path and what to do.
var (
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("store is in use by another process")
	// ErrCorrupt: the file is damaged or is not an arbiter's store. It is not repaired and not replaced:
	// an arbiter that forgot what it granted would grant it twice.
	ErrCorrupt = errors.New("store is damaged")
	// ErrFormat: the file is an arbiter's store of another version.
	ErrFormat = errors.New("store has an unknown format")
	// ErrReadOnly: the file or its directory cannot be written.
	ErrReadOnly = errors.New("store cannot be written")
	// ErrFull: the disk is full, or a quota or limit on the file's size is reached.
	ErrFull = errors.New("no space left for the store")
)

// Options tune Open. The zero value is ready for use.
type Options struct {
	LockTimeout time.Duration // how long to wait for the file's lock; 0 means DefaultLockTimeout
}

// Store is an arbiter.Store in a bbolt file. Open makes one.
type Store struct {
	db   *bbolt.DB
	path string
	// mu lets no reader in during a commit: bbolt shows a new record before it is on disk, and a record
	// that was shown must not vanish in a power failure.
	mu sync.RWMutex
	// failed holds why the store stopped. After a failed commit the file may or may not hold the claim,
	// and the pages in memory need not be those on disk, so nothing more is answered until the store is
	// opened anew.
	failed atomic.Pointer[error]
	bell   bell.Bell
}

// Open opens the store at path, making it if it does not exist (its directory must).
func Open(path string, o Options) (*Store, error) {
	if o.LockTimeout <= 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	s := &Store{path: path}
	err := guard(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: o.LockTimeout, FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		s.db = db
		return db.Update(initialise)
	})
	if err == nil {
		err = guard(s.check)
	}
	if err == nil {
		// The directory entry of a new file must survive a crash as the file's content does.
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		if s.db != nil {
			_ = guard(s.db.Close)
		}
		return nil, s.explain("open", err)
	}
	return s, nil
}

func initialise(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return fmt.Errorf("%w: a bbolt file of something else", ErrCorrupt)
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(groupBucket); err != nil {
			return err
		}
		return meta.Put(formatKey, []byte(formatName))
	}
	if f := meta.Get(formatKey); string(f) != formatName {
		return fmt.Errorf("%w: %q, this program reads %q", ErrFormat, f, formatName)
	}
	if tx.Bucket(groupBucket) == nil {
		return fmt.Errorf("%w: no bucket %q", ErrCorrupt, groupBucket)
	}
	return nil
}

// check reads all records once, so that damage shows when the arbiter starts and not at a failover.
func (s *Store) check() error {
	_, err := s.readAll()
	return err
}

// guard turns a panic or a fault in a memory-mapped page (a damaged or truncated file) into an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	return f()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// explain says what went wrong in our own words and what to do about it.
func (s *Store) explain(verb string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s arbiter store %s: %w: another arbiter runs on this file; stop it, or give this one a file of its own", verb, s.path, ErrLocked)
	case isErrno(err, syscall.ENOSPC), isErrno(err, syscall.EDQUOT), isErrno(err, syscall.EFBIG):
		return fmt.Errorf("%s arbiter store %s: %w (%w): make room, then start the arbiter again", verb, s.path, ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s arbiter store %s: %w (%w): check the owner and mode of the file and its directory", verb, s.path, ErrReadOnly, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%s arbiter store %s: %w (%w): never start over with an empty file while replicas of its groups live", verb, s.path, ErrCorrupt, err)
	}
	return fmt.Errorf("%s arbiter store %s: %w", verb, s.path, err)
}

// isErrno also looks at the text: bbolt passes on some errors of the system as words alone.
func isErrno(err error, e syscall.Errno) bool {
	return errors.Is(err, e) || strings.Contains(err.Error(), e.Error())
}

// fail records that the store must not be used any more and returns the error for this and all later calls.
func (s *Store) fail(verb string, err error) error {
	err = fmt.Errorf("%w: %w", arbiter.ErrUnreachable, s.explain(verb, err))
	s.failed.CompareAndSwap(nil, &err)
	s.bell.RingAll()
	return err
}

func (s *Store) ready(ctx context.Context) error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	return nil
}

// Get implements arbiter.Register.
func (s *Store) Get(ctx context.Context, group string) (rec arbiter.Record, err error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return rec, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.ready(ctx); err != nil {
		return rec, err
	}
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			rec, err = load(tx, group)
			return err
		})
	})
	if err != nil {
		return arbiter.Record{}, s.fail("read", err)
	}
	return rec, nil
}

// errUnchanged ends a transaction that has nothing to write; the answer is in the closure's variables.
var errUnchanged = errors.New("unchanged")

// CompareAndSet implements arbiter.Register. It answers after the new record is on disk. It does not watch
// ctx once it has begun to write.
func (s *Store) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (cur arbiter.Record, won bool, err error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return cur, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return cur, false, err
	}
	var refusal error
	err = guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			old, err := load(tx, group)
			if err != nil {
				return err
			}
			cur, won, refusal = arbiter.Decide(old, next)
			if refusal != nil || cur == old {
				return errUnchanged
			}
			if old.Number == 0 && tx.Bucket(groupBucket).Stats().KeyN >= arbiter.MaxGroups {
				cur, won = old, false
				refusal = fmt.Errorf("%w: the store holds %d groups already", arbiter.ErrRefused, arbiter.MaxGroups)
				return errUnchanged
			}
			return save(tx, group, next)
		})
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return arbiter.Record{}, false, s.fail("write", err)
	}
	if err == nil {
		s.bell.Ring(group)
	}
	return cur, won, refusal
}

// Watch implements arbiter.Register.
func (s *Store) Watch(ctx context.Context, group string, after uint64) (arbiter.Record, error) {
	return s.bell.Watch(ctx, group, after, s.Get)
}

// All implements arbiter.Store.
func (s *Store) All(ctx context.Context) (all map[string]arbiter.Record, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	err = guard(func() error {
		all, err = s.readAll()
		return err
	})
	if err != nil {
		return nil, s.fail("read", err)
	}
	return all, nil
}

func (s *Store) readAll() (map[string]arbiter.Record, error) {
	all := make(map[string]arbiter.Record)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(groupBucket).ForEach(func(k, v []byte) error {
			rec, err := decode(string(k), v)
			all[string(k)] = rec
			return err
		})
	})
	return all, err
}

// Close implements arbiter.Store. It waits for calls under way.
func (s *Store) Close() error {
	err := fmt.Errorf("%w: store %s is closed", arbiter.ErrUnreachable, s.path)
	s.failed.CompareAndSwap(nil, &err)
	s.bell.RingAll()
	return guard(s.db.Close)
}

func load(tx *bbolt.Tx, group string) (arbiter.Record, error) {
	v := tx.Bucket(groupBucket).Get([]byte(group))
	if v == nil {
		return arbiter.Record{}, nil
	}
	return decode(group, v)
}

func save(tx *bbolt.Tx, group string, rec arbiter.Record) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	v := binary.BigEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli))
	return tx.Bucket(groupBucket).Put([]byte(group), append(v, text...))
}

func decode(group string, v []byte) (rec arbiter.Record, err error) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], castagnoli) {
		return rec, fmt.Errorf("%w: record of group %q has a bad checksum", ErrCorrupt, group)
	}
	if err := json.Unmarshal(v[4:], &rec); err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: record of group %q: %w", ErrCorrupt, group, err)
	}
	if err := rec.Validate(); err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: record of group %q: %v", ErrCorrupt, group, err)
	}
	return rec, nil
}
