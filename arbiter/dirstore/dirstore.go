package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"understudy/arbiter"
)

// DefaultWatchInterval is how often Watch looks at a group's directory; MinWatchInterval and MaxWatchInterval
// bound Options.WatchInterval.
const (
	DefaultWatchInterval = 100 * time.Millisecond
	MinWatchInterval     = 5 * time.Millisecond
	MaxWatchInterval     = 5 * time.Second
)

// maxCalls bounds the calls that may be at the storage at once. More wait for their turn, until their context
// ends. A call whose context ended goes on holding its place until the storage answers.
const maxCalls = 64

// closeGrace is how long Close waits for calls that hang in the storage.
const closeGrace = time.Second

// Options tune Open. The zero value is ready for use.
type Options struct {
	// Create makes the directory, which must exist and be empty, a new store unless it is one. Without it
	// Open fails with ErrNotStore: a replica that finds an empty directory where the storage should be mounted
	// must not take it for an arbiter that never granted anything.
	Create        bool
	WatchInterval time.Duration // how often Watch looks; 0 means DefaultWatchInterval
}

// Store is an arbiter.Store in a shared directory. Open makes one.
type Store struct {
	path     string
	root     *os.Root // the directory itself, not its path: a mount that goes away does not uncover another
	interval time.Duration
	calls    chan struct{} // one token per call at the storage
	closed   chan struct{}
	close    sync.Once
	// failed holds why the store stopped: after a sync that failed the storage may forget what it shows.
	failed atomic.Pointer[error]

	mu sync.Mutex
	// synced holds, per group, the grant that this Store knows to be on disk. What another host has renamed
	// may be seen before that; it is synced before it is answered.
	synced map[string]claimName

	// step is called before each step of a claim; tests die in it. Nil means nothing.
	step func(name string)
}

// Open opens the store in the directory at path.
func Open(path string, o Options) (*Store, error) {
	if o.WatchInterval == 0 {
		o.WatchInterval = DefaultWatchInterval
	}
	s := &Store{
		path:     path,
		interval: min(max(o.WatchInterval, MinWatchInterval), MaxWatchInterval),
		calls:    make(chan struct{}, maxCalls),
		closed:   make(chan struct{}),
		synced:   make(map[string]claimName),
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, s.explain("open", err)
	}
	s.root = root
	err = s.checkMarker()
	if o.Create && errors.Is(err, ErrNotStore) {
		err = s.create()
	}
	if err == nil {
		err = s.probe()
	}
	if err == nil {
		s.removeOld()
		// Damage should show when the store is opened and not at a failover.
		_, err = s.readAll(context.Background())
	}
	if err != nil {
		_ = root.Close()
		return nil, s.explain("open", err)
	}
	return s, nil
}

// checkMarker fails unless the directory is a store of this format.
func (s *Store) checkMarker() error {
	text, err := readBounded(s.root, markerName, 256)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotStore
	case err != nil:
		return err
	case len(text) == 0:
		return fmt.Errorf("%w: %s is empty", ErrCorrupt, markerName)
	case string(text) != markerText:
		return fmt.Errorf("%w: %q, this program reads %q", ErrFormat, text, markerText)
	}
	return nil
}

// create makes an empty directory a store. Two that do so at once do no harm.
func (s *Store) create() error {
	names, err := list(s.root)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.HasPrefix(n, ".") && n != "lost+found" {
			return fmt.Errorf("%w: it holds %q, a new store begins empty", ErrNotStore, n)
		}
	}
	temporary := newPrefix + randomID()
	if err := writeSynced(s.root, temporary, []byte(markerText)); err != nil {
		return err
	}
	if err := s.root.Rename(temporary, markerName); err != nil {
		_ = s.root.Remove(temporary)
		return err
	}
	return syncDir(s.root)
}

// probe finds out whether the directory can be written and synced.
func (s *Store) probe() error {
	name := probePrefix + randomID()
	if err := writeSynced(s.root, name, []byte("x")); err != nil {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		return err
	}
	return syncDir(s.root)
}

// ready returns why the store cannot be used, if so.
func (s *Store) ready(ctx context.Context) error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	return nil
}

// call runs f, which uses the storage, and returns when ctx ends even if the storage hangs, as a file
// server that is away makes it. f then goes on; what it did stays unknown to the caller.
func (s *Store) call(ctx context.Context, f func() error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	gone := func() error {
		return fmt.Errorf("%w: arbiter directory %s does not answer: %w", arbiter.ErrUnreachable, s.path, ctx.Err())
	}
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return gone()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-s.calls }()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return gone()
	}
}

// Get implements arbiter.Register.
func (s *Store) Get(ctx context.Context, group string) (arbiter.Record, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, err
	}
	found := make(chan arbiter.Record, 1)
	err := s.call(ctx, func() error {
		rec, _, err := s.read(ctx, group)
		if err != nil {
			return s.unknown("read", err)
		}
		found <- rec
		return nil
	})
	if err != nil {
		return arbiter.Record{}, err
	}
	return <-found, nil
}

// Watch implements arbiter.Register. It looks at the directory every Options.WatchInterval.
func (s *Store) Watch(ctx context.Context, group string, after uint64) (arbiter.Record, error) {
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	for {
		rec, err := s.Get(ctx, group)
		if err != nil || rec.Number > after {
			return rec, err
		}
		select {
		case <-tick.C:
		case <-s.closed:
		case <-ctx.Done():
			return arbiter.Record{}, fmt.Errorf("%w: watch group %q: %w", arbiter.ErrUnreachable, group, ctx.Err())
		}
	}
}

// All implements arbiter.Store.
func (s *Store) All(ctx context.Context) (map[string]arbiter.Record, error) {
	found := make(chan map[string]arbiter.Record, 1)
	err := s.call(ctx, func() error {
		all, err := s.readAll(ctx)
		if err != nil {
			return s.unknown("read", err)
		}
		found <- all
		return nil
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

// Close implements arbiter.Store. It waits for calls under way, but not long for a storage that hangs.
func (s *Store) Close() (err error) {
	s.close.Do(func() {
		closed := fmt.Errorf("%w: arbiter directory %s is closed", arbiter.ErrUnreachable, s.path)
		s.failed.CompareAndSwap(nil, &closed)
		close(s.closed)
		grace := time.NewTimer(closeGrace)
		defer grace.Stop()
		for range maxCalls {
			select {
			case s.calls <- struct{}{}:
			case <-grace.C:
				err = s.root.Close()
				return
			}
		}
		for range maxCalls {
			<-s.calls
		}
		err = s.root.Close()
	})
	return err
}

// list returns the names in a directory. It opens the directory anew: that makes an NFS client ask the server.
func list(dir *os.Root) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var names []string
	for {
		some, err := d.Readdirnames(1024)
		names = append(names, some...)
		if len(names) > maxNames {
			return nil, fmt.Errorf("%w: more than %d files in %s", ErrCorrupt, maxNames, d.Name())
		}
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// maxNames bounds the files of one directory.
const maxNames = 4 * arbiter.MaxGroups

func readBounded(dir *os.Root, name string, maxBytes int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%w: %s is not a file", ErrCorrupt, name), err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && int64(len(text)) > maxBytes {
		err = fmt.Errorf("%w: %s has more than %d bytes", ErrCorrupt, name, maxBytes)
	}
	return text, err
}

// writeSynced makes a new file whose content is on disk. It leaves nothing if it fails.
func writeSynced(dir *os.Root, name string, text []byte) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = dir.Remove(name)
	}
	return err
}

func syncDir(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
