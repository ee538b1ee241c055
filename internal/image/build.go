package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"understudy/guest"
	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
)

// BuildOptions says where an image is made from and put.
type BuildOptions struct {
	// Dir is the image's directory; "" is one named after the recipe below DefaultDir.
	Dir string
	// Refresh builds even when the directory already holds what the recipe asks for: newer packages come in.
	Refresh bool
	// Archive is where the packages come from; its Progress is set by Build.
	Archive debian.Options
}

// builderVersion goes into every BuildKey: raise it when the builder's work changes in a way that its inputs do not show.
const builderVersion = 1

// kernelPackage is the metapackage that depends on the current kernel.
const kernelPackage = "linux-image-riscv64"

// Build gives the recipe's image, verified. When the directory holds it already, nothing is fetched and no network is
// needed; otherwise it is made from packages of the archive's cache, and what is missing there is fetched.
func Build(ctx context.Context, r Recipe, opts BuildOptions, p Progress) (*Image, error) {
	if p == nil {
		p = progress.Discard
	}
	if opts.Dir == "" {
		dir, err := DefaultDir()
		if err != nil {
			return nil, err
		}
		opts.Dir = filepath.Join(dir, r.Name)
	}
	key, err := buildKey(r, opts)
	if err != nil {
		return nil, err
	}
	if old, err := Open(opts.Dir); err == nil {
		if !opts.Refresh && old.BuildKey == key {
			whole, err := Load(opts.Dir)
			if err == nil {
				return whole, nil
			}
			p.Note(fmt.Sprintf("%v: building it again", err))
		}
	} else if err := mayReplace(opts.Dir); err != nil {
		return nil, err
	}
	opts.Archive.Progress = p
	b := &builder{recipe: r, progress: p, tree: tree{}}
	if b.archive, err = debian.Open(ctx, opts.Archive); err != nil {
		return nil, fmt.Errorf("build image %s: %w", r.Name, err)
	}
	files, manifest, err := b.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", r.Name, err)
	}
	manifest.BuildKey = key
	if err := write(opts.Dir, files, manifest); err != nil {
		return nil, fmt.Errorf("build image %s: %w", r.Name, err)
	}
	return Load(opts.Dir)
}

// buildKey hashes all that decides an image's content besides the state of the archive.
func buildKey(r Recipe, opts BuildOptions) (string, error) {
	data, err := json.Marshal(map[string]any{
		"builder": builderVersion, "recipe": r, "suite": opts.Archive.Suite,
		"init": guest.Init, "udhcpc": guest.Udhcpc, "disk": guest.DataDisk,
	})
	if err != nil {
		return "", fmt.Errorf("hash recipe: %w", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// mayReplace refuses directories that hold something other than an image.
func mayReplace(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
		return nil
	}
	return &debian.HintError{Err: fmt.Errorf("%s is not empty and holds no image", dir), Hint: "name another directory with -o"}
}

type builder struct {
	recipe   Recipe
	progress Progress
	archive  *debian.Archive
	tree     tree
	packages []PackageRef
}

// namedFile is a file of an image before it is written.
type namedFile struct {
	name string
	data []byte
}

func (b *builder) build(ctx context.Context) ([]namedFile, Manifest, error) {
	r := b.recipe
	m := Manifest{
		Format: formatVersion, Name: r.Name, Recipe: r.Name, Description: r.Description, Arch: "riscv64",
		Cmdline: r.Cmdline, MemBytes: r.MemBytes,
	}
	kernel, release, modules, err := b.kernel(ctx)
	if err != nil {
		return nil, m, err
	}
	if err := b.modules(release, modules); err != nil {
		return nil, m, err
	}
	if err := b.programs(ctx); err != nil {
		return nil, m, err
	}
	b.skeleton()
	initrd, err := b.tree.pack()
	if err != nil {
		return nil, m, err
	}
	m.KernelRelease, m.Packages = release, b.packages
	m.Kernel, m.Initrd = describe("kernel", kernel), describe("initrd", initrd)
	files := []namedFile{{m.Kernel.File, kernel}, {m.Initrd.File, initrd}}
	if r.DataDisk {
		d := Disk{Name: "data", File: describe("data.ext4.zst", guest.DataDisk)}
		sum, n, err := unpackDisk(guest.DataDisk, nil, 1<<40)
		if err != nil {
			return nil, m, err
		}
		d.PlainBytes, d.PlainSHA256 = n, fmt.Sprintf("%x", sum)
		m.Disks = append(m.Disks, d)
		files = append(files, namedFile{d.File.File, guest.DataDisk})
	}
	return files, m, nil
}

func describe(name string, data []byte) File {
	return File{File: name, Bytes: int64(len(data)), SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
}

func (b *builder) use(p *debian.Package) {
	b.packages = append(b.packages, PackageRef{p.Name, p.Version, fmt.Sprintf("%x", p.SHA256)})
}

// kernel gives the kernel, its release and its modules. Of the package, which has 112 MB, the cache keeps the modules
// that some recipe uses and the kernel.
func (b *builder) kernel(ctx context.Context) ([]byte, string, moduleSet, error) {
	none := moduleSet{}
	list, err := b.archive.Closure([]string{kernelPackage}, []string{"kmod", "linux-base", "initramfs-tools"})
	if err != nil {
		return nil, "", none, err
	}
	var image *debian.Package
	for _, p := range list {
		if p.Name != kernelPackage && strings.HasPrefix(p.Name, "linux-image-") {
			image = p
		}
	}
	if image == nil {
		return nil, "", none, fmt.Errorf("%s depends on no kernel", kernelPackage)
	}
	release := strings.TrimPrefix(image.Name, "linux-image-")
	files, err := b.archive.Files(ctx, image, "kernel-1", wantedOfKernel)
	if err != nil {
		return nil, "", none, err
	}
	b.use(image)
	for _, f := range files {
		if strings.HasPrefix(f.Name, "boot/vmlinu") {
			if err := CheckKernel(f.Data, int64(len(f.Data))); err != nil {
				return nil, "", none, fmt.Errorf("%s of package %s: %w", f.Name, image.Name, err)
			}
			return f.Data, release, newModuleSet(files), nil
		}
	}
	return nil, "", none, fmt.Errorf("package %s has no boot/vmlinux-*", image.Name)
}

// wantedOfKernel selects the parts of the kernel's package that are kept; rename the selection when it changes. It takes
// whole directories, so that a dependency that a later version adds is likely among them.
func wantedOfKernel(name string) bool {
	if strings.HasPrefix(name, "boot/vmlinu") || path.Base(name) == "modules.builtin" {
		return true
	}
	if !strings.Contains(path.Base(name), ".ko") {
		return false
	}
	_, sub, _ := strings.Cut(name, "/kernel/")
	for _, dir := range []string{
		"drivers/virtio/", "drivers/block/virtio_blk.", "drivers/net/virtio_net.", "drivers/net/net_failover.",
		"drivers/char/hw_random/virtio", "net/core/", "crypto/crc", "arch/riscv/", "lib/crc", "lib/libcrc", "fs/mbcache.", "fs/ext4/",
		"fs/jbd2/", "fs/overlayfs/",
	} {
		if strings.HasPrefix(sub, dir) {
			return true
		}
	}
	return false
}

func (b *builder) modules(release string, set moduleSet) error {
	var list strings.Builder
	for _, g := range b.recipe.Modules {
		modules, err := set.order(g.Modules)
		if err != nil {
			return err
		}
		for _, m := range modules {
			name := "usr/lib/modules/" + release + "/" + m.name + ".ko"
			b.tree.file(name, m.data, 0o644)
			fmt.Fprintf(&list, "%s /%s\n", g.Name, name)
		}
	}
	b.tree.file("etc/understudy/modules", []byte(list.String()), 0o644)
	return nil
}

func (b *builder) programs(ctx context.Context) error {
	const busybox = "busybox-static"
	list, err := b.archive.Closure(append([]string{busybox}, b.recipe.Packages...), b.recipe.Exclude)
	if err != nil {
		return err
	}
	p := pool{}
	for _, pkg := range list {
		files, err := b.archive.Files(ctx, pkg, "", func(name string) bool {
			return !strings.HasPrefix(name, "usr/share/") && !strings.Contains(name, "/gconv/")
		})
		if err != nil {
			return err
		}
		b.use(pkg)
		for _, f := range files {
			p[mergedUsr(f.Name)] = f
		}
	}
	return p.closure(b.tree, append([]string{"usr/bin/busybox"}, b.recipe.Programs...))
}

// skeleton adds what every root file system has, the init script and the recipe's own files.
func (b *builder) skeleton() {
	t := b.tree
	for _, dir := range []string{"bin", "sbin", "lib"} {
		t.link(dir, "usr/"+dir)
	}
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/sbin", "proc", "sys", "dev", "run", "data", "var/lib", "var/log", "etc"} {
		t.dir(dir, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", 0o1777)
	t.link("var/run", "../run")
	// The kernel opens it for process 1 before anything is mounted (drivers: major 5, minor 1).
	t.charDevice("dev/console", 0o600, 5, 1)

	passwd, group := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\ntty:x:5:\n"
	for _, u := range b.recipe.Users {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/false\n", u.Name, u.ID, u.ID, u.Home)
		group += fmt.Sprintf("%s:x:%d:\n", u.Name, u.ID)
		t.dir(strings.TrimPrefix(u.Home, "/"), 0o755)
	}
	text := func(name, content string) { t.file(name, []byte(content), 0o644) }
	text("etc/passwd", passwd)
	text("etc/group", group)
	text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
	text("etc/hostname", "guest\n")
	text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	text("etc/resolv.conf", "")
	t.file("init", guest.Init, 0o755)
	t.file("etc/understudy/udhcpc", guest.Udhcpc, 0o755)
	t.file("etc/understudy/service", b.recipe.Service, 0o644)
	for name, data := range b.recipe.Files {
		t.file(name, data, 0o644)
	}
}

// write puts an image's files into a directory beside dir and then swaps the two, so that dir holds a whole image at any
// time, whoever else writes there.
func write(dir string, files []namedFile, m Manifest) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	temp, err := os.MkdirTemp(parent, ".image-*")
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	defer os.RemoveAll(temp)
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	next := filepath.Join(temp, "new")
	if err := os.Mkdir(next, 0o755); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	for _, f := range append(files, namedFile{manifestName, append(manifest, '\n')}) {
		if err := writeSynced(filepath.Join(next, f.name), f.data); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		err := os.Rename(next, dir)
		if err == nil {
			return nil
		}
		// There is one already (another process may put one there again and again, within reason).
		old := filepath.Join(temp, fmt.Sprintf("old%d", try))
		if moved := os.Rename(dir, old); moved != nil && !errors.Is(moved, fs.ErrNotExist) || try == 10 {
			return fmt.Errorf("write image: %w", err)
		}
	}
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}
