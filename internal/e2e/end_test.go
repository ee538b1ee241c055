package e2e

import (
	"strings"
	"testing"

	"understudy/internal/demo"
)

// TestGuestEnds: a guest that ends by itself ends both replicas the same way, and that is no failover.
func TestGuestEnds(t *testing.T) {
	long(t)
	im := redisImage(t)
	for _, c := range []struct {
		name, words string
		code        int
		says        string
	}{
		{"service done", `understudy.run="true"`, 0, "service ended, status 0"},
		{"poweroff", `understudy.run="poweroff -f"`, 0, "guest ready"},
		{"reboot", `understudy.run="reboot -f"`, 3, "guest ready"},
		{"panic", `understudy.run="false" understudy.onfail=fail`, 3, "Kernel panic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startPair(t, demo.PairOptions{Image: im, Append: c.words, NoDisk: true})
			waitExit(t, p.A, c.code)
			waitExit(t, p.B, c.code)
			if rec := record(t, p); rec.Number != 1 {
				t.Errorf("the arbiter is at view %d, want 1: the guest's end was taken for a failure", rec.Number)
			}
			if got := console(p, "a"); !strings.Contains(got, c.says) {
				t.Errorf("the primary's console does not say %q:\n%s", c.says, got)
			}
			if got := console(p, "b"); got != "" {
				t.Errorf("the backup's console was heard: %q", got)
			}
		})
	}
}
