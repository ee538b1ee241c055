package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/internal/e2e/fleet"
	"understudy/internal/host"
)

// Where the time of detection does not matter a starved but living process must not be suspected: neither by the other
// replica nor by the view service.
const (
	fleetSuspect   = time.Second
	fleetDeadAfter = 3 * time.Second
)

// web is a fleet with one protected machine, named web, and a client's one connection to it.
type web struct {
	*fleet.Fleet
	t    *testing.T // of the fleet: the load goes on between steps
	load *running
	seen int64 // number of the newest event at the last mark
}

// startFleet starts a fleet that ends with the test.
func startFleet(t *testing.T, o fleet.Options) *web {
	t.Helper()
	redisImage(t)
	o.Exe, o.SuspectAfter, o.DeadAfter = exe, fleetSuspect, fleetDeadAfter
	f, err := fleet.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := &web{Fleet: f, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			w.narrate(t)
		}
		f.Close()
	})
	return w
}

// narrate logs what everybody said.
func (w *web) narrate(t *testing.T) {
	t.Logf("control narrated:\n%s", w.Control.Log())
	t.Logf("the LAN daemon narrated:\n%s", w.LANLog())
	for _, name := range []string{"a", "b", "c"} {
		if h := w.Host(name); h != nil {
			t.Logf("host %s narrated:\n%s\nand its replicas:\n%s", name, h.Log(), h.ReplicaLogs())
		}
	}
}

// run starts the machine with `understudy run`, and the client's load.
func (w *web) run(t *testing.T, args ...string) {
	t.Helper()
	at := "127.0.0.1:0"
	if w.Net != nil {
		at = w.Net.IP("lan") + ":6379"
	}
	w.cli(t, slices.Concat([]string{"run", "--name", "web", "-p", at + ":6379"}, args, []string{"redis"})...)
	w.connect(t)
}

// connect opens the client's connection and begins to write.
func (w *web) connect(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("%s passed", patience))
	defer cancel()
	l, err := w.Await(ctx, w.machine(t))
	if err != nil {
		t.Fatal(err)
	}
	w.load = write(w.t, l)
	w.load.more(t, 20)
}

// cli runs a command as a user does.
func (w *web) cli(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("%s passed", patience))
	defer cancel()
	out, err := w.Run(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// machine asks control, which must be there.
func (w *web) machine(t *testing.T) *api.Machine {
	t.Helper()
	m, err := w.Machine(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// until waits until the machine is as cond wants it.
func (w *web) until(t *testing.T, what string, cond func(*api.Machine) bool) *api.Machine {
	t.Helper()
	var m *api.Machine
	wait(t, "the machine to be "+what, func() (bool, string) {
		var err error
		if m, err = w.Machine(t.Context(), "web"); err != nil {
			return false, err.Error()
		}
		return cond(m), fmt.Sprintf("%s %q, view %d of %s and %s, %q", m.State, m.Reason, m.View, m.Primary, m.Backup, m.Protection)
	})
	return m
}

func isProtected(m *api.Machine) bool {
	return m.State == "running" && m.Protection == "protected" && m.InSync
}

// protected waits until ps says so.
func (w *web) protected(t *testing.T) *api.Machine {
	t.Helper()
	return w.until(t, "protected", isProtected)
}

// takenOver waits until another host than m's primary leads in a later view: the backup that m had.
func (w *web) takenOver(t *testing.T, m *api.Machine) *api.Machine {
	t.Helper()
	now := w.until(t, "taken over", func(n *api.Machine) bool { return n.View > m.View && n.Primary != m.Primary })
	if now.Primary != m.Backup {
		t.Fatalf("%s leads in view %d, want %s, the backup of view %d", now.Primary, now.View, m.Backup, m.View)
	}
	return now
}

// ready waits until a host, or several, are there.
func (w *web) ready(t *testing.T, names ...string) {
	t.Helper()
	wait(t, "hosts to be ready", func() (bool, string) {
		r, err := w.API.ListHosts(t.Context(), &api.ListHostsRequest{})
		if err != nil {
			return false, err.Error()
		}
		n, all := 0, ""
		for _, h := range r.Hosts {
			all += " " + h.Name + " " + h.State
			if h.State == "ready" && slices.Contains(names, h.Name) {
				n++
			}
		}
		return n == len(names), all
	})
}

// spareReady waits until a host's replica is up and stands ready.
func (w *web) spareReady(t *testing.T, name string) {
	t.Helper()
	w.until(t, "in the hands of a spare on "+name, func(m *api.Machine) bool {
		for _, r := range m.Replicas {
			if r.Host == name && r.Pid != 0 && r.StatusJson != "" && r.Role != "halted" {
				return true
			}
		}
		return false
	})
}

// start starts a host again, under its name.
func (w *web) start(t *testing.T, name string) {
	t.Helper()
	if _, err := w.StartHost(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	w.ready(t, name)
}

// die kills a host with everything on it.
func (w *web) die(t *testing.T, name string) {
	t.Helper()
	if err := w.Host(name).Die(); err != nil {
		t.Fatal(err)
	}
}

// mark notes which events have been.
func (w *web) mark(t *testing.T) {
	t.Helper()
	all, err := w.Events(t.Context(), w.seen)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 0 {
		w.seen = all[len(all)-1].Seq
	}
}

// told waits until there have been events of all these kinds since the mark.
func (w *web) told(t *testing.T, kinds ...string) {
	t.Helper()
	wait(t, "the events "+strings.Join(kinds, ", "), func() (bool, string) {
		all, err := w.Events(t.Context(), w.seen)
		if err != nil {
			return false, err.Error()
		}
		missing := slices.Clone(kinds)
		text := ""
		for _, e := range all {
			text += fmt.Sprintf("\n%s %s %s", e.Kind, e.Host, e.Text)
			missing = slices.DeleteFunc(missing, func(k string) bool { return k == e.Kind })
		}
		return len(missing) == 0, text
	})
}

// intact stops the writing, reads everything back over the same connection, and goes on to write.
func (w *web) intact(t *testing.T) {
	t.Helper()
	w.load.more(t, 50)
	w.load.stop(t)
	verify(t, w.load.Load)
	w.load = write(w.t, w.load.Load)
}

// steps runs parts of a test one after the other, on one fleet; the first that fails is the last.
func steps(t *testing.T, w *web, all ...step) {
	t.Helper()
	for _, s := range all {
		began := time.Now()
		if !t.Run(s.name, func(t *testing.T) { s.do(t, w) }) {
			return
		}
		t.Logf("%-40s %5.1f s", s.name, time.Since(began).Seconds())
	}
}

type step struct {
	name string
	do   func(*testing.T, *web)
}

// watch asks all replicas how they are, again and again until the test ends: no two lives may lead in one view.
func (w *web) watch(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	type groupView struct {
		group string
		view  uint64
	}
	leaders := map[groupView]string{}
	watching.Go(func() {
		for ctx.Err() == nil {
			for _, name := range []string{"a", "b", "c"} {
				h := w.Host(name)
				if h == nil {
					continue
				}
				s, err := h.Status(ctx)
				if err != nil || s.Role != "primary" || s.Frozen != "" {
					continue
				}
				life := name + " " + s.Incarnation
				at := groupView{s.Group, s.View}
				if other := leaders[at]; other != "" && other != life {
					t.Errorf("two lives lead in view %d of %s: %s and %s", s.View, s.Group, other, life)
				}
				leaders[at] = life
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		stop()
		watching.Wait()
	})
}

// replica asks a host's replica itself; a zero Status if it does not answer.
func (w *web) replica(t *testing.T, name string) host.Status {
	s, _ := w.Host(name).Status(t.Context())
	return s
}

// moves counts how often the guest's address moved to another port of the switch.
func (w *web) moves() int { return strings.Count(w.LANLog(), "address moved") }
