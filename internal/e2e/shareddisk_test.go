package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"understudy/internal/demo"
	"understudy/internal/host"
	"understudy/internal/shareddisk"
	"understudy/internal/shareddisk/diskguest"
)

// slowPath is a way to a server on which what the client says can be held up.
type slowPath struct {
	ln   net.Listener
	mu   sync.Mutex
	free sync.Cond
	held bool
	late int // bytes that came while they were held
}

func newSlowPath(t *testing.T, to string) *slowPath {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPath{ln: ln}
	p.free.L = &p.mu
	t.Cleanup(func() { ln.Close(); p.hold(false) })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(in, out); in.Close() }()
			go func() { p.carry(in, out); out.Close() }()
		}
	}()
	return p
}

func (p *slowPath) carry(in, out net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.held {
			p.late += n
		}
		for p.held {
			p.free.Wait()
		}
		p.mu.Unlock()
		if _, err := out.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *slowPath) hold(on bool) {
	p.mu.Lock()
	p.held = on
	p.mu.Unlock()
	p.free.Broadcast()
}

func (p *slowPath) bytesHeld() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

// TestSharedDiskOfAStoppedPrimary stops the primary in the middle of a burst of writes, and lets it go on when its
// backup has long taken over and written every sector anew. Not one block of it lands: neither what was on its way to the disk
// server when it was stopped, nor what it says when it wakes up. Every sector is as the new primary wrote it, and the guest
// there, which reads what it wrote, has seen nothing else.
func TestSharedDiskOfAStoppedPrimary(t *testing.T) {
	for _, c := range []struct {
		name, mode, reads string
		held              bool // the burst is on its way for as long as the primary is stopped
	}{
		{"lockstep, on its way", "lockstep", "log", true},
		{"lockstep, anywhere", "lockstep", "log", false},
		{"the backup reads, on its way", "lockstep", "disk", true},
		{"the backup reads, anywhere", "lockstep", "disk", false},
		{"checkpoint, on its way", "checkpoint", "log", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &demo.Group{Exe: exe, Dir: t.TempDir()}
			var all []*demo.Process
			t.Cleanup(func() {
				g.Stop()
				if t.Failed() {
					for _, p := range all {
						t.Logf("%s narrated:\n%s", p.Name, p.Log())
					}
				}
			})
			start := func(name string, args ...string) *demo.Process {
				t.Helper()
				p, err := g.Start(t.Context(), name, args...)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, p)
				return p
			}
			kernel, file, arb := filepath.Join(g.Dir, "kernel"), filepath.Join(g.Dir, "shared.raw"), filepath.Join(g.Dir, "arbiter.sock")
			if err := os.WriteFile(kernel, diskguest.Kernel(2, 0), 0o600); err != nil {
				t.Fatal(err)
			}
			start("arbiter", "arbiter", "--listen", arb, "--data", filepath.Join(g.Dir, "arbiter.db"))
			disk := start("disk", "disk", "--file", file, "--create", "512K", "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0")
			path := newSlowPath(t, disk.Ready.Listen)
			side := func(name, disk string, more ...string) *demo.Process {
				t.Helper()
				args := []string{
					"replica", "--name", name, "--kernel", kernel, "--mem", "32M", "--group", "shared", "--arbiter", "unix:" + arb, "--status", "127.0.0.1:0",
					"--suspect-after", suspectAfter.String(), "--mode", c.mode, "--shared-disk", disk, "--shared-disk-reads", c.reads,
				}
				return start(name, append(args, more...)...)
			}
			b := side("b", disk.Ready.Listen, "--peer", "a", "--listen", "127.0.0.1:0")
			a := side("a", path.ln.Addr().String(), "--peer", "b", "--peer-addr", b.Ready.Listen)
			requests := func(what string, n uint64) shareddisk.ServerStatus {
				t.Helper()
				from := diskStatus(t, disk).Requests
				var s shareddisk.ServerStatus
				wait(t, what, func() (bool, string) { s = diskStatus(t, disk); return s.Requests >= from+n, b.LastWords() })
				return s
			}
			requests("the first writes", 20*diskguest.Burst)

			path.hold(c.held)
			if c.held {
				wait(t, "a burst on its way", func() (bool, string) { return path.bytesHeld() > 512, a.LastWords() })
			}
			if err := a.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			waitStatus(t, b, "to lead", func(s host.Status) bool { return s.Role == "primary" && s.Solo })
			requests("every sector to be written anew", 4*diskguest.Sectors)
			path.hold(false)
			if c.held {
				wait(t, "the burst to be refused", func() (bool, string) { return diskStatus(t, disk).Refused > 0, disk.Log() })
			}
			if err := a.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			waitExit(t, a, exitHalted)
			s := requests("more writes", 4*diskguest.Burst)
			if (s.BackupReads > 0) != (c.reads == "disk") {
				t.Errorf("the backup read %d times", s.BackupReads)
			}
			if s.Host != "b" || s.View < 2 {
				t.Errorf("%+v", s)
			}
			if got := waitStatus(t, b, "to answer", func(host.Status) bool { return true }); got.Role != "primary" {
				t.Errorf("%+v", got)
			}
			if err := b.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := disk.Kill(); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			newest, err := diskguest.Newest(content)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d writes, %d requests refused; a: %s", newest, s.Refused, a.LastWords())
		})
	}
}

func diskStatus(t *testing.T, p *demo.Process) (s shareddisk.ServerStatus) {
	t.Helper()
	resp, err := http.Get("http://" + p.Ready.Status + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
