package host

import (
	"math/rand"
	"testing"
	"time"

	"understudy/event"
	"understudy/machine"
)

// TestGuestTimeFollowsRealTime runs the clock's policy against hosts of different speeds, with stalls, on
// a clock of the test's own. The machine itself refuses an entry that steps back.
func TestGuestTimeFollowsRealTime(t *testing.T) {
	for name, nsPerInstruction := range map[string]float64{"fast host": 0.3, "as the rate says": 2, "slow host": 9} {
		rng := rand.New(rand.NewSource(1))
		m, err := machine.New(testMachine(talker(0)), make([]byte, machine.MinMemBytes))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_800_000_000, 0)
		var c clock
		c.begin(now, m, uint64(now.UnixNano()))
		zero := now
		stop := func() {
			if e, due := c.due(now, m, false); due {
				if err := m.Deliver(event.Entry{Pos: m.Position(), Kind: event.KindClock, Data: event.AppendClock(nil, e)}); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		for i := range 4000 {
			stop()
			const slice = 20_000
			m.RunSlice(m.Position() + slice)
			d := time.Duration(slice * nsPerInstruction * (0.5 + rng.Float64()))
			now = now.Add(d)
			c.ran(d, slice)
			if i == 1000 {
				now = now.Add(3 * time.Second) // the process was stopped
			}
		}
		stop()
		if off := now.Sub(zero) - time.Duration(m.TimeNs()); off.Abs() > 20*time.Millisecond {
			t.Errorf("%s: after %v guest time is off by %v", name, now.Sub(zero), off)
		}
	}
}

// TestLeadingAfterAHostWithAnotherClock: a new primary whose wall clock is behind guest time goes on from
// guest time.
func TestLeadingAfterAHostWithAnotherClock(t *testing.T) {
	m, err := machine.New(testMachine(talker(0)), make([]byte, machine.MinMemBytes))
	if err != nil {
		t.Fatal(err)
	}
	m.Run(1_000_000)
	now := time.Unix(1_800_000_000, 0)
	for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
		var c clock
		c.begin(now, m, uint64(now.Add(-skew).UnixNano()))
		e, due := c.due(now, m, false)
		if !due || e.NowNs < m.TimeNs() || e.Rate == 0 {
			t.Errorf("skew %v: %+v, due %v", skew, e, due)
		}
		if want := uint64(max(0, skew)); e.NowNs < want {
			t.Errorf("skew %v: guest time %v", skew, time.Duration(e.NowNs))
		}
	}
}
