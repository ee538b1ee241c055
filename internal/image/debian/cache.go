package debian

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Cache is a directory of verified files:
//
//	blobs/HASH         content-addressed: the name is the SHA-256 of the content
//	sealed/NAME        derived files (an index, files out of a package) behind a line with their own SHA-256
//	tmp/               downloads under way
//
// Every file is written under tmp, synced and renamed into place, so several processes may share a cache: at worst they
// do the same work twice. Every read checks the hash; what does not match is removed, told of, and counts as missing.
type Cache struct {
	dir string
	// Note is told one line per damaged file that was removed.
	note func(line string)
}

// DefaultCacheDir is understudy's directory below the user's cache directory ($XDG_CACHE_HOME, or its default).
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", hint(fmt.Errorf("find the cache directory: %w", err), "set XDG_CACHE_HOME or HOME")
	}
	return filepath.Join(dir, "understudy"), nil
}

// OpenCache uses dir, which is made when it does not exist.
func OpenCache(dir string, note func(line string)) (*Cache, error) {
	if note == nil {
		note = func(string) {}
	}
	c := &Cache{dir: dir, note: note}
	for _, sub := range []string{"blobs", "sealed", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make cache: %w", err)
		}
	}
	c.sweep()
	return c, nil
}

// sweep removes what a killed process left in tmp a day ago or earlier.
func (c *Cache) sweep() {
	entries, _ := os.ReadDir(filepath.Join(c.dir, "tmp"))
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.Remove(filepath.Join(c.dir, "tmp", e.Name()))
		}
	}
}

// temp opens a new file in tmp.
func (c *Cache) temp() (*os.File, error) {
	f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), "part-*")
	if err != nil {
		return nil, fmt.Errorf("open temporary file: %w", err)
	}
	return f, nil
}

func (c *Cache) blobPath(sum [32]byte) string {
	return filepath.Join(c.dir, "blobs", hex.EncodeToString(sum[:]))
}

// openBlob opens a blob after it checked the content. fs.ErrNotExist: it is not there (any more).
func (c *Cache) openBlob(sum [32]byte, sizeBytes int64) (*os.File, error) {
	name := c.blobPath(sum)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err == nil && n == sizeBytes && [32]byte(h.Sum(nil)) == sum {
		return f, nil
	}
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	return nil, c.damaged(name)
}

// damaged removes a file whose content is not what it must be.
func (c *Cache) damaged(name string) error {
	c.note(fmt.Sprintf("cached file %s is damaged: removed", name))
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove damaged cache file: %w", err)
	}
	return fmt.Errorf("cached file %s was damaged: %w", name, fs.ErrNotExist)
}

// commit syncs f, which lies in tmp, and gives it its final name. f stays open.
func (c *Cache) commit(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if d, err := os.Open(filepath.Dir(name)); err == nil {
		d.Sync() // best effort: not every file system can
		d.Close()
	}
	return nil
}

const sealMagic = "understudy-sealed"

// getSealed gives a sealed file's content. fs.ErrNotExist: it is not there (any more).
func (c *Cache) getSealed(key string) ([]byte, error) {
	name := filepath.Join(c.dir, "sealed", key)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	line, body, ok := bytes.Cut(data, []byte{'\n'})
	sum := sha256.Sum256(body)
	if !ok || string(line) != fmt.Sprintf("%s %x", sealMagic, sum) {
		return nil, c.damaged(name)
	}
	return body, nil
}

// putSealed stores a file under a key that holds no slash.
func (c *Cache) putSealed(key string, body []byte) error {
	if key == "" || strings.ContainsAny(key, "/\\\x00") || key[0] == '.' {
		return fmt.Errorf("write cache: key %q", key)
	}
	f, err := c.temp()
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when commit succeeded
	defer f.Close()
	sum := sha256.Sum256(body)
	if _, err := fmt.Fprintf(f, "%s %x\n", sealMagic, sum); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if _, err := f.Write(body); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return c.commit(f, filepath.Join(c.dir, "sealed", key))
}
