package memstore_test

import (
	"testing"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/memstore"
)

func TestRegister(t *testing.T) {
	arbitertest.Run(t, arbitertest.Suite{
		Rounds: 10_000,
		Open:   func(*testing.T) arbiter.Register { return memstore.New() },
		Pair: func(*testing.T) (a, b arbiter.Register) {
			s := memstore.New()
			return s, s
		},
	})
}

func BenchmarkClaim(b *testing.B) { arbitertest.BenchmarkClaim(b, memstore.New()) }
