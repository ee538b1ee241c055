// Package image builds, stores and loads guest images: a kernel, an initramfs, a command line and disks, each with its
// size and SHA-256 in image.json, in one directory. Two replicas run the same machine only if they start from the same
// bytes; Digest is what they compare.
//
// Build makes an image out of Debian packages by a Recipe; another source (OCI images) would fill the same tree and use
// the same format.
package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"

	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
)

// Progress is where builds tell how far they are.
type Progress = progress.Progress

// manifestName is the file that makes a directory an image.
const manifestName = "image.json"

// formatVersion is the version of the directory's format that is written and read.
const formatVersion = 1

const (
	manifestMaxBytes = 1 << 20
	fileMaxBytes     = 1 << 30
)

// ErrCorrupt is wrapped when an image's files are not what its manifest says.
var ErrCorrupt = errors.New("image is corrupt")

// ErrNoImage is wrapped when a directory holds no image.
var ErrNoImage = errors.New("no image")

// Manifest is the content of image.json. It holds no times and no paths of the host that built it.
type Manifest struct {
	Format      int    `json:"format"`
	Name        string `json:"name"`
	Recipe      string `json:"recipe,omitempty"`
	Description string `json:"description,omitempty"`
	Arch        string `json:"arch"`
	// KernelRelease is what uname -r says within the guest.
	KernelRelease string `json:"kernelRelease,omitempty"`
	Kernel        File   `json:"kernel"`
	Initrd        File   `json:"initrd"`
	Cmdline       string `json:"cmdline"`
	// MemBytes is the memory the image runs well with.
	MemBytes uint64 `json:"memBytes"`
	Disks    []Disk `json:"disks,omitempty"`
	// Packages is what the image was made of.
	Packages []PackageRef `json:"packages,omitempty"`
	// BuildKey is the hash of the recipe and of everything else that the build put in besides the packages.
	BuildKey string `json:"buildKey,omitempty"`
}

// File is one file of an image.
type File struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Disk is a disk's first content, kept compressed (zstd). Every replica writes on a copy of its own.
type Disk struct {
	Name string `json:"name"`
	File
	// PlainBytes and PlainSHA256 are of the decompressed disk; PlainBytes is a multiple of 512.
	PlainBytes  int64  `json:"plainBytes"`
	PlainSHA256 string `json:"plainSHA256"`
}

// PackageRef names a package that an image was made of.
type PackageRef struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Image is an image on disk.
type Image struct {
	Manifest
	// Dir is the image's directory.
	Dir string

	digest         [32]byte
	kernel, initrd []byte // nil after Open
}

// Digest is one hash of everything that decides how a machine starts from the image: the manifest's.
func (m *Image) Digest() [32]byte { return m.digest }

// Kernel is the verified kernel, nil after Open. The caller must not change it.
func (m *Image) Kernel() []byte { return m.kernel }

// Initrd is the verified initramfs, nil after Open. The caller must not change it.
func (m *Image) Initrd() []byte { return m.initrd }

// CommandLine is the image's kernel command line with the given words behind it.
func (m *Image) CommandLine(words ...string) string {
	return strings.Join(append([]string{m.Cmdline}, words...), " ")
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Open reads an image's manifest and nothing more: for listings. The files are not looked at.
func Open(dir string) (*Image, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &debian.HintError{
			Err:  fmt.Errorf("%w in %s: it has no %s", ErrNoImage, dir, manifestName),
			Hint: "build one with: understudy image build",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifestMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	m := &Image{Dir: dir}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m.Manifest); err != nil || len(data) > manifestMaxBytes {
		return nil, corrupt(filepath.Join(dir, manifestName), fmt.Sprintf("not readable (%v)", err))
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(m.Manifest)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	m.digest = sha256.Sum256(canonical)
	return m, nil
}

func corrupt(file, what string) error {
	return &debian.HintError{
		Err:  fmt.Errorf("%w: %s: %s", ErrCorrupt, file, what),
		Hint: "remove the image's directory and build it again with: understudy image build",
	}
}

// check refuses manifests that no build writes. File names are plain, so that nothing outside the directory is read.
func (m *Image) check() error {
	name := filepath.Join(m.Dir, manifestName)
	if m.Format != formatVersion {
		return fmt.Errorf("image %s: format %d, this program reads format %d", name, m.Format, formatVersion)
	}
	if m.Arch != "riscv64" {
		return fmt.Errorf("image %s: it is for %q, the machine is riscv64", name, m.Arch)
	}
	files := []File{m.Manifest.Kernel, m.Manifest.Initrd}
	for _, d := range m.Disks {
		files = append(files, d.File)
		if d.PlainBytes <= 0 || d.PlainBytes%512 != 0 || len(d.PlainSHA256) != 64 {
			return corrupt(name, fmt.Sprintf("disk %.40q of %d bytes", d.Name, d.PlainBytes))
		}
	}
	for _, f := range files {
		if !plainName.MatchString(f.File) || f.Bytes < 0 || f.Bytes > fileMaxBytes || len(f.SHA256) != 64 {
			return corrupt(name, fmt.Sprintf("entry of file %.120q", f.File))
		}
	}
	return nil
}

// Load reads an image and checks every file in it. Errors name the file that is not what it must be.
func Load(dir string) (*Image, error) {
	m, err := Open(dir)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	read := func(f File, keep *[]byte) {
		g.Go(func() error {
			data, err := readFile(dir, f)
			if err == nil && keep != nil {
				*keep = data
			}
			return err
		})
	}
	read(m.Manifest.Kernel, &m.kernel)
	read(m.Manifest.Initrd, &m.initrd)
	for _, d := range m.Disks {
		read(d.File, nil)
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := CheckKernel(m.kernel, int64(len(m.kernel))); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, m.Manifest.Kernel.File), err)
	}
	return m, nil
}

func readFile(dir string, f File) ([]byte, error) {
	name := filepath.Join(dir, f.File)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, corrupt(name, "it is missing")
	case err != nil:
		return nil, fmt.Errorf("load image: %w", err)
	case info.Size() != f.Bytes:
		return nil, corrupt(name, fmt.Sprintf("%d bytes, want %d", info.Size(), f.Bytes))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, corrupt(name, fmt.Sprintf("SHA-256 is %x, want %s", sum, f.SHA256))
	}
	return data, nil
}

// DefaultDir is where images are kept that were built without naming a place.
func DefaultDir() (string, error) {
	dir, err := debian.DefaultCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "images"), nil
}

// Find gives the directory of an image that the user named: a path when it has a slash or is an image, else a name below
// DefaultDir.
func Find(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) || strings.ContainsRune(name, '/') {
		return name, nil
	}
	if _, err := os.Stat(filepath.Join(name, manifestName)); err == nil {
		return name, nil
	}
	dir, err := DefaultDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// List gives the images below dir, sorted by directory; those that cannot be read come as errors beside them.
func List(dir string) ([]*Image, []error) {
	names, _ := filepath.Glob(filepath.Join(dir, "*", manifestName))
	var images []*Image
	var errs []error
	for _, n := range names {
		m, err := Open(filepath.Dir(n))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		images = append(images, m)
	}
	return images, errs
}
