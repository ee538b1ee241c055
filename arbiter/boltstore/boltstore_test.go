package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/boltstore"
)

const roleEnv = "UNDERSTUDY_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == "full disk" {
		os.Exit(fillUp(os.Args[1]))
	}
	os.Exit(m.Run())
}

func open(t testing.TB, path string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func one(n uint64) arbiter.Record {
	return arbiter.Record{Number: n, Primary: "a", Backup: "b", Claimant: "x"}
}

func TestRegister(t *testing.T) {
	arbitertest.Run(t, arbitertest.Suite{
		Rounds: arbitertest.Rounds(50, 1000),
		Open: func(t *testing.T) arbiter.Register {
			return open(t, filepath.Join(t.TempDir(), "arbiter.db"))
		},
	})
}

func TestRecordsOutliveTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "arbiter.db")
	for n := uint64(1); n <= 5; n++ {
		s := open(t, path)
		if cur, won, err := s.CompareAndSet(t.Context(), "g", one(n)); !won || err != nil {
			t.Fatalf("number %d: %+v, %t, %v", n, cur, won, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "g"); !errors.Is(err, arbiter.ErrUnreachable) {
			t.Errorf("get after close: %v", err)
		}
	}
	all, err := open(t, path).All(t.Context())
	if err != nil || len(all) != 1 || all["g"] != one(5) {
		t.Errorf("%v, %v", all, err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) string {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	bolt := func(name string, f func(tx *bbolt.Tx) error) string {
		db, err := bbolt.Open(path(name), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(f); err != nil {
			t.Fatal(err)
		}
		db.Close()
		return path(name)
	}
	store := func(name string) string {
		s := open(t, path(name))
		if _, _, err := s.CompareAndSet(t.Context(), "g", one(1)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		return path(name)
	}
	open(t, path("locked"))
	good, err := os.ReadFile(store("good"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(good, []byte(`"primary":"a"`), []byte(`"primary":"z"`), -1)
	if bytes.Equal(flipped, good) {
		t.Fatal("the record is not where the test looks for it")
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"locked":        {path("locked"), boltstore.ErrLocked},
		"garbage":       {write("garbage", bytes.Repeat([]byte("garbage!"), 8192)), boltstore.ErrCorrupt},
		"text":          {write("text", []byte("hello\n")), nil},
		"truncated":     {write("truncated", good[:len(good)/3]), nil},
		"record damage": {write("flipped", flipped), boltstore.ErrCorrupt},
		"pages lost":    {write("pages", append(append([]byte(nil), good[:8192]...), make([]byte, len(good)-8192)...)), nil},
		"other program": {bolt("other", func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("cats")); return err }), boltstore.ErrCorrupt},
		"newer format": {bolt("newer", func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("meta"))
			if err != nil {
				return err
			}
			return b.Put([]byte("format"), []byte("understudy-arbiter 2"))
		}), boltstore.ErrFormat},
		"directory":    {dir, nil},
		"no directory": {filepath.Join(dir, "no", "such"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := boltstore.Open(c.path, boltstore.Options{LockTimeout: 50 * time.Millisecond})
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.path) {
				t.Errorf("%v does not name the file", err)
			}
			t.Log(err)
		})
	}
	t.Run("read-only directory", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write everywhere")
		}
		ro := filepath.Join(dir, "ro")
		if err := os.Mkdir(ro, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := boltstore.Open(filepath.Join(ro, "db"), boltstore.Options{}); !errors.Is(err, boltstore.ErrReadOnly) {
			t.Errorf("%v", err)
		}
	})
}

// fillUp runs in a process of its own whose files may not grow: claims until it fails, then looks at what is
// left. Numbers that were granted must be there.
func fillUp(path string) int {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println("limit:", err)
		return 1
	}
	ctx := context.Background()
	for i := range 5000 {
		rec := one(1)
		rec.Primary = strings.Repeat("p", 200)
		_, won, err := s.CompareAndSet(ctx, fmt.Sprintf("g%d", i), rec)
		if err == nil {
			if !won {
				fmt.Println("lost", i)
				return 1
			}
			continue
		}
		fmt.Println("granted", i)
		if !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, boltstore.ErrFull) {
			fmt.Println("wrong error:", err)
			return 1
		}
		if _, err := s.Get(ctx, "g0"); !errors.Is(err, boltstore.ErrFull) {
			fmt.Println("the store answers although it failed:", err)
			return 1
		}
		return 0
	}
	fmt.Println("never full")
	return 1
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "arbiter.db")
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), roleEnv+"=full disk")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var granted int
	if _, err := fmt.Sscanf(string(out), "granted %d", &granted); err != nil || granted == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	all, err := open(t, path).All(t.Context())
	if err != nil || len(all) < granted || len(all) > granted+1 {
		t.Errorf("%d groups after %d grants: %v", len(all), granted, err)
	}
}

func BenchmarkClaim(b *testing.B) {
	arbitertest.BenchmarkClaim(b, open(b, filepath.Join(b.TempDir(), "arbiter.db")))
}
