package e2e

import (
	"strings"
	"testing"

	api "understudy/api/understudy/v1"
	"understudy/internal/e2e/fleet"
)

// slowly is a bandwidth at which a state transfer, which is compressed, takes long enough to die in the middle of it.
const slowly = "2M"

// halfway waits until a good part of the state has been sent to a backup, and much is still missing.
func halfway(t *testing.T, w *web, to string) *api.Machine {
	t.Helper()
	m := w.until(t, "halfway in joining", func(m *api.Machine) bool {
		if m.InSync && m.Backup == to {
			t.Fatalf("the backup %s is in sync already: the transfer is too quick for this test", to)
		}
		for _, r := range m.Replicas {
			if x := r.Transfer; r.Host == m.Primary && x != nil && x.To == to && m.Backup == to && x.TotalBytes > 0 && x.DoneBytes > x.TotalBytes/5 {
				return true
			}
		}
		return false
	})
	if !strings.HasPrefix(m.Protection, "joining") {
		t.Errorf("ps says %q while a backup joins", m.Protection)
	}
	return m
}

// TestFleetJoining: what dies while the only backup still receives the state. A backup that does is no loss; the
// primary is, for nobody else has the whole state: the group is stuck, and says so.
func TestFleetJoining(t *testing.T) {
	long(t)
	w := startFleet(t, fleet.Options{Hosts: []string{"a"}})
	w.run(t, "--bandwidth", slowly)
	w.watch(t)
	w.start(t, "b")
	steps(t, w,
		step{"joining backup killed", func(t *testing.T, w *web) {
			halfway(t, w, "b")
			w.die(t, "b")
			w.until(t, "alone", func(m *api.Machine) bool { return m.Primary == "a" && m.Backup == "" })
			w.intact(t)
			w.start(t, "b")
			if m := w.until(t, "joined again", func(m *api.Machine) bool { return m.Backup == "b" }); m.Primary != "a" {
				t.Errorf("%s leads, want a", m.Primary)
			}
		}},
		step{"primary killed while the backup joins", func(t *testing.T, w *web) {
			halfway(t, w, "b")
			w.die(t, "a")
			m := w.until(t, "stuck", func(m *api.Machine) bool { return m.State == "stuck" })
			if m.Reason == "" || m.Primary != "a" {
				t.Errorf("the machine is stuck with primary %q for the reason %q", m.Primary, m.Reason)
			}
			if out := w.cli(t, "ps"); !strings.Contains(out, "stuck: "+m.Reason) {
				t.Errorf("ps does not say why the machine is stuck:\n%s", out)
			}
			t.Logf("stuck: %s", m.Reason)
			// Coming back does not help, for a host comes back without the state.
			w.start(t, "a")
			w.until(t, "stuck still", func(m *api.Machine) bool { return m.State == "stuck" })
			for _, name := range []string{"a", "b"} {
				if s := w.replica(t, name); s.Role == "primary" {
					t.Errorf("%s leads in view %d without the state", name, s.View)
				}
			}
		}},
		step{"stop and start", func(t *testing.T, w *web) {
			w.cli(t, "stop", "web")
			w.cli(t, "start", "web")
			w.until(t, "running again from its disks", func(m *api.Machine) bool { return m.State == "running" })
		}},
	)
}
