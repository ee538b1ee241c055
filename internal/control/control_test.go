package control

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	api "understudy/api/understudy/v1"
)

func TestAMachineIsPlacedProtectedAndSurvivesItsPrimary(t *testing.T) {
	f := newFleet(t)
	hosts := map[string]*fakeHost{"a": f.host("a"), "b": f.host("b"), "c": f.host("c")}
	for n := range hosts {
		f.awaitHost(n, "ready")
	}
	s, err := f.user().Run(context.Background(), &api.RunRequest{Spec: &api.MachineSpec{Name: "web", Image: "test", Spares: 1, Forwards: []string{"127.0.0.1:1:80"}}, WaitProtected: true})
	if err != nil {
		t.Fatal(err)
	}
	var last *api.RunProgress
	for s.Receive() {
		last = s.Msg()
	}
	if s.Err() != nil || last == nil || !last.Up || !last.Protected || last.Machine.GetBackup() == "" {
		t.Fatalf("run ended with %v, %v", last, s.Err())
	}
	m := f.await("web", "protected", protected)
	if len(m.Hosts) != 3 || m.Protection != "protected" || len(m.Forwards) != 1 || len(m.Replicas) != 3 {
		t.Errorf("machine %v", m)
	}
	if h := f.hostState(m.Primary); h.Primaries != 1 || h.Backups != 0 || h.MemUsedBytes != defaultMemBytes {
		t.Errorf("host of the primary: %v", h)
	}
	// These hosts are too quick for a report of a transfer.
	f.awaitEvent("transfer.done", m.Backup+" holds the state")
	first := m.Primary
	hosts[first].kill()
	m = f.await("web", "protected by two others", func(m *api.Machine) bool { return protected(m) && m.Primary != first && m.Backup != first })
	if m.Failovers != 1 {
		t.Errorf("%d failovers", m.Failovers)
	}
	f.awaitEvent("transfer.done", m.Backup+" holds the state")
	f.awaitEvent("failover", "took over from "+first+"; the machine stood still for 2ms")
	f.awaitEvent("view.changed", "by the view service: "+first+" is dead")
	f.awaitHost(first, "lost")
	f.await("web", "the lost host is given up", func(m *api.Machine) bool { return !slices.Contains(m.Hosts, first) })
	if m.LastBlackout.AsDuration() != 2*time.Millisecond && f.machine("web").LastBlackout.AsDuration() != 2*time.Millisecond {
		t.Errorf("blackout %v", m.LastBlackout)
	}
}

func TestAnotherHostFoundsWhenTheFounderDies(t *testing.T) {
	f := newFleet(t)
	a := f.hostAs("a", 2<<30, nil)
	a.mu.Lock()
	a.replicas = nil // it takes the work and does nothing with it
	a.broken = " "
	a.mu.Unlock()
	f.awaitHost("a", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	_ = f.host("b")
	// What is broken says so: the next host is tried, and the machine comes up there.
	m := f.await("web", "b founded it", func(m *api.Machine) bool { return m.Primary == "b" && m.State == "running" })
	if m.View != 1 {
		t.Errorf("view %d", m.View)
	}
	f.awaitEvent("machine.refused", "host a cannot start it")

	// And one that dies in silence, before view 1.
	c := f.hostAs("c", 4<<30, nil)
	f.awaitHost("c", "ready")
	c.mu.Lock()
	c.broken = "" // no replica, no word
	c.mu.Unlock()
	c.kill()
	f.awaitHost("c", "lost")
	f.run(&api.MachineSpec{Name: "db"})
	f.await("db", "b founded it", func(m *api.Machine) bool { return m.Primary == "b" })
}

func TestNoHostCanStartIt(t *testing.T) {
	f := newFleet(t)
	a := f.host("a")
	a.mu.Lock()
	a.broken = "there is no image named test"
	a.mu.Unlock()
	f.awaitHost("a", "ready")
	s, err := f.user().Run(context.Background(), &api.RunRequest{Spec: &api.MachineSpec{Name: "web", Image: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	for s.Receive() {
	}
	if err := s.Err(); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "there is no image named test") {
		t.Errorf("error %v", err)
	}
	if _, err := f.user().GetMachine(context.Background(), &api.GetMachineRequest{Name: "web"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the machine that never began is there: %v", err)
	}
	f.until(func() string { return "its LAN is gone" }, func() bool { return f.lans.count() == 0 })
}

func TestControlIsRestarted(t *testing.T) {
	f := newFleet(t)
	a, b := f.host("a"), f.host("b")
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web", Spares: 1})
	before := f.await("web", "protected", protected)
	f.end()
	f.begin()
	m := f.machine("web")
	if m.Id != before.Id || m.Group != before.Group || !slices.Equal(m.Hosts, before.Hosts) {
		t.Errorf("before %v, after %v", before, m)
	}
	m = f.await("web", "protected as before", protected)
	if m.View != before.View || m.Primary != before.Primary || m.Failovers != 0 {
		t.Errorf("before %v, after %v", before, m)
	}
	for _, h := range []*fakeHost{a, b} {
		if !h.has("web") {
			t.Errorf("host %s lost its part", h.name)
		}
	}
	// It goes on where it was: a third host becomes spare, and takes over the part of one that dies.
	f.host("c")
	f.await("web", "c is ready for it", func(m *api.Machine) bool { return slices.Contains(m.Hosts, "c") })
	map[string]*fakeHost{"a": a, "b": b}[before.Backup].kill()
	f.await("web", "c is backup", func(m *api.Machine) bool { return protected(m) && m.Backup == "c" })
}

func TestAHostIsDrained(t *testing.T) {
	f := newFleet(t)
	for _, n := range []string{"a", "b", "c"} {
		f.host(n)
		f.awaitHost(n, "ready")
	}
	f.run(&api.MachineSpec{Name: "web", Spares: 0})
	f.run(&api.MachineSpec{Name: "db", Spares: 0})
	m := f.await("web", "protected", protected)
	f.await("db", "protected", protected)
	leaver := m.Primary
	if _, err := f.user().Drain(context.Background(), &api.DrainRequest{Host: leaver, On: true}); err != nil {
		t.Fatal(err)
	}
	f.awaitHost(leaver, "drained")
	for _, n := range []string{"web", "db"} {
		m := f.await(n, "protected elsewhere", protected)
		if m.Primary == leaver || m.Backup == leaver || slices.Contains(m.Hosts, leaver) {
			t.Errorf("%s: %v", n, m)
		}
	}
	f.end() // the wish outlives control
	f.begin()
	f.awaitHost(leaver, "drained")
	f.run(&api.MachineSpec{Name: "third", Spares: -1})
	if m := f.await("third", "protected", protected); slices.Contains(m.Hosts, leaver) {
		t.Errorf("a drained host was given work: %v", m)
	}
	if _, err := f.user().Drain(context.Background(), &api.DrainRequest{Host: leaver}); err != nil {
		t.Fatal(err)
	}
	f.await("third", "it takes parts again", func(m *api.Machine) bool { return slices.Contains(m.Hosts, leaver) })
	f.awaitHost(leaver, "ready")
}

func TestPlannedFailover(t *testing.T) {
	f := newFleet(t)
	f.host("a")
	f.awaitHost("a", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	f.await("web", "runs alone", func(m *api.Machine) bool { return m.State == "running" && m.Protection == "alone: no idle host" })
	_, err := f.user().Failover(context.Background(), &api.FailoverRequest{Name: "web"})
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || Try(err) == "" {
		t.Errorf("failover without a backup: %v", err)
	}
	f.host("b")
	f.await("web", "protected", protected)
	r, err := f.user().Failover(context.Background(), &api.FailoverRequest{Name: "web"})
	if err != nil || r.Primary != "b" || r.Pause.AsDuration() != 5*time.Millisecond {
		t.Fatalf("failover: %v, %v", r, err)
	}
	m := f.await("web", "protected the other way round", protected)
	if m.Primary != "b" || m.Backup != "a" || m.View != r.View {
		t.Errorf("machine %v", m)
	}
	f.awaitEvent("failover", "b took over from a; the machine stood still for 5ms")
	done := 0
	for _, kind := range f.kinds() {
		if kind == "transfer.done" {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d transfers were told of: a handover copies nothing", done)
	}
	if _, err := f.user().SetMode(context.Background(), &api.SetModeRequest{Name: "web", Mode: api.Mode_MODE_CHECKPOINT}); err != nil {
		t.Error(err)
	}
	if f.machine("web").Spec.Mode != api.Mode_MODE_CHECKPOINT {
		t.Error("the mode did not stay")
	}
}

func TestStopStartEndRemove(t *testing.T) {
	f := newFleet(t)
	hosts := map[string]*fakeHost{"a": f.host("a"), "b": f.host("b")}
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	m := f.await("web", "protected", protected)
	ctx := context.Background()
	if _, err := f.user().Remove(ctx, &api.RemoveRequest{Name: "web"}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a machine that runs was removed: %v", err)
	}
	if _, err := f.user().Stop(ctx, &api.StopRequest{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if h.replica(m.Group) != nil || !h.has("web") {
			t.Errorf("host %s: the replica runs, or its files were given up", h.name)
		}
	}
	f.until(func() string { return "its ports are free" }, func() bool { return f.lans.count() == 0 })
	if l, err := f.user().ListMachines(ctx, &api.ListMachinesRequest{}); err != nil || len(l.Machines) != 0 {
		t.Errorf("listed: %v, %v", l, err)
	}
	if _, err := f.user().Start(ctx, &api.StartRequest{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	again := f.await("web", "protected", protected)
	if again.Primary != m.Primary || again.Id != m.Id || again.Group == m.Group {
		t.Errorf("before %v, started again %v", m, again)
	}
	if f.lans.count() != 1 {
		t.Error("it was started without a LAN")
	}
	hosts[again.Primary].endGuest(again.Group, 3)
	f.await("web", "ended", func(m *api.Machine) bool { return m.State == "ended" && m.ExitCode == 3 && m.Reason != "" })
	f.end()
	f.begin()
	f.await("web", "ended still", func(m *api.Machine) bool { return m.State == "ended" && m.ExitCode == 3 })
	if _, err := f.user().Remove(ctx, &api.RemoveRequest{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		f.until(func() string { return "host " + h.name + " forgets it" }, func() bool { return !h.has("web") })
	}
	f.run(&api.MachineSpec{Name: "web"})
	if n := f.await("web", "protected", protected); n.Id == m.Id || n.Group == m.Group || n.Group == again.Group {
		t.Errorf("a new machine has the id of an old one: %v", n)
	}
}

func TestBothDie(t *testing.T) {
	f := newFleet(t)
	a, b := f.host("a"), f.host("b")
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	f.await("web", "protected", protected)
	a.kill()
	b.kill()
	m := f.await("web", "stuck", func(m *api.Machine) bool { return m.State == "stuck" })
	if !strings.Contains(m.Reason, "no word from host") {
		t.Errorf("reason %q", m.Reason)
	}
	// A host that comes back comes without the state: the machine stays stuck, and is not booted anew behind its user's back.
	f.host("a")
	f.host("c")
	f.awaitHost("c", "ready")
	f.await("web", "stuck, once their pings have told", func(m *api.Machine) bool { return m.State == "stuck" && m.Reason != "" })
	_, err := f.user().Start(context.Background(), &api.StartRequest{Name: "web"})
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("start: %v", err)
	}
}

func TestConsoleFollowsTheMachine(t *testing.T) {
	f := newFleet(t)
	hosts := map[string]*fakeHost{"a": f.host("a"), "b": f.host("b")}
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	m := f.await("web", "protected", protected)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	typeOn := func(text string) {
		t.Helper()
		if _, err := f.user().Type(ctx, &api.TypeRequest{Name: "web", Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	typeOn("one ")
	s, err := f.user().Console(ctx, &api.ConsoleRequest{Name: "web", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	read := func(want string) {
		t.Helper()
		var got strings.Builder
		for got.Len() < len(want) && s.Receive() {
			got.Write(s.Msg().Data)
		}
		if got.String() != want {
			t.Fatalf("console said %q, want %q; %v", got.String(), want, s.Err())
		}
	}
	read("one ")
	hosts[m.Primary].kill()
	typeOn("two ")
	read("two ")
	once, err := f.user().Console(ctx, &api.ConsoleRequest{Name: "web", From: 4})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for once.Receive() {
		text += string(once.Msg().Data)
	}
	if text != "two " || once.Err() != nil {
		t.Errorf("from offset 4: %q, %v", text, once.Err())
	}
}

func TestAPIErrors(t *testing.T) {
	f := newFleet(t)
	ctx := context.Background()
	u := f.user()
	run := func(s *api.MachineSpec) error {
		stream, err := u.Run(ctx, &api.RunRequest{Spec: s})
		if err == nil {
			stream.Receive()
			err = stream.Err()
			stream.Close()
		}
		return err
	}
	one := func(_ any, err error) error { return err }
	f.run(&api.MachineSpec{Name: "web"})
	for what, c := range map[string]struct {
		err  error
		code connect.Code
	}{
		"no spec":           {run(nil), connect.CodeInvalidArgument},
		"bad name":          {run(&api.MachineSpec{Name: "../x", Image: "i"}), connect.CodeInvalidArgument},
		"no image":          {run(&api.MachineSpec{Name: "x"}), connect.CodeInvalidArgument},
		"too little memory": {run(&api.MachineSpec{Name: "x", Image: "i", MemBytes: 4096}), connect.CodeInvalidArgument},
		"spares":            {run(&api.MachineSpec{Name: "x", Image: "i", Spares: -2}), connect.CodeInvalidArgument},
		"two volumes":       {run(&api.MachineSpec{Name: "x", Image: "i", Volumes: []*api.Volume{{Name: "v", SizeBytes: 512}, {Name: "v", SizeBytes: 512}}}), connect.CodeInvalidArgument},
		"shared disk":       {run(&api.MachineSpec{Name: "x", Image: "i", SharedDisks: []string{"store"}}), connect.CodeInvalidArgument},
		"shared disk, host": {run(&api.MachineSpec{Name: "x", Image: "i", SharedDisks: []string{":7080"}}), connect.CodeInvalidArgument},
		"reads, no disk":    {run(&api.MachineSpec{Name: "x", Image: "i", SharedDiskReads: api.SharedDiskReads_SHARED_DISK_READS_DISK}), connect.CodeInvalidArgument},
		"reads, epochs": {run(&api.MachineSpec{
			Name: "x", Image: "i", SharedDisks: []string{"store:1"}, Mode: api.Mode_MODE_CHECKPOINT, SharedDiskReads: api.SharedDiskReads_SHARED_DISK_READS_DISK,
		}), connect.CodeInvalidArgument},
		"reads":           {run(&api.MachineSpec{Name: "x", Image: "i", SharedDisks: []string{"store:1"}, SharedDiskReads: 3}), connect.CodeInvalidArgument},
		"nil volume":      {run(&api.MachineSpec{Name: "x", Image: "i", Volumes: []*api.Volume{nil}}), connect.CodeInvalidArgument},
		"mode":            {run(&api.MachineSpec{Name: "x", Image: "i", Mode: 9}), connect.CodeInvalidArgument},
		"name is taken":   {run(&api.MachineSpec{Name: "web", Image: "i"}), connect.CodeAlreadyExists},
		"get":             {one(u.GetMachine(ctx, &api.GetMachineRequest{Name: "x"})), connect.CodeNotFound},
		"stop":            {one(u.Stop(ctx, &api.StopRequest{Name: "x"})), connect.CodeNotFound},
		"start":           {one(u.Start(ctx, &api.StartRequest{Name: "x"})), connect.CodeNotFound},
		"start what runs": {one(u.Start(ctx, &api.StartRequest{Name: "web"})), connect.CodeFailedPrecondition},
		"remove":          {one(u.Remove(ctx, &api.RemoveRequest{Name: "x"})), connect.CodeNotFound},
		"failover":        {one(u.Failover(ctx, &api.FailoverRequest{Name: "web"})), connect.CodeFailedPrecondition},
		"drain":           {one(u.Drain(ctx, &api.DrainRequest{Host: "x", On: true})), connect.CodeNotFound},
		"no mode":         {one(u.SetMode(ctx, &api.SetModeRequest{Name: "web"})), connect.CodeInvalidArgument},
	} {
		if connect.CodeOf(c.err) != c.code {
			t.Errorf("%s: %v, want %v", what, c.err, c.code)
		}
	}
	f.lans.mu.Lock()
	f.lans.fail = io.ErrUnexpectedEOF
	f.lans.mu.Unlock()
	if err := run(&api.MachineSpec{Name: "y", Image: "i"}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("LAN daemon away: %v", err)
	}
	if m := f.machine("web"); m.State != "placing" || m.Progress != "waits for a first host" {
		t.Errorf("machine without a host: %v", m)
	}
}

func TestTwoHostsOfOneName(t *testing.T) {
	f := newFleet(t)
	a := f.host("a")
	f.awaitHost("a", "ready")
	other := f.host("a")
	f.until(func() string { return "the second is refused" }, func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return connect.CodeOf(other.workErr) == connect.CodeAlreadyExists
	})
	a.kill()
	f.until(func() string { return "the second is taken once the first is gone" }, func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return other.lists > 0
	})
}

func TestMetrics(t *testing.T) {
	f := newFleet(t)
	f.host("a")
	f.host("b")
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	m := f.await("web", "protected", protected)
	var text string
	f.until(func() string { return "metrics; there are\n" + text }, func() bool {
		r, err := http.Get(f.url() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(err, r.Status, string(b))
		}
		text = string(b)
		for _, want := range []string{
			`understudy_machine_protected{machine="web"} 1`, `understudy_machine_view{machine="web"} 2`,
			`understudy_replica_role{host="` + m.Primary + `",machine="web",role="primary"} 1`,
			`understudy_replica_lag_seconds{host="` + m.Primary + `",machine="web"} 0.003`,
			`understudy_replica_log_bytes_total{host="` + m.Backup + `",machine="web"} 77`,
			`understudy_replica_held_outputs{`, `understudy_replica_held_seconds{`, `understudy_replica_grants_won_total{`,
			`understudy_machine_failovers_total{machine="web"} 0`, `understudy_view_calls_total{kind="ping"} `,
			`understudy_host_ready{host="a"} 1`, `understudy_api_calls_total{code="ok",`,
		} {
			if !strings.Contains(text, want) {
				return false
			}
		}
		return true
	})
}
