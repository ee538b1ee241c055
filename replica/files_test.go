package replica_test

import (
	"testing"

	"understudy/arbiter"
	"understudy/event"
	"understudy/replica"
)

// durable is a backup that writes what it holds to a disk, in sync in view 1 with entries 1 and 2 received and none stored.
func durable(t *testing.T) *replica.Core {
	t.Helper()
	cfg := testConfig("b", "a")
	cfg.Durable = true
	c := replica.NewBackup(cfg)
	c.PeerUp(0, "life")
	c.Step(ms, replica.Message{Type: replica.MsgAppend, View: 1, Sent: ms, InSync: true})
	c.Step(2*ms, replica.Message{
		Type: replica.MsgAppend, View: 1, Sent: 2 * ms, InSync: true, Entries: []event.Entry{{Seq: 1}, {Seq: 2}},
	})
	return c
}

func newestAck(t *testing.T, c *replica.Core) replica.Message {
	t.Helper()
	m := c.Ready().Messages
	if len(m) == 0 || m[len(m)-1].Type != replica.MsgAck {
		t.Fatalf("no acknowledgement: %+v", m)
	}
	return m[len(m)-1]
}

// TestDurableBackupHoldsWhatIsStored: an acknowledgement, and with it an output, waits for the backup's disk; and nothing is
// executed that a crash would take back.
func TestDurableBackupHoldsWhatIsStored(t *testing.T) {
	c := durable(t)
	for _, m := range c.Ready().Messages {
		if m.Held != 0 {
			t.Errorf("acknowledged %d with nothing on disk", m.Held)
		}
	}
	if _, ok := c.Next(); ok {
		t.Error("executes what is not on disk")
	}
	if got := c.Unstored(); len(got) != 2 || got[0].Seq != 1 {
		t.Fatalf("to be stored: %+v", got)
	}
	c.StoredTo(3*ms, 1)
	if m := newestAck(t, c); m.Held != 1 || m.Executed != 0 || m.Echo != 2*ms {
		t.Errorf("%+v", m)
	}
	if e, ok := c.Next(); !ok || e.Seq != 1 {
		t.Errorf("next is %+v, %v", e, ok)
	}
	c.ExecutedTo(4*ms, 1, 0)
	if _, ok := c.Next(); ok {
		t.Error("executes what is not on disk")
	}
	if got := c.Unstored(); len(got) != 1 || got[0].Seq != 2 {
		t.Fatalf("to be stored: %+v", got)
	}
	c.StoredTo(5*ms, 9) // never received
	if m := c.Ready().Messages; len(m) != 0 {
		t.Errorf("%+v", m)
	}
	c.StoredTo(5*ms, 2)
	if m := newestAck(t, c); m.Held != 2 || m.Executed != 1 {
		t.Errorf("%+v", m)
	}
}

// TestDurableBackupStoresBeforeItLeads: what it received counts when it takes over, and a backup that has claimed
// acknowledges nothing, though its disk goes on.
func TestDurableBackupStoresBeforeItLeads(t *testing.T) {
	c := durable(t)
	c.PeerDown(10 * ms)
	claim := *c.Ready().Claim
	c.Claimed(11*ms, claim, claim, true, nil)
	c.Ready()
	if c.Role() != replica.Backup {
		t.Fatalf("leads as %v with entries that it has not executed", c.Role())
	}
	c.StoredTo(12*ms, 2)
	if m := c.Ready().Messages; len(m) != 0 {
		t.Errorf("acknowledged after its claim: %+v", m)
	}
	for s := event.Seq(1); s <= 2; s++ {
		if e, ok := c.Next(); !ok || e.Seq != s {
			t.Fatalf("next is %+v, %v", e, ok)
		}
		c.ExecutedTo(13*ms, s, 0)
	}
	if c.Role() != replica.Primary || c.View() != 2 || c.Last() != 2 {
		t.Errorf("%v of view %d after entry %d", c.Role(), c.View(), c.Last())
	}
}

// TestRecoveredSpareLeads: files of view n are worth something for view n+1, if that was granted to this very life.
func TestRecoveredSpareLeads(t *testing.T) {
	record := func(n uint64, primary, claimant string) arbiter.Record {
		return arbiter.Record{Number: n, Primary: primary, Claimant: claimant}
	}
	for _, test := range []struct {
		name  string
		filed replica.ViewNumber
		rec   arbiter.Record
		leads bool
	}{
		{"the next view", 7, record(8, "a", "a-life"), true},
		{"the next view, another life", 7, record(8, "a", "a-former"), false},
		{"the next view, another's", 7, record(8, "b", "a-life"), false},
		{"the view after", 7, record(9, "a", "a-life"), false},
		{"the view itself", 7, record(7, "a", "a-life"), false},
		{"no files", 0, record(8, "a", "a-life"), false},
	} {
		cfg := testConfig("a", "")
		cfg.Incarnation = "a-life"
		c := replica.NewSpare(cfg)
		if test.filed > 0 {
			c.Recoverable(test.filed, 41, 5)
		}
		c.Adopt(ms, test.rec)
		if leads := c.Role() == replica.Primary; leads != test.leads {
			t.Errorf("%s: %v", test.name, c.Role())
			continue
		}
		if !test.leads {
			continue
		}
		entries := []event.Entry{{}}
		if err := c.Append(2*ms, entries); err != nil || entries[0].Seq != 42 || c.View() != 8 || !c.Solo() {
			t.Errorf("%s: %v, %+v, view %d", test.name, err, entries, c.View())
		}
	}
}

// TestSpareForgetsItsFilesForANewState: what it receives is newer than its files.
func TestSpareForgetsItsFilesForANewState(t *testing.T) {
	cfg := testConfig("a", "")
	cfg.Incarnation = "a-life"
	c := replica.NewSpare(cfg)
	c.Recoverable(7, 41, 5)
	c.PeerUp(ms, "other")
	if err := c.Restored(2*ms, 9, "b", 100, 0); err != nil {
		t.Fatal(err)
	}
	c.PeerDown(3 * ms)
	c.Adopt(4*ms, arbiter.Record{Number: 8, Primary: "a", Claimant: "a-life"})
	if c.Role() != replica.Spare {
		t.Errorf("%v", c.Role())
	}
}
