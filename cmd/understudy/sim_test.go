package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSim(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"sim", "--seeds", "50", "--seed", "7"}, &out, &errs); code != exitOK || !strings.Contains(out.String(), "50 seeds, no rule broken") {
		t.Errorf("exit %d\n%s%s", code, &out, &errs)
	}
	for _, args := range [][]string{{"--mutate", "no-such"}, {"--world", "no-such"}, {"--trace", "--seeds", "2"}, {"extra"}} {
		out.Reset()
		errs.Reset()
		if code := run(append([]string{"sim"}, args...), &out, &errs); code != exitOurs || !strings.HasPrefix(errs.String(), "Error: ") {
			t.Errorf("%q: exit %d\n%s%s", args, code, &out, &errs)
		}
	}
}

// TestSimFailureRepeats: the command that a failing seed prints shows the same failure.
func TestSimFailureRepeats(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"sim", "--seeds", "200", "--mutate", "forget-kept-outputs"}, &out, &errs); code != exitFailure {
		t.Fatalf("exit %d\n%s%s", code, &out, &errs)
	}
	said, try, ok := strings.Cut(errs.String(), "\nTry: understudy ")
	if !ok || !strings.Contains(out.String(), "BROKEN RULE") {
		t.Fatalf("%s%s", &out, &errs)
	}
	said = said[strings.Index(said, "Error: "):]
	var again, errs2 bytes.Buffer
	if code := run(strings.Fields(try), &again, &errs2); code != exitFailure || !strings.HasPrefix(errs2.String(), said) {
		t.Errorf("exit %d: %s\nfirst: %s", code, &errs2, said)
	}
	if !strings.HasSuffix(again.String(), out.String()) {
		t.Error("the story is another one")
	}
}
