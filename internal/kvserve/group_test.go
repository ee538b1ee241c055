package kvserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"understudy/arbiter/memstore"
	"understudy/internal/sentinel"
	"understudy/kv/client"
	"understudy/view"
	"understudy/view/httpview"
)

const patience = 60 * time.Second

// group is a group of servers in this process.
type group struct {
	t       *testing.T
	reg     *memstore.Store
	views   *httpview.Service
	log     *slog.Logger
	servers map[string]*testServer
}

type testServer struct {
	*Server
	addr string
	kill func()
}

func newGroup(t *testing.T) *group {
	g := &group{t: t, reg: memstore.New(), servers: map[string]*testServer{}, log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		g.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if g.views, err = httpview.NewService(g.reg, httpview.Options{View: view.Config{PingInterval: 100 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range g.servers {
			s.kill()
		}
		g.views.Close()
	})
	return g
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (g *group) start(name string, tune ...func(*Options)) *testServer {
	g.t.Helper()
	o := Options{
		Name: name, Group: "g", Arbiter: g.reg, Views: []httpview.Copy{g.views}, Listener: listenLoopback(g.t),
		SuspectAfter: 500 * time.Millisecond, DigestEvery: 100 * time.Millisecond, Log: g.log,
	}
	for _, f := range tune {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	ts := &testServer{Server: s, addr: o.Listener.Addr().String(), kill: func() { cancel(); <-ended }}
	g.servers[name] = ts
	return ts
}

func (g *group) await(what string, ok func() bool) {
	g.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			text := ""
			for _, s := range g.servers {
				text += fmt.Sprintf("\n%+v", s.Node().Status())
			}
			g.t.Fatalf("waited in vain for %s%s", what, text)
		}
	}
}

// want waits for the primary and, if it is not empty, the backup that is in sync.
func (g *group) want(primary, backup string) {
	g.t.Helper()
	g.await(fmt.Sprintf("{%s, %q}", primary, backup), func() bool {
		st := g.servers[primary].Node().Status()
		return st.Role == "primary" && st.Backup == backup && st.InSync == (backup != "")
	})
}

// primary waits for one that has a backup in sync.
func (g *group) primary() (p *testServer, backup *testServer) {
	g.t.Helper()
	g.await("a primary with a backup in sync", func() bool {
		for _, s := range g.servers {
			if st := s.Node().Status(); st.Role == "primary" && st.InSync {
				p, backup = s, g.servers[st.Backup]
				return true
			}
		}
		return false
	})
	return p, backup
}

func (g *group) client() *client.Client {
	g.t.Helper()
	c, err := client.New(client.Options{Group: "g", Views: []httpview.Copy{g.views}})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// registers is a key-value store as porcupine sees it, per key.
type registerOp struct {
	put        bool
	key, value string
}

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(registerOp).key
			byKey[k] = append(byKey[k], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(registerOp); in.put {
			return true, in.value
		}
		return output == state, state
	},
}

// TestHistoriesAreLinearizable: clients put and get while the primary is killed, twice.
func TestHistoriesAreLinearizable(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	g.start("c")
	g.start("d")
	var mu sync.Mutex
	var history []porcupine.Operation
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	began := time.Now()
	for w := range 10 {
		c := g.client()
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				in := registerOp{put: (i+w)%2 == 0, key: fmt.Sprint("k", (i/2+w)%3), value: fmt.Sprintf("%d-%d", w, i)}
				o := porcupine.Operation{ClientId: w, Input: in, Call: int64(time.Since(began))}
				if in.put {
					if err := c.Put(t.Context(), []byte(in.key), []byte(in.value)); err != nil {
						t.Error(err)
						return
					}
				} else {
					v, _, err := c.Get(t.Context(), []byte(in.key))
					if err != nil {
						t.Error(err)
						return
					}
					o.Output = string(v)
				}
				o.Return = int64(time.Since(began))
				mu.Lock()
				history = append(history, o)
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(history) }
	more := func() { n := count() + 100; g.await("the load to go on", func() bool { return count() > n }) }
	more()
	for range 2 {
		p, _ := g.primary()
		p.kill()
		more()
		g.primary()
		more()
	}
	stop()
	load.Wait()
	if r := porcupine.CheckOperationsTimeout(registers, history, 20*time.Second); r == porcupine.Illegal {
		t.Error("the history is not linearizable")
	} else {
		t.Logf("%d operations: %v", len(history), r)
	}
}

// TestAppendsLandOnce: 500 clients append to one key at the same time, through a failover. Each text is there once, those of a
// client in its order, and both replicas agree.
func TestAppendsLandOnce(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	g.start("c")
	const clients, each = 500, 4
	var load sync.WaitGroup
	half := make(chan struct{})
	var done sync.WaitGroup
	done.Add(clients)
	for w := range clients {
		c := g.client()
		load.Go(func() {
			for i := range each {
				if i == each/2 {
					done.Done()
					<-half
				}
				if _, err := c.Append(t.Context(), []byte("log"), fmt.Appendf(nil, "%d.%d;", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	close(half)
	g.servers["a"].kill()
	load.Wait()
	p, backup := g.primary()
	v, _, err := g.client().Get(t.Context(), []byte("log"))
	if err != nil {
		t.Fatal(err)
	}
	next := map[int]int{}
	for _, word := range strings.Split(strings.TrimSuffix(string(v), ";"), ";") {
		var w, i int
		fmt.Sscanf(word, "%d.%d", &w, &i)
		if next[w] != i {
			t.Fatalf("client %d: %d comes where %d is due", w, i, next[w])
		}
		next[w]++
	}
	for w := range clients {
		if next[w] != each {
			t.Errorf("client %d: %d of %d appends", w, next[w], each)
		}
	}
	last := p.Node().Status().Last
	g.await("the backup to follow", func() bool { return backup.Node().Status().Applied >= last })
	g.await("equal digests", func() bool { return backup.Node().Status().Digests > 0 })
}

// TestFreshServerDoesNotServe: when both are dead, a third that holds nothing does not begin anew.
func TestFreshServerDoesNotServe(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	c := g.client()
	if err := c.Put(t.Context(), []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	g.servers["b"].kill()
	g.servers["a"].kill()
	third := g.start("c")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if v, ok, err := c.Get(ctx, []byte("k")); err == nil {
		t.Fatalf("answered %q, %v", v, ok)
	}
	r := redis.NewClient(&redis.Options{Addr: third.addr, DisableIdentity: true, MaxRetries: -1})
	defer r.Close()
	if err := r.Get(t.Context(), "k").Err(); err == nil || !strings.HasPrefix(err.Error(), "MASTERDOWN") {
		t.Errorf("GET: %v", err)
	}
	if err := r.Set(t.Context(), "k", "w", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("SET: %v", err)
	}
}

// TestRedisClient: go-redis as it is.
func TestRedisClient(t *testing.T) {
	g := newGroup(t)
	a := g.start("a", func(o *Options) { o.Password, o.MaxMemory = "secret", 1<<20 })
	g.want("a", "")
	ctx := t.Context()
	for _, protocol := range []int{2, 3} {
		r := redis.NewClient(&redis.Options{Addr: a.addr, Password: "secret", Protocol: protocol})
		defer r.Close()
		check := func(what string, got, want any, err error) {
			t.Helper()
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("RESP%d: %s: %v, %v, want %v", protocol, what, got, err, want)
			}
		}
		check("flushall", r.FlushAll(ctx).Val(), "OK", nil)
		pipe := r.Pipeline()
		set, incr, get, miss := pipe.Set(ctx, "n", "5", 0), pipe.Incr(ctx, "n"), pipe.Get(ctx, "n"), pipe.Get(ctx, "missing")
		if _, err := pipe.Exec(ctx); !errors.Is(err, redis.Nil) {
			t.Error(err)
		}
		check("set", set.Val(), "OK", set.Err())
		check("incr", incr.Val(), 6, incr.Err())
		check("get", get.Val(), "6", get.Err())
		if miss.Err() != redis.Nil {
			t.Error(miss.Err())
		}
		check("hash", r.HSet(ctx, "h", "a", 1, "b", 2).Val(), 2, nil)
		all, err := r.HGetAll(ctx, "h").Result()
		check("hgetall", len(all), 2, err)
		// A transaction that watches fails when the key was changed, and not otherwise.
		try := func(disturb bool) error {
			return r.Watch(ctx, func(tx *redis.Tx) error {
				if disturb {
					r.Incr(ctx, "n")
				}
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "n", "9", 0); p.Get(ctx, "n"); return nil })
				return err
			}, "n")
		}
		if err := try(true); !errors.Is(err, redis.TxFailedErr) {
			t.Errorf("disturbed: %v", err)
		}
		if err := try(false); err != nil {
			t.Errorf("undisturbed: %v", err)
		}
		check("expiry", r.Set(ctx, "e", "x", 50*time.Millisecond).Val(), "OK", nil)
		g.await("a key to expire", func() bool { return r.Exists(ctx, "e").Val() == 0 })
		g.await("its removal by the clock", func() bool { return r.DBSize(ctx).Val() == 2 })
		if err := r.Do(ctx, "nosuch", "x").Err(); err == nil || err.Error() != "ERR unknown command 'nosuch', with args beginning with: 'x' " {
			t.Error(err)
		}
		if err := r.Do(ctx, "select", "3").Err(); err != nil {
			t.Error(err)
		}
		g.await("the limit", func() bool { return r.ConfigGet(ctx, "maxmemory").Val()["maxmemory"] == "1048576" })
		r.Set(ctx, "large", strings.Repeat("x", 2<<20), 0)
		if err := r.Set(ctx, "more", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM ") {
			t.Errorf("above the limit: %v", err)
		}
		info, err := r.Info(ctx, "replication").Result()
		check("info", strings.Contains(info, "role:master"), true, err)
	}
	r := redis.NewClient(&redis.Options{Addr: a.addr, Password: "wrong", MaxRetries: -1})
	defer r.Close()
	if err := r.Get(ctx, "n").Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS") {
		t.Errorf("wrong password: %v", err)
	}
}

// TestFailoverClient: go-redis follows the primary by Sentinel's protocol.
func TestFailoverClient(t *testing.T) {
	g := newGroup(t)
	l := listenLoopback(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = sentinel.New(g.views, nil, g.log).Serve(ctx, l) }()
	defer func() { cancel(); <-ended }()
	g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	r := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "g", SentinelAddrs: []string{l.Addr().String()}, DisableIdentity: true})
	defer r.Close()
	if err := r.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	subscriber := redis.NewSentinelClient(&redis.Options{Addr: l.Addr().String(), DisableIdentity: true})
	defer subscriber.Close()
	events := subscriber.Subscribe(ctx, "+switch-master")
	defer events.Close()
	if _, err := events.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	g.servers["a"].kill()
	g.await("an answer of the new primary", func() bool {
		v, err := r.Get(ctx, "k").Result()
		return err == nil && v == "v"
	})
	select {
	case m := <-events.Channel():
		host, port, _ := net.SplitHostPort(g.servers["b"].addr)
		if want := host + " " + port; !strings.HasPrefix(m.Payload, "g ") || !strings.HasSuffix(m.Payload, want) {
			t.Errorf("told %q, want the new primary %s", m.Payload, want)
		}
	case <-time.After(patience):
		t.Error("nobody was told of the new primary")
	}
	master, err := subscriber.GetMasterAddrByName(ctx, "g").Result()
	if err != nil || net.JoinHostPort(master[0], master[1]) != g.servers["b"].addr {
		t.Errorf("%v, %v", master, err)
	}
}
