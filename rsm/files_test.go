package rsm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/memstore"
	"understudy/rsm"
	"understudy/view"
	"understudy/view/httpview"
)

// disks gives every server of a group a directory that outlives it.
type disks struct {
	*group
	root  string
	fsync string
	tune  []func(*rsm.Options)
	dark  atomic.Bool // the power has failed: nobody wins a view any more
}

func newDisks(t *testing.T, fsync string, tune ...func(*rsm.Options)) *disks {
	return &disks{group: newGroup(t), root: t.TempDir(), fsync: fsync, tune: tune}
}

// darkened is the arbiter, for who dies a moment later than the others.
type darkened struct {
	arbiter.Register
	dark *atomic.Bool
}

func (r darkened) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	if r.dark.Load() {
		return arbiter.Record{}, false, arbiter.ErrUnreachable
	}
	return r.Register.CompareAndSet(ctx, group, next)
}

func (d *disks) begin(name string) *node {
	d.t.Helper()
	return d.start(name, append([]func(*rsm.Options){func(o *rsm.Options) {
		o.Dir, o.Fsync = filepath.Join(d.root, name), d.fsync
		o.Arbiter = darkened{d.reg, &d.dark}
	}}, d.tune...)...)
}

// die kills all that there is at once, the view service too. What the arbiter knows is on disk in real life.
func (d *disks) die() {
	d.dark.Store(true)
	defer d.dark.Store(false)
	var all sync.WaitGroup
	for _, n := range d.nodes {
		all.Go(n.kill)
	}
	all.Wait()
	clear(d.nodes)
	d.views.Close()
	d.newViews()
}

func (d *disks) newViews() {
	d.t.Helper()
	var err error
	if d.views, err = httpview.NewService(d.reg, httpview.Options{View: view.Config{PingInterval: 50 * time.Millisecond}}); err != nil {
		d.t.Fatal(err)
	}
}

// write has n commands of a client executed, from number first.
func (d *disks) write(who, first, n int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	for i := first; i < first+n; i++ {
		if _, err := d.propose(ctx, who, i, fmt.Sprintf("%d-%d", who, i)); err != nil {
			d.t.Fatalf("command %d: %v", i, err)
		}
	}
}

// lines are those of the primary.
func (d *disks) lines() (lines []string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if n := d.primary(); n != nil && n.Read(ctx, func() { lines = append([]string(nil), n.m.lines...) }) == nil {
			return lines
		}
		time.Sleep(time.Millisecond)
	}
	d.t.Fatal("nobody answers")
	return nil
}

// wantOnce checks that a client's first n commands are there, once each and in their order.
func (d *disks) wantOnce(who, n int) {
	d.t.Helper()
	next := 1
	for _, l := range d.lines() {
		text, _, _ := strings.Cut(l, " ")
		if !strings.HasPrefix(text, fmt.Sprint(who, "-")) {
			continue
		}
		if text != fmt.Sprintf("%d-%d", who, next) {
			d.t.Fatalf("%q where %d-%d should be", text, who, next)
		}
		next++
	}
	if next != n+1 {
		d.t.Fatalf("%d commands of client %d, want %d", next-1, who, n)
	}
}

// TestGroupComesBackFromFiles kills every server, and the view service, again and again: nothing that was answered is lost.
func TestGroupComesBackFromFiles(t *testing.T) {
	for _, fsync := range []string{"always", "everysec", "no"} {
		if testing.Short() && fsync != "always" {
			continue
		}
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			d := newDisks(t, fsync)
			d.begin("a")
			d.want("a", "")
			d.begin("b")
			d.want("a", "b")
			done := 0
			for _, back := range [][]string{{"a", "b"}, {"b", "a"}, {"a"}, {"b"}} {
				for _, name := range []string{"a", "b"} {
					if d.nodes[name] == nil {
						d.begin(name)
					}
				}
				d.await("a backup in sync", func() bool { p := d.primary(); return p != nil && p.Status().InSync })
				d.write(1, done+1, 50)
				done += 50
				d.die()
				for _, name := range back {
					d.begin(name)
				}
				d.wantOnce(1, done)
				d.write(1, done+1, 10)
				done += 10
			}
		})
	}
}

// TestOldFilesDoNotLead: a server that the group has gone on without waits for the one that holds everything.
func TestOldFilesDoNotLead(t *testing.T) {
	t.Parallel()
	d := newDisks(t, "always")
	d.begin("a")
	d.want("a", "")
	old := d.begin("b")
	d.want("a", "b")
	d.write(1, 1, 20)
	old.kill()
	d.want("a", "")
	d.write(1, 21, 20)
	d.die()
	d.begin("b")
	d.begin("c") // and one without files
	for range 1000 {
		if d.primary() != nil {
			t.Fatalf("%+v leads with old files", d.primary().Status())
		}
		time.Sleep(2 * time.Millisecond)
	}
	d.begin("a")
	d.wantOnce(1, 40)
	d.await("a backup in sync", func() bool { p := d.primary(); return p != nil && p.Status().InSync })
	// What b or c got with its new part is worth something again.
	d.write(1, 41, 1)
	backup := d.primary().Status().Backup
	d.die()
	d.begin(backup)
	d.wantOnce(1, 41)
}

// TestFilesOfAnotherHistory: the arbiter has lost its record, or is another one.
func TestFilesOfAnotherHistory(t *testing.T) {
	d := newDisks(t, "always")
	d.begin("a")
	d.want("a", "")
	d.write(1, 1, 5)
	d.die()
	kept := d.reg
	for _, another := range []arbiter.Record{{}, {Number: 1, Primary: "a", Claimant: "somebody"}, {Number: 1, Primary: "z", Claimant: "somebody"}} {
		d.reg = memstore.New()
		if another.Number > 0 {
			if _, won, err := d.reg.CompareAndSet(t.Context(), "g", another); err != nil || !won {
				t.Fatal(won, err)
			}
		}
		d.views.Close()
		d.newViews()
		n := d.begin("a")
		select {
		case err := <-n.err:
			if !errors.Is(err, rsm.ErrFiles) || !strings.Contains(err.Error(), "for the arbiter the newest is") {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatalf("%+v goes on", n.Status())
		}
		if rec, err := d.reg.Get(t.Context(), "g"); err != nil || rec != another {
			t.Errorf("the arbiter has %+v, %v: the group began anew", rec, err)
		}
	}
	d.reg = kept
	d.views.Close()
	d.newViews()
	d.begin("a")
	d.wantOnce(1, 5)
}

// TestFilesAreRewritten: the log does not grow for ever, and what is written during a snapshot is not lost.
func TestFilesAreRewritten(t *testing.T) {
	t.Parallel()
	d := newDisks(t, "everysec", func(o *rsm.Options) { o.SnapshotBytes = 4096 })
	d.begin("a")
	d.want("a", "")
	d.begin("b")
	d.want("a", "b")
	d.write(1, 1, 300)
	for _, name := range []string{"a", "b"} {
		d.await("a later generation", func() bool {
			logs, _ := filepath.Glob(filepath.Join(d.root, name, "*.snap"))
			return len(logs) == 1 && !strings.HasSuffix(logs[0], "000001.snap")
		})
	}
	d.write(1, 301, 300)
	d.die()
	for _, name := range []string{"a", "b"} {
		d.begin(name)
	}
	d.wantOnce(1, 600)
}

// TestFullDisk: what cannot be written is not answered. A backup is left behind, a primary makes way.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs a file system of 256 KiB, which root can mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	d := newDisks(t, "always")
	if err := os.Symlink(small, filepath.Join(d.root, "a")); err != nil {
		t.Fatal(err)
	}
	a := d.begin("a")
	d.want("a", "")
	d.begin("b")
	d.want("a", "b")
	n := 0
	for d.nodes["b"].Status().Role != "primary" {
		n++
		d.write(1, n, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _ = d.propose(ctx, 2, n, strings.Repeat("x", 10_000))
		cancel()
		if n > 1000 {
			t.Fatal("the disk does not get full")
		}
	}
	if err := <-a.err; !errors.Is(err, rsm.ErrFiles) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a ended with %v", err)
	}
	d.write(1, n+1, 10)
	d.wantOnce(1, n+10)
}

// TestFilesSurviveAnything kills and starts servers of a group at random, one or all, and now and then the view service.
func TestFilesSurviveAnything(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 2
	}
	d := newDisks(t, "always", func(o *rsm.Options) { o.SnapshotBytes, o.SuspectAfter = 20_000, 200*time.Millisecond })
	names := []string{"a", "b", "c"}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for _, name := range names {
		d.begin(name)
	}
	var mu sync.Mutex // guards d.nodes
	primary := func() *node {
		mu.Lock()
		defer mu.Unlock()
		return d.primary()
	}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	wrote := make([]int, 4)
	for w := range wrote {
		load.Go(func() {
			for i := 1; ctx.Err() == nil; {
				p := primary()
				if p == nil {
					time.Sleep(time.Millisecond)
					continue
				}
				within, cancel := context.WithTimeout(ctx, time.Second)
				_, err := p.Propose(within, fmt.Appendf(nil, "%s%08d%d-%d", client(w), i, w, i))
				cancel()
				if err == nil {
					wrote[w] = i
					i++
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for round := range rounds {
		time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
		mu.Lock()
		var down []string
		for _, name := range names {
			if d.nodes[name] != nil && (round%2 == 0 || r.IntN(2) == 0) {
				down = append(down, name)
			}
		}
		var all sync.WaitGroup
		for _, name := range down {
			all.Go(d.nodes[name].kill)
		}
		all.Wait()
		for _, name := range down {
			delete(d.nodes, name)
		}
		if round%4 == 0 {
			d.views.Close()
			d.newViews()
			for name, n := range d.nodes { // those that live speak to the old one
				n.kill()
				delete(d.nodes, name)
				down = append(down, name)
			}
		}
		r.Shuffle(len(down), func(i, j int) { down[i], down[j] = down[j], down[i] })
		for _, name := range down {
			d.begin(name)
		}
		mu.Unlock()
		d.await("a primary", func() bool { return primary() != nil })
	}
	stop()
	load.Wait()
	total := 0
	for w, n := range wrote {
		next := 1
		for _, l := range d.lines() {
			text, _, _ := strings.Cut(l, " ")
			if strings.HasPrefix(text, fmt.Sprint(w, "-")) {
				if text != fmt.Sprintf("%d-%d", w, next) {
					t.Fatalf("%q where %d-%d should be", text, w, next)
				}
				next++
			}
		}
		if next-1 < n {
			t.Fatalf("client %d: %d commands were answered, %d are there", w, n, next-1)
		}
		total += n
	}
	if total < 10*rounds {
		t.Errorf("only %d commands", total)
	}
}
