package host

import (
	"testing"
	"time"
)

// A slice in which this host stood still must not be answered with a sleep nine times as long: the guest serves nobody
// meanwhile, and a replica that has lost its part would not end.
func TestSlowedAfterAStandstill(t *testing.T) {
	r := &Replica{opt: Options{LagMax: time.Second}}
	r.stats.guestNs.Store(uint64(time.Minute)) // and the backup is at 0
	l := &leader{r: r}
	l.slow(10 * time.Second)
	if slowed := time.Duration(r.stats.slowedNs.Load()); slowed == 0 || slowed > 9*sliceMost {
		t.Errorf("slowed by %v", slowed)
	}
}
