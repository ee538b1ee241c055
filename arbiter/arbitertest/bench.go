package arbitertest

import (
	"testing"

	"understudy/arbiter"
)

// BenchmarkClaim measures a claim that wins, one after the other: what a failover pays.
func BenchmarkClaim(b *testing.B, r arbiter.Register) {
	n := uint64(0)
	for b.Loop() {
		n++
		if _, won, err := r.CompareAndSet(b.Context(), "g", rec(n, "a", "x")); !won || err != nil {
			b.Fatal(won, err)
		}
	}
}
