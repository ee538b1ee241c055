// Package debiantest serves a small Debian archive from memory, signed by a key of its own, for tests.
package debiantest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Archive is a Debian archive of a few packages, signed by a key of its own.
type Archive struct {
	t      *testing.T
	Server *httptest.Server
	Key    *openpgp.Entity

	mu sync.Mutex
	// Files is what is served, by path below /debian/.
	Files map[string][]byte
	// Requests are the raw paths that were asked for, in order.
	Requests []string
	// Packages are the paragraphs of the index that Publish writes.
	Packages []string
	// Date is the release's.
	Date time.Time
}

// NewKey makes a signing key.
func NewKey(t *testing.T, name string) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// New serves an archive that is empty until Add and Publish fill it.
func New(t *testing.T) *Archive {
	a := &Archive{t: t, Key: NewKey(t, "archive"), Files: map[string][]byte{}, Date: time.Now().Add(-time.Hour)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.Requests = append(a.Requests, r.URL.EscapedPath())
		data, ok := a.Files[strings.TrimPrefix(r.URL.Path, "/debian/")]
		a.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(a.Server.Close)
	return a
}

// Entry is a file of a package, or a member of an ar archive. Kind is a tar type, 0 for a regular file.
type Entry struct {
	Name, Link, Data string
	Kind             byte
}

// MakeTar gives a tar archive.
func MakeTar(t *testing.T, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Linkname: e.Link, Typeflag: e.Kind, Mode: 0o755, Size: int64(len(e.Data))}
		if e.Kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(e.Data))
	}
	w.Close()
	return b.Bytes()
}

// Compress compresses data in the way the file name suffix says: .xz, .gz, .zst or none.
func Compress(t *testing.T, suffix string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch suffix {
	case ".xz":
		w, werr := xz.NewWriter(&b)
		if werr != nil {
			t.Fatal(werr)
		}
		w.Write(data)
		err = w.Close()
	case ".gz":
		w := gzip.NewWriter(&b)
		w.Write(data)
		err = w.Close()
	case ".zst":
		w, werr := zstd.NewWriter(&b)
		if werr != nil {
			t.Fatal(werr)
		}
		w.Write(data)
		err = w.Close()
	default:
		b.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// MakeAr gives an ar archive.
func MakeAr(members ...Entry) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.Name, 0, 0, 0, "100644", len(m.Data))
		b.WriteString(m.Data)
		if len(m.Data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// MakeDeb gives a .deb whose archives are compressed as suffix says.
func MakeDeb(t *testing.T, suffix string, entries ...Entry) []byte {
	t.Helper()
	return MakeAr(Entry{Name: "debian-binary", Data: "2.0\n"}, Entry{Name: "control.tar" + suffix, Data: string(Compress(t, suffix, MakeTar(t, nil)))},
		Entry{Name: "data.tar" + suffix, Data: string(Compress(t, suffix, MakeTar(t, entries)))})
}

// Add puts a package into the pool; fields are further lines of its paragraph.
func (a *Archive) Add(name, version, fields string, deb []byte) string {
	path := fmt.Sprintf("pool/main/%s_%s_riscv64.deb", name, version)
	a.Files[path] = deb
	a.Packages = append(a.Packages, fmt.Sprintf("Package: %s\nVersion: %s\n%sFilename: %s\nSize: %d\nSHA256: %x\nDescription: %s\n and more\n",
		name, version, fields, path, len(deb), sha256.Sum256(deb), name))
	return path
}

// Publish writes index and release file, signed with key (nil: the archive's).
func (a *Archive) Publish(key *openpgp.Entity) {
	a.t.Helper()
	if key == nil {
		key = a.Key
	}
	packages := Compress(a.t, ".xz", []byte(strings.Join(a.Packages, "\n")))
	sum := sha256.Sum256(packages)
	a.Files[fmt.Sprintf("dists/trixie/main/binary-riscv64/by-hash/SHA256/%x", sum)] = packages
	release := fmt.Sprintf("Origin: Fake\nSuite: stable\nCodename: trixie\nDate: %s\nAcquire-By-Hash: yes\nSHA256:\n %x %d main/binary-riscv64/Packages.xz\n",
		a.Date.UTC().Format(time.RFC1123), sum, len(packages))
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	w.Write([]byte(release))
	if err := w.Close(); err != nil {
		a.t.Fatal(err)
	}
	a.Files["dists/trixie/InRelease"] = b.Bytes()
}

// Standard fills the archive with a package, what it needs, and what nobody needs.
func (a *Archive) Standard() {
	a.Add("tool", "1:2.0+b1", "Depends: libtool (>= 1.5), debconf | debconf-2.0, virtual\n", MakeDeb(a.t, ".xz",
		Entry{Name: "./", Kind: tar.TypeDir}, Entry{Name: "./usr/bin/", Kind: tar.TypeDir}, Entry{Name: "./usr/bin/tool", Data: "program"},
		Entry{Name: "./usr/bin/alias", Link: "tool", Kind: tar.TypeSymlink}, Entry{Name: "./usr/bin/twin", Link: "./usr/bin/tool", Kind: tar.TypeLink}))
	a.Add("libtool", "1.5-1", "Pre-Depends: libc (>= 2)\n", MakeDeb(a.t, ".zst", Entry{Name: "./usr/lib/libtool.so.1", Data: "library"}))
	a.Add("libc", "2.41-1", "", MakeDeb(a.t, ".gz", Entry{Name: "./usr/lib/libc.so.6", Data: "c"}))
	a.Add("real", "1", "Provides: virtual\n", MakeDeb(a.t, "", Entry{Name: "./real", Data: "r"}))
	a.Add("unrelated", "1", "", MakeDeb(a.t, "", Entry{Name: "./unrelated", Data: "u"}))
	a.Publish(nil)
}

// Mirror is the archive's base URI.
func (a *Archive) Mirror() string { return a.Server.URL + "/debian/" }

// Keys holds the archive's key.
func (a *Archive) Keys() openpgp.EntityList { return openpgp.EntityList{a.Key} }
