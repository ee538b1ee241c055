package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/internal/demo"
)

// group is a group of processes that ends with the test.
func group(t *testing.T) *demo.Group {
	g := &demo.Group{Exe: exe, Dir: t.TempDir()}
	t.Cleanup(g.Stop)
	return g
}

// startArbiter starts an arbiter of the test's own and gives its address.
func startArbiter(t *testing.T, g *demo.Group) (address string) {
	t.Helper()
	socket := filepath.Join(g.Dir, "arbiter.sock")
	if _, err := g.Start(t.Context(), "arbiter", "arbiter", "--listen", socket, "--data", filepath.Join(g.Dir, "arbiter.db")); err != nil {
		t.Fatal(err)
	}
	return "unix:" + socket
}

func TestBadKernel(t *testing.T) {
	header := func(off int, magic string) []byte {
		b := make([]byte, 8192)
		copy(b[off:], magic)
		return b
	}
	x86elf := elf(make([]byte, 64))
	x86elf[18], x86elf[19] = 62, 0
	cut := elf(make([]byte, 64))[:100]
	outside := elf(make([]byte, 64))
	outside[64+31] = 0xff // the segment's address
	for _, c := range []struct {
		name   string
		kernel []byte
		says   string
	}{
		{"x86 bzImage", header(0x202, "HdrS"), "x86"},
		{"arm64 Image", header(0x38, "ARM\x64"), "arm64"},
		{"amd64 ELF", x86elf, "want 64-bit RISC-V"},
		{"gzip", header(0, "\x1f\x8b\x08"), "gunzip"},
		{"text", []byte("not a kernel"), "kernel"},
		{"empty", nil, "empty"},
		{"cut off ELF", cut, "unusable kernel"},
		{"ELF outside memory", outside, "unusable kernel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refuse(t, command(t, "boot", "--memory", "32M", "--kernel", file(t, "kernel", c.kernel)), c.says)
		})
	}
	t.Run("missing", func(t *testing.T) {
		refuse(t, command(t, "boot", "--kernel", "/nonexistent/kernel"), "/nonexistent/kernel")
	})
	t.Run("none", func(t *testing.T) { refuse(t, command(t, "boot"), "Try: ", "image build") })
	t.Run("image and kernel", func(t *testing.T) {
		refuse(t, command(t, "boot", "--kernel", "/k", "redis"), "not both")
	})
	t.Run("image that is not there", func(t *testing.T) {
		refuse(t, command(t, "boot", filepath.Join(t.TempDir(), "image")), "no image", "Try: ", "image build")
	})
}

func TestBadMemory(t *testing.T) {
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	for _, size := range []string{"0", "1M", "33000001", "x", "128G", "-1M", "999999999999G", "17179869185G"} {
		refuse(t, command(t, "boot", "--kernel", k, "--memory", size), "want")
	}
}

func TestBadDisk(t *testing.T) {
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	boot := func(disk string) *exec.Cmd {
		return command(t, "boot", "--memory", "32M", "--kernel", k, "--disk", disk)
	}
	t.Run("missing", func(t *testing.T) { refuse(t, boot("/nonexistent/disk.raw"), "/nonexistent/disk.raw", "truncate") })
	t.Run("odd size", func(t *testing.T) { refuse(t, boot(file(t, "disk", make([]byte, 1000))), "multiple of 512") })
	t.Run("empty", func(t *testing.T) { refuse(t, boot(file(t, "disk", nil)), "multiple of 512") })
	t.Run("directory", func(t *testing.T) { refuse(t, boot(t.TempDir()+":ro"), "regular file") })
	t.Run("in use", func(t *testing.T) {
		disk := file(t, "disk", make([]byte, 4096))
		f, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		refuse(t, boot(disk), "in use by another machine")
	})
	t.Run("read-only file", func(t *testing.T) {
		// Root may write any file, so the program runs as nobody, from a place that nobody can read.
		dir, err := os.MkdirTemp("", "understudy-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		put := func(name, from string, mode os.FileMode) string {
			to := filepath.Join(dir, name)
			b := make([]byte, 4096)
			if from != "" {
				if b, err = os.ReadFile(from); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(to, b, mode); err != nil {
				t.Fatal(err)
			}
			return to
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		program, kernel, disk := put("understudy", exe, 0o755), put("kernel", k, 0o444), put("disk", "", 0o444)
		c := command(t, "boot", "--memory", "32M", "--kernel", kernel, "--disk", disk)
		c.Path, c.Args[0] = program, program
		if os.Geteuid() == 0 {
			c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
			c.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/nonexistent")
		}
		refuse(t, c, "permission denied", "writable", ":ro")
	})
}

func TestBadAddress(t *testing.T) {
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	replica := []string{"replica", "--memory", "32M", "--kernel", k}
	with := func(args ...string) []string { return append(append([]string{}, replica...), args...) }
	data := filepath.Join(t.TempDir(), "arbiter.db")
	for _, args := range [][]string{
		{"arbiter", "--data", data, "--listen", "0.0.0.0:0"},
		{"arbiter", "--data", data, "--listen", "[::]:0"},
		{"arbiter", "--data", data, "--listen", ":0"},
		{"lan", "--listen", "192.0.2.1:0"},
		with("--status", "0.0.0.0:0"),
		with("--name", "b", "--peer", "a", "--listen", "0.0.0.0:0"),
		with("--name", "a", "--peer", "b", "--peer-addr", "192.0.2.1:7000"),
	} {
		refuse(t, command(t, args...), "only loopback addresses are allowed")
	}
	refuse(t, command(t, "lan", "--listen", "nowhere"), "host:port or the path of a unix socket")
	refuse(t, command(t, "lan", "--forward", "6379"), "want [host:]port:guestport")
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	refuse(t, command(t, "lan", "--forward", taken+":6379"), taken, "in use", "Try: ", "port 0")
	refuse(t, command(t, "lan", "--listen", taken), taken, "in use", "Try: ")
	refuse(t, command(t, "boot", "--memory", "32M", "--kernel", k, "--forward", taken+":6379"), taken, "in use", "Try: ")
	t.Run("demo", func(t *testing.T) {
		redisImage(t)
		dir := t.TempDir()
		c := command(t, "demo", "--forward", taken)
		c.Env = append(os.Environ(), "TMPDIR="+dir)
		refuse(t, c, taken, "in use")
		nothingLeft(t, dir)
	})
}

func TestArbiterDownAtStart(t *testing.T) {
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	none := filepath.Join(t.TempDir(), "arbiter.sock")
	for _, side := range [][]string{{"--name", "a", "--peer", "b", "--peer-addr", "127.0.0.1:1"}, {"--name", "b", "--peer", "a", "--listen", "127.0.0.1:0"}} {
		args := append([]string{"replica", "--memory", "32M", "--kernel", k, "--arbiter", "unix:" + none}, side...)
		refuse(t, command(t, args...), none, "Try: ", "understudy arbiter")
	}
	refuse(t, command(t, "replica", "--memory", "32M", "--kernel", k, "--name", "a", "--peer", "b", "--peer-addr", "127.0.0.1:1"), "a pair needs an arbiter")
}

// TestGroupInView: a group that is in a view has state somewhere; a replica that begins anew must not take
// its place.
func TestGroupInView(t *testing.T) {
	at := startArbiter(t, group(t))
	c, err := httparb.NewClient(at, httparb.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, won, err := c.CompareAndSet(t.Context(), "g", arbiter.Record{Number: 1, Primary: "x", Backup: "y", Claimant: "one"}); err != nil || !won {
		t.Fatal(won, err)
	}
	k := kernelThatSays(t, "", resetShutdown, reasonNone)
	refuse(t, command(t, "replica", "--memory", "32M", "--kernel", k, "--arbiter", at, "--group", "g", "--name", "a", "--peer", "b", "--peer-addr", "127.0.0.1:1"),
		`group "g" is already in view 1`, "another --group")
}

// TestDifferentMachines: a backup whose machine is another one refuses, the primary says what differs, and the
// backup goes on waiting for the right one.
func TestDifferentMachines(t *testing.T) {
	g := group(t)
	at := startArbiter(t, g)
	k := kernelThatSays(t, "hello\n", resetShutdown, reasonNone)
	disk := func(fill byte) string {
		b := make([]byte, 1<<20)
		b[700_000] = fill
		return file(t, "disk", b)
	}
	args := func(name string, more ...string) []string {
		return append([]string{"replica", "--arbiter", at, "--group", "g", "--name", name}, more...)
	}
	same := []string{"--memory", "32M", "--append", "x", "--kernel", k}
	b, err := g.Start(t.Context(), "b", append(args("b", "--peer", "a", "--listen", "127.0.0.1:0", "--disk", disk(1)), same...)...)
	if err != nil {
		t.Fatal(err)
	}
	primary := func(more ...string) *exec.Cmd {
		return command(t, append(args("a", "--peer", "b", "--peer-addr", b.Ready.Listen), more...)...)
	}
	other := kernelThatSays(t, "HELLO\n", resetShutdown, reasonNone)
	refuse(t, primary("--memory", "64M", "--append", "x", "--kernel", k, "--disk", disk(1)), "memory sizes differ", "the primary has 64 MiB", "the backup 32 MiB")
	refuse(t, primary("--memory", "32M", "--append", "x", "--kernel", other, "--disk", disk(1)), "kernels differ")
	refuse(t, primary("--memory", "32M", "--append", "x", "--kernel", k, "--initrd", file(t, "initrd", []byte("other")), "--disk", disk(1)), "initial RAM disks differ")
	refuse(t, primary("--memory", "32M", "--append", "y", "--kernel", k, "--disk", disk(1)), "kernel command lines differ", "has y")
	refuse(t, primary(append(same, "--disk", disk(2))...), "disks 0 differ")
	refuse(t, primary(append(same, "--disk", disk(1)+":ro")...), "disks 0 differ")
	refuse(t, primary(same...), "numbers of disks differ")
	refuse(t, command(t, append(args("z", "--peer", "b", "--peer-addr", b.Ready.Listen, "--disk", disk(1)), same...)...), "names differ")

	a, err := g.Start(t.Context(), "a", append(args("a", "--peer", "b", "--peer-addr", b.Ready.Listen, "--disk", disk(1)), same...)...)
	if err != nil {
		t.Fatal(err)
	}
	waitExit(t, a, 0)
	waitExit(t, b, 0)
}

// TestCorruptImage: an image whose bytes are not what its manifest says is refused by name, and built again
// from what the archive's cache holds.
func TestCorruptImage(t *testing.T) {
	im := redisImage(t)
	for _, name := range []string{im.Manifest.Kernel.File, im.Manifest.Initrd.File, im.Disks[0].File.File, "image.json"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "image")
			if err := os.CopyFS(dir, os.DirFS(im.Dir)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 0x80
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			refuse(t, command(t, "boot", dir), "corrupt", path, "Try: ", "image build")
			if name != im.Manifest.Initrd.File {
				return // one repair shows enough
			}
			build := command(t, "image", "build", "-o", dir)
			build.Env = append(os.Environ(), "UNDERSTUDY_MIRROR=http://127.0.0.1:1/debian")
			r := finish(t, build)
			if r.code != 0 || strings.TrimSpace(r.stdout) != dir {
				t.Errorf("the repair ended with %d, stdout %q:\n%s", r.code, r.stdout, r.stderr)
			}
			again, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 0x80
			if string(again) != string(b) {
				t.Error("the file built again is not the one before")
			}
		})
	}
}

// TestNoNetwork: nothing is cached and the mirror cannot be reached, or is not known.
func TestNoNetwork(t *testing.T) {
	empty := func(c *exec.Cmd, more ...string) *exec.Cmd {
		cache := t.TempDir()
		c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cache, "XDG_CACHE_HOME=" + cache, "TMPDIR=" + t.TempDir()}, more...)
		return c
	}
	t.Run("closed port", func(t *testing.T) {
		refuse(t, empty(command(t, "image", "build"), "UNDERSTUDY_MIRROR=http://127.0.0.1:1/debian"), "http://127.0.0.1:1/debian", "Try: ")
		refuse(t, empty(command(t, "demo"), "UNDERSTUDY_MIRROR=http://127.0.0.1:1/debian"), "http://127.0.0.1:1/debian", "Try: ")
	})
	t.Run("no URI", func(t *testing.T) {
		refuse(t, empty(command(t, "image", "build"), "UNDERSTUDY_MIRROR=nonsense"), "nonsense", "Try: ", "UNDERSTUDY_MIRROR")
	})
	t.Run("no mirror", func(t *testing.T) {
		// An empty folder over apt's configuration, seen by this one process alone.
		c := empty(exec.CommandContext(t.Context(), "unshare", "--mount", "--map-root-user", "sh", "-c",
			`mount -t tmpfs none /etc/apt || exit 77; exec "$0" image build`, exe))
		r := finish(t, c)
		if r.code == 77 || strings.Contains(r.stderr, "unshare") || strings.Contains(r.stderr, "mount") {
			t.Skipf("no mount namespace here: %s", r.stderr)
		}
		if r.code != exitOurs {
			t.Errorf("exit code %d, want %d", r.code, exitOurs)
		}
		for _, w := range []string{"no Debian mirror is known", "Try: ", "UNDERSTUDY_MIRROR"} {
			if !strings.Contains(r.stderr, w) {
				t.Errorf("stderr does not say %q:\n%s", w, r.stderr)
			}
		}
	})
	t.Run("refresh of a good image", func(t *testing.T) {
		im := redisImage(t)
		c := empty(command(t, "image", "build", "--refresh", "-o", filepath.Join(t.TempDir(), "image")), "UNDERSTUDY_MIRROR=http://127.0.0.1:1/debian")
		if err := os.CopyFS(c.Args[len(c.Args)-1], os.DirFS(im.Dir)); err != nil {
			t.Fatal(err)
		}
		refuse(t, c, "127.0.0.1:1")
		if again, err := os.ReadFile(filepath.Join(c.Args[len(c.Args)-1], "image.json")); err != nil || len(again) == 0 {
			t.Error("the image that was there is gone")
		}
	})
}

func TestUnknownWords(t *testing.T) {
	refuse(t, command(t, "perform"), "unknown command")
	refuse(t, command(t, "demo", "--kill", "both"), "want primary or backup")
	refuse(t, command(t, "demo", "extra"), "unknown command")
	refuse(t, command(t, "image", "build", "--recipe", "cake"), "cake", "redis")
	refuse(t, command(t, "replica", "--kernel", "/k", "--suspect-after", "soon"), "soon")
	for _, args := range [][]string{{"--help"}, {"version"}, {"image", "list"}} {
		if r := finish(t, command(t, args...)); r.code != 0 || r.stdout == "" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := finish(t, command(t)); r.code != 0 || !strings.Contains(r.stdout, "demo") {
		t.Errorf("without a command: exit code %d, stdout %q", r.code, r.stdout)
	}
}
