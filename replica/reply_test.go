package replica_test

import (
	"errors"
	"testing"
	"time"

	"understudy/event"
	"understudy/replica"
)

// protected is a primary of view 1 whose backup has joined, at 1 ms.
func protected(t *testing.T) *replica.Core {
	t.Helper()
	c := replica.NewPrimary(testConfig("a", "b"))
	c.PeerUp(0, "life")
	rec := *c.Ready().Claim
	c.Claimed(ms, rec, rec, true, nil)
	c.Ready()
	return c
}

func ack(held event.Seq, echo time.Duration) replica.Message {
	return replica.Message{Type: replica.MsgAck, View: 1, Echo: echo, Held: held, Executed: held}
}

func wantReleased(t *testing.T, c *replica.Core, what string, want ...any) replica.Ready {
	t.Helper()
	r := c.Ready()
	if len(r.Release) != len(want) {
		t.Fatalf("%s: released %v, want %v", what, r.Release, want)
	}
	for i := range want {
		if r.Release[i] != want[i] {
			t.Fatalf("%s: released %v, want %v", what, r.Release, want)
		}
	}
	return r
}

func read(t *testing.T, c *replica.Core, now time.Duration, out any) {
	t.Helper()
	asked := c.Ask(now)
	if err := c.Reply(now, c.Last(), asked, []any{out}); err != nil {
		t.Fatal(err)
	}
}

// TestReadNeedsAnAcknowledgementAskedForAfterIt: what was sent before a read came says nothing about the time after it.
func TestReadNeedsAnAcknowledgementAskedForAfterIt(t *testing.T) {
	c := protected(t)
	c.Tick(30 * ms) // a heartbeat
	if r := c.Ready(); len(r.Messages) != 1 || r.Messages[0].Sent != 30*ms || r.Messages[0].Ask {
		t.Fatalf("%+v", r.Messages)
	}
	read(t, c, 31*ms, "read")
	r := wantReleased(t, c, "at once")
	if len(r.Messages) != 1 || r.Messages[0].Sent != 31*ms || !r.Messages[0].Ask {
		t.Fatalf("did not ask: %+v", r.Messages)
	}
	c.Step(32*ms, ack(0, 30*ms))
	wantReleased(t, c, "by the acknowledgement of an earlier heartbeat")
	c.Step(33*ms, ack(0, 31*ms))
	wantReleased(t, c, "by its own", "read")
}

// TestReadSeesOnlyWhatTheBackupHolds: a read may see an entry that would be lost with this replica.
func TestReadSeesOnlyWhatTheBackupHolds(t *testing.T) {
	c := protected(t)
	if err := c.Append(10*ms, []event.Entry{{}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Reply(10*ms, 1, 0, []any{"write"}); err != nil {
		t.Fatal(err)
	}
	c.Ready()
	read(t, c, 11*ms, "read")
	c.Step(12*ms, ack(0, 11*ms))
	wantReleased(t, c, "without the entry")
	c.Step(13*ms, ack(1, 11*ms))
	wantReleased(t, c, "with it", "write", "read")
	// The entry is held by now, and what was executed late is answered at once.
	if err := c.Reply(14*ms, 1, 0, []any{"late"}); err != nil {
		t.Fatal(err)
	}
	wantReleased(t, c, "late", "late")
}

// TestReadsShareQuestions: however many reads come, one question is under way.
func TestReadsShareQuestions(t *testing.T) {
	c := protected(t)
	for at := 10 * ms; at < 15*ms; at += ms / 100 {
		read(t, c, at, at)
	}
	r := wantReleased(t, c, "unasked")
	if len(r.Messages) != 1 {
		t.Fatalf("%d questions", len(r.Messages))
	}
	c.Step(15*ms, ack(0, 10*ms))
	r = wantReleased(t, c, "first answer", 10*ms)
	if len(r.Messages) != 1 || r.Messages[0].Sent != 15*ms || !r.Messages[0].Ask {
		t.Fatalf("second question: %+v", r.Messages)
	}
	c.Step(16*ms, ack(0, 15*ms))
	if r := c.Ready(); len(r.Release) != 499 || len(r.Messages) != 0 {
		t.Fatalf("second answer: %d released, %d messages", len(r.Release), len(r.Messages))
	}
}

// TestFormerPrimaryAnswersNoRead: stopped and resumed, in doubt, deposed.
func TestFormerPrimaryAnswersNoRead(t *testing.T) {
	c := protected(t)
	read(t, c, 10*ms, "read")
	c.Ready()
	c.Step(5*time.Second, ack(0, 10*ms))
	wantReleased(t, c, "by a stale acknowledgement")
	c.PeerDown(5*time.Second + ms)
	r := wantReleased(t, c, "in doubt")
	if r.Claim == nil {
		t.Fatal("no claim")
	}
	won := *c
	c.Claimed(6*time.Second, *r.Claim, replica.Claim{Number: 2, Primary: "b", Claimant: "life"}, false, nil)
	wantReleased(t, c, "deposed")
	if err := c.Reply(6*time.Second, 0, 0, []any{"read"}); !errors.Is(err, replica.ErrNotPrimary) {
		t.Fatal(err)
	}
	wantReleased(t, c, "deposed")
	won.Claimed(6*time.Second, *r.Claim, *r.Claim, true, nil)
	wantReleased(t, &won, "alone by a grant", "read")
	read(t, &won, 6*time.Second, "another")
	wantReleased(t, &won, "alone by a grant", "another")
}

// TestJoiningBackupCatchesUpFirst: a long log behind the state is acknowledged before anything waits for the backup.
func TestJoiningBackupCatchesUpFirst(t *testing.T) {
	c := replica.NewSpare(testConfig("a", ""))
	c.Adopt(0, replica.Claim{Number: 1, Primary: "a", Claimant: "life of a"})
	c.Adopt(ms, replica.Claim{Number: 2, Primary: "a", Backup: "b", Claimant: "views"})
	c.PeerUp(ms, "life")
	if _, err := c.Join(2 * ms); err != nil {
		t.Fatal(err)
	}
	now := 3 * ms
	for range 10 {
		if err := c.Append(now, []event.Entry{{Data: make([]byte, 100<<10)}}); err != nil {
			t.Fatal(err)
		}
	}
	for held := event.Seq(0); held < 10; held++ {
		now += 90 * ms // each is older than what releases output, and all together than what is patience
		c.Tick(now)
		c.Step(now, replica.Message{Type: replica.MsgAck, View: 2, Echo: 3 * ms, Held: held})
		if wait := !c.Solo(); wait != (held >= 8) {
			t.Fatalf("%d of 10 entries held: output waits: %v", held, wait)
		}
		if r := c.Ready(); r.HangUp || r.Claim != nil {
			t.Fatalf("gave it up: %+v", r.Notices)
		}
	}
}
