package httpview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/memstore"
	"understudy/view"
)

const ms = time.Millisecond

// handlerTransport is a network without sockets, so that HTTP runs on synctest's clock.
type handlerTransport struct {
	handler atomic.Value // http.Handler, always of one type
	cut     atomic.Bool
}

func (h *handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if h.cut.Load() {
		return nil, errors.New("no route")
	}
	w := httptest.NewRecorder()
	h.handler.Load().(http.Handler).ServeHTTP(w, r)
	return w.Result(), nil
}

func linkTo(h http.Handler) *handlerTransport {
	t := &handlerTransport{}
	t.handler.Store(h)
	return t
}

// flaky is a register that can be cut off.
type flaky struct {
	arbiter.Register
	cut atomic.Bool
}

func (f *flaky) Get(ctx context.Context, group string) (arbiter.Record, error) {
	if f.cut.Load() {
		return arbiter.Record{}, arbiter.ErrUnreachable
	}
	return f.Register.Get(ctx, group)
}

func (f *flaky) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	if f.cut.Load() {
		return arbiter.Record{}, false, arbiter.ErrUnreachable
	}
	return f.Register.CompareAndSet(ctx, group, next)
}

type world struct {
	t        *testing.T
	register *flaky
	services []*Service
	links    []*handlerTransport
	copies   []Copy
}

// newWorld starts n copies of the service on one register, each behind HTTP. For use in a synctest bubble.
func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, register: &flaky{Register: memstore.New()}}
	for range n {
		s, err := NewService(w.register, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		link := linkTo(NewServer(s, nil))
		c, err := NewClient("http://view", ClientOptions{Transport: link})
		if err != nil {
			t.Fatal(err)
		}
		w.services, w.links, w.copies = append(w.services, s), append(w.links, link), append(w.copies, c)
	}
	return w
}

// host plays a server: it takes every role it may take, and gets its backup in sync when told to.
type host struct {
	*Pinger
	stop func()
}

var births atomic.Int64

func (w *world) host(name string) *host {
	h := &host{}
	m := view.NewMember("g", name, fmt.Sprintf("%s#%d", name, births.Add(1)))
	life := fmt.Sprintf("%s#%d", name, births.Load())
	h.Pinger = NewPinger(m, PingerOptions{OnAnswer: func(a view.Answer) {
		if a.HandOver && a.View.Primary == name && h.Taken() == a.View.Number {
			n := a.View.Number + 1
			next := arbiter.Record{Number: uint64(n), Primary: a.View.Backup, Backup: name, Claimant: life}
			if _, won, err := w.register.CompareAndSet(w.t.Context(), "g", next); won && err == nil {
				h.Take(n)
			}
		}
	}, OnView: func(a view.Answer) {
		if h.MayFound() || h.MayJoin() || a.View.Primary == name && h.Taken()+1 == a.View.Number {
			h.Take(a.View.Number)
		}
		if a.View.Primary == name && a.View.Backup != "" && h.Taken() == a.View.Number {
			h.InSync(a.View.Number)
		}
	}}, w.copies...)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	h.stop = sync.OnceFunc(func() { cancel(); <-ended })
	w.t.Cleanup(h.stop)
	return h
}

func (w *world) want(n view.Number, primary, backup string) {
	w.t.Helper()
	for i, c := range w.copies {
		if w.links[i].cut.Load() {
			continue
		}
		if a, err := c.Get(w.t.Context(), "g"); err != nil || a.View != (view.View{Number: n, Primary: primary, Backup: backup}) {
			st, _ := w.services[i].Status(w.t.Context(), "g")
			w.t.Fatalf("copy %d: %+v, %v; want %d {%s, %s}; %s", i, a, err, n, primary, backup, st.Why)
		}
	}
}

func pass(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

func TestPairAndSpare(t *testing.T) {
	for copies := 1; copies <= 2; copies++ {
		t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, copies)
				a := w.host("a")
				pass(300 * ms)
				b := w.host("b")
				pass(500 * ms)
				w.host("c")
				pass(500 * ms)
				w.want(2, "a", "b")
				a.stop()
				pass(450 * ms)
				w.want(2, "a", "b")
				pass(250 * ms)
				w.want(3, "b", "c")
				w.host("a") // again, in another life
				pass(300 * ms)
				b.stop()
				b = w.host("b") // restarted within an interval: dead at once all the same
				pass(200 * ms)
				w.want(4, "c", "a")
				pass(500 * ms)
				if n, err := w.copies[0].(*Client).Switch(t.Context(), "g"); n != 5 || err != nil {
					t.Fatal(n, err)
				}
				pass(300 * ms)
				w.want(5, "a", "c")
				if _, err := w.copies[0].(*Client).Drain(t.Context(), "c", true); err != nil {
					t.Fatal(err)
				}
				pass(500 * ms)
				w.want(6, "a", "b")
				b.Leave(true)
				pass(300 * ms)
				if copies == 1 {
					w.want(7, "a", "")
				} // the other copy does not know that c is being drained, and names it
			})
		})
	}
}

// A pair that runs does not notice that the view service, or its arbiter, is away; and the service that
// comes back changes nothing.
func TestServiceAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.host("a")
		pass(200 * ms)
		w.host("b")
		pass(500 * ms)
		w.want(2, "a", "b")
		w.links[0].cut.Store(true)
		pass(time.Minute)
		w.links[0].cut.Store(false)
		// It has listened for a minute and heard nobody: everybody is dead, so nobody is promoted.
		w.want(2, "a", "b")
		pass(time.Second)
		w.want(2, "a", "b")
		w.register.cut.Store(true)
		pass(time.Second)
		w.want(2, "a", "b")
		w.services[0].Close()
		if _, err := w.copies[0].Get(t.Context(), "g"); !errors.Is(err, view.ErrUnknown) {
			t.Error(err)
		}
		s, err := NewService(w.register, Options{}) // a new life, still without an arbiter
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w.links[0].handler.Store(http.Handler(NewServer(s, nil)))
		w.services[0] = s
		pass(time.Second)
		if _, err := w.copies[0].Get(t.Context(), "g"); !errors.Is(err, view.ErrUnknown) {
			t.Error(err)
		}
		w.register.cut.Store(false)
		pass(time.Second)
		w.want(2, "a", "b")
	})
}

func TestClientsAskSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.host("a")
		pass(200 * ms)
		w.host("b")
		pass(500 * ms)
		cache := NewCache(0, w.copies...)
		gets := func() uint64 { return w.services[0].Counts().Gets }
		primary := "a"
		operate := func(n int) (failed int) {
			var all sync.WaitGroup
			var bad atomic.Int64
			for range 8 {
				all.Go(func() {
					for range n / 8 {
						v, err := cache.View(t.Context(), "g")
						if err != nil {
							t.Error(err)
						}
						if v.Primary != primary {
							bad.Add(1)
							cache.Wrong("g", v.Number)
							time.Sleep(10 * ms)
						}
					}
				})
			}
			all.Wait()
			return int(bad.Load())
		}
		if bad := operate(1000); bad != 0 || gets() != 1 {
			t.Errorf("%d of 1000 operations failed, %d gets", bad, gets())
		}
		a.stop()
		primary = "b"
		pass(time.Second)
		if bad := operate(1000); bad == 0 || bad > 8 || gets() != 2 {
			t.Errorf("after a failover %d of 1000 operations failed, %d gets", bad, gets())
		}
		// Nobody answers and the service knows no better: asked at most ten times a second.
		primary = "nobody"
		before := gets()
		start := time.Now()
		operate(4000)
		if n, most := gets()-before, uint64(time.Since(start)/DefaultAskEvery)+1; n > most {
			t.Errorf("%d gets in %v", n, time.Since(start))
		}
		if p := w.services[0].Counts().Pings; p < 20 {
			t.Errorf("%d pings", p)
		}
		// What a server tells is remembered without asking; what is older is not.
		cache.Learn("g", view.View{Number: 90, Primary: "z"})
		cache.Learn("g", view.View{Number: 3, Primary: "y"})
		cache.Wrong("g", 89)
		before = gets()
		if v, err := cache.View(t.Context(), "g"); v.Primary != "z" || err != nil || gets() != before {
			t.Error(v, err)
		}
		// A service that is away: what is known is used, what is not is waited for.
		w.links[0].cut.Store(true)
		cache.Wrong("g", 90)
		if v, err := cache.View(t.Context(), "g"); v.Primary != "z" || err != nil {
			t.Error(v, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := cache.View(ctx, "h"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		w.links[0].cut.Store(false)
		if _, err := cache.View(t.Context(), "-"); !errors.Is(err, view.ErrInvalid) {
			t.Error(err)
		}
	})
}

// One copy hangs: pings to the other go on.
func TestCopyThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.copies = append([]Copy{hangs{}}, w.copies...)
		w.host("a")
		pass(300 * ms)
		w.host("b")
		pass(10 * time.Second)
		a, err := w.copies[1].Get(t.Context(), "g")
		if err != nil || a.View != (view.View{Number: 2, Primary: "a", Backup: "b"}) {
			t.Error(a, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = NewCache(0, w.copies...).View(ctx, "g")
	})
}

type hangs struct{}

func (hangs) Ping(ctx context.Context, _ view.Ping) (view.Answer, error) {
	<-ctx.Done()
	return view.Answer{}, ctx.Err()
}

func (hangs) Get(ctx context.Context, _ string) (view.Answer, error) {
	<-ctx.Done()
	return view.Answer{}, ctx.Err()
}

// A register that never answers blocks its own calls, no others, and not the end of the service.
func TestRegisterThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notices atomic.Int64
		s, err := NewService(stuck{}, Options{Notify: func(view.Notice) { notices.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := s.Get(t.Context(), fmt.Sprint("g", i)); !errors.Is(err, view.ErrUnknown) {
				t.Error(err)
			}
		}
		pass(3 * time.Second)
		if notices.Load() == 0 {
			t.Error("nothing was said")
		}
		s.Close()
		s.Close()
	})
}

type stuck struct{ arbiter.Register }

func (stuck) Get(ctx context.Context, _ string) (arbiter.Record, error) {
	<-ctx.Done()
	return arbiter.Record{}, arbiter.ErrUnreachable
}

func (stuck) CompareAndSet(ctx context.Context, _ string, _ arbiter.Record) (arbiter.Record, bool, error) {
	<-ctx.Done()
	return arbiter.Record{}, false, arbiter.ErrUnreachable
}

// serve runs a service and its server on a real socket.
func serve(t *testing.T, network, addr string, o Options) (base string, s *Service) {
	t.Helper()
	s, err := NewService(memstore.New(), o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(s, nil).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return "http://" + ln.Addr().String(), s
}

func client(t *testing.T, address string) *Client {
	t.Helper()
	c, err := NewClient(address, ClientOptions{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestOverSockets(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	_, _ = serve(t, "unix", sock, Options{})
	base, _ := serve(t, "tcp", "127.0.0.1:0", Options{View: view.Config{MaxGroups: 1}})
	for _, address := range []string{"unix:" + sock, base} {
		c := client(t, address)
		ping := view.Ping{Group: "g", Server: "host ä/1", Incarnation: "x"}
		for a := (view.Answer{}); a.View.Number != 1; { // until it is read and founded
			ping.Seq++
			var err error
			if a, err = c.Ping(t.Context(), ping); err != nil && !errors.Is(err, view.ErrUnknown) {
				t.Fatal(err)
			}
		}
		if a, err := c.Get(t.Context(), "g"); err != nil || a.View.Primary != "host ä/1" || a.Claimant != "x" {
			t.Error(a, err)
		}
		if _, err := c.Switch(t.Context(), "g"); !errors.Is(err, view.ErrNotNow) {
			t.Error(err)
		}
		if held, err := c.Drain(t.Context(), "host ä/1", true); err != nil || len(held) != 1 {
			t.Error(held, err)
		}
		if _, err := c.Drain(t.Context(), "", true); !errors.Is(err, view.ErrInvalid) {
			t.Error(err)
		}
		st, err := c.Status(t.Context(), "g")
		if err != nil || len(st.Servers) != 1 || !st.Servers[0].Leaving || st.View.Number != 1 {
			t.Errorf("%+v, %v", st, err)
		}
		if n, err := c.Counts(t.Context()); err != nil || n.Pings != ping.Seq || n.Gets != 1 || n.Claims != 1 {
			t.Errorf("%+v, %v", n, err)
		}
		if _, err := c.Get(t.Context(), "../counts"); !errors.Is(err, view.ErrInvalid) {
			t.Error(err)
		}
	}
	if _, err := client(t, base).Get(t.Context(), "another"); !errors.Is(err, view.ErrFull) {
		t.Error(err)
	}
	if _, err := client(t, "http://127.0.0.1:1").Get(t.Context(), "g"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	for _, bad := range []string{"", "host:1", "ftp://h", "http://", "http://h/?q", "%"} {
		if _, err := NewClient(bad, ClientOptions{}); err == nil {
			t.Errorf("address %q: no error", bad)
		}
	}
}

func TestServerRefusesNonsense(t *testing.T) {
	base, s := serve(t, "tcp", "127.0.0.1:0", Options{})
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/views/g/ping", "", 400},
		{"POST", "/v1/views/g/ping", "{", 400},
		{"POST", "/v1/views/g/ping", `{"server":"a","incarnation":"x"}`, 400},
		{"POST", "/v1/views/g/ping", `{"server":"a","incarnation":"x","seq":-1}`, 400},
		{"POST", "/v1/views/g/ping", `{"server":"a","incarnation":"x","seq":1,"view":1e40}`, 400},
		{"POST", "/v1/views/g/ping", `{"server":"a","incarnation":"x","seq":1,"root":true}`, 400},
		{"POST", "/v1/views/g/ping", `{"group":"h","server":"a","incarnation":"x","seq":1}`, 400},
		{"POST", "/v1/views/g/ping", `{"server":"a","incarnation":"x","seq":1}{}`, 400},
		{"POST", "/v1/views/G/ping", `{"server":"a","incarnation":"x","seq":1}`, 400},
		{"POST", "/v1/views/g/ping", `{"server":"` + strings.Repeat("a", 1<<20) + `"}`, 413},
		{"GET", "/v1/views/-", "", 400},
		{"GET", "/v1/views/g/status", "", 503},
		{"POST", "/v1/views/-/switch", "", 400},
		{"POST", "/v1/drain", `{"server":"\u0000","drain":true}`, 400},
		{"PUT", "/v1/views/g/ping", "", 405},
		{"GET", "/else", "", 404},
		{"GET", "/v1/views", "", 200},
		{"GET", "/v1/counts", "", 200},
		{"GET", "/healthz", "", 200},
	} {
		req, _ := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s %.40s: status %d, want %d: %s", c.method, c.path, c.body, resp.StatusCode, c.want, text)
		}
	}
	if g := s.Groups(); len(g) != 0 {
		t.Errorf("nonsense made groups: %v", g)
	}
}

// Answers that are none.
func TestClientTakesNothingForGranted(t *testing.T) {
	for body, status := range map[string]int{
		"": 200, "<html>": 200, strings.Repeat(" ", 2<<20): 200, `{"error":"x","code":"invalid"}`: 500,
		`{"view":{"number":-1}}`: 200, "bad gateway": 502, `{}`: 404, `{"code":"unknown"}`: 200 + 1,
	} {
		c, _ := NewClient("http://x", ClientOptions{Transport: linkTo(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))})
		if _, err := c.Get(t.Context(), "g"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%.30q: %v", body, err)
		}
	}
}

// A server that repeats at every answer what it has said before is not heard more often for it.
func TestRepetitionIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		m := view.NewMember("g", "a", "life")
		var p *Pinger
		p = NewPinger(m, PingerOptions{OnAnswer: func(a view.Answer) { p.Take(a.View.Number); p.Leave(false) }}, w.copies...)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		pass(time.Second)
		cancel()
		<-ended
		if n := w.services[0].Counts().Pings; n < 9 || n > 14 {
			t.Errorf("%d pings in a second, at an interval of 100 ms", n)
		}
	})
}
