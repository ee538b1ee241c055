package agent

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "understudy/api/understudy/v1"
	"understudy/internal/host"
)

func TestReplicaArgs(t *testing.T) {
	ms := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Millisecond) }
	j := &job{views: []string{"https://c:1"}, arbiter: "https://c:2", Assignment: &pb.Assignment{
		Group: "web-1", Lan: "127.0.0.1:99", Spec: &pb.MachineSpec{
			MemBytes: 1 << 29, Cmdline: "--quiet x=1", Mode: pb.Mode_MODE_CHECKPOINT, Epoch: ms(25), SuspectAfter: ms(200), LagMax: ms(2000),
			BandwidthBytes: 5e6,
		},
	}}
	o := &Options{Name: "a", Advertise: "fd00::1", TLSDir: "/certs", SuspectAfter: time.Second}
	l := life{stateDir: "/d/life-1", socket: "/d/status", founding: true, image: "-odd", disks: []string{"/d/disk0.raw", "/d/disk1.raw"}}
	want := "replica --name=a --group=web-1 --views=https://c:1 --arbiter=https://c:2 --listen=[fd00::1]:0 --status=/d/status" +
		" --state-dir=/d/life-1 --lan=127.0.0.1:99 --tls-dir=/certs --suspect-after=200ms --lag-max=2s --bandwidth=5000000" +
		" --mode=checkpoint --epoch=25ms --mem=536870912 --cmdline=--quiet x=1 --disk=/d/disk0.raw --disk=/d/disk1.raw -- -odd"
	if got := strings.Join(replicaArgs(o, j, l), " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	l.founding = false
	j.Spec.SharedDisks = []string{"store:7080"}
	if got := strings.Join(replicaArgs(o, j, l), " "); !strings.HasSuffix(got, "--take-shared-disk=web-") {
		t.Errorf("a spare: %s", got)
	}
	l.founding = true
	if got := strings.Join(replicaArgs(o, j, l), " "); !strings.HasSuffix(got, "--take-shared-disk=web- --mem=536870912 --cmdline=--quiet x=1 --disk=/d/disk0.raw --disk=/d/disk1.raw --shared-disk=store:7080 -- -odd") {
		t.Errorf("%s", got)
	}
	j.Spec.SharedDiskReads = pb.SharedDiskReads_SHARED_DISK_READS_DISK
	if got := strings.Join(replicaArgs(o, j, l), " "); !strings.HasSuffix(got, "--shared-disk=store:7080 --shared-disk-reads=disk -- -odd") {
		t.Errorf("%s", got)
	}
	l.founding, j.Spec.SharedDisks = false, nil
	if got := replicaArgs(o, j, l); got[len(got)-1] != "--epoch=25ms" {
		t.Errorf("a spare: %q", got)
	}
}

func TestBackoff(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		code  int
		lived time.Duration
		n     int
		want  []time.Duration
	}{
		{125, 0, 8, []time.Duration{0, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
		{exitSignals, s, 3, []time.Duration{0, s, 2 * s}},
		{exitHalted, 0, 7, []time.Duration{0, 0, 0, 0, 0, s, 2 * s}},
		{125, settledAfter, 3, []time.Duration{0, 0, 0}},
	} {
		var b backoff
		var got []time.Duration
		for range c.n {
			got = append(got, b.after(c.code, c.lived))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("code %d after %v: %v, want %v", c.code, c.lived, got, c.want)
		}
	}
	var b backoff
	for range 1000 {
		b.after(125, 0)
	}
	if d := b.after(125, 0); d != backoffMost {
		t.Errorf("after a thousand failures: %v", d)
	}
}

func TestCheckJob(t *testing.T) {
	volumes := func(v ...*pb.Volume) *pb.MachineSpec { return &pb.MachineSpec{Volumes: v} }
	for want, as := range map[string]*pb.Assignment{
		"":                  {Id: "x", Group: "g", Spec: volumes(&pb.Volume{Name: "v", SizeBytes: 1024})},
		"is not a name":     {Id: "../x", Group: "g"},
		"names no group":    {Id: "x"},
		"multiple of 512":   {Id: "x", Group: "g", Spec: volumes(&pb.Volume{Name: "v", SizeBytes: 1000})},
		"0 bytes":           {Id: "x", Group: "g", Spec: volumes(&pb.Volume{Name: "v"})},
		"is there twice":    {Id: "x", Group: "g", Spec: volumes(&pb.Volume{Name: "v", SizeBytes: 512}, &pb.Volume{Name: "v", SizeBytes: 512})},
		"1125899906843136 ": {Id: "x", Group: "g", Spec: volumes(&pb.Volume{Name: "v", SizeBytes: 1<<50 + 512})},
	} {
		err := (&job{Assignment: as}).check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", as, err, want)
		}
	}
}

func TestRoom(t *testing.T) {
	r := &room{limit: 100}
	if r.take("a", 60) != nil || r.take("b", 50) == nil || r.take("a", 50) != nil || r.take("b", 50) != nil || r.take("c", 1<<63) == nil {
		t.Error("room for 100")
	}
	if !r.give("a") || r.give("a") || r.reserved() != 50 {
		t.Error("giving back")
	}
	if (&room{}).take("a", 1<<63) != nil {
		t.Error("no bound")
	}
}

func TestParseStatus(t *testing.T) {
	s, err := parseStatus([]byte(`{"role":5,"view":3,"later":{"x":1},"transfer":{"to":7,"round":2}}`))
	if err != nil || s.View != 3 || s.Transfer.Round != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "{", "[]", "7"} {
		if _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(`{"role":"primary","transfer":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseStatus(raw)
		if err == nil {
			var c condition
			c.observe(s, raw, time.Now())
			c.proto("a")
			c.finish("")
		}
	})
}

// TestStatusFields holds the fields that the agent reads to those that a replica writes.
func TestStatusFields(t *testing.T) {
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[status](), reflect.TypeFor[host.Status]()},
		{reflect.TypeFor[transfer](), reflect.TypeFor[host.Transfer]()},
	} {
		said := map[string]bool{}
		for i := range pair[1].NumField() {
			name, _, _ := strings.Cut(pair[1].Field(i).Tag.Get("json"), ",")
			said[name] = true
		}
		for i := range pair[0].NumField() {
			if name := pair[0].Field(i).Tag.Get("json"); !said[name] {
				t.Errorf("%v does not say %s", pair[1], name)
			}
		}
	}
}
