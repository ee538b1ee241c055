package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"understudy/internal/image/progress"
)

// Options says which archive to use and how.
type Options struct {
	// Mirror is the archive's base URI; "" asks FindMirror.
	Mirror string
	// Suite is the suite's codename; "" is DefaultSuite.
	Suite string
	// Arch is Debian's name of the architecture; "" is riscv64.
	Arch string
	// CacheDir is the cache's directory; "" is DefaultCacheDir.
	CacheDir string
	// Offline forbids any use of the network.
	Offline bool
	// Keys are the trusted archive keys; nil is ArchiveKeys.
	Keys openpgp.EntityList
	// Client makes the requests; nil is one with time-outs and the host's proxy.
	Client *http.Client
	// Progress is told of downloads; nil shows nothing.
	Progress progress.Progress
	// Now is the time that signatures are judged at; nil is time.Now.
	Now func() time.Time
	// RetryPause is waited before the second try of a download, twice that before the third; 0 is one second.
	RetryPause time.Duration
}

// DefaultSuite is the release that guest images are made of.
const DefaultSuite = "trixie"

const (
	inReleaseMaxBytes = 8 << 20
	packagesMaxBytes  = 256 << 20
	packagesMaxPlain  = 1 << 30
)

// Archive is one suite of a Debian archive with its verified index.
type Archive struct {
	*Index
	Release *Release

	opts  Options
	cache *Cache
	fetch *fetcher // nil when offline
}

// Open fetches and verifies the suite's release file and package index. When the network fails, or opts.Offline is
// set, the copies that were verified last are used, if there are any.
func Open(ctx context.Context, opts Options) (*Archive, error) {
	if opts.Suite == "" {
		opts.Suite = DefaultSuite
	}
	if opts.Arch == "" {
		opts.Arch = "riscv64"
	}
	if opts.Progress == nil {
		opts.Progress = progress.Discard
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.RetryPause == 0 {
		opts.RetryPause = time.Second
	}
	var err error
	if opts.CacheDir == "" {
		if opts.CacheDir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	if opts.Keys == nil {
		if opts.Keys, err = ArchiveKeys(); err != nil {
			return nil, err
		}
	}
	a := &Archive{opts: opts}
	if a.cache, err = OpenCache(opts.CacheDir, opts.Progress.Note); err != nil {
		return nil, err
	}
	if !opts.Offline {
		mirror, err := FindMirror(opts.Mirror)
		if err != nil {
			return nil, err
		}
		a.fetch = &fetcher{base: mirror, client: opts.Client, progress: opts.Progress, pause: opts.RetryPause}
		if a.fetch.client == nil {
			a.fetch.client = newClient()
		}
	}
	if err := a.openRelease(ctx); err != nil {
		return nil, err
	}
	if err := a.openIndex(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Offline tells whether the archive works from its cache alone.
func (a *Archive) Offline() bool { return a.fetch == nil }

const offlineHint = "connect to the network once, or set " + MirrorVariable + " or --mirror to a Debian archive that can be reached"

// openRelease takes the newer of the mirror's InRelease and the cached one: a mirror that lags, or that someone
// set back, does not lead to older packages than were seen before.
func (a *Archive) openRelease(ctx context.Context) error {
	key := "inrelease-" + a.opts.Suite
	var cached *Release
	data, err := a.cache.getSealed(key)
	if err == nil {
		// Verified again: the seal protects against damage, the signature against everything else.
		if cached, err = VerifyRelease(data, a.opts.Keys, a.opts.Now()); err != nil {
			cached = nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.fetch == nil {
		if cached == nil {
			return hint(fmt.Errorf("release file of Debian %s: %w, and the network is not to be used", a.opts.Suite, ErrNotCached), offlineHint)
		}
		a.Release = cached
		return nil
	}
	data, fetched, err := a.fetchRelease(ctx)
	switch {
	case err == nil && (cached == nil || !fetched.Date.Before(cached.Date)):
		a.Release = fetched
		return a.cache.putSealed(key, data)
	case err == nil:
		a.opts.Progress.Note(fmt.Sprintf("mirror's release of %s is older than the one seen before (%s): using the latter",
			fetched.Date.Format(time.DateOnly), cached.Date.Format(time.DateOnly)))
		a.Release = cached
		return nil
	case errors.Is(err, ErrSignature) || errors.Is(err, ErrFormat) || ctx.Err() != nil:
		return err
	case cached == nil:
		return hint(err, offlineHint)
	}
	a.opts.Progress.Note(fmt.Sprintf("%v: using what is cached", err))
	a.Release, a.fetch = cached, nil
	return nil
}

func (a *Archive) fetchRelease(ctx context.Context) ([]byte, *Release, error) {
	w, err := a.cache.temp()
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(w.Name())
	defer w.Close()
	if err := a.fetch.fetch(ctx, "InRelease", "dists/"+a.opts.Suite+"/InRelease", 0, inReleaseMaxBytes, w, nil); err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(w.Name())
	if err != nil {
		return nil, nil, fmt.Errorf("read temporary file: %w", err)
	}
	r, err := VerifyRelease(data, a.opts.Keys, a.opts.Now())
	if err != nil {
		return nil, nil, hint(fmt.Errorf("%s/dists/%s: %w", a.fetch.base, a.opts.Suite, err),
			"check the clock of this host, and that the mirror is one of Debian's archive (or name another with --mirror)")
	}
	if r.Codename != a.opts.Suite && r.Suite != a.opts.Suite {
		return nil, nil, fmt.Errorf("%w InRelease: it is of %q, want %q", ErrFormat, r.Codename, a.opts.Suite)
	}
	if !r.ValidUntil.IsZero() && a.opts.Now().After(r.ValidUntil) {
		return nil, nil, hint(fmt.Errorf("%s/dists/%s: %w: it was valid until %s", a.fetch.base, a.opts.Suite, ErrSignature, r.ValidUntil),
			"check the clock of this host, or name another mirror with --mirror")
	}
	return data, r, nil
}

func (a *Archive) openIndex(ctx context.Context) error {
	name := "main/binary-" + a.opts.Arch + "/Packages.xz"
	file, ok := a.Release.files[name]
	if !ok || file.sizeBytes > packagesMaxBytes {
		return fmt.Errorf("%w InRelease: it has no %s", ErrFormat, name)
	}
	key := fmt.Sprintf("packages-%x", file.sha256)
	if data, err := a.cache.getSealed(key); err == nil {
		if a.Index, err = readCompact(bytes.NewReader(data)); err == nil {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.fetch == nil {
		return hint(fmt.Errorf("package index of Debian %s: %w, and the network cannot be used", a.opts.Suite, ErrNotCached), offlineHint)
	}
	dist := "dists/" + a.opts.Suite + "/"
	path := dist + name
	if a.Release.ByHash {
		path = fmt.Sprintf("%smain/binary-%s/by-hash/SHA256/%x", dist, a.opts.Arch, file.sha256)
	}
	w, err := a.fetch.fetchHashed(ctx, a.cache, "Packages.xz", path, file.sizeBytes, file.sha256)
	var status *statusError
	if a.Release.ByHash && errors.As(err, &status) && status.code == http.StatusNotFound {
		// Some caching mirrors keep no by-hash directories. The plain name holds the same bytes, except while the
		// mirror is being updated.
		w, err = a.fetch.fetchHashed(ctx, a.cache, "Packages.xz", dist+name, file.sizeBytes, file.sha256)
	}
	if err != nil {
		return err
	}
	defer os.Remove(w.Name())
	defer w.Close()
	plain, err := NewXZReader(w, file.sizeBytes)
	if err != nil {
		return fmt.Errorf("read Packages.xz: %w", err)
	}
	defer plain.Close()
	if a.Index, err = ParsePackages(io.LimitReader(plain, packagesMaxPlain)); err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := a.Index.writeCompact(&compact); err != nil {
		return err
	}
	return a.cache.putSealed(key, compact.Bytes())
}

// openDeb gives the verified .deb of p. Without keep the file is not put in the cache: it is gone once closed.
func (a *Archive) openDeb(ctx context.Context, p *Package, keep bool) (io.ReaderAt, func(), error) {
	f, err := a.cache.openBlob(p.SHA256, p.SizeBytes)
	if err == nil {
		return f, func() { f.Close() }, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if a.fetch == nil {
		return nil, nil, hint(fmt.Errorf("package %s %s: %w, and the network cannot be used", p.Name, p.Version, ErrNotCached), offlineHint)
	}
	f, err = a.fetch.fetchHashed(ctx, a.cache, p.Name+" "+p.Version, p.Filename, p.SizeBytes, p.SHA256)
	if err != nil {
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusNotFound {
			err = hint(err, "the mirror is being updated, or holds a part of the archive only: try again later, or name another with --mirror")
		}
		return nil, nil, err
	}
	done := func() { f.Close(); os.Remove(f.Name()) }
	if keep {
		if err := a.cache.commit(f, a.cache.blobPath(p.SHA256)); err != nil {
			done()
			return nil, nil, err
		}
		done = func() { f.Close() }
	}
	return f, done, nil
}

// File is one file, symbolic link or directory out of a package.
type File struct {
	// Name is the path without a leading slash.
	Name string
	// Mode holds the permission bits; whether it is a link or a directory is in Link and IsDir.
	Mode  fs.FileMode
	IsDir bool
	// Link is a symbolic link's target, "" for all else.
	Link string
	Data []byte
}

const filesMaxBytes = 1 << 30

// Files gives those files of p that want asks for. With a selection name, the files themselves are cached under it
// and the .deb is not: for packages of which little is needed. selection must change when want does. Without one the
// .deb is cached.
func (a *Archive) Files(ctx context.Context, p *Package, selection string, want func(name string) bool) ([]File, error) {
	key := fmt.Sprintf("files-%x-%s", p.SHA256, selection)
	if selection != "" {
		if data, err := a.cache.getSealed(key); err == nil {
			return unpackFiles(data)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	r, done, err := a.openDeb(ctx, p, selection == "")
	if err != nil {
		return nil, err
	}
	defer done()
	var task progress.Task = progress.Discard.Start("", 0)
	if p.SizeBytes > 8<<20 {
		task = a.opts.Progress.Start("unpack "+p.Name, 0)
	}
	defer task.Done()
	files, err := selectFiles(ctx, r, p.SizeBytes, task, want)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	if selection == "" {
		return files, nil
	}
	data, err := packFiles(files)
	if err != nil {
		return nil, err
	}
	return files, a.cache.putSealed(key, data)
}

func selectFiles(ctx context.Context, r io.ReaderAt, sizeBytes int64, task progress.Task, want func(string) bool) ([]File, error) {
	var files []File
	byName := map[string]int{}
	total := int64(0)
	err := ReadDeb(r, sizeBytes, func(name string, h *tar.Header, content io.Reader) error {
		task.Add(h.Size)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !want(name) {
			return nil
		}
		f := File{Name: name, Mode: fs.FileMode(h.Mode).Perm()}
		switch h.Typeflag {
		case tar.TypeDir:
			f.IsDir = true
		case tar.TypeSymlink:
			f.Link = h.Linkname
		case tar.TypeLink:
			i, ok := byName[h.Linkname]
			if !ok {
				return fmt.Errorf("%w deb: %s is a hard link to %s, which is not among the files wanted", ErrFormat, name, h.Linkname)
			}
			f.Data, f.Mode = files[i].Data, files[i].Mode
		case tar.TypeReg:
			if total += h.Size; h.Size < 0 || total > filesMaxBytes {
				return fmt.Errorf("%w deb: more than %d bytes wanted of it", ErrFormat, int64(filesMaxBytes))
			}
			var err error
			if f.Data, err = io.ReadAll(content); err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
		default:
			return nil // devices and pipes: no package that we use has any
		}
		byName[name] = len(files)
		files = append(files, f)
		return nil
	})
	return files, err
}

func packFiles(files []File) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: int64(f.Mode), Size: int64(len(f.Data)), Typeflag: tar.TypeReg}
		switch {
		case f.IsDir:
			h.Typeflag, h.Size = tar.TypeDir, 0
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack files: %w", err)
		}
		if _, err := t.Write(f.Data); err != nil {
			return nil, fmt.Errorf("pack files: %w", err)
		}
	}
	return b.Bytes(), t.Close()
}

func unpackFiles(data []byte) ([]File, error) {
	var files []File
	err := readTar(bytes.NewReader(data), func(name string, h *tar.Header, content io.Reader) error {
		f := File{Name: name, Mode: fs.FileMode(h.Mode).Perm(), IsDir: h.Typeflag == tar.TypeDir}
		if h.Typeflag == tar.TypeSymlink {
			f.Link = h.Linkname
		}
		var err error
		f.Data, err = io.ReadAll(content)
		files = append(files, f)
		return err
	})
	return files, err
}
