package kv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/view"
)

// settled waits until the backup has executed all that the primary has, and both were found equal after that.
func (g *group) settled() view.Answer {
	g.t.Helper()
	a := g.protected()
	last, _ := strconv.Atoi(info(a.PrimaryClient, "master_repl_offset"))
	before := -1
	wait(g.t, "the backup to be compared with the primary", func() (bool, string) {
		at, _ := strconv.Atoi(info(a.BackupClient, "master_repl_offset"))
		equal, err := strconv.Atoi(info(a.BackupClient, "understudy_equal_digests"))
		if at < last || err != nil {
			return false, fmt.Sprintf("entry %d of %d, %v", at, last, err)
		}
		if before < 0 {
			before = equal
		}
		// The first that counts now may be of a snapshot from before.
		return equal >= before+2, fmt.Sprintf("%d times equal", equal-before)
	})
	return a
}

// TestAppendsToOneKey: 500 clients append to the same key at the same time, while the primary is killed. Every append is there
// once, those of each client in its order, on both replicas.
func TestAppendsToOneKey(t *testing.T) {
	long(t)
	const clients, each = 500, 3
	g := startGroup(t, options{servers: 3})
	first := g.protected()
	var load, half sync.WaitGroup
	half.Add(clients)
	killed := make(chan struct{})
	for w := range clients {
		c := g.client()
		load.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for i := range each {
				if i == 1 {
					half.Done()
				}
				if i == 2 {
					<-killed // after this one they come all at once
				}
				if _, err := c.Append(ctx, []byte("log"), fmt.Appendf(nil, "%d.%d;", w, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	half.Wait() // the second of each is on its way
	g.kill(first.View.Primary)
	close(killed)
	load.Wait()
	read := func() string {
		v, _, err := g.client().Get(t.Context(), []byte("log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(v)
	}
	a := g.settled()
	text := read()
	next := make([]int, clients)
	for word := range strings.SplitSeq(strings.TrimSuffix(text, ";"), ";") {
		var w, i int
		if n, err := fmt.Sscanf(word, "%d.%d", &w, &i); n != 2 || w >= clients || next[w] != i {
			t.Fatalf("%q, %v: %d is due", word, err, next[min(w, clients-1)])
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("client %d: %d of %d appends", w, n, each)
		}
	}
	// What the backup holds shows when it leads.
	g.kill(a.View.Primary)
	g.until("the backup to lead", func(n view.Answer) bool { return n.View.Primary == a.View.Backup })
	if other := read(); other != text {
		t.Errorf("the replicas differ: %d and %d bytes", len(text), len(other))
	}
}

// TestStoppedServers: a server that stands still is replaced, and takes a part again when it goes on.
func TestStoppedServers(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 3})
	l := g.load(8)
	for _, which := range []string{"primary", "backup"} {
		a := g.protected()
		name := a.View.Primary
		if which == "backup" {
			name = a.View.Backup
		}
		l.more(50)
		g.servers[name].stop(t)
		g.until("a view without the one that stands still", func(n view.Answer) bool {
			return isProtected(n) && n.View.Primary != name && n.View.Backup != name
		})
		l.more(50)
		g.servers[name].signal(t, syscall.SIGCONT)
		// It takes a part again when it is needed.
		wait(t, name+" to be a spare", func() (bool, string) {
			role := info(g.addr(name), "understudy_role")
			return role == "spare", role
		})
		a = g.protected()
		g.kill(a.View.Backup)
		g.until(name+" to be the backup", func(n view.Answer) bool { return isProtected(n) && n.View.Backup == name })
		g.start(a.View.Backup)
		l.more(50)
	}
	g.settled()
	l.check()
}

// TestControlComesAndGoes: while control is away, what is protected stays so.
func TestControlComesAndGoes(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 3})
	l := g.load(8)
	a := g.protected()
	l.more(50)
	_, port, _ := net.SplitHostPort(g.control.ready["listen"])
	_, sentinelPort, _ := net.SplitHostPort(g.sentinel)
	g.control.kill()
	l.more(500)
	// Nobody may lead without the arbiter's word.
	g.kill(a.View.Primary)
	backup := g.servers[a.View.Backup]
	wait(t, "the backup to claim", func() (bool, string) { return strings.Contains(backup.said(), "claims view"), backup.said() })
	g.startControl(port, sentinelPort)
	g.until("the backup to lead", func(n view.Answer) bool { return n.View.Primary == a.View.Backup })
	l.more(200)
	g.protected()
	l.check()
	if got := cli(t, g.sentinel, "", "sentinel", "get-master-addr-by-name", groupName); got != strings.ReplaceAll(g.addr(a.View.Backup), ":", "\n") {
		t.Error(got)
	}
}

// TestFreshServersDoNotServe: when all who held the data are dead, nobody begins anew: neither a third server, nor those two when they
// come back without it.
func TestFreshServersDoNotServe(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 2})
	a := g.protected()
	if err := g.client().Put(t.Context(), []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	life := func(name string) (life, problem string) {
		st, err := g.views.Status(t.Context(), groupName)
		for _, s := range st.Servers {
			if s.Name == name {
				life = s.Incarnation
			}
		}
		return life, fmt.Sprintf("%+v, %v", st, err)
	}
	before := map[string]string{}
	for name := range g.servers {
		before[name], _ = life(name)
	}
	g.kill(a.View.Backup)
	g.kill(a.View.Primary)
	for _, name := range []string{"kv3", "kv1", "kv2"} {
		g.start(name)
		wait(t, "control to hear of "+name, func() (bool, string) {
			is, problem := life(name)
			return is != before[name], problem
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		v, ok, err := g.client().Get(ctx, []byte("k"))
		cancel()
		if err == nil {
			t.Fatalf("answered %q, %v", v, ok)
		}
		for other := range g.servers {
			r := dial(t, g.addr(other))
			if got := r.do(t, "GET", "k"); !strings.HasPrefix(got, "(error) MASTERDOWN ") {
				t.Errorf("%s: %s", other, got)
			}
			if got := r.do(t, "SET", "k", "w"); !strings.HasPrefix(got, "(error) READONLY ") {
				t.Errorf("%s: %s", other, got)
			}
		}
	}
}

// TestAllDie: everything is killed at once, three times, control too. What was answered is there when it is started again.
func TestAllDie(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 2, files: []string{"--fsync", "no"}})
	l := g.load(8)
	g.protected()
	_, port, _ := net.SplitHostPort(g.control.ready["listen"])
	_, sentinelPort, _ := net.SplitHostPort(g.sentinel)
	for round := range 3 {
		l.more(200)
		for _, p := range g.servers {
			p.signal(t, syscall.SIGKILL)
		}
		g.control.kill()
		for _, p := range g.servers {
			<-p.done
		}
		g.startControl(port, sentinelPort)
		names := []string{"kv1", "kv2"}
		if round == 1 {
			slices.Reverse(names)
		}
		for _, name := range names {
			g.start(name)
		}
		l.more(100)
		g.protected()
	}
	g.settled()
	l.check()
}

// TestServersComeAndGo: of four servers under load, one at random is killed, or stands still for a while, and comes back; then the
// next. The group is never without a server that holds the data.
func TestServersComeAndGo(t *testing.T) {
	long(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with: UNDERSTUDY_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	until := time.Now()
	if s := os.Getenv("UNDERSTUDY_SOAK"); s != "" {
		minutes, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		until = until.Add(time.Duration(minutes * float64(time.Minute)))
	}
	g := startGroup(t, options{servers: 4})
	l := g.load(20)
	names := []string{"kv1", "kv2", "kv3", "kv4"}
	rounds := 0
	for ; rounds < 3 || time.Now().Before(until); rounds++ {
		a := g.protected()
		l.more(int64(1 + rnd.IntN(200)))
		name := names[rnd.IntN(len(names))]
		if rounds == 0 {
			name = a.View.Primary // once at least
		}
		switch what := rnd.IntN(3); what {
		case 0:
			t.Logf("round %d: %s of {%s, %s} stands still", rounds, name, a.View.Primary, a.View.Backup)
			g.servers[name].stop(t)
			l.more(int64(1 + rnd.IntN(200)))
			g.servers[name].signal(t, syscall.SIGCONT)
		default:
			t.Logf("round %d: %s of {%s, %s} dies", rounds, name, a.View.Primary, a.View.Backup)
			g.kill(name)
			if what == 1 {
				l.more(int64(1 + rnd.IntN(200)))
			}
			g.start(name)
		}
		// The other of the two may die only when the group is protected again, and the load goes on meanwhile.
		l.more(int64(1 + rnd.IntN(200)))
	}
	g.settled()
	l.check()
	t.Logf("%d rounds, %d appends", rounds, l.total.Load())
}
