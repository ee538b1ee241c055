package kv

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"understudy/view"
)

// ended waits for the end of a process, and gives its exit code.
func (p *process) ended(t *testing.T) int {
	t.Helper()
	wait(t, "the end of "+p.name, func() (bool, string) {
		select {
		case <-p.done:
			return true, ""
		default:
			return false, ""
		}
	})
	return p.ProcessState.ExitCode()
}

// TestStopHandsOver: a primary that is asked to end gives its part to its backup first. Nobody has to suspect it.
func TestStopHandsOver(t *testing.T) {
	long(t)
	// Whoever must suspect waits for very long.
	g := startGroup(t, options{servers: 3, suspect: calm, deadAfter: deadAfter})
	l := g.load(10)
	var a view.Answer
	next := func() {
		was := a.View.Number
		a = g.until("the next protected group", func(n view.Answer) bool { return isProtected(n) && n.View.Number > was })
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		next()
		l.more(100)
		primary := g.servers[a.View.Primary]
		primary.signal(t, s)
		if code := primary.ended(t); code != 130 {
			t.Errorf("exit code %d", code)
		}
		b := a
		a = g.until("the backup to lead", func(n view.Answer) bool { return n.View.Primary == b.View.Backup })
		l.more(100)
		if said := primary.said(); !strings.Contains(said, "hands over to "+b.View.Backup) || !strings.Contains(said, "msg=\"handed over\"") {
			t.Errorf("%s says:\n%s", primary.name, said)
		}
		if said := g.servers[b.View.Backup].said(); strings.Contains(said, "silence") {
			t.Errorf("%s says:\n%s", b.View.Backup, said)
		}
		delete(g.servers, primary.name)
		g.start(primary.name)
	}
	// One that has just lost its backup waits until the spare can take its part.
	next()
	g.until("a spare", g.spareReady)
	g.kill(a.View.Backup)
	primary := g.servers[a.View.Primary]
	primary.signal(t, syscall.SIGTERM)
	primary.ended(t)
	spare := g.spare(a)
	delete(g.servers, primary.name)
	g.until("the spare to lead", func(n view.Answer) bool { return n.View.Primary == spare })
	l.more(100)
	for _, name := range []string{a.View.Primary, a.View.Backup} {
		g.start(name)
	}
	// A backup, and a spare, just end.
	next()
	for _, name := range []string{a.View.Backup, g.spare(a)} {
		g.servers[name].signal(t, syscall.SIGTERM)
		g.servers[name].ended(t)
		delete(g.servers, name)
		l.more(100)
	}
	l.check()
	// Nobody is left to hand over to.
	last := g.servers[a.View.Primary]
	last.signal(t, syscall.SIGTERM)
	last.ended(t)
	if !strings.Contains(last.said(), "no backup to hand over to") {
		t.Error(last.said())
	}
}

// TestSecondSignalEnds: a primary whose backup is stopped cannot hand over, and waits. A second signal ends it.
func TestSecondSignalEnds(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 2, suspect: calm})
	a := g.protected()
	primary, backup := g.servers[a.View.Primary], g.servers[a.View.Backup]
	backup.stop(t)
	primary.signal(t, syscall.SIGTERM)
	wait(t, "the hand over to begin", func() (bool, string) { return strings.Contains(primary.said(), "hands over to"), primary.said() })
	select {
	case <-primary.done:
		t.Error("it did not wait")
	default:
	}
	primary.signal(t, syscall.SIGTERM)
	primary.ended(t)
	if !strings.Contains(primary.said(), "ends without handing over") {
		t.Error(primary.said())
	}
	backup.signal(t, syscall.SIGCONT)
}

// TestServeRefuses: what is wrong with a command line is said before anything starts.
func TestServeRefuses(t *testing.T) {
	long(t)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"kv", "serve", "--name", "a"}, []string{"needs a name and a group", "Try: --name"}},
		{[]string{"kv", "serve", "--name", "a", "--group", "g", "--listen", "0.0.0.0:0"}, []string{"only loopback addresses are allowed"}},
		{[]string{"kv", "serve", "--name", "a", "--group", "g", "--control", "10.77.0.1:7600"}, []string{"only loopback addresses are allowed"}},
		{[]string{"kv", "serve", "--name", "a", "--group", "g", "--requirepass", "/nonexistent"}, []string{"read the password"}},
		{[]string{"kv", "serve", "--name", "a", "--group", "g", "--maxmemory", "much"}, []string{"much"}},
		{[]string{"kv", "serve", "--name", "a", "--group", "g", "--tls-dir", t.TempDir()}, []string{"certificate", "Try: understudy cert"}},
		{[]string{"kv", "control", "--listen", "0.0.0.0:0"}, []string{"only loopback addresses are allowed"}},
	} {
		cmd := exec.CommandContext(t.Context(), exe, c.args...)
		cmd.Env = append(cmd.Environ(), "UNDERSTUDY_INSECURE=1", "XDG_STATE_HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		for _, w := range c.want {
			if err == nil || !strings.Contains(string(out), w) {
				t.Errorf("%v: %v\n%s", c.args, err, out)
			}
		}
	}
}
