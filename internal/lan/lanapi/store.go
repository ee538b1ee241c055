package lanapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"understudy/arbiter"
)

const (
	storeName    = "lans.json"
	storeVersion = 1
	maxStore     = 64 << 20 // bytes; MaxLANs with every bound reached fit
)

// stored is the file that a daemon keeps.
type stored struct {
	Version int         `json:"version"`
	LANs    []storedLAN `json:"lans"`
}

type storedLAN struct {
	Name     string    `json:"name"`
	Listen   string    `json:"listen"`           // the address that was had
	Wanted   string    `json:"wanted,omitempty"` // Spec.Listen
	Outbound bool      `json:"outbound"`
	MAC      string    `json:"mac,omitempty"`
	Forwards []Forward `json:"forwards"`
	Views    []View    `json:"views,omitempty"`
}

// store is the directory of a daemon. A nil store keeps nothing.
type store struct {
	dir  string
	lock *os.File
}

// openStore takes a directory into use, for one process at a time, and reads what is there.
func openStore(dir string) (*store, stored, error) {
	var s stored
	if dir == "" {
		return nil, s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, s, fmt.Errorf("make the LANs' directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, s, fmt.Errorf("lock the LANs' directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, s, fmt.Errorf("lock the LANs' directory %s: another daemon has it", dir)
		}
		return nil, s, fmt.Errorf("lock the LANs' directory: %w", err)
	}
	t := &store{dir: dir, lock: lock}
	if s, err = t.load(); err != nil {
		lock.Close()
		return nil, s, err
	}
	return t, s, nil
}

// damaged reports a file that makes no sense.
type damaged struct {
	path string
	err  error
}

func (d *damaged) Error() string {
	return fmt.Sprintf("read the set of LANs from %s: %v", d.path, d.err)
}
func (d *damaged) Unwrap() error { return d.err }

// Try is what to do about it.
func (d *damaged) Try() string {
	return "move " + d.path + " away and put the LANs again; replicas have to be told their new addresses"
}

func (t *store) load() (stored, error) {
	var s stored
	path := filepath.Join(t.dir, storeName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the set of LANs: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStore+1))
	if err != nil {
		return s, fmt.Errorf("read the set of LANs: %w", err)
	}
	if err := decode(text, &s); err != nil {
		return stored{}, &damaged{path, err}
	}
	return s, nil
}

// decode reads a file's text and checks it.
func decode(text []byte, s *stored) error {
	if len(text) > maxStore {
		return fmt.Errorf("more than %d bytes", maxStore)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return err
	}
	if s.Version != storeVersion {
		return fmt.Errorf("format %d, want %d", s.Version, storeVersion)
	}
	if len(s.LANs) > MaxLANs {
		return fmt.Errorf("%d LANs, want at most %d", len(s.LANs), MaxLANs)
	}
	names := make(map[string]bool)
	for _, l := range s.LANs {
		if err := arbiter.ValidGroup(l.Name); err != nil {
			return err
		}
		if names[l.Name] {
			return fmt.Errorf("LAN %q is there twice", l.Name)
		}
		names[l.Name] = true
		if _, _, err := parse(l.spec()); err != nil {
			return fmt.Errorf("LAN %q: %w", l.Name, err)
		}
		for _, v := range l.Views {
			if _, err := parseMAC(v.MAC); err != nil {
				return fmt.Errorf("LAN %q: %w", l.Name, err)
			}
		}
	}
	return nil
}

func (l *storedLAN) spec() Spec {
	s := Spec{Outbound: l.Outbound, MAC: l.MAC, Listen: l.Wanted}
	for _, f := range l.Forwards {
		s.Forwards = append(s.Forwards, f.Spec)
	}
	return s
}

// save replaces the file. It is on disk when save returns nil, and the old one is whole otherwise.
func (t *store) save(s stored) error {
	if t == nil {
		return nil
	}
	s.Version = storeVersion
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	path := filepath.Join(t.dir, storeName)
	if err := writeSynced(path+".new", append(text, '\n')); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	d, err := os.Open(t.dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (t *store) close() {
	if t != nil {
		t.lock.Close()
	}
}
