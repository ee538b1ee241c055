package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// socketPathMax is the longest path that a unix socket can have (sockaddr_un of Linux).
const socketPathMax = 107

// tryError is an error with what to do about it.
type tryError struct {
	error
	try string
}

func (e *tryError) Unwrap() error { return e.error }

// Try is what to do about the error.
func (e *tryError) Try() string { return e.try }

func withTry(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &tryError{err, fmt.Sprintf(format, args...)}
}

// words gives an error with its hint, for places that show one line.
func words(err error) string {
	var t interface{ Try() string }
	if errors.As(err, &t) && t.Try() != "" {
		return err.Error() + " (try: " + t.Try() + ")"
	}
	return err.Error()
}

// lockDir makes the agent's directory and takes it for this process until the file is closed.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(dir, "machines"), 0o700); err != nil {
		return nil, fmt.Errorf("make the host's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the host's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, withTry(fmt.Errorf("directory %s is used by another understudy host", dir), "another --dir, or end the other one")
		}
		return nil, fmt.Errorf("lock the host's directory: %w", err)
	}
	return f, nil
}

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// kept says which life's disks hold the machine's data.
type kept struct {
	Life int    `json:"life"`
	Role string `json:"role"` // primary or backup: the part that it last had
	View uint64 `json:"view"`
}

// record is what must be known of a machine after the agent's own death, in machine.json. It is written before what it
// says is done.
type record struct {
	Format int    `json:"format"`
	Lives  int    `json:"lives"`            // begun so far
	Found  string `json:"found,omitempty"`  // the group whose founding was begun here: never again
	Ended  string `json:"ended,omitempty"`  // the group whose guest has shut down
	Code   int    `json:"code,omitempty"`   // with Ended: the replica's exit code
	Reason string `json:"reason,omitempty"` // with Ended
	Kept   *kept  `json:"kept,omitempty"`
}

const recordFormat = 1

// store is a machine's directory.
//
//	machine.json   the record
//	replica.log    what its lives narrated
//	status         the unix socket of the life that runs
//	console.json   the end of the console, for when nothing runs
//	life-N/        disks of life N
//
// A new life gets a directory of its own, and the disks of an earlier one are removed only when the new one holds the
// machine's state itself: until then they may be all that is left of the machine.
type store struct {
	dir string
	rec record
}

// openStore opens or makes a machine's directory.
func openStore(dir string) (*store, error) {
	s := &store{dir: dir, rec: record{Format: recordFormat}}
	if len(s.socket()) > socketPathMax {
		return nil, withTry(fmt.Errorf("the path %s is too long for a socket", s.socket()), "a shorter --dir")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the machine's directory: %w", err)
	}
	raw, err := os.ReadFile(s.recordPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The directory's own name must last too, or the record in it would not.
		return s, syncDir(filepath.Dir(dir))
	case err != nil:
		return nil, fmt.Errorf("read the machine's record: %w", err)
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil || r.Format != recordFormat {
		return nil, withTry(fmt.Errorf("the machine's record %s is not readable", s.recordPath()), "removing the machine")
	}
	s.rec = r
	return s, nil
}

func (s *store) recordPath() string { return filepath.Join(s.dir, "machine.json") }
func (s *store) socket() string     { return filepath.Join(s.dir, "status") }
func (s *store) logPath() string    { return filepath.Join(s.dir, "replica.log") }
func (s *store) life(n int) string  { return filepath.Join(s.dir, fmt.Sprintf("life-%d", n)) }

// save writes the record so that it lasts.
func (s *store) save(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := s.recordPath() + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the machine's record: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the machine's record: %w", err)
	}
	if err := os.Rename(tmp, s.recordPath()); err != nil {
		return fmt.Errorf("write the machine's record: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.rec = r
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// tidy removes what no life needs any more: sockets and the disks of lives other than the kept one and now.
func (s *store) tidy(now int) error {
	names, err := filepath.Glob(filepath.Join(s.dir, "life-*"))
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == s.life(now) || s.rec.Kept != nil && n == s.life(s.rec.Kept.Life) {
			continue
		}
		if err := os.RemoveAll(n); err != nil {
			return fmt.Errorf("remove the disks of an earlier life: %w", err)
		}
	}
	if err := os.Remove(s.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a former life's socket: %w", err)
	}
	return nil
}

// holds notes that the life holds the machine's state, and removes what earlier lives have left.
func (s *store) holds(life int, role string, view uint64) error {
	if k := s.rec.Kept; k != nil && *k == (kept{life, role, view}) {
		return nil
	}
	r := s.rec
	r.Kept = &kept{life, role, view}
	first := s.rec.Kept == nil || s.rec.Kept.Life != life
	if err := s.save(r); err != nil {
		return err
	}
	if !first {
		return nil
	}
	names, _ := filepath.Glob(filepath.Join(s.dir, "life-*"))
	for _, n := range names {
		if n != s.life(life) {
			if err := os.RemoveAll(n); err != nil {
				return fmt.Errorf("remove the disks of an earlier life: %w", err)
			}
		}
	}
	return nil
}

// disksIn lists the disks of a life, by number.
func disksIn(dir string) []string {
	var paths []string
	for i := 0; ; i++ {
		p := diskPath(dir, i)
		if _, err := os.Stat(p); err != nil {
			return paths
		}
		paths = append(paths, p)
	}
}

// machinesIn lists the machines whose directories are below the agent's.
func machinesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "machines"))
	if err != nil {
		return nil, fmt.Errorf("look for machines of a former life: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
