package memstore_test

import (
	"testing"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/memstore"
)

func TestRegister(t *testing.T) {
	arbitertest.Run(t, 10_000, func(*testing.T) arbiter.Register { return memstore.New() })
}
