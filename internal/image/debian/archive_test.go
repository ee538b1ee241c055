package debian

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"understudy/internal/image/debian/debiantest"
	"understudy/internal/image/progress"
)

func options(f *debiantest.Archive, cacheDir string) Options {
	return Options{Mirror: f.Mirror(), CacheDir: cacheDir, Keys: f.Keys(), RetryPause: time.Millisecond}
}

func all(string) bool { return true }

func names(list []*Package) string {
	var n []string
	for _, p := range list {
		n = append(n, p.Name)
	}
	return strings.Join(n, " ")
}

func TestArchive(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	cache := t.TempDir()
	a, err := Open(t.Context(), options(f, cache))
	if err != nil {
		t.Fatal(err)
	}
	list, err := a.Closure([]string{"tool"}, []string{"debconf"})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(list); got != "libc libtool real tool" {
		t.Errorf("closure: %s", got)
	}
	files, err := a.Files(t.Context(), a.Lookup("tool"), "", all)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]File{}
	for _, x := range files {
		got[x.Name] = x
	}
	if string(got["usr/bin/tool"].Data) != "program" || got["usr/bin/alias"].Link != "tool" || string(got["usr/bin/twin"].Data) != "program" || !got["usr/bin"].IsDir {
		t.Errorf("files: %+v", files)
	}
	for _, p := range list {
		if files, err := a.Files(t.Context(), p, "kept", all); err != nil || len(files) == 0 {
			t.Errorf("%s: %d files, %v", p.Name, len(files), err)
		}
	}
	if uri := f.Requests[len(f.Requests)-1]; !strings.Contains(strings.Join(f.Requests, " "), "tool_1%3A2.0%2Bb1_riscv64.deb") &&
		!strings.Contains(strings.Join(f.Requests, " "), "tool_1:2.0%2Bb1_riscv64.deb") {
		t.Errorf("a plus sign went out unescaped: %s (last %s)", f.Requests, uri)
	}

	// Once more with nothing but the cache.
	f.Server.Close()
	for _, offline := range []bool{true, false} {
		opts := options(f, cache)
		opts.Offline = offline
		var notes bytes.Buffer
		opts.Progress = progress.NewLines(&notes)
		a, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatalf("offline %v: %v", offline, err)
		}
		if files, err := a.Files(t.Context(), a.Lookup("tool"), "", all); err != nil || len(files) != 4 {
			t.Errorf("offline %v: %d files, %v", offline, len(files), err)
		}
		if files, err := a.Files(t.Context(), a.Lookup("libtool"), "kept", all); err != nil || string(files[0].Data) != "library" {
			t.Errorf("offline %v: %v, %v", offline, files, err)
		}
		_, err = a.Files(t.Context(), a.Lookup("unrelated"), "", all)
		var h *HintError
		if !errors.Is(err, ErrNotCached) || !errors.As(err, &h) || !strings.Contains(err.Error(), "unrelated") {
			t.Errorf("offline %v: what is not cached: %v", offline, err)
		}
		if !offline && !strings.Contains(notes.String(), "using what is cached") {
			t.Errorf("nothing said of the network's failure: %q", notes.String())
		}
	}
}

func TestOfflineWithEmptyCache(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	opts := options(f, t.TempDir())
	opts.Offline = true
	_, err := Open(t.Context(), opts)
	var h *HintError
	if !errors.Is(err, ErrNotCached) || !errors.As(err, &h) || !strings.Contains(h.Try(), MirrorVariable) {
		t.Errorf("offline: %v", err)
	}
	f.Server.Close()
	if _, err := Open(t.Context(), options(f, t.TempDir())); !errors.As(err, &h) {
		t.Errorf("server away: %v", err)
	}
	if len(f.Requests) != 0 {
		t.Errorf("offline, but asked for %v", f.Requests)
	}
}

func TestSignature(t *testing.T) {
	for name, spoil := range map[string]func(f *debiantest.Archive){
		"signed by another key": func(f *debiantest.Archive) { f.Publish(debiantest.NewKey(t, "mallory")) },
		"changed after signing": func(f *debiantest.Archive) {
			r := f.Files["dists/trixie/InRelease"]
			f.Files["dists/trixie/InRelease"] = bytes.Replace(r, []byte("Origin: Fake"), []byte("Origin: Evil"), 1)
		},
		"not signed": func(f *debiantest.Archive) { f.Files["dists/trixie/InRelease"] = []byte("Codename: trixie\n") },
		"truncated": func(f *debiantest.Archive) {
			r := f.Files["dists/trixie/InRelease"]
			f.Files["dists/trixie/InRelease"] = r[:len(r)/2]
		},
		"empty": func(f *debiantest.Archive) { f.Files["dists/trixie/InRelease"] = nil },
	} {
		f := debiantest.New(t)
		f.Standard()
		spoil(f)
		if _, err := Open(t.Context(), options(f, t.TempDir())); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What stands before or behind the signed block was signed by nobody.
func TestTextOutsideTheSignature(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	good := f.Files["dists/trixie/InRelease"]
	r, err := VerifyRelease(append([]byte("Origin: Evil\nSHA256:\n 00 1 evil\n"), good...), openpgp.EntityList{f.Key}, time.Now())
	if err == nil && (len(r.files) != 1 || r.Codename != "trixie") {
		t.Errorf("unsigned text was taken: %+v", r)
	}
}

func TestOlderReleaseIsNotTaken(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	cache := t.TempDir()
	if _, err := Open(t.Context(), options(f, cache)); err != nil {
		t.Fatal(err)
	}
	f.Date = f.Date.Add(-24 * time.Hour)
	f.Packages = f.Packages[:1]
	f.Publish(nil)
	a, err := Open(t.Context(), options(f, cache))
	if err != nil || a.Len() != 5 {
		t.Errorf("a set-back mirror: %d packages, %v", a.Len(), err)
	}
}

func TestSpoiledFiles(t *testing.T) {
	for name, spoil := range map[string]func(data []byte) []byte{
		"wrong hash": func(d []byte) []byte { d = bytes.Clone(d); d[len(d)/2] ^= 1; return d },
		"truncated":  func(d []byte) []byte { return d[:len(d)-10] },
		"longer":     func(d []byte) []byte { return append(bytes.Clone(d), 0) },
		"empty":      func(d []byte) []byte { return nil },
	} {
		f := debiantest.New(t)
		f.Standard()
		for path, data := range f.Files {
			if strings.Contains(path, "by-hash") {
				f.Files[path] = spoil(data)
			}
		}
		if _, err := Open(t.Context(), options(f, t.TempDir())); !errors.Is(err, ErrMismatch) {
			t.Errorf("Packages.xz %s: %v", name, err)
		}
		f = debiantest.New(t)
		f.Standard()
		cache := t.TempDir()
		a, err := Open(t.Context(), options(f, cache))
		if err != nil {
			t.Fatal(err)
		}
		path := a.Lookup("libc").Filename
		good := f.Files[path]
		f.Files[path] = spoil(good)
		for _, selection := range []string{"", "kept"} {
			if _, err := a.Files(t.Context(), a.Lookup("libc"), selection, all); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "libc") {
				t.Errorf(".deb %s: %v", name, err)
			}
		}
		// Nothing of it was kept, and the right file is taken once it is there.
		if left, _ := filepath.Glob(filepath.Join(cache, "tmp", "*")); len(left) != 0 {
			t.Errorf(".deb %s: left behind %v", name, left)
		}
		f.Files[path] = good
		if _, err := a.Files(t.Context(), a.Lookup("libc"), "", all); err != nil {
			t.Errorf(".deb mended after %s: %v", name, err)
		}
	}
}

func TestMissing(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	a, err := Open(t.Context(), options(f, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Closure([]string{"nothing"}, nil); !errors.Is(err, ErrNoPackage) {
		t.Errorf("unknown package: %v", err)
	}
	if _, err := a.Closure([]string{"tool"}, nil); !errors.Is(err, ErrNoPackage) || !strings.Contains(err.Error(), "debconf") || !strings.Contains(err.Error(), "tool") {
		t.Errorf("unmet dependency: %v", err)
	}
	delete(f.Files, a.Lookup("libc").Filename)
	var h *HintError
	if _, err := a.Files(t.Context(), a.Lookup("libc"), "", all); !errors.As(err, &h) {
		t.Errorf("404: %v", err)
	}
	if n := strings.Count(strings.Join(f.Requests, " "), "libc_"); n != 1 {
		t.Errorf("asked %d times for a file that is not there", n)
	}
}

func TestDamagedCache(t *testing.T) {
	f := debiantest.New(t)
	f.Standard()
	cache := t.TempDir()
	a, err := Open(t.Context(), options(f, cache))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "kept"} {
		if _, err := a.Files(t.Context(), a.Lookup("tool"), s, all); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(cache, "*", "*"))
	if len(files) != 4 { // release, index, .deb, selection
		t.Errorf("cache holds %v", files)
	}
	damage := func() {
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-1] ^= 0x40
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	damage()
	var notes bytes.Buffer
	opts := options(f, cache)
	opts.Progress = progress.NewLines(&notes)
	if a, err = Open(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "kept"} {
		if got, err := a.Files(t.Context(), a.Lookup("tool"), s, all); err != nil || string(got[1].Data) != "program" {
			t.Errorf("after damage: %v %v", got, err)
		}
	}
	for _, name := range files {
		if !strings.Contains(notes.String(), name) {
			t.Errorf("%s was damaged, which was not told: %s", name, notes.String())
		}
	}
	damage()
	opts.Offline = true
	if _, err := Open(t.Context(), opts); !errors.Is(err, ErrNotCached) {
		t.Errorf("damage and no network: %v", err)
	}
}

func TestBuiltinKeys(t *testing.T) {
	keys, err := builtinKeys()
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for i, want := range []string{"04B54C3CDCA79751B16BC6B5225629DF75B188BD", "41587F7DB8C774BCCF131416762F67A0B2C39DE4"} {
		if got := strings.ToUpper(hex.EncodeToString(keys[i].PrimaryKey.Fingerprint)); got != want {
			t.Errorf("key %d is %s, want %s", i, got, want)
		}
	}
}
