package dirstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/dirstore"
)

func TestMain(m *testing.M) {
	arbitertest.Main(m, map[string]func([]string) error{"dies": playDies, "small disk": playSmallDisk})
}

func open(t testing.TB, path string) *dirstore.Store {
	t.Helper()
	s, err := dirstore.Open(path, dirstore.Options{Create: true, WatchInterval: dirstore.MinWatchInterval})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func one(n uint64) arbiter.Record {
	return arbiter.Record{Number: n, Primary: "a", Backup: "b", Claimant: "x"}
}

func claim(t testing.TB, r arbiter.Register, next arbiter.Record, wantWon bool) {
	t.Helper()
	cur, won, err := r.CompareAndSet(t.Context(), "g", next)
	if err != nil || won != wantWon || won != (cur == next) {
		t.Fatalf("claim %+v: %+v, %t, %v; want %t", next, cur, won, err, wantWon)
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRegister(t *testing.T) {
	arbitertest.Run(t, arbitertest.Suite{
		Rounds: arbitertest.Rounds(30, 300),
		Open:   func(t *testing.T) arbiter.Register { return open(t, t.TempDir()) },
		Pair: func(t *testing.T) (a, b arbiter.Register) {
			dir := t.TempDir()
			return open(t, dir), open(t, dir)
		},
	})
}

func TestClaimantsInProcesses(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	rounds := arbitertest.Rounds(200, 500)
	arbitertest.Race(t, arbitertest.Shared{URL: "dir:" + dir, Rounds: rounds})
	names := files(t, filepath.Join(dir, "g"))
	if len(names) > 3+4*10 {
		t.Errorf("%d files are left: %v", len(names), names)
	}
	if all, err := open(t, dir).All(t.Context()); err != nil || all["g"].Number != uint64(rounds) {
		t.Errorf("%v, %v", all, err)
	}
}

// The reason why the grant is one file that is renamed, see the package's documentation.
func TestAStoppedClaimantWinsNothing(t *testing.T) {
	dir := t.TempDir()
	awake, slow := open(t, dir), open(t, dir)
	for n := uint64(1); n <= 5; n++ {
		claim(t, awake, one(n), true)
	}
	stopped, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow.SetStep(func(step string) {
		if step == "grant" {
			once.Do(func() { close(stopped); <-goOn })
		}
	})
	late := arbiter.Record{Number: 6, Primary: "z", Claimant: "late"}
	type answer struct {
		cur arbiter.Record
		won bool
		err error
	}
	told := make(chan answer)
	go func() {
		cur, won, err := slow.CompareAndSet(context.Background(), "g", late)
		told <- answer{cur, won, err}
	}()
	<-stopped
	for n := uint64(6); n <= 12; n++ {
		claim(t, awake, one(n), true)
	}
	for _, name := range files(t, filepath.Join(dir, "g")) {
		if strings.HasPrefix(name, "6-") {
			t.Errorf("%s is left: the test shows nothing", name)
		}
	}
	close(goOn)
	if a := <-told; a.won || a.err != nil || a.cur != one(12) {
		t.Errorf("number 6 again, after 12: %+v", a)
	}
	if got, err := awake.Get(t.Context(), "g"); err != nil || got != one(12) {
		t.Errorf("%+v, %v", got, err)
	}
}

// One claim that is made again while the first attempt hangs in the storage.
func TestTheSameClaimAtOnce(t *testing.T) {
	dir := t.TempDir()
	for n := uint64(1); n <= 20; n++ {
		var wg sync.WaitGroup
		for range 8 {
			s := open(t, dir)
			wg.Go(func() {
				if cur, won, err := s.CompareAndSet(t.Context(), "g", one(n)); !won || err != nil || cur != one(n) {
					t.Errorf("%+v, %t, %v", cur, won, err)
				}
			})
		}
		wg.Wait()
	}
}

// A winner that cleans up while the next number is being claimed leaves that claim's record alone.
func TestCleaningSparesTheNextClaim(t *testing.T) {
	dir := t.TempDir()
	winner, next := open(t, dir), open(t, dir)
	cleaning, proposed := make(chan struct{}), make(chan struct{})
	winner.SetStep(func(step string) {
		if step == "prune" {
			close(cleaning)
			<-proposed
		}
	})
	cleaned := make(chan error, 1)
	go func() {
		_, _, err := winner.CompareAndSet(context.Background(), "g", one(1))
		cleaned <- err
	}()
	<-cleaning
	next.SetStep(func(step string) {
		if step == "grant" {
			close(proposed)
			if err := <-cleaned; err != nil {
				t.Error(err)
			}
		}
	})
	claim(t, next, one(2), true)
	if got, err := open(t, dir).Get(t.Context(), "g"); err != nil || got != one(2) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOldRecordsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := uint64(1); n <= 50; n++ {
		claim(t, s, one(n), true)
		claim(t, s, arbiter.Record{Number: n, Primary: "loser", Claimant: "y"}, false)
	}
	names := files(t, filepath.Join(dir, "g"))
	if len(names) != 3 || !strings.HasPrefix(names[0], "49-") || !strings.HasPrefix(names[1], "50-") {
		t.Errorf("%v", names)
	}
}

// A storage that hangs holds nobody longer than the context says, and the claim may be repeated.
func TestHangingStorage(t *testing.T) {
	s := open(t, t.TempDir())
	claim(t, s, one(1), true)
	goOn := make(chan struct{})
	var once sync.Once
	s.SetStep(func(step string) {
		if step == "sync grant" {
			once.Do(func() { <-goOn })
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, won, err := s.CompareAndSet(ctx, "g", one(2)); won || !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%t, %v", won, err)
	}
	claim(t, s, one(2), true)
	close(goOn)
	claim(t, s, one(2), true)
}

// playDies claims number 2 (or 1 of a new group) and is killed before a step: directory, group, step.
func playDies(args []string) error {
	s, err := dirstore.Open(args[0], dirstore.Options{})
	if err != nil {
		return err
	}
	cur, err := s.Get(context.Background(), args[1])
	if err != nil {
		return err
	}
	s.SetStep(func(step string) {
		if step == args[2] {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	_, _, err = s.CompareAndSet(context.Background(), args[1], arbiter.Record{Number: cur.Number + 1, Primary: "dead", Claimant: "dead"})
	return fmt.Errorf("still alive after %q: %w", args[2], err)
}

func TestKilledBeforeEachStep(t *testing.T) {
	for _, step := range dirstore.Steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			first := strings.HasSuffix(step, "group") || step == "make grant"
			if !first {
				claim(t, s, one(1), true)
			}
			cmd := arbitertest.Part("dies", dir, "g", step)
			cmd.Stderr = nil
			if err := cmd.Run(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("was not killed: %v", err)
			}
			cur, err := open(t, dir).Get(t.Context(), "g")
			if err != nil {
				t.Fatal(err)
			}
			granted := step == "sync grant" || step == "prune"
			if won := cur.Primary == "dead"; won != granted {
				t.Errorf("the dead one won: %t, want %t", won, granted)
			}
			for n := cur.Number + 1; n <= 4; n++ {
				claim(t, s, one(n), true)
			}
			if names := files(t, filepath.Join(dir, "g")); len(names) != 3 {
				t.Errorf("left behind: %v", names)
			}
			// What is left of a group being made goes when it is old.
			old := time.Now().Add(-2 * time.Hour)
			for _, n := range files(t, dir) {
				if strings.HasPrefix(n, ".new-") {
					if err := os.Chtimes(filepath.Join(dir, n), old, old); err != nil {
						t.Fatal(err)
					}
				}
			}
			open(t, dir)
			if names := files(t, dir); len(names) != 2 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestDamage(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(t *testing.T, path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir, record, grant string)
		want error // nil: no harm is done
	}{
		"empty record": {func(t *testing.T, _, record, _ string) { write(t, record, "") }, dirstore.ErrCorrupt},
		"garbage":      {func(t *testing.T, _, record, _ string) { write(t, record, "garbage") }, dirstore.ErrCorrupt},
		"truncated":    {func(t *testing.T, _, record, _ string) { write(t, record, read(t, record)[:40]) }, dirstore.ErrCorrupt},
		"zeros":        {func(t *testing.T, _, record, _ string) { write(t, record, strings.Repeat("\x00", 100)) }, dirstore.ErrCorrupt},
		"endless":      {func(t *testing.T, _, record, _ string) { write(t, record, strings.Repeat(" ", 1<<20)) }, dirstore.ErrCorrupt},
		"null":         {func(t *testing.T, _, record, _ string) { write(t, record, "null") }, dirstore.ErrCorrupt},
		"changed record": {func(t *testing.T, _, record, _ string) {
			write(t, record, strings.Replace(read(t, record), `"a"`, `"z"`, 1))
		}, dirstore.ErrCorrupt},
		"changed group": {func(t *testing.T, _, record, _ string) {
			write(t, record, strings.Replace(read(t, record), `"g"`, `"h"`, 1))
		}, dirstore.ErrCorrupt},
		"record missing":  {func(t *testing.T, _, record, _ string) { remove(t, record) }, dirstore.ErrCorrupt},
		"record a folder": {func(t *testing.T, _, record, _ string) { remove(t, record); _ = os.Mkdir(record, 0o700) }, dirstore.ErrCorrupt},
		"older record": {func(t *testing.T, dir, record, _ string) {
			older, _ := filepath.Glob(filepath.Join(dir, "g", "1-*.json"))
			write(t, record, read(t, older[0]))
		}, dirstore.ErrCorrupt},
		"no grant": {func(t *testing.T, _, _, grant string) { remove(t, grant) }, dirstore.ErrCorrupt},
		"two grants": {func(t *testing.T, dir, _, _ string) {
			write(t, filepath.Join(dir, "g", "1-0123456789abcdef.grant"), "")
		}, dirstore.ErrCorrupt},
		"odd grant": {func(t *testing.T, dir, _, grant string) {
			_ = os.Rename(grant, filepath.Join(dir, "g", "07-0123456789abcdef.grant"))
		}, dirstore.ErrCorrupt},
		"group is a file": {func(t *testing.T, dir, _, _ string) {
			remove(t, filepath.Join(dir, "g"))
			write(t, filepath.Join(dir, "g"), "")
		}, dirstore.ErrCorrupt},
		"empty group":    {func(t *testing.T, dir, _, _ string) { _ = os.Mkdir(filepath.Join(dir, "h"), 0o700) }, dirstore.ErrCorrupt},
		"marker missing": {func(t *testing.T, dir, _, _ string) { remove(t, filepath.Join(dir, ".understudy-arbiter")) }, dirstore.ErrNotStore},
		"marker empty":   {func(t *testing.T, dir, _, _ string) { write(t, filepath.Join(dir, ".understudy-arbiter"), "") }, dirstore.ErrCorrupt},
		"newer format": {func(t *testing.T, dir, _, _ string) {
			write(t, filepath.Join(dir, ".understudy-arbiter"), "understudy-arbiter-dir 2\n")
		}, dirstore.ErrFormat},
		"directory gone": {func(t *testing.T, dir, _, _ string) { remove(t, dir) }, os.ErrNotExist},
		"files of others": {func(t *testing.T, dir, _, _ string) {
			write(t, filepath.Join(dir, "g", ".nfs0001"), "x")
			write(t, filepath.Join(dir, "g", "note.json~"), "x")
		}, nil},
		"orphaned records": {func(t *testing.T, dir, _, _ string) {
			write(t, filepath.Join(dir, "g", "9-0123456789abcdef.json"), "half")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			claim(t, s, one(1), true)
			claim(t, s, one(2), true)
			names := files(t, filepath.Join(dir, "g"))
			i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "2-") && strings.HasSuffix(n, ".json") })
			record := filepath.Join(dir, "g", names[i])
			c.harm(t, dir, record, strings.TrimSuffix(record, ".json")+".grant")
			reopened, err := dirstore.Open(dir, dirstore.Options{})
			if err == nil {
				reopened.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("open: %v, want %v", err, c.want)
			}
			t.Log(err)
			if c.want == nil {
				claim(t, s, one(3), true)
				return
			}
			if strings.HasPrefix(name, "marker") || c.want == dirstore.ErrFormat || name == "empty group" {
				return // the store that is open does not look at that
			}
			if rec, err := s.Get(t.Context(), "g"); !errors.Is(err, arbiter.ErrUnreachable) || rec != (arbiter.Record{}) {
				t.Errorf("get: %+v, %v", rec, err)
			}
			if _, won, err := s.CompareAndSet(t.Context(), "g", one(3)); won || !errors.Is(err, arbiter.ErrUnreachable) {
				t.Errorf("claim: %t, %v", won, err)
			}
			if _, won, err := s.CompareAndSet(t.Context(), "g", one(1)); won || !errors.Is(err, arbiter.ErrUnreachable) {
				t.Errorf("claim from the beginning: %t, %v", won, err)
			}
		})
	}
}

func TestCreateWantsAnEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := dirstore.Open(dir, dirstore.Options{}); !errors.Is(err, dirstore.ErrNotStore) {
		t.Errorf("empty, without create: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dirstore.Open(dir, dirstore.Options{Create: true}); !errors.Is(err, dirstore.ErrNotStore) {
		t.Errorf("in use for something else: %v", err)
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("%v", names)
	}
	if _, err := dirstore.Open(filepath.Join(dir, "none"), dirstore.Options{Create: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestTheLastNumber(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	claim(t, s, one(1), true)
	names, _ := filepath.Glob(filepath.Join(dir, "g", "*.grant"))
	if err := os.Rename(names[0], filepath.Join(dir, "g", fmt.Sprintf("%d-0123456789abcdef.grant", uint64(math.MaxUint64)))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "g"); !errors.Is(err, dirstore.ErrCorrupt) {
		t.Errorf("a grant without its record: %v", err)
	}
}

func BenchmarkClaim(b *testing.B) { arbitertest.BenchmarkClaim(b, open(b, b.TempDir())) }
