package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/internal/image/debian/debiantest"
)

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1.0", "1.0", 0},
		{"1.0", "1.1", -1},
		{"1.9", "1.10", -1},
		{"1:1", "2", 1},
		{"0:1", "1", 0},
		{"1.0~rc1", "1.0", -1},
		{"1.0~~", "1.0~", -1},
		{"1.0-1", "1.0", 1},
		{"1.0-1", "1.0-1+b1", -1},
		{"1.0a", "1.0", 1},
		{"1.0a", "1.0+", -1},
		{"2.41-12+deb13u4", "2.41-12+deb13u10", -1},
		{"1.0-01", "1.0-1", 0},
		{"6.12.107-1", "6.12.94-1", 1},
		{"", "1", -1},
		{"1.0-", "1.0", 0},
	} {
		sign := func(n int) int { return min(1, max(-1, n)) }
		if got := sign(CompareVersions(c.a, c.b)); got != c.want {
			t.Errorf("%q against %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := sign(CompareVersions(c.b, c.a)); got != -c.want {
			t.Errorf("%q against %q: %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

func TestClosure(t *testing.T) {
	const sums = "Filename: p/x.deb\nSize: 1\nSHA256: 0000000000000000000000000000000000000000000000000000000000000000\n\n"
	x, err := ParsePackages(strings.NewReader(
		"Package: a\nVersion: 2\nDepends: b (>= 1), none | c, v (= 3)\n" + sums +
			"Package: b\nVersion: 1\nDepends: a\n" + sums + // a cycle
			"Package: b\nVersion: 0.5\nDepends: gone\n" + sums + // older: not used
			"Package: c\nVersion: 1:7\nDepends: b:any\n" + sums +
			"Package: w\nVersion: 1\nProvides: v\n" + sums + // unversioned: does not serve
			"Package: z\nVersion: 1\nProvides: v (= 3)\n" + sums +
			"Package: late\nVersion: 1\nDepends: b (>> 1)\n" + sums +
			"Package: order\nVersion: 1\nDepends: c | z, z | c\n" + sums))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ want, exclude, list string }{
		{"a", "", "a b c z"},
		{"b", "", "a b c z"},
		{"late", "", "error"},
		{"late", "b", "late"},
		{"order", "", "a b c order z"},
		{"a", "b,c", "a z"},
		{"v", "", "w"},
	} {
		list, err := x.Closure([]string{c.want}, strings.Split(c.exclude, ","))
		got := names(list)
		if errors.Is(err, ErrNoPackage) {
			got = "error"
		}
		if got != c.list {
			t.Errorf("%s without %q: %s (%v), want %s", c.want, c.exclude, got, err, c.list)
		}
	}
	var compact bytes.Buffer
	if err := x.writeCompact(&compact); err != nil {
		t.Fatal(err)
	}
	again, err := readCompact(&compact)
	if err != nil || again.Len() != x.Len() || *again.Lookup("c") != *x.Lookup("c") {
		t.Errorf("compact form: %v", err)
	}
}

func TestHostileIndex(t *testing.T) {
	good := "Package: a\nVersion: 2\nFilename: p/x.deb\nSize: 1\nSHA256: 0000000000000000000000000000000000000000000000000000000000000000\n"
	for _, c := range [][2]string{
		{"p/x.deb", "../../etc/passwd"},
		{"p/x.deb", "/etc/passwd"},
		{"p/x.deb", "p/../../x"},
		{"Size: 1", "Size: -1"},
		{"Size: 1", "Size: 99999999999999"},
		{"Size: 1", "Size: x"},
		{"0000", "00"},
		{"Version: 2", "Version 2"},
		{"Package: a", "Package: a/b"},
		{"Package: a", " x"},
	} {
		if _, err := ParsePackages(strings.NewReader(strings.Replace(good, c[0], c[1], 1))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s for %s: %v", c[1], c[0], err)
		}
	}
}

func readAll(deb []byte) (map[string]string, error) {
	got := map[string]string{}
	err := ReadDeb(bytes.NewReader(deb), int64(len(deb)), func(name string, h *tar.Header, content io.Reader) error {
		data, err := io.ReadAll(content)
		got[name] = string(data)
		return err
	})
	return got, err
}

func TestReadDeb(t *testing.T) {
	for _, suffix := range []string{".xz", ".gz", ".zst", ""} {
		got, err := readAll(debiantest.MakeDeb(t, suffix, debiantest.Entry{Name: "./", Kind: tar.TypeDir}, debiantest.Entry{Name: "./a/b", Data: "content"}))
		if err != nil || len(got) != 1 || got["a/b"] != "content" {
			t.Errorf("data.tar%s: %v %v", suffix, got, err)
		}
	}
	for _, name := range []string{"../x", "./a/../../x", "a/..", strings.Repeat("a", 5000)} {
		if _, err := readAll(debiantest.MakeDeb(t, "", debiantest.Entry{Name: name, Data: "x"})); !errors.Is(err, ErrFormat) {
			t.Errorf("path %.20q: %v", name, err)
		}
	}
	if _, err := readAll(debiantest.MakeDeb(t, "", debiantest.Entry{Name: "x", Link: "../../etc/passwd", Kind: tar.TypeLink})); !errors.Is(err, ErrFormat) {
		t.Errorf("hard link out of the package: %v", err)
	}
	deb := debiantest.MakeDeb(t, ".xz", debiantest.Entry{Name: "a", Data: strings.Repeat("content", 1000)})
	for n := range deb {
		if _, err := readAll(deb[:n]); err == nil {
			t.Errorf("no error for the first %d of %d bytes", n, len(deb))
		}
	}
}

// Several blocks, made by putting the same data through xz in pieces, must come back in order.
func TestXZBlocks(t *testing.T) {
	data, err := os.ReadFile("testdata/blocks.xz") // seq 1 100000 | xz --block-size=65536
	if err != nil {
		t.Fatal(err)
	}
	_, blocks, err := xzLayout(bytes.NewReader(data), int64(len(data)))
	if err != nil || len(blocks) != 9 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	plain, err := DecompressXZ(data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Fields(string(plain)); len(lines) != 100000 || lines[99999] != "100000" || lines[50000] != "50001" {
		t.Errorf("%d lines", len(lines))
	}
	if _, err := DecompressXZ(data, 1000); !errors.Is(err, ErrFormat) {
		t.Errorf("limit: %v", err)
	}
	for i := 0; i < len(data); i += 2503 {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		if got, err := DecompressXZ(bad, 1<<20); err == nil && !bytes.Equal(got, plain) {
			t.Errorf("byte %d changed: no error, other content", i)
		}
	}
	x, err := NewXZReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(x, make([]byte, 10))
	x.Close()
	x.Close()
	if _, err := x.Read(make([]byte, 10)); err == nil {
		t.Error("read after Close")
	}
}

func TestMirror(t *testing.T) {
	t.Setenv(MirrorVariable, "")
	etc := t.TempDir()
	os.MkdirAll(filepath.Join(etc, "sources.list.d"), 0o755)
	os.MkdirAll(filepath.Join(etc, "apt.conf.d"), 0o755)
	put := func(name, text string) { os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644) }
	if got := aptMirror(etc); got != "" {
		t.Errorf("nothing configured: %q", got)
	}
	put("sources.list", "# deb http://comment.example/debian trixie main\ndeb [arch=amd64] http://vendor.example/apt stable main\n")
	put("sources.list.d/z.sources", "Types: deb\nURIs: http://security.example/debian-security\nSuites: trixie-security\nComponents: main\n\n"+
		"Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n")
	if got := aptMirror(etc); got != "" {
		t.Errorf("other archives only: %q", got)
	}
	put("mirrors", "# several\nhttps://listed.example/debian-main/ priority:1\n")
	put("sources.list.d/a.list", "deb mirror+file:"+filepath.Join(etc, "mirrors")+" trixie main contrib\n")
	if got := aptMirror(etc); got != "https://listed.example/debian-main" {
		t.Errorf("mirror list: %q", got)
	}
	put("sources.list.d/y.sources", "Types: deb deb-src\nURIs: file:/srv/debian\n http://main.example/pub/debian/\nSuites: trixie\nComponents: main\n")
	if got := aptMirror(etc); got != "http://main.example/pub/debian" {
		t.Errorf("deb822: %q", got)
	}
	put("apt.conf.d/1", "// Acquire::http::Proxy \"http://no\";\nAcquire { http { Proxy \"http://proxy.example:3128\"; }; Retries \"3\"; };\n")
	if got, ok := aptProxy(etc, "http"); !ok || got != "http://proxy.example:3128" {
		t.Errorf("proxy: %q %v", got, ok)
	}
	put("apt.conf.d/2", "acquire::http::proxy \"DIRECT\";\nAcquire::http::Proxy::host.example \"http://other\";")
	if got, _ := aptProxy(etc, "http"); got != "DIRECT" {
		t.Errorf("later file: %q", got)
	}
	t.Setenv(MirrorVariable, "http://env.example/debian/")
	if got, err := FindMirror(""); err != nil || got != "http://env.example/debian" {
		t.Errorf("environment: %q %v", got, err)
	}
	if got, err := FindMirror("https://flag.example/debian"); err != nil || got != "https://flag.example/debian" {
		t.Errorf("flag: %q %v", got, err)
	}
	var h *HintError
	if _, err := FindMirror("ftp://x/debian"); !errors.As(err, &h) {
		t.Errorf("ftp: %v", err)
	}
}

func FuzzReadAr(f *testing.F) {
	f.Add(debiantest.MakeAr(debiantest.Entry{Name: "debian-binary", Data: "2.0\n"}, debiantest.Entry{Name: "data.tar", Data: "x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := readAr(bytes.NewReader(data), int64(len(data)))
		total := int64(0)
		for _, m := range members {
			total += m.Data.Size()
		}
		if err == nil && total > int64(len(data)) {
			t.Errorf("members of %d bytes in %d", total, len(data))
		}
		readAll(data)
	})
}

func FuzzControl(f *testing.F) {
	f.Add([]byte("Package: a\nVersion: 1\nDepends: b (>= 1) | c, d:any [x]\n more\n\n# x\nA: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newControlReader(bytes.NewReader(data))
		for {
			fields, err := c.next()
			if err != nil {
				break
			}
			for _, v := range fields {
				parseRelations(v)
				CompareVersions(v, "1:2~3-4")
			}
		}
		ParsePackages(bytes.NewReader(data))
		parseRelease(data)
		readCompact(bytes.NewReader(data))
		urisOfList(string(data))
		for range aptOptions(string(data)) {
		}
	})
}

func FuzzXZ(f *testing.F) {
	data, err := os.ReadFile("testdata/blocks.xz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:2000])
	small, err := os.ReadFile("testdata/small.xz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := DecompressXZ(data, 1<<20); err == nil && len(plain) > 1<<20 {
			t.Errorf("%d bytes", len(plain))
		}
	})
}
