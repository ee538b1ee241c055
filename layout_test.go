package understudy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Imports point one way: cmd → internal → {replica, view, kv} → {machine, event, arbiter}. And the pure
// packages get nothing from their host: a clock, a file, a socket, a lock or a random source in the
// deterministic core is a divergence that waits to happen.
var rules = []struct {
	under     string // folder, with everything below it
	except    string // a folder below it that follows other rules
	forbidden []string
	because   string
}{
	{"event", "", []string{"understudy/"}, "the log's entries know nothing of who writes them"},
	{"machine", "", []string{"understudy/replica", "understudy/internal", "understudy/cmd", "understudy/view", "understudy/kv", "understudy/arbiter"}, "the machine does not know that it is replicated"},
	{"replica", "", []string{"understudy/machine", "understudy/internal", "understudy/cmd"}, "the replication core does not know what it replicates"},
	{"arbiter", "", []string{"understudy/machine", "understudy/replica", "understudy/internal", "understudy/cmd"}, "the arbiter only compares and sets"},
	{"view", "", []string{"understudy/machine", "understudy/replica", "understudy/internal", "understudy/cmd", "understudy/kv"}, "the view service knows names and numbers, not what is protected"},
	{"kv", "kv/client", []string{"understudy/machine", "understudy/replica", "understudy/internal", "understudy/cmd", "understudy/view", "understudy/arbiter"}, "the key-value state does not know that it is replicated"},
	{"rsm", "", []string{"understudy/machine", "understudy/kv", "understudy/cmd"}, "the shell of state machines knows none of them"},
	{"internal", "", []string{"understudy/cmd"}, "commands are thin, nothing depends on them"},
}

var pure = []string{"event", "kv", "machine", "replica", "view"}

// shells are folders below pure ones that give the core its clock and its sockets.
var shells = []string{"view/httpview", "kv/client"}

var impure = []string{"os", "net", "time", "sync", "math/rand", "crypto/rand", "syscall", "runtime", "golang.org/x/sys", "io/ioutil", "path/filepath", "log"}

// durationOnly may import time, for time.Duration.
var durationOnly = map[string]bool{"replica": true, "view": true}

func imports(t *testing.T, dir string, each func(file, path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			each(file, p, src)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointOneWay(t *testing.T) {
	for _, r := range rules {
		imports(t, r.under, func(file, path string, _ []byte) {
			if r.except != "" && filepath.ToSlash(filepath.Dir(file)) == r.except {
				return
			}
			for _, f := range r.forbidden {
				if strings.HasPrefix(path, f) && !strings.HasPrefix(path, "understudy/"+r.under) {
					t.Errorf("%s imports %s: %s", file, path, r.because)
				}
			}
		})
	}
}

func TestPurePackages(t *testing.T) {
	for _, dir := range pure {
		n := 0
		imports(t, dir, func(file, path string, src []byte) {
			if slices.Contains(shells, filepath.ToSlash(filepath.Dir(file))) {
				return
			}
			n++
			for _, bad := range impure {
				if path != bad && !strings.HasPrefix(path, bad+"/") {
					continue
				}
				if bad == "time" && durationOnly[dir] {
					if s := strings.NewReplacer("time.Duration", "", "time.Millisecond", "", "time.Second", "").Replace(string(src)); strings.Contains(s, "time.") &&
						(strings.Contains(s, "time.Now") || strings.Contains(s, "time.Sleep") || strings.Contains(s, "time.After") || strings.Contains(s, "time.New")) {
						t.Errorf("%s takes more than durations from package time", file)
					}
					continue
				}
				t.Errorf("%s imports %s: a pure package takes nothing from its host", file, path)
			}
			if strings.Contains(string(src), "\n\tgo ") || strings.Contains(string(src), "\tgo func") {
				t.Errorf("%s starts a goroutine in a pure package", file)
			}
		})
		if n == 0 {
			t.Errorf("no imports were found in %s: is the test looking in the right place?", dir)
		}
	}
}
