package bench

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"understudy/internal/demo"
)

// TestConsoleHearsInOrder types at a fake member and hears its lines.
func TestConsoleHearsInOrder(t *testing.T) {
	typed := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console", func(w http.ResponseWriter, q *http.Request) {
		w.(http.Flusher).Flush() // as soon as somebody follows
		for {
			select {
			case line := <-typed:
				_, _ = w.Write([]byte("noise\r\ncompiled " + line + "\r\n"))
				w.(http.Flusher).Flush()
			case <-q.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("POST /console", func(w http.ResponseWriter, q *http.Request) {
		b := make([]byte, 100)
		n, _ := q.Body.Read(b)
		typed <- strings.TrimSpace(string(b[:n]))
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /handover", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error": "no backup"}`, http.StatusConflict)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	p := &demo.Process{Name: "a", Ready: demo.Ready{Status: l.Addr().String()}}
	c, err := openConsole(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, want := range []int{3, 0, 12} {
		if err := c.say(t.Context(), strconv.Itoa(want)); err != nil {
			t.Fatal(err)
		}
		n, at, err := c.await(t.Context(), saidCompiled)
		if err != nil || n != want || at.IsZero() {
			t.Fatalf("heard %d, %v, want %d", n, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.await(ended, regexp.MustCompile("never")); err == nil {
		t.Error("a wait outlived its context")
	}
	if err := post(t.Context(), p, "/handover", nil, "", nil); err == nil || !strings.Contains(err.Error(), "no backup") {
		t.Errorf("a refusal gave %v", err)
	}
}

func TestCloneSection(t *testing.T) {
	d := &CloneData{
		Clones: []CloneResult{
			{loadIdle, 1000, 5, 30e6, 1, 0},
			{loadIdle, 3000, 7, 40e6, 2, 0},
			{loadIdle, 2000, 6, 20e6, 1, 0},
			{loadWrite, 9000, 30, 200e6, 8, 60},
		},
		HandOvers: []HandOverResult{{loadIdle, "lockstep", 10}, {loadIdle, "lockstep", 30}, {loadIdle, "lockstep", 20}},
	}
	var b strings.Builder
	if err := cloneSection(d, 3, 256<<20).WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| idle | 2.00 | 3.00 | 6.0 | 7.0 | ≤ 50 ms | 30.0 | 40.0 | 2 | 0 % |",
		"| memory writer | 9.00 | 9.00 | 30.0 | 30.0 |  | 200.0 | 200.0 | 8 | 60 % |",
		"| idle | lockstep | 20.0 | 30.0 | ≤ 100 ms |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
