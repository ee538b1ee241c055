package agent

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/control"
	"understudy/internal/pki"
)

// running has machine m1 run, with that status.
func (b *bench) running(status, role string) {
	b.Helper()
	b.control.assign(machine("m1", found))
	b.control.wantReport("runs", "g-m1", func(r *pb.Replica) bool { return r.StatusJson != "" })
	b.ask("m1", "POST", "/test/status", status)
	b.control.wantReport("status", "g-m1", func(r *pb.Replica) bool { return r.Role == role })
}

func TestConsole(t *testing.T) {
	b := newBench(t)
	b.running(`{"role":"primary","view":1}`, "primary")
	s := understudyv1connect.NewReplicaServiceClient(http.DefaultClient, b.url)
	read := func(r *pb.ReplicaConsoleRequest) (text string, at int64, err error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := s.ReplicaConsole(ctx, r)
		if err != nil {
			return "", 0, err
		}
		at = -1
		for stream.Receive() {
			if at < 0 {
				at = stream.Msg().Offset
			}
			if want := at + int64(len(text)); stream.Msg().Offset != want {
				t.Errorf("a chunk at %d, want %d", stream.Msg().Offset, want)
			}
			text += string(stream.Msg().Data)
			if r.Follow && strings.HasSuffix(text, "9") {
				return text, at, nil // the stream stays open
			}
		}
		return text, at, stream.Err()
	}
	for _, c := range []struct {
		from, at int64
		follow   bool
		want     string
	}{{4, 4, false, "456789"}, {0, 2, false, "23456789"}, {7, 7, true, "789"}} {
		if text, at, err := read(&pb.ReplicaConsoleRequest{Group: "g-m1", From: c.from, Follow: c.follow}); text != c.want || at != c.at || err != nil {
			t.Errorf("from %d: %q at %d, %v", c.from, text, at, err)
		}
	}
	for group, want := range map[string]connect.Code{"other": connect.CodeNotFound, "g-m1": connect.CodeNotFound} {
		if _, _, err := read(&pb.ReplicaConsoleRequest{Group: group, Console: 3}); connect.CodeOf(err) != want {
			t.Errorf("%s: %v", group, err)
		}
	}
	if _, err := s.ReplicaType(t.Context(), &pb.ReplicaTypeRequest{Group: "g-m1", Data: []byte("ls\n")}); err != nil {
		t.Error(err)
	}
	epoch := &pb.SetReplicaModeRequest{Group: "g-m1", Mode: pb.Mode_MODE_CHECKPOINT, Epoch: durationpb.New(25 * time.Millisecond)}
	if _, err := s.SetReplicaMode(t.Context(), epoch); err != nil {
		t.Error(err)
	}
	if got := b.ask("m1", "GET", "/test/typed", ""); got != "ls\nmode=checkpoint epoch=25ms" {
		t.Errorf("the replica got %q", got)
	}
	h, err := s.HandOver(t.Context(), &pb.HandOverRequest{Group: "g-m1"})
	if err != nil || h.View != 7 || h.Pause.AsDuration() != 5*time.Millisecond {
		t.Errorf("hand over: %v, %v", h, err)
	}
	b.ask("m1", "POST", "/test/status", `{"role":"backup","view":7}`)
	_, err = s.HandOver(t.Context(), &pb.HandOverRequest{Group: "g-m1"})
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "no backup is in sync") {
		t.Errorf("hand over without a backup: %v", err)
	}
	b.exit("m1", 0)
	b.control.wantReport("ended", "g-m1", func(r *pb.Replica) bool { return r.Ended })
	if _, err := s.HandOver(t.Context(), &pb.HandOverRequest{Group: "g-m1"}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("hand over of a machine that has ended: %v", err)
	}
	// What the guest said last is kept, also for the next agent.
	for range 2 {
		if text, at, err := read(&pb.ReplicaConsoleRequest{Group: "g-m1", From: 5}); text != "56789" || at != 5 || err != nil {
			t.Errorf("the console of a machine that has ended: %q at %d, %v", text, at, err)
		}
		b.finish()
		b.begin()
		s = understudyv1connect.NewReplicaServiceClient(http.DefaultClient, b.url)
		b.control.wantReport("ended", "g-m1", func(r *pb.Replica) bool { return r.Ended && b.agent.all()[0].tail.at() > 0 })
	}
}

func TestConsoleTail(t *testing.T) {
	var c consoleTail
	c.add([]byte("hello "), 0)
	c.add([]byte("world"), 6)
	for from, want := range map[int64]string{0: "hello world", 6: "world", -2: "ld", -99: "hello world", 11: "", 99: ""} {
		if got, at := c.read(from); string(got) != want || at != 11-int64(len(want)) {
			t.Errorf("from %d: %q at %d", from, got, at)
		}
	}
	c.add([]byte("later"), 100)
	if got, at := c.read(0); string(got) != "later" || at != 100 {
		t.Errorf("behind a gap: %q at %d", got, at)
	}
	big := make([]byte, 100_000)
	for i := range int64(20) {
		c.add(big, 105+i*100_000)
	}
	if got, at := c.read(0); len(got) > 2*tailMaxBytes || len(got) < tailMaxBytes || at+int64(len(got)) != 2_000_105 {
		t.Errorf("%d bytes are kept, from %d on", len(got), at)
	}
}

func (b *bench) scrape() string {
	b.Helper()
	resp, err := http.Get(b.url + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatal(resp.Status, err, string(raw))
	}
	return string(raw)
}

func TestMetrics(t *testing.T) {
	b := newBench(t)
	full := `{"role":"primary","view":4,"lag_ns":250000000,"held":3,"held_ns":2000000,"log_bytes":1000,"failovers":1,"blackout_ns":120000000,
		"grants_won":2,"gate_outputs":8,"gate_ns":500000000,"entries":77,"in_sync":true,"grants_lost":1,"solo":true,
		"shared_disks":[{"held":2,"held_ns":4000000},{"held":1,"held_ns":6000000}],"transfer":{"to":"b","total_bytes":100,"done_bytes":40,"sent_bytes":20}}`
	b.running(full, "primary")
	want := func(lines ...string) {
		t.Helper()
		text := b.scrape()
		for _, l := range lines {
			name, value, _ := strings.Cut(l, " ")
			name, more, _ := strings.Cut(name, "|")
			if w := name + `{group="g-m1",host="a",machine="web"` + more + "} " + value + "\n"; !strings.Contains(text, w) {
				t.Errorf("no %s in\n%s", w, text)
			}
		}
	}
	want("understudy_replica_up 1", "understudy_replica_view 4", `understudy_replica_role|,role="primary" 1`, `understudy_replica_role|,role="backup" 0`,
		"understudy_replica_lag_seconds 0.25", "understudy_replica_held_outputs 3", "understudy_replica_held_oldest_seconds 0.002",
		"understudy_replica_log_bytes_total 1000", "understudy_replica_failovers_total 1", "understudy_replica_last_blackout_seconds 0.12",
		"understudy_replica_grants_won_total 2", "understudy_replica_grants_lost_total 1", "understudy_replica_solo 1",
		"understudy_replica_outputs_held_total 8", "understudy_replica_outputs_held_seconds_total 0.5", "understudy_replica_log_entries_total 77",
		"understudy_replica_in_sync 1", "understudy_replica_shared_disk_held 3", "understudy_replica_shared_disk_held_oldest_seconds 0.006",
		"understudy_replica_transfer_size_bytes 100", "understudy_replica_transfer_done_bytes 40", "understudy_replica_transfer_sent_bytes_total 20",
		"understudy_replica_restarts_total 0")
	for _, l := range []string{
		`understudy_host_memory_bytes{host="a"} 1.073741824e+09`, `understudy_host_memory_reserved_bytes{host="a"} 1.048576e+08`,
		`understudy_host_control_connected{host="a"} 1`, `understudy_host_info{host="a",version="1.2"} 1`,
	} {
		if !strings.Contains(b.scrape(), l+"\n") {
			t.Errorf("no %s", l)
		}
	}
	b.ask("m1", "POST", "/test/status", strings.Replace(full, `"sent_bytes":20`, `"sent_bytes":5`, 1)) // another transfer
	b.control.wantReport("second transfer", "g-m1", func(r *pb.Replica) bool { return r.Transfer.GetSentBytes() == 5 })
	want("understudy_replica_transfer_sent_bytes_total 25")
	// A new life's counters begin at zero; those of the metrics do not fall.
	b.ask("m1", "POST", "/test/exit?code=4", "")
	b.control.wantReport("second life", "g-m1", func(r *pb.Replica) bool { return r.Restarts == 1 && r.StatusJson != "" })
	want("understudy_replica_log_bytes_total 1000", "understudy_replica_restarts_total 1", `understudy_replica_role|,role="primary" 0`, "understudy_replica_lag_seconds 0")
	b.ask("m1", "POST", "/test/status", `{"role":"backup","view":5,"log_bytes":10}`)
	b.control.wantReport("backup", "g-m1", func(r *pb.Replica) bool { return r.Role == "backup" })
	want("understudy_replica_log_bytes_total 1010", "understudy_replica_failovers_total 1")

	// Every metric is in the documentation.
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(b.scrape()) {
		if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
			if name = strings.Fields(name)[0]; !strings.Contains(string(doc), "`"+name+"`") {
				t.Errorf("docs/metrics.md does not know %s", name)
			}
		}
	}
}

func TestOnlyControlCommands(t *testing.T) {
	if ControlName != control.Name {
		t.Fatal("control's name is", control.Name)
	}
	certs := t.TempDir()
	now := time.Now()
	if err := pki.NewCA(certs, now); err != nil {
		t.Fatal(err)
	}
	ids := map[string]*pki.Identity{}
	for _, name := range []string{"a", "b", ControlName} {
		if err := pki.NewHost(certs, name, nil, now); err != nil {
			t.Fatal(err)
		}
		var err error
		if ids[name], err = pki.Load(certs, name); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{T: t, control: &fakeControl{address: "127.0.0.1:1"}, dir: shortDir(t), log: &lockedBuffer{}}
	o := b.options()
	o.Identity, o.TLSDir = ids["a"], certs
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	defer func() { end(); <-ended }()
	client := func(c *tls.Config) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}}
	}
	url := "https://" + o.Listener.Addr().String()
	for name, want := range map[string]connect.Code{ControlName: connect.CodeNotFound, "b": connect.CodePermissionDenied} {
		s := understudyv1connect.NewReplicaServiceClient(client(ids[name].Client("a")), url)
		if _, err := s.HandOver(t.Context(), &pb.HandOverRequest{Group: "g"}); connect.CodeOf(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if resp, err := client(ids["b"].Client("a")).Get(url + "/metrics"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("metrics: %v", err)
	}
	anonymous := ids["b"].Client("a")
	anonymous.Certificates = nil
	if _, err := client(anonymous).Get(url + "/metrics"); err == nil {
		t.Error("a peer without a certificate was served")
	}
}
