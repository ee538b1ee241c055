package arbiter

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	r := func(n uint64, id string) Record { return Record{Number: n, Primary: "a", Claimant: id} }
	for name, c := range map[string]struct {
		current, next Record
		won           bool
	}{
		"first":              {Record{}, r(1, "x"), true},
		"first must be 1":    {Record{}, r(2, "x"), false},
		"next":               {r(7, "x"), r(8, "y"), true},
		"next of one's own":  {r(7, "x"), r(8, "x"), true},
		"again":              {r(7, "x"), r(7, "x"), true},
		"same number":        {r(7, "x"), r(7, "y"), false},
		"stale":              {r(7, "x"), r(6, "y"), false},
		"skip":               {r(7, "x"), r(9, "y"), false},
		"last":               {r(math.MaxUint64-1, "x"), r(math.MaxUint64, "y"), true},
		"nothing after last": {r(math.MaxUint64, "x"), r(1, "y"), false},
	} {
		want := c.current
		if c.won {
			want = c.next
		}
		got, won, err := Decide(c.current, c.next)
		if got != want || won != c.won || err != nil {
			t.Errorf("%s: %+v, %t, %v; want %+v, %t", name, got, won, err, want, c.won)
		}
	}
	if got, won, err := Decide(r(math.MaxUint64, "x"), r(0, "y")); won || !errors.Is(err, ErrInvalid) || got != r(math.MaxUint64, "x") {
		t.Errorf("number 0 after the last: %+v, %t, %v", got, won, err)
	}
}

func TestTableBoundsItsGroups(t *testing.T) {
	var table Table
	for i := range MaxGroups {
		if _, won, err := table.CompareAndSet(fmt.Sprintf("g%d", i), Record{Number: 1, Primary: "a", Claimant: "x"}); !won || err != nil {
			t.Fatal(i, won, err)
		}
	}
	if _, won, err := table.CompareAndSet("one-more", Record{Number: 1, Primary: "a", Claimant: "x"}); won || !errors.Is(err, ErrRefused) {
		t.Errorf("one more group: %t, %v", won, err)
	}
	if _, won, err := table.CompareAndSet("g0", Record{Number: 2, Primary: "a", Claimant: "x"}); !won || err != nil {
		t.Errorf("a group that is there: %t, %v", won, err)
	}
}

// The simulator imports this package: it must stay without clocks, locks, files and sockets.
func TestPackageIsPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			switch path {
			case "context", "errors", "fmt", "math", "unicode/utf8":
			default:
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
