package kv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// TestGoRedisFailover: go-redis finds the primary by our Sentinel, and goes on by itself when it dies, twice. No acknowledged write
// is lost, and who has subscribed hears of the new primary.
func TestGoRedisFailover(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 3})
	a := g.protected()
	r := goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: groupName, SentinelAddrs: []string{g.sentinel}, ReadTimeout: time.Second})
	defer r.Close()
	sub := goredis.NewSentinelClient(&goredis.Options{Addr: g.sentinel})
	defer sub.Close()
	switched := sub.Subscribe(t.Context(), "+switch-master")
	defer switched.Close()
	if _, err := switched.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := switched.Channel()
	life, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	var total atomic.Int64
	acked := make([]int, 8)
	for w := range acked {
		writers.Go(func() {
			for life.Err() == nil {
				// What fails may have been executed; the same again makes no difference.
				if r.Set(t.Context(), fmt.Sprintf("w%d-%d", w, acked[w]), acked[w], 0).Err() == nil {
					acked[w]++
					total.Add(1)
				}
			}
		})
	}
	defer func() { stop(); writers.Wait() }()
	more := func() {
		t.Helper()
		from := total.Load()
		wait(t, "more writes", func() (bool, string) { return total.Load() > from+200, fmt.Sprint(total.Load() - from) })
	}
	more()
	for range 2 {
		g.kill(a.View.Primary)
		more()
		host, port, _ := net.SplitHostPort(g.addr(a.View.Backup))
		select {
		case m := <-events:
			if !strings.HasPrefix(m.Payload, groupName+" ") || !strings.HasSuffix(m.Payload, " "+host+" "+port) {
				t.Errorf("told %q; the new primary is %s at %s %s", m.Payload, a.View.Backup, host, port)
			}
		case <-time.After(patience):
			t.Fatal("nobody was told of the new primary")
		}
		g.start(a.View.Primary)
		a = g.until("a protected group", isProtected)
	}
	stop()
	writers.Wait()
	// A plain client of the primary.
	p := goredis.NewClient(&goredis.Options{Addr: g.addr(g.protected().View.Primary)})
	defer p.Close()
	for w, n := range acked {
		for i := range n {
			if got, err := p.Get(t.Context(), fmt.Sprintf("w%d-%d", w, i)).Result(); err != nil || got != strconv.Itoa(i) {
				t.Fatalf("write %d of %d of writer %d: %q, %v", i, n, w, got, err)
			}
		}
	}
	if err := p.ClientInfo(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	t.Logf("%d writes", total.Load())
}

// TestGoRedis: the plain client's pipelines and transactions, in both versions of the protocol.
func TestGoRedis(t *testing.T) {
	long(t)
	g := startGroup(t, options{servers: 2, suspect: calm})
	addr := g.addr(g.protected().View.Primary)
	ctx := t.Context()
	for _, protocol := range []int{2, 3} {
		r := goredis.NewClient(&goredis.Options{Addr: addr, Protocol: protocol, ClientName: "test"})
		defer r.Close()
		key := func(s string) string { return fmt.Sprint(s, protocol) }
		var ranks []*goredis.IntCmd
		_, err := r.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for i := range 500 {
				ranks = append(ranks, p.RPush(ctx, key("list"), i))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range ranks {
			if c.Val() != int64(i+1) {
				t.Fatalf("push %d: %d", i, c.Val())
			}
		}
		// Counting up under WATCH, by several at a time.
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for done := 0; done < 10; {
					err := r.Watch(ctx, func(tx *goredis.Tx) error {
						n, err := tx.Get(ctx, key("n")).Int()
						if err != nil && !errors.Is(err, goredis.Nil) {
							return err
						}
						_, err = tx.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Set(ctx, key("n"), n+1, 0); return nil })
						return err
					}, key("n"))
					if err == nil {
						done++
					} else if !errors.Is(err, goredis.TxFailedErr) {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		if n, err := r.Get(ctx, key("n")).Int(); n != 40 || err != nil {
			t.Errorf("counted to %d, %v", n, err)
		}
		if c, err := r.ClientInfo(ctx).Result(); err != nil || c.Name != "test" || c.Resp != protocol {
			t.Errorf("%+v, %v", c, err)
		}
		if z, err := r.ZAdd(ctx, key("z"), goredis.Z{Score: 1.5, Member: "m"}).Result(); z != 1 || err != nil {
			t.Error(z, err)
		}
		if z, err := r.ZRangeWithScores(ctx, key("z"), 0, -1).Result(); len(z) != 1 || z[0].Score != 1.5 || err != nil {
			t.Error(z, err)
		}
		if err := r.ConfigSet(ctx, "maxmemory", "1gb").Err(); err != nil {
			t.Error(err)
		}
	}
}

// TestPython: redis-py finds the primary by our Sentinel and goes on when it dies. Its pipelines and transactions do what they
// should.
func TestPython(t *testing.T) {
	long(t)
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import redis").CombinedOutput(); err != nil {
		missing(t, "python3-redis is not installed: %v %s", err, out)
	}
	g := startGroup(t, options{servers: 3})
	a := g.protected()
	host, port, _ := net.SplitHostPort(g.sentinel)
	cmd := exec.Command(python, "testdata/failover.py", host, port, groupName)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p, out := g.launch("python", cmd)
	defer p.kill()
	var acked atomic.Int64
	var last atomic.Pointer[string]
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			var n int64
			if _, err := fmt.Sscanf(s.Text(), "acked %d", &n); err == nil {
				acked.Store(n)
			} else {
				line := s.Text()
				last.Store(&line)
			}
		}
	}()
	more := func() {
		t.Helper()
		from := acked.Load()
		wait(t, "more writes", func() (bool, string) {
			select {
			case <-p.done:
				<-read
				text := p.said()
				if line := last.Load(); line != nil {
					text += *line
				}
				t.Fatalf("ended: %s", text)
			default:
			}
			return acked.Load() > from+100, fmt.Sprint(acked.Load() - from)
		})
	}
	more()
	g.kill(a.View.Primary)
	more()
	a = g.protected()
	g.kill(a.View.Primary)
	more()
	_ = in.Close()
	<-read
	if line := last.Load(); line == nil || !strings.HasPrefix(*line, "intact ") {
		text, _ := os.ReadFile(p.log)
		t.Errorf("%v\n%s", last.Load(), text)
	} else {
		t.Log(*line)
	}
}
