package debian

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Limits on what a .deb may unpack to. The kernel's package, the largest we read, has 138 MB in 4,300 files.
const (
	debMaxPlainBytes = 2 << 30
	debMaxFiles      = 1 << 18
	debMaxPathBytes  = 4096
)

// ReadDeb calls visit for each entry of the package's data archive, in the archive's order. name is the cleaned
// path without a leading "./" or "/" ("usr/bin/busybox"; the root itself is not reported); content is valid during the
// call only and need not be read. visit may return io.EOF to end early. Source: deb(5).
func ReadDeb(r io.ReaderAt, sizeBytes int64, visit func(name string, h *tar.Header, content io.Reader) error) error {
	members, err := readAr(r, sizeBytes)
	if err != nil {
		return err
	}
	if len(members) == 0 || members[0].Name != "debian-binary" {
		return fmt.Errorf("%w deb: its first member is not debian-binary", ErrFormat)
	}
	version := make([]byte, 2)
	if _, err := members[0].Data.ReadAt(version, 0); err != nil || string(version) != "2." {
		return fmt.Errorf("%w deb: format version %q, want 2.x", ErrFormat, version)
	}
	for _, m := range members[1:] {
		if !strings.HasPrefix(m.Name, "data.tar") {
			continue
		}
		plain, err := decompress(m.Data, strings.TrimPrefix(m.Name, "data.tar"))
		if err != nil {
			return err
		}
		defer plain.Close()
		return readTar(io.LimitReader(plain, debMaxPlainBytes), visit)
	}
	return fmt.Errorf("%w deb: no data.tar", ErrFormat)
}

func decompress(r *io.SectionReader, suffix string) (io.ReadCloser, error) {
	switch suffix {
	case "":
		return io.NopCloser(r), nil
	case ".xz":
		return NewXZReader(r, r.Size())
	case ".gz":
		return gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%w deb: data.tar%s is compressed in a way we do not read", ErrFormat, suffix)
}

func readTar(r io.Reader, visit func(string, *tar.Header, io.Reader) error) error {
	t := tar.NewReader(r)
	for count := 0; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read data.tar: %w", err)
		}
		if count == debMaxFiles {
			return fmt.Errorf("%w deb: more than %d files", ErrFormat, debMaxFiles)
		}
		name, err := cleanPath(h.Name)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, err = cleanPath(h.Linkname); err != nil {
				return err
			}
		}
		if name == "" {
			continue
		}
		if err := visit(name, h, t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// cleanPath gives a path relative to the root, "" for the root. A path that leaves the root is refused, not mended.
func cleanPath(name string) (string, error) {
	if len(name) > debMaxPathBytes || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w deb: path %.60q", ErrFormat, name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w deb: path %.200q leads out of the package", ErrFormat, name)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}
