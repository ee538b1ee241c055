package debian

import (
	"os"
	"strings"
	"testing"

	"understudy/internal/image/progress"
)

// TestOnlineArchive walks the whole chain of trust on the real archive. UNDERSTUDY_ONLINE=1 turns it on.
func TestOnlineArchive(t *testing.T) {
	if os.Getenv("UNDERSTUDY_ONLINE") == "" {
		t.Skip("needs the network: set UNDERSTUDY_ONLINE=1")
	}
	keys, err := builtinKeys()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), Options{Keys: keys, CacheDir: t.TempDir(), Progress: progress.NewLines(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Debian %s of %s, %d packages, signed by %s", a.Release.Version, a.Release.Date, a.Len(), a.Release.SignedBy)
	if a.Len() < 40000 {
		t.Errorf("only %d packages", a.Len())
	}
	list, err := a.Closure([]string{"redis-server"}, []string{"adduser", "init-system-helpers", "debconf"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	t.Log(strings.Join(names, " "))
	files, err := a.Files(t.Context(), a.Lookup("busybox-static"), "", func(name string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Logf("%v %d %s", f.Mode, len(f.Data), f.Name)
	}
}
