package compare

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"understudy/internal/kvbench"
	"understudy/view"
)

// program builds understudy.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes")
	}
	exe := filepath.Join(t.TempDir(), "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return exe
}

func needRedis(t *testing.T) {
	t.Helper()
	if err := RedisAvailable(); err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// none fails the test unless all processes of a closed service are gone, and its files.
func none(t *testing.T, s *Service) {
	t.Helper()
	for _, p := range s.all {
		select {
		case <-p.done:
		default:
			t.Errorf("%s runs on", p.Name)
		}
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("its files are there: %v", err)
	}
}

func TestOurs(t *testing.T) {
	s, err := Ours(t.Context(), "ours", OursOptions{Exe: program(t), Servers: 3, Suspect: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer none(t, s)
	defer s.Close()
	r, err := kvbench.Run(t.Context(), kvbench.Load{Addr: s.Addr, Clients: 2, Pipeline: 4, Bytes: 64, Keys: 100, For: 200 * time.Millisecond})
	if err != nil || r.Operations == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if s.CPU() == 0 {
		t.Error("the servers took no processor time")
	}
	own, err := FollowViews("own", s)
	if err != nil {
		t.Fatal(err)
	}
	former := s.Addr
	outcomes, steps, err := s.Fail(t.Context(), Frozen, Follow("redis", s, false), own)
	if err != nil {
		t.Fatal(err)
	}
	if steps.Twice == 0 || steps.View > steps.Twice || len(outcomes) != 2 || s.Addr == former {
		t.Fatalf("%v, %v, at %s", outcomes, steps, s.Addr)
	}
	for _, o := range outcomes {
		// It was silent until it was suspected, and the writers noticed.
		if o.Lost != 0 || o.Acked == 0 || o.Blackout < time.Second/2 {
			t.Errorf("%+v", o)
		}
	}
}

func TestJoin(t *testing.T) {
	exe := program(t)
	needRedis(t)
	for _, start := range []func() (*Service, error){
		func() (*Service, error) {
			return Ours(t.Context(), "ours", OursOptions{Exe: exe, Servers: 1, Suspect: time.Second})
		},
		func() (*Service, error) { return Redis(t.Context(), "Redis", RedisOptions{}) },
	} {
		s, err := start()
		if err != nil {
			t.Fatal(err)
		}
		t.Run(s.Name, func(t *testing.T) { join(t, s) })
	}
}

func join(t *testing.T, s *Service) {
	defer none(t, s)
	defer s.Close()
	const keys = 1000
	if err := Fill(t.Context(), s.Addr, keys); err != nil {
		t.Fatal(err)
	}
	p, err := StartProber(t.Context(), s.Addr, 2, keys)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	backup, err := s.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitCopy(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	to := time.Now()
	if took := p.Took(from, to); len(took) == 0 || took[0] == 0 || took[0] > took[len(took)-1] {
		t.Errorf("probes took %v", took)
	}
	if took := p.Took(to, from); len(took) != 0 {
		t.Errorf("%d probes in no time", len(took))
	}
	if err := backup.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitCopy(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRedis(t *testing.T) {
	needRedis(t)
	if testing.Short() {
		t.Skip("waits for Sentinels")
	}
	s, err := Redis(t.Context(), "Redis", RedisOptions{Replicas: 2, Sentinels: 3, DownAfter: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer none(t, s)
	defer s.Close()
	for _, once := range []bool{false, true} {
		r, err := kvbench.Run(t.Context(), kvbench.Load{Addr: s.Addr, Clients: 2, Pipeline: 4, Wait: true, Once: once, Bytes: 64, Keys: 100, For: 200 * time.Millisecond})
		if err != nil || r.Operations == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	outcomes, _, err := s.Fail(t.Context(), Killed, Follow("set", s, false), Follow("wait", s, true))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Acked == 0 || o.Blackout < time.Second/2 {
			t.Errorf("%+v", o)
		}
	}
}

func TestEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("builds etcd")
	}
	exe, err := BuildEtcd(t.Context(), t.TempDir())
	if err != nil {
		t.Skip(err) // its modules cannot be had
	}
	s, err := Etcd(t.Context(), "etcd", exe)
	if err != nil {
		t.Fatal(err)
	}
	defer none(t, s)
	defer s.Close()
	r, err := LoadEtcd(t.Context(), kvbench.Load{Addr: s.Addr, Clients: 2, Pipeline: 4, Bytes: 64, Keys: 100, For: 200 * time.Millisecond})
	if err != nil || r.Operations == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LoadEtcd(ctx, kvbench.Load{Addr: s.Addr, Clients: 1, Pipeline: 1, Keys: 1, For: time.Minute}); err == nil {
		t.Error("a load that was cancelled went on")
	}
}

// A service that does not start says why.
func TestStartFails(t *testing.T) {
	for _, exe := range []string{"/nowhere/understudy", "/bin/false"} {
		if s, err := Ours(t.Context(), "ours", OursOptions{Exe: exe, Servers: 2, Suspect: time.Second}); err == nil {
			s.Close()
			t.Errorf("%s: started", exe)
		} else {
			t.Log(err)
		}
	}
}

func TestProtected(t *testing.T) {
	a := view.Answer{View: view.View{Number: 2, Primary: "a", Backup: "b"}, Acked: true}
	if Protected(a) || Alone(a) {
		t.Error("a backup that is not in sync protects")
	}
	if a.InSync = true; !Protected(a) {
		t.Error("a backup in sync does not protect")
	}
}
