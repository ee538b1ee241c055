package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
)

// These tests use the real archive, and boot what they built under QEMU where that is installed.
// UNDERSTUDY_ONLINE=1 turns them on; UNDERSTUDY_KEEP=DIR keeps the images there.

func buildOnline(t *testing.T, recipe string) *Image {
	t.Helper()
	if os.Getenv("UNDERSTUDY_ONLINE") == "" {
		t.Skip("needs the network: set UNDERSTUDY_ONLINE=1")
	}
	r, err := FindRecipe(recipe)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("UNDERSTUDY_KEEP")
	if dir == "" {
		dir = t.TempDir()
	}
	m, err := Build(t.Context(), r, BuildOptions{Dir: filepath.Join(dir, recipe)}, progress.NewLines(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOnlineBuild(t *testing.T) {
	for _, name := range []string{"redis", "shell"} {
		m := buildOnline(t, name)
		start := time.Now()
		r, _ := FindRecipe(name)
		again, err := Build(t.Context(), r, BuildOptions{Dir: m.Dir, Archive: debian.Options{Offline: true, Mirror: "http://127.0.0.1:1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: kernel %d, initrd %d bytes, digest %x; loaded again in %v", name, len(m.Kernel()), len(m.Initrd()), m.Digest(), time.Since(start))
		if again.Digest() != m.Digest() {
			t.Errorf("%s: digests differ", name)
		}
		// A second build from the same packages gives the same bytes.
		other, err := Build(t.Context(), r, BuildOptions{Dir: t.TempDir(), Archive: debian.Options{Offline: true}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if other.Digest() != m.Digest() || !bytes.Equal(other.Initrd(), m.Initrd()) {
			t.Errorf("%s: two builds from the same packages differ", name)
		}
	}
}

// machine is a guest under QEMU.
type machine struct {
	t       *testing.T
	cmd     *exec.Cmd
	mu      sync.Mutex
	lines   []string
	console chan string
	redis   string // where the guest's port 6379 is
}

// boot starts m with a data disk that is made when it is not there.
func boot(t *testing.T, m *Image, disk, words string) *machine {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-riscv64")
	if err != nil {
		t.Skip("qemu-system-riscv64 is not installed")
	}
	if err := m.CreateDisk(0, disk); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	args := []string{
		"-M", "virt", "-m", fmt.Sprint(m.MemBytes >> 20), "-nographic", "-no-reboot",
		"-kernel", filepath.Join(m.Dir, m.Manifest.Kernel.File), "-initrd", filepath.Join(m.Dir, m.Manifest.Initrd.File),
		"-append", m.CommandLine(words),
		"-global", "virtio-mmio.force-legacy=false",
		"-netdev", fmt.Sprintf("user,id=n,net=192.168.127.0/24,host=192.168.127.1,dhcpstart=192.168.127.2,hostfwd=tcp:127.0.0.1:%d-:6379", port),
		"-device", "virtio-net-device,netdev=n", "-drive", "file=" + disk + ",format=raw,if=none,id=d",
		"-device", "virtio-blk-device,drive=d", "-device", "virtio-rng-device",
	}
	q := &machine{t: t, cmd: exec.Command(qemu, args...), console: make(chan string, 1000), redis: fmt.Sprintf("127.0.0.1:%d", port)}
	out, err := q.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.cmd.Process.Kill()
		q.cmd.Wait()
	})
	start := time.Now()
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			line := fmt.Sprintf("%6.2f %s", time.Since(start).Seconds(), strings.TrimRight(scan.Text(), "\r"))
			q.mu.Lock()
			q.lines = append(q.lines, line)
			q.mu.Unlock()
			q.console <- line
		}
		close(q.console)
	}()
	return q
}

// await waits for a console line that holds text.
func (q *machine) await(text string) string {
	q.t.Helper()
	limit := time.After(120 * time.Second)
	for {
		select {
		case line, ok := <-q.console:
			if strings.Contains(line, text) {
				return line
			}
			if !ok {
				q.t.Fatalf("console ended without %q:\n%s", text, strings.Join(q.lines, "\n"))
			}
		case <-limit:
			q.mu.Lock()
			defer q.mu.Unlock()
			q.t.Fatalf("no %q on the console:\n%s", text, strings.Join(q.lines, "\n"))
		}
	}
}

func (q *machine) ask(command string) string {
	q.t.Helper()
	c, err := net.DialTimeout("tcp", q.redis, 10*time.Second)
	if err != nil {
		q.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		q.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

const slirp = "understudy.ip=192.168.127.2/24 understudy.gw=192.168.127.1"

func TestOnlineBootRedis(t *testing.T) {
	m := buildOnline(t, "redis")
	disk := filepath.Join(t.TempDir(), "disk")
	q := boot(t, m, disk, slirp+` understudy.redis="--maxmemory 64mb --maxmemory-policy noeviction"`)
	t.Log(q.await("guest ready"))
	for _, c := range [][2]string{{"PING", "+PONG"}, {"SET k value", "+OK"}, {"GET k", "$5"}, {"CONFIG GET maxmemory", "*2"}} {
		if got := q.ask(c[0]); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
	c, err := net.Dial("tcp", q.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "SHUTDOWN NOSAVE\r\n") // answered by closing
	t.Log(q.await("service ended, status 0"))
	if err := q.cmd.Wait(); err != nil {
		t.Errorf("qemu: %v", err)
	}

	// What was written is on the disk for the next machine.
	q = boot(t, m, disk, slirp)
	q.await("guest ready")
	if got := q.ask("GET k"); got != "$5" {
		t.Errorf("after a restart: %q", got)
	}
}

// A service that fails can be told from one that ends: the kernel asks for a restart, with the status in its panic.
func TestOnlineFailure(t *testing.T) {
	m := buildOnline(t, "shell")
	words, err := Params{Run: "exit 3", FailOnError: true, NoData: true}.Words()
	if err != nil {
		t.Fatal(err)
	}
	q := boot(t, m, filepath.Join(t.TempDir(), "disk"), words)
	q.await("service ended, status 3")
	q.await("exitcode=0x00000300")
	// The console goes on until the machine restarts, which -no-reboot makes an end
	for range q.console {
	}
}
