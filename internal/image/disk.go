package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// CreateDisk writes the first content of the image's disk number i to a new file at path, sparsely, and syncs it. A file
// that is there already is not touched: that is an error (fs.ErrExist).
func (m *Image) CreateDisk(i int, path string) (err error) {
	if i < 0 || i >= len(m.Disks) {
		return fmt.Errorf("image %s has %d disks, no number %d", m.Name, len(m.Disks), i)
	}
	d := m.Disks[i]
	packed, err := readFile(m.Dir, d.File)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("create disk: %w", cerr)
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	sum, n, err := unpackDisk(packed, f, d.PlainBytes)
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	if n != d.PlainBytes || hex.EncodeToString(sum) != d.PlainSHA256 {
		return corrupt(filepath.Join(m.Dir, d.File.File), "the disk within is not what the manifest says")
	}
	if err := f.Truncate(d.PlainBytes); err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	return nil
}

// unpackDisk decompresses packed into w, where blocks of zeros become holes, and gives the hash and size of the content.
func unpackDisk(packed []byte, w io.WriterAt, maxBytes int64) ([]byte, int64, error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, 0, fmt.Errorf("decompress disk: %w", err)
	}
	defer z.Close()
	s := &sparseWriter{w: w, hash: sha256.New()}
	if _, err := io.CopyBuffer(s, io.LimitReader(z, maxBytes+1), make([]byte, 1<<16)); err != nil {
		return nil, 0, fmt.Errorf("decompress disk: %w", err)
	}
	return s.hash.Sum(nil), s.off, nil
}

type sparseWriter struct {
	w    io.WriterAt
	hash hash.Hash
	off  int64
}

var zeros [1 << 16]byte

func (s *sparseWriter) Write(p []byte) (int, error) {
	s.hash.Write(p)
	for done := 0; done < len(p); {
		part := p[done:min(len(p), done+len(zeros))]
		if s.w != nil && !bytes.Equal(part, zeros[:len(part)]) {
			if n, err := s.w.WriteAt(part, s.off); err != nil {
				return done + n, err
			}
		}
		s.off += int64(len(part))
		done += len(part)
	}
	return len(p), nil
}
