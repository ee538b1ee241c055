package kv

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// rss is the memory of a process that is in use, and its peak, in bytes.
func (p *process) rss(t *testing.T) (now, peak int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for name, into := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				_, _ = fmt.Sscan(rest, into)
				*into <<= 10
			}
		}
	}
	return now, peak
}

// TestClientsThatNeverRead: clients ask for gigabytes and read nothing. The server keeps what it promises to keep for one client at
// most, takes no more of their commands, and serves the others.
func TestClientsThatNeverRead(t *testing.T) {
	long(t)
	const (
		clients = 4
		asked   = 1 << 30   // bytes of replies for each
		bound   = 400 << 20 // for all of them, with a generous part for the garbage collector
	)
	for _, valueBytes := range []int{10 << 10, 200 << 10} {
		t.Run(fmt.Sprint(valueBytes>>10, " KiB"), func(t *testing.T) {
			// Copying gigabytes for them takes the server's time from others: nobody may suspect it for that.
			g := startGroup(t, options{servers: 2, suspect: calm})
			a := g.protected()
			primary := g.servers[a.View.Primary]
			other := dial(t, a.PrimaryClient)
			other.do(t, "SET", "big", strings.Repeat("x", valueBytes))
			before, _ := primary.rss(t)
			question := bytes.Repeat(command("GET", "big"), 100)
			var all sync.WaitGroup
			for range clients {
				c, err := net.Dial("tcp", a.PrimaryClient)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				all.Go(func() {
					for sent := 0; sent < asked; sent += 100 * valueBytes {
						_ = c.SetWriteDeadline(time.Now().Add(time.Second))
						if _, err := c.Write(question); err != nil {
							return // it takes no more, or has hung up
						}
					}
				})
			}
			l := g.load(4)
			all.Wait()
			l.more(100)
			if got := other.do(t, "STRLEN", "big"); got != fmt.Sprint("(integer) ", valueBytes) {
				t.Error(got)
			}
			if _, peak := primary.rss(t); peak > before+bound {
				t.Errorf("%d MiB at most, %d MiB before", peak>>20, before>>20)
			} else {
				t.Logf("%d MiB at most, %d MiB before", peak>>20, before>>20)
			}
			l.check()
			if b := g.protected(); b.View.Primary != a.View.Primary {
				t.Errorf("the group is in the hands of %s", b.View.Primary)
			}
		})
	}
}

// TestCommandsThatNeverEnd: clients announce large commands and send little of them.
func TestCommandsThatNeverEnd(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 1, suspect: calm})
	p := g.servers["kv1"]
	before, _ := p.rss(t)
	for range 200 {
		c := dial(t, g.addr("kv1"))
		if _, err := c.Write([]byte("*1000000\r\n$8000000\r\nabc")); err != nil {
			t.Fatal(err)
		}
	}
	if got := dial(t, g.addr("kv1")).do(t, "PING"); got != `"PONG"` {
		t.Error(got)
	}
	if _, peak := p.rss(t); peak > before+400<<20 {
		t.Errorf("%d MiB at most, %d MiB before", peak>>20, before>>20)
	}
	// What is announced above the bound is refused at once.
	c := dial(t, g.addr("kv1"))
	if _, err := c.Write([]byte("*2\r\n$3\r\nGET\r\n$900000000\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if v, err := c.in.Read(); err != nil || !strings.HasPrefix(v.String(), "(error) ERR Protocol error: ") {
		t.Errorf("%s, %v", v, err)
	}
}

// TestMaxMemory: above the limit, commands that need memory are refused in Redis's words, the others work, and the limit is the
// group's: it stays when another leads.
func TestMaxMemory(t *testing.T) {
	long(t)
	real := redis(t, "--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
	g := startGroup(t, options{servers: 2, suspect: calm, serve: []string{"--maxmemory", "4M"}})
	a := g.protected()
	wait(t, "the limit", func() (bool, string) { is := info(a.PrimaryClient, "maxmemory"); return is == "4194304", is })
	fill := func(addr string) string {
		c := dial(t, addr)
		value := strings.Repeat("x", 10_000)
		refusal := ""
		for i := range 3000 {
			v, err := c.try("SET", fmt.Sprint("k", i), value)
			if err != nil {
				t.Fatal(err)
			}
			if text := v.String(); text != `"OK"` {
				refusal = text
			}
		}
		return refusal
	}
	const text = "(error) OOM command not allowed when used memory > 'maxmemory'."
	if ours, theirs := fill(a.PrimaryClient), fill(real); ours != text || theirs != text {
		t.Errorf("%q; Redis says %q", ours, theirs)
	}
	// Redis refuses a command of a transaction when it is queued, ours when it is executed. Nothing of it happens in either.
	multi := dial(t, a.PrimaryClient)
	for _, c := range [][2]string{{"MULTI", `"OK"`}, {"DEL k0", `"QUEUED"`}, {"SET x y", `"QUEUED"`}} {
		if got := multi.do(t, strings.Fields(c[0])...); got != c[1] {
			t.Errorf("%s: %s", c[0], got)
		}
	}
	if got := multi.do(t, "EXEC"); !strings.HasPrefix(got, "(error) EXECABORT ") {
		t.Error(got)
	}
	ours, theirs := dial(t, a.PrimaryClient), dial(t, real)
	for _, line := range []string{
		"STRLEN k0", "APPEND k0 x", "LPUSH l x", "EXPIRE k0 100", "DEL k0", "CONFIG SET maxmemory 1gb", "SET x y", "APPEND l x", "CONFIG GET maxmemory",
	} {
		if is, want := ours.do(t, strings.Fields(line)...), theirs.do(t, strings.Fields(line)...); is != want {
			t.Errorf("%s: %s, Redis says %s", line, is, want)
		}
	}
	g.kill(a.View.Primary)
	other := g.servers[a.View.Backup]
	wait(t, "the new primary to look at the limit", func() (bool, string) {
		return strings.Contains(other.said(), "another limit of memory than this server"), other.said()
	})
	r := dial(t, a.BackupClient)
	r.do(t, "SET", "x", "z")
	if got := r.do(t, "CONFIG", "GET", "maxmemory"); got != `*["maxmemory" "1073741824"]` {
		t.Errorf("another leads: %s", got)
	}
}
