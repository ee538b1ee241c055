package httparb_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
)

var first = arbiter.Record{Number: 1, Primary: "a", Claimant: "x"}

// watchServer serves a store that holds first, until stop.
func watchServer(t *testing.T) (store arbiter.Store, base string, stop func()) {
	t.Helper()
	store = memstore.New()
	if _, won, err := store.CompareAndSet(t.Context(), "g", first); !won || err != nil {
		t.Fatal(won, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httparb.NewServer(store, nil).Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return store, "http://" + ln.Addr().String(), stop
}

func get(t *testing.T, url string) (status int, rec arbiter.Record) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(text, &rec)
	return resp.StatusCode, rec
}

func TestWatchParameters(t *testing.T) {
	_, base, _ := watchServer(t)
	for query, want := range map[string]int{
		"": 400, "?after=": 400, "?after=-1": 400, "?after=x": 400, "?after=18446744073709551616": 400, "?after=1&wait_ms=-1": 400,
		"?after=1&wait_ms=1e3": 400, "?after=%zz": 400, "?after=0": 200, "?after=1&wait_ms=1": 200, "?after=1&wait_ms=0": 200,
		"?after=18446744073709551615&wait_ms=10": 200,
	} {
		status, rec := get(t, base+"/v1/groups/g/watch"+query)
		if status != want || want == 200 && rec != first {
			t.Errorf("%q: status %d, %+v; want %d", query, status, rec, want)
		}
	}
	if status, _ := get(t, base+"/v1/groups/G/watch?after=0"); status != 400 {
		t.Errorf("wrong group: %d", status)
	}
}

func TestWatchesEndWithTheServer(t *testing.T) {
	_, base, stop := watchServer(t)
	c, err := httparb.NewClient(base, httparb.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	told := make(chan error, 1)
	go func() {
		_, err := c.Watch(t.Context(), "g", 1)
		told <- err
	}()
	select { // long enough for the watch to be under way; if it is not, the test shows less
	case err := <-told:
		t.Fatal(err)
	case <-time.After(100 * time.Millisecond):
	}
	begun := time.Now()
	stop()
	if err := <-told; !errors.Is(err, arbiter.ErrUnreachable) {
		t.Error(err)
	}
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("the server's end took %s: it waited for the watch", took)
	}
}

// A server that answers a watch at once, over and over, must not make the client spin.
func TestWatchOfAServerThatDoesNotWait(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(first)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })}
	go srv.Serve(ln)
	defer srv.Close()
	c, err := httparb.NewClient("http://"+ln.Addr().String(), httparb.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Watch(t.Context(), "g", 1); !errors.Is(err, arbiter.ErrUnreachable) || !strings.Contains(err.Error(), "does not wait") {
		t.Error(err)
	}
}

// Watches outlive the limits that the server has for other requests, and the client asks again and again.
func TestLongWatch(t *testing.T) {
	if os.Getenv("UNDERSTUDY_LONG") != "1" {
		t.Skip("takes 14 seconds; set UNDERSTUDY_LONG=1")
	}
	store, base, _ := watchServer(t)
	c, err := httparb.NewClient(base, httparb.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	told := make(chan arbiter.Record, 1)
	go func() {
		rec, err := c.Watch(t.Context(), "g", 1)
		if err != nil {
			t.Error(err)
		}
		told <- rec
	}()
	begun := time.Now()
	if status, rec := get(t, base+"/v1/groups/g/watch?after=1&wait_ms=14000"); status != 200 || rec != first || time.Since(begun) < 14*time.Second {
		t.Errorf("status %d, %+v after %s", status, rec, time.Since(begun))
	}
	second := arbiter.Record{Number: 2, Primary: "b", Claimant: "y"}
	if _, won, err := store.CompareAndSet(t.Context(), "g", second); !won || err != nil {
		t.Fatal(won, err)
	}
	if rec := <-told; rec != second {
		t.Errorf("%+v", rec)
	}
}
