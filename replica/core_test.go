package replica_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/event"
	"understudy/internal/sim"
	"understudy/replica"
)

func testConfig(id, peer string) replica.Config {
	return replica.Config{
		ID: id, Peer: peer, Incarnation: "life of " + id,
		HeartbeatEvery: 25 * ms, SuspectAfter: 100 * ms, ClaimRetryEvery: 50 * ms, ResendAfter: 60 * ms,
		MaxUnackedBytes: 64 << 10, MaxUnappliedBytes: 256 << 10,
	}
}

// TestUnderFaults runs the core in a thousand worlds of internal/sim, pairs and groups, whose own tests run more of them. UNDERSTUDY_SEED
// chooses one; `understudy sim` says more about it.
func TestUnderFaults(t *testing.T) {
	from, n := uint64(1_000_000), uint64(1000)
	if testing.Short() {
		n = 300
	}
	if s, err := strconv.ParseUint(os.Getenv("UNDERSTUDY_SEED"), 10, 64); err == nil {
		from, n = s, 1
	}
	failed, total, err := sim.RunMany(context.Background(), sim.Options{Seed: from}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatalf("%v\n%s\nrepeat: understudy sim --seed %d --trace", failed.Failure, strings.Join(failed.Story, "\n"), failed.Seed)
	}
	t.Logf("%+v", total)
}

// TestWatchersBite breaks the two rules that matter most: a checker that finds nothing then checks nothing. The
// others are broken in internal/sim.
func TestWatchersBite(t *testing.T) {
	for _, m := range []string{"release-before-ack", "claim-without-cas"} {
		failed, _, err := sim.RunMany(context.Background(), sim.Options{Seed: 1, Mutation: m}, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if failed == nil {
			t.Errorf("%s is not caught", m)
		}
	}
}

// TestStoppedPrimaryReleasesNothing is the resumed primary of the package comment: acknowledgements that
// waited in its socket while it was stopped must not release anything.
func TestStoppedPrimaryReleasesNothing(t *testing.T) {
	c := replica.NewPrimary(testConfig("a", "b"))
	c.PeerUp(0, "life")
	rec := *c.Ready().Claim
	c.Claimed(ms, rec, rec, true, nil)
	c.Ready()
	c.Hold(2*ms, []any{"reply"})
	if err := c.Append(2*ms, []event.Entry{{Kind: event.KindCommit}}); err != nil {
		t.Fatal(err)
	}
	ack := replica.Message{Type: replica.MsgAck, View: 1, Echo: 2 * ms, Held: 1}
	fresh, stale := *c, *c
	fresh.Step(50*ms, ack)
	if r := fresh.Ready(); len(r.Release) != 1 {
		t.Fatalf("a fresh acknowledgement released %v", r.Release)
	}
	stale.Step(5*time.Second, ack)
	if r := stale.Ready(); len(r.Release) != 0 {
		t.Fatalf("a stale acknowledgement released %v", r.Release)
	}
	var claim *replica.Claim
	for at := 5*time.Second + ms; claim == nil; at += 5 * ms {
		if at > 6*time.Second {
			t.Fatal("never suspects the backup that does not answer any more")
		}
		stale.Tick(at)
		r := stale.Ready()
		if claim = r.Claim; len(r.Release) != 0 {
			t.Fatalf("after the stop: release %v", r.Release)
		}
	}
	if claim.Number != 2 {
		t.Fatalf("claims %v", claim)
	}
	stale.Claimed(5*time.Second+2*ms, *claim, replica.Claim{Number: 2, Primary: "b", Claimant: "x"}, false, nil)
	if stale.Role() != replica.Halted || len(stale.Ready().Release) != 0 || stale.HeldOutputs() != 0 {
		t.Fatalf("lost the claim, but is %v with %d outputs", stale.Role(), stale.HeldOutputs())
	}
}

// TestFreshnessToleratesClocks: the backup's clock runs 4/3 as fast as the primary's. An acknowledgement that releases
// output is read before the backup could claim.
func TestFreshnessToleratesClocks(t *testing.T) {
	for age := ms; age < 200*ms; age += ms {
		c := replica.NewPrimary(testConfig("a", "b"))
		c.PeerUp(0, "life")
		rec := *c.Ready().Claim
		c.Claimed(0, rec, rec, true, nil)
		c.Hold(ms, []any{"reply"})
		_ = c.Append(ms, []event.Entry{{Kind: event.KindCommit}})
		c.Ready()
		c.Step(ms+age, replica.Message{Type: replica.MsgAck, View: 1, Echo: ms, Held: 1})
		if released := len(c.Ready().Release) > 0; released && age*4/3 > testConfig("a", "b").SuspectAfter {
			t.Errorf("released %v after sending, when a fast backup may have claimed", age)
		} else if !released && age <= 70*ms {
			t.Errorf("not released %v after sending", age)
		}
	}
}

// TestBackupHearsOfOutputsThatHaveLeft: what a message says has left must not be what leaves with that message,
// or it is lost if the primary is killed after sending the one and before releasing the other.
func TestBackupHearsOfOutputsThatHaveLeft(t *testing.T) {
	c := replica.NewPrimary(testConfig("a", "b"))
	c.PeerUp(0, "life")
	rec := *c.Ready().Claim
	c.Claimed(0, rec, rec, true, nil)
	c.Hold(ms, []any{"first"})
	_ = c.Append(ms, []event.Entry{{Kind: event.KindCommit}})
	c.Ready()
	c.Hold(2*ms, []any{"second"})
	_ = c.Append(2*ms, []event.Entry{{Kind: event.KindCommit}})
	c.Ready()
	// The acknowledgement of one of two entries releases an output and has the other entry sent again.
	c.Step(3*ms, replica.Message{Type: replica.MsgAck, View: 1, Echo: 2 * ms, Held: 1, Gap: true})
	r := c.Ready()
	if len(r.Release) != 1 || len(r.Messages) != 1 {
		t.Fatalf("%+v", r)
	}
	if r.Messages[0].Released != 0 {
		t.Errorf("tells that outputs up to entry %d have left before they have", r.Messages[0].Released)
	}
	c.Tick(40 * ms)
	if r = c.Ready(); len(r.Messages) != 1 || r.Messages[0].Released != 1 {
		t.Errorf("the next message: %+v", r.Messages)
	}
}

func TestFullLogMakesTheMachineWait(t *testing.T) {
	c := replica.NewPrimary(testConfig("a", "b"))
	c.PeerUp(0, "life")
	rec := *c.Ready().Claim
	c.Claimed(0, rec, rec, true, nil)
	for i := 0; !c.Full(); i++ {
		if i > 100 {
			t.Fatal("never full")
		}
		_ = c.Append(ms, []event.Entry{{Kind: event.KindNet, Data: make([]byte, 1500)}})
	}
	c.Step(2*ms, replica.Message{Type: replica.MsgAck, View: 1, Echo: ms, Held: c.Last(), Executed: c.Last()})
	if c.Full() {
		t.Fatal("still full after everything was acknowledged and executed")
	}
}

func TestLyingBackupHaltsThePrimary(t *testing.T) {
	for _, m := range []replica.Message{
		{Type: replica.MsgAck, View: 1, Held: 99},
		{Type: replica.MsgAck, View: 1, Executed: 1},
		{Type: replica.MsgAck, View: 1, Echo: time.Hour},
		{Type: replica.MsgAck, View: 2},
	} {
		c := replica.NewPrimary(testConfig("a", "b"))
		c.PeerUp(0, "life")
		rec := *c.Ready().Claim
		c.Claimed(0, rec, rec, true, nil)
		c.Step(ms, m)
		if c.Role() != replica.Halted {
			t.Errorf("%+v was believed", m)
		}
	}
}
