package control

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/pki"
)

// certificates makes a fleet's, and returns a loader.
func certificates(t *testing.T, names ...string) func(name string) *pki.Identity {
	t.Helper()
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		var also []string
		if n == Name {
			also = []string{ArbiterName}
		}
		if err := pki.NewHost(dir, n, also, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) *pki.Identity {
		id, err := pki.Load(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
}

func TestCertificatesSayWhoMayDoWhat(t *testing.T) {
	load := certificates(t, Name, UserName, "cli-eva", "a", "b")
	f := newFleetAs(t, load(Name), load(UserName))
	f.hostAs("a", 1<<30, load("a"))
	f.hostAs("b", 1<<30, load("b"))
	f.awaitHost("a", "ready")
	f.awaitHost("b", "ready")
	f.run(&api.MachineSpec{Name: "web"})
	m := f.await("web", "protected", protected)

	ctx := context.Background()
	as := func(id *pki.Identity) *http.Client {
		tr := &http.Transport{TLSClientConfig: id.Client(Name)}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	if _, err := understudyv1connect.NewMachineServiceClient(as(load("cli-eva")), f.url()).ListHosts(ctx, &api.ListHostsRequest{}); err != nil {
		t.Errorf("another user: %v", err)
	}
	denied := func(what string, err error) {
		t.Helper()
		if connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
	b := as(load("b"))
	_, err := understudyv1connect.NewHostServiceClient(b, f.url()).Report(ctx, &api.ReportRequest{Host: "a", Incarnation: "x"})
	denied("b reports for a", err)
	_, err = understudyv1connect.NewMachineServiceClient(b, f.url()).Remove(ctx, &api.RemoveRequest{Name: "web", Force: true})
	denied("a host gives orders", err)
	s, err := understudyv1connect.NewMachineServiceClient(b, f.url()).Run(ctx, &api.RunRequest{})
	if err == nil {
		s.Receive()
		err = s.Err()
	}
	denied("a host runs a machine", err)
	w, err := understudyv1connect.NewHostServiceClient(as(load(UserName)), f.url()).Work(ctx, &api.WorkRequest{Host: UserName, Address: "x", Incarnation: "x"})
	if err == nil {
		w.Receive()
		err = w.Err()
	}
	denied("a user is no host", err)

	post := func(c *http.Client, path, body string) int {
		t.Helper()
		r, err := c.Post(f.url()+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	ping := `{"server": "a", "incarnation": "x", "seq": 1, "view": 0}`
	if code := post(b, "/v1/views/"+m.Group+"/ping", ping); code != http.StatusForbidden {
		t.Errorf("b pings for a: %d", code)
	}
	if code := post(b, "/v1/drain", `{"server": "a", "drain": true}`); code != http.StatusForbidden {
		t.Errorf("b drains a: %d", code)
	}
	if code := post(b, "/v1/views/"+m.Group+"/switch", ""); code != http.StatusForbidden {
		t.Errorf("b switches: %d", code)
	}

	foreign := certificates(t, UserName)
	for what, id := range map[string]*http.Client{"foreign": as(foreign(UserName)), "none": {Transport: &http.Transport{}}} {
		r, err := id.Post(f.url()+understudyv1connect.MachineServiceListHostsProcedure, "application/json", bytes.NewReader([]byte("{}")))
		if err == nil {
			r.Body.Close()
			t.Errorf("certificate %s: answered with %s", what, r.Status)
		}
	}
	plain, err := http.Get("http://" + f.address + "/healthz")
	if err == nil && plain.StatusCode == http.StatusOK {
		t.Error("answered without TLS")
	}
	if plain != nil {
		plain.Body.Close()
	}
}
