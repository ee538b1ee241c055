package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"understudy/guest"
	"understudy/internal/image/debian"
	"understudy/internal/image/debian/debiantest"
	"understudy/internal/image/progress"
)

// fakeKernel has the header of a RISC-V Image and nothing behind it.
func fakeKernel() []byte {
	k := make([]byte, 4096)
	copy(k, "MZ")
	binary.LittleEndian.PutUint64(k[8:], 0x200000)
	binary.LittleEndian.PutUint64(k[16:], 8192)
	copy(k[0x30:], "RISCV\x00\x00\x00RSC\x05")
	return k
}

func TestCheckKernel(t *testing.T) {
	at := func(off int, magic string) []byte {
		b := make([]byte, 4096)
		copy(b[off:], magic)
		return b
	}
	if err := CheckKernel(fakeKernel(), 4096); err != nil {
		t.Errorf("RISC-V Image: %v", err)
	}
	big := fakeKernel()
	big[24] = 1
	for _, c := range []struct {
		data []byte
		want string
	}{
		{nil, "empty"},
		{at(0x202, "HdrS"), "x86"},
		{at(0x38, "ARM\x64"), "arm64"},
		{[]byte("\x1f\x8b\x08"), "gzip"},
		{at(0, "\xfd7zXZ\x00"), "xz"},
		{at(0, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e"), "x86-64"},
		{at(0, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3"), "RISC-V; the flat"},
		{at(0, "MZ"), "EFI"},
		{at(0, "hello"), "68 65 6c 6c 6f"},
		{fakeKernel()[:60], "cut off"},
		{big, "big-endian"},
	} {
		if err := CheckKernel(c.data, int64(len(c.data))); !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

func TestParams(t *testing.T) {
	p := Params{
		IP: netip.MustParsePrefix("192.168.127.2/24"), Gateway: netip.MustParseAddr("192.168.127.1"), Redis: "--maxmemory 64mb", Run: "true",
		FailOnError: true, NoData: true,
	}
	const want = `understudy.ip=192.168.127.2/24 understudy.gw=192.168.127.1 understudy.data=none understudy.onfail=fail understudy.redis="--maxmemory 64mb" understudy.run=true`
	if got, err := p.Words(); err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	if got, err := (Params{}).Words(); err != nil || got != "" {
		t.Errorf("none: %q %v", got, err)
	}
	if _, err := (Params{Run: `echo "x"`}).Words(); err == nil {
		t.Error("a quote went through")
	}
}

// The init script's own parser must read what Params writes. Any POSIX shell will do.
func TestInitReadsParameters(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	words, err := Params{IP: netip.MustParsePrefix("10.0.0.2/8"), Hostname: "h", Redis: "--a b  --c", Run: "echo a=b; exit 3"}.Words()
	if err != nil {
		t.Fatal(err)
	}
	script := string(guest.Init)
	start, end := strings.Index(script, "read_parameters() {"), strings.Index(script, "# load GROUP")
	dir := t.TempDir()
	cmdline := filepath.Join(dir, "cmdline")
	os.WriteFile(cmdline, []byte("console=ttyS0  x=\"quoted word\" quiet "+words+" \"understudy.dns=1.1.1.1\" panic=-1\n"), 0o644)
	parser := strings.Replace(script[start:end], "/proc/cmdline", cmdline, 1)
	out, err := exec.Command(sh, "-c", `say() { echo "SAY $*"; }
`+parser+`
read_parameters
printf '%s|' "$ip" "$hostname" "$redis_arguments" "$run" "$dns"`).CombinedOutput()
	if want := "10.0.0.2/8|h|--a b  --c|echo a=b; exit 3|1.1.1.1|"; err != nil || string(out) != want {
		t.Errorf("got  %s (%v)\nwant %s", out, err, want)
	}
}

func TestShellScriptsParse(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	for name, text := range map[string][]byte{"init": guest.Init, "redis": guest.RedisService, "shell": guest.ShellService, "udhcpc": guest.Udhcpc} {
		c := exec.Command(sh, "-n")
		c.Stdin = bytes.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}

func TestPack(t *testing.T) {
	make := func() []byte {
		tr := tree{}
		tr.file("usr/bin/b-c", []byte("x"), 0o755)
		tr.file("usr/bin/b/d", []byte("content"), 0o644)
		tr.link("bin", "usr/bin")
		tr.charDevice("dev/console", 0o600, 5, 1)
		tr.dir("tmp", 0o1777)
		data, err := tr.pack()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data := make()
	if !bytes.Equal(data, make()) {
		t.Error("two packings differ")
	}
	records, err := cpio.ReadAllRecords(cpio.EOFReader{RecordReader: cpio.Newc.Reader(bytes.NewReader(data))})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Name)
		if r.MTime != 0 || r.UID != 0 {
			t.Errorf("%s: time %d, owner %d", r.Name, r.MTime, r.UID)
		}
		if r.Name == "tmp" && r.Mode != cpio.S_IFDIR|0o1777 || r.Name == "dev/console" && (r.Mode != cpio.S_IFCHR|0o600 || r.Rmajor != 5 || r.Rminor != 1) {
			t.Errorf("%s: mode %o", r.Name, r.Mode)
		}
	}
	if want := "bin dev dev/console tmp usr usr/bin usr/bin/b usr/bin/b/d usr/bin/b-c"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
}

func TestRelative(t *testing.T) {
	for _, c := range [][3]string{{"usr/lib/a", "usr/lib/b", "b"}, {"usr/lib/a", "usr/lib/x/b", "x/b"}, {"a", "usr/b", "usr/b"}, {"var/x/a", "usr/b", "../../usr/b"}} {
		from := c[0]
		if path := relative(from, c[1]); strings.TrimPrefix(path, "./") != c[2] {
			t.Errorf("%s to %s: %s, want %s", c[0], c[1], path, c[2])
		}
	}
}

// tinyModule gives a relocatable ELF file as the kernel's build writes modules, with a signature behind it.
func tinyModule(t *testing.T) []byte {
	t.Helper()
	as, err := exec.LookPath("riscv64-linux-gnu-gcc")
	if err != nil {
		t.Skip("riscv64-linux-gnu-gcc is not installed")
	}
	dir := t.TempDir()
	const source = `
	.section .modinfo,"a"
	.asciz "depends=a,b"
	.text
	.globl f
	.type f,@function
f:	la a0, data
	call g
unused_label:
	nop
	ret
	.local helper
	.type helper,@function
helper:	ret
	.data
data:	.quad f
	.section .BTF
	.zero 1000
	.section .comment
	.asciz "x"
`
	os.WriteFile(filepath.Join(dir, "m.s"), []byte(source), 0o644)
	if out, err := exec.Command(as, "-c", "-o", filepath.Join(dir, "m.o"), filepath.Join(dir, "m.s")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "m.o"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSlimModule(t *testing.T) {
	raw := tinyModule(t)
	signed := append(bytes.Clone(raw), "PKCS7"...)
	signed = append(signed, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5)
	signed = append(signed, "~Module signature appended~\n"...)
	slim, err := slimModule(signed)
	if err != nil {
		t.Fatal(err)
	}
	if len(slim) > len(raw)-1000 {
		t.Errorf("%d of %d bytes left", len(slim), len(raw))
	}
	describe := func(data []byte, what string) string {
		name := filepath.Join(t.TempDir(), "m.ko")
		os.WriteFile(name, data, 0o644)
		out, err := exec.Command("riscv64-linux-gnu-objdump", "-dr", "-j", ".text", "-j", ".data", "-s", name).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", what, err, out)
		}
		_, text, _ := strings.Cut(string(out), "file format")
		return strings.ReplaceAll(text, "<unused_label>", "")
	}
	symbols := func(data []byte) string {
		name := filepath.Join(t.TempDir(), "m.ko")
		os.WriteFile(name, data, 0o644)
		out, err := exec.Command("riscv64-linux-gnu-nm", name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}
	// Same code, same relocations to symbols of the same names.
	normal := func(s string) string {
		var keep []string
		for line := range strings.Lines(s) {
			if strings.Contains(line, "R_RISCV") || strings.Contains(line, ".text") {
				keep = append(keep, strings.TrimSpace(line))
			}
		}
		return strings.Join(keep, "\n")
	}
	if a, b := normal(describe(raw, "before")), normal(describe(slim, "after")); a != b {
		t.Errorf("before:\n%s\nafter:\n%s", a, b)
	}
	after := symbols(slim)
	for name, want := range map[string]bool{"unused_label": false, " f\n": true, "helper": true, " g\n": true, " data\n": true} {
		if strings.Contains(after, name) != want {
			t.Errorf("symbol %q in the result: want %v\n%s", name, want, after)
		}
	}
	if d, err := moduleDepends(slim); err != nil || strings.Join(d, ",") != "a,b" {
		t.Errorf("depends: %v %v", d, err)
	}
	for n := range raw {
		slimModule(raw[:n]) // must not panic
	}
	for i := range raw[:min(len(raw), 4096)] {
		bad := bytes.Clone(raw)
		bad[i] ^= 0xff
		slimModule(bad)
	}
}

func FuzzSlimModule(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		slimModule(data)
		moduleDepends(data)
		linkedWith(data)
	})
}

// fakeDebian serves the packages that the shell recipe wants, as small as they can be.
func fakeDebian(t *testing.T) *debiantest.Archive {
	a := debiantest.New(t)
	module := string(tinyModule(t))
	module = strings.Replace(module, "depends=a,b", "depends=\x00\x00\x00", 1)
	entries := []debiantest.Entry{
		{Name: "./boot/vmlinux-6.1-riscv64", Data: string(fakeKernel())},
		{Name: "./usr/lib/modules/6.1-riscv64/modules.builtin", Data: "kernel/drivers/net/virtio_net.ko\n"},
	}
	for _, m := range []string{"drivers/virtio/virtio_mmio", "drivers/block/virtio_blk", "drivers/char/hw_random/virtio-rng", "fs/ext4/ext4", "sound/unwanted"} {
		entries = append(entries, debiantest.Entry{Name: "./usr/lib/modules/6.1-riscv64/kernel/" + m + ".ko", Data: module})
	}
	a.Add("linux-image-riscv64", "6.1-1", "Depends: linux-image-6.1-riscv64\n", debiantest.MakeDeb(t, ".xz"))
	a.Add("linux-image-6.1-riscv64", "6.1-1", "Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool\n",
		debiantest.MakeDeb(t, ".xz", entries...))
	a.Add("busybox-static", "1:1.37-6+b9", "", debiantest.MakeDeb(t, ".xz", debiantest.Entry{Name: "./usr/bin/busybox", Data: "busybox"},
		debiantest.Entry{Name: "./usr/share/doc/x", Kind: tar.TypeReg, Data: "doc"}))
	a.Publish(nil)
	return a
}

func fakeOptions(a *debiantest.Archive, cache, dir string) BuildOptions {
	return BuildOptions{Dir: dir, Archive: debian.Options{Mirror: a.Mirror(), Keys: a.Keys(), CacheDir: cache, RetryPause: time.Millisecond}}
}

func TestBuild(t *testing.T) {
	a := fakeDebian(t)
	cache, dir := t.TempDir(), filepath.Join(t.TempDir(), "images", "shell")
	r, err := FindRecipe("minimal")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Build(t.Context(), r, fakeOptions(a, cache, dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.EOFReader{RecordReader: cpio.Newc.Reader(bytes.NewReader(m.Initrd()))})
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, rec := range records {
		data, _ := io.ReadAll(io.NewSectionReader(rec, 0, int64(rec.FileSize)))
		content[rec.Name] = string(data)
	}
	for name, want := range map[string]string{
		"usr/bin/busybox": "busybox", "init": string(guest.Init), "bin": "usr/bin",
		"etc/understudy/modules": "mmio /usr/lib/modules/6.1-riscv64/virtio_mmio.ko\nblk /usr/lib/modules/6.1-riscv64/virtio_blk.ko\n" +
			"rng /usr/lib/modules/6.1-riscv64/virtio_rng.ko\next4 /usr/lib/modules/6.1-riscv64/ext4.ko\n",
	} {
		if content[name] != want {
			t.Errorf("%s: %.200q", name, content[name])
		}
	}
	for name := range content {
		if strings.Contains(name, "share") || strings.Contains(name, "unwanted") {
			t.Errorf("%s is in the initramfs", name)
		}
	}
	if m.KernelRelease != "6.1-riscv64" || len(m.Packages) != 2 || !bytes.Equal(m.Kernel(), fakeKernel()) {
		t.Errorf("%+v", m.Manifest)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}

	// The second time nothing is asked for.
	a.Server.Close()
	asked := len(a.Requests)
	again, err := Build(t.Context(), r, fakeOptions(a, cache, dir), nil)
	if err != nil || again.Digest() != m.Digest() || len(a.Requests) != asked {
		t.Errorf("again: %v, %d requests", err, len(a.Requests)-asked)
	}
	// A changed recipe is another image, made from the cache.
	r.Cmdline += " extra"
	if other, err := Build(t.Context(), r, fakeOptions(a, cache, dir), nil); err != nil || other.Digest() == m.Digest() || !strings.HasSuffix(other.CommandLine("x"), " extra x") {
		t.Errorf("changed recipe: %v", err)
	}
	// Damage is found, named and mended.
	os.WriteFile(filepath.Join(dir, "initrd"), []byte("damage"), 0o644)
	var notes bytes.Buffer
	if _, err := Build(t.Context(), r, fakeOptions(a, cache, dir), progress.NewLines(&notes)); err != nil || !strings.Contains(notes.String(), "initrd") {
		t.Errorf("damaged image: %v, told %q", err, notes.String())
	}
	// A directory of something else is left alone.
	home := t.TempDir()
	os.WriteFile(filepath.Join(home, "letter"), nil, 0o644)
	if _, err := Build(t.Context(), r, fakeOptions(a, cache, home), nil); err == nil || !strings.Contains(err.Error(), "no image") {
		t.Errorf("directory with other files: %v", err)
	}
}

func TestBuildErrors(t *testing.T) {
	r, _ := FindRecipe("shell")
	a := fakeDebian(t)
	r.Modules = []ModuleGroup{{"x", []string{"missing"}}}
	if _, err := Build(t.Context(), r, fakeOptions(a, t.TempDir(), filepath.Join(t.TempDir(), "i")), nil); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing module: %v", err)
	}
	r, _ = FindRecipe("shell")
	r.Programs = []string{"usr/bin/missing"}
	if _, err := Build(t.Context(), r, fakeOptions(a, t.TempDir(), filepath.Join(t.TempDir(), "i")), nil); err == nil || !strings.Contains(err.Error(), "usr/bin/missing") {
		t.Errorf("missing program: %v", err)
	}
	opts := fakeOptions(a, t.TempDir(), filepath.Join(t.TempDir(), "i"))
	opts.Archive.Offline = true
	r, _ = FindRecipe("shell")
	var try interface{ Try() string }
	if _, err := Build(t.Context(), r, opts, nil); !errors.Is(err, debian.ErrNotCached) || !errors.As(err, &try) {
		t.Errorf("offline: %v", err)
	}
}

// smallImage writes an image without a build.
func smallImage(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "i")
	k, i := fakeKernel(), []byte("initrd")
	d := Disk{Name: "data", File: describe("data.zst", guest.DataDisk), PlainBytes: 64 << 20, PlainSHA256: dataDiskSHA256()}
	m := Manifest{Format: 1, Name: "small", Arch: "riscv64", Kernel: describe("kernel", k), Initrd: describe("initrd", i), Disks: []Disk{d}}
	if err := write(dir, []namedFile{{"kernel", k}, {"initrd", i}, {"data.zst", guest.DataDisk}}, m); err != nil {
		t.Fatal(err)
	}
	return dir
}

var dataDiskSHA256 = sync.OnceValue(func() string {
	sum, _, err := unpackDisk(guest.DataDisk, nil, 1<<30)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", sum)
})

func TestLoadNamesWhatIsCorrupt(t *testing.T) {
	if _, err := Load(smallImage(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel", "initrd", "data.zst", "image.json"} {
		for what, spoil := range map[string]func(path string, data []byte){
			"bit":     func(p string, d []byte) { d[len(d)-1] ^= 1; os.WriteFile(p, d, 0o644) },
			"short":   func(p string, d []byte) { os.WriteFile(p, d[:len(d)/2], 0o644) },
			"missing": func(p string, d []byte) { os.Remove(p) },
		} {
			if name == "image.json" && what == "bit" {
				continue // its last byte is a line break
			}
			dir := smallImage(t)
			path := filepath.Join(dir, name)
			data, _ := os.ReadFile(path)
			spoil(path, data)
			_, err := Load(dir)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	for _, c := range [][2]string{
		{`"file": "kernel"`, `"file": "../kernel"`},
		{`"format": 1`, `"format": 2`},
		{`"riscv64"`, `"arm64"`},
		{`"name"`, `"nome"`},
		{`"plainBytes": 67108864`, `"plainBytes": -1`},
	} {
		dir := smallImage(t)
		path := filepath.Join(dir, "image.json")
		data, _ := os.ReadFile(path)
		os.WriteFile(path, bytes.Replace(data, []byte(c[0]), []byte(c[1]), 1), 0o644)
		if _, err := Load(dir); err == nil {
			t.Errorf("%s was taken", c[1])
		}
	}
}

func TestCreateDisk(t *testing.T) {
	m, err := Load(smallImage(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := m.CreateDisk(0, path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) != 64<<20 || binary.LittleEndian.Uint16(data[1024+56:]) != 0xef53 {
		t.Errorf("%d bytes, %v: no ext4 file system", len(data), err)
	}
	if err := m.CreateDisk(0, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	if err := m.CreateDisk(1, path+"2"); err == nil {
		t.Error("a disk that is not there")
	}
	m.Disks[0].PlainSHA256 = strings.Repeat("0", 64)
	if err := m.CreateDisk(0, path+"3"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other content: %v", err)
	}
	if _, err := os.Stat(path + "3"); err == nil {
		t.Error("a disk that is wrong was left")
	}
}
