package debian

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Package is what the archive's index says of one binary package.
type Package struct {
	Name    string
	Version string
	// Depends holds the Pre-Depends and Depends fields, joined by a comma, as written.
	Depends  string
	Provides string
	// Filename is the path of the .deb below the mirror's URI.
	Filename  string
	SizeBytes int64
	SHA256    [32]byte
}

// Index is the list of the packages of one suite and architecture.
type Index struct {
	byName   map[string]*Package   // the highest version where a name occurs twice
	provides map[string][]provider // virtual name → packages in the index's order
}

type provider struct {
	p       *Package
	version string // "" when unversioned
}

const debMaxBytes = 4 << 30

// ParsePackages reads a Packages file (plain text) as it streams by and keeps what a client needs.
func ParsePackages(r io.Reader) (*Index, error) {
	x := newIndex()
	c := newControlReader(r, "package", "version", "depends", "pre-depends", "provides", "filename", "size", "sha256")
	for {
		f, err := c.next()
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read Packages: %w", err)
		}
		depends := f["pre-depends"]
		if depends != "" && f["depends"] != "" {
			depends += ", "
		}
		if err := x.addFields(f["package"], f["version"], depends+f["depends"], f["provides"], f["filename"], f["size"], f["sha256"]); err != nil {
			return nil, fmt.Errorf("read Packages: %w", err)
		}
	}
}

func newIndex() *Index {
	return &Index{byName: map[string]*Package{}, provides: map[string][]provider{}}
}

func (x *Index) addFields(name, version, depends, provides, filename, size, sum string) error {
	p := &Package{Name: name, Version: version, Depends: depends, Provides: provides, Filename: filename}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n <= 0 || n > debMaxBytes {
		return fmt.Errorf("%w entry of package %.60q: size %.20q", ErrFormat, name, size)
	}
	p.SizeBytes = n
	if h, err := hex.DecodeString(sum); err != nil || len(h) != len(p.SHA256) {
		return fmt.Errorf("%w entry of package %.60q: SHA256 %.80q", ErrFormat, name, sum)
	} else {
		copy(p.SHA256[:], h)
	}
	clean, err := cleanPath(filename)
	if err != nil || clean != filename || filename == "" || name == "" || strings.ContainsAny(name+version, "/ \t") {
		return fmt.Errorf("%w entry of package %.60q: file name %.200q", ErrFormat, name, filename)
	}
	if old := x.byName[name]; old != nil && CompareVersions(old.Version, version) >= 0 {
		return nil
	}
	x.byName[name] = p
	for _, alternatives := range parseRelations(provides) {
		for _, rel := range alternatives {
			x.provides[rel.name] = append(x.provides[rel.name], provider{p, rel.version})
		}
	}
	return nil
}

// Len is the number of packages.
func (x *Index) Len() int { return len(x.byName) }

// Lookup gives the package of that very name, nil when there is none.
func (x *Index) Lookup(name string) *Package { return x.byName[name] }

// compactMagic heads the compact form; change it with the form.
const compactMagic = "understudy-packages 1"

// writeCompact writes the kept fields, a tab between them, a line per package: a few per cent of Packages to read again.
func (x *Index) writeCompact(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	fmt.Fprintln(b, compactMagic)
	// The order of map iteration does not matter to any reader: names are unique here.
	for _, p := range x.byName {
		fmt.Fprintf(b, "%s\t%s\t%s\t%s\t%s\t%d\t%x\n", p.Name, p.Version, oneLine(p.Depends), oneLine(p.Provides),
			p.Filename, p.SizeBytes, p.SHA256)
	}
	return b.Flush()
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\t", " ").Replace(s) }

func readCompact(r io.Reader) (*Index, error) {
	x := newIndex()
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 1<<16), controlMaxLineBytes)
	if !scan.Scan() || scan.Text() != compactMagic {
		return nil, fmt.Errorf("%w package index", ErrFormat)
	}
	for scan.Scan() {
		f := strings.Split(scan.Text(), "\t")
		if len(f) != 7 {
			return nil, fmt.Errorf("%w package index: line %.80q", ErrFormat, scan.Text())
		}
		if err := x.addFields(f[0], f[1], f[2], f[3], f[4], f[5], f[6]); err != nil {
			return nil, err
		}
	}
	return x, scan.Err()
}
