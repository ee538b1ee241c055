package kvdemo

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKills is the demo, with real processes and kill -9, until one server is left.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and starts processes")
	}
	exe := filepath.Join(t.TempDir(), "understudy")
	if out, err := exec.Command("go", "build", "-o", exe, "understudy/cmd/understudy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	r, err := Run(t.Context(), Options{Exe: exe, Dir: t.TempDir(), Servers: 4, Clients: 20, Kills: 3, Suspect: 500 * time.Millisecond, Say: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if !r.Proved || r.Appends == 0 || len(r.Blackouts) != 3 {
		t.Errorf("%+v", r)
	}
}
