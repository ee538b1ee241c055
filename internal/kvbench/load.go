// Package kvbench loads servers that speak Redis's protocol, to compare them: the same clients against understudy kv and against
// Redis with a replica and WAIT after every write.
package kvbench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"understudy/kv/resp"
)

// Load is what clients do.
type Load struct {
	Addr     string
	Clients  int
	Pipeline int  // commands that a client sends before it waits for their replies
	Wait     bool // WAIT 1 after every write, as Redis needs it for the same promise
	Once     bool // with Wait: one WAIT 1 after each pipeline instead
	Read     bool // GET instead of SET
	Bytes    int  // of a value
	Keys     int
	For      time.Duration
	TLS      *tls.Config // nil: none
}

// Result is what came of it.
type Result struct {
	Operations uint64        `json:"operations"`
	PerSecond  float64       `json:"per_second"`
	P50        time.Duration `json:"p50_ns"` // of a client's round: its pipeline
	P99        time.Duration `json:"p99_ns"`
	Max        time.Duration `json:"max_ns"`
}

// patience is how long after the end of a load a client waits for the answers that it has not got.
const patience = 10 * time.Second

// Run loads a server. The time begins when all clients are connected.
func Run(ctx context.Context, l Load) (Result, error) {
	if l.Clients < 1 || l.Pipeline < 1 || l.Keys < 1 || l.Bytes < 0 {
		return Result{}, fmt.Errorf("load %s: a load has clients, a pipeline and keys", l.Addr)
	}
	whole := ctx
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range l.Clients {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr)
		if err != nil {
			return Result{}, fmt.Errorf("load %s: %w", l.Addr, err)
		}
		if l.TLS != nil {
			c = tls.Client(c, l.TLS)
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(l.For + patience))
		defer context.AfterFunc(whole, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	}
	ctx, cancel := context.WithTimeout(ctx, l.For)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var clients sync.WaitGroup
	began := time.Now()
	for i, conn := range conns {
		clients.Go(func() {
			took, err := l.client(ctx, conn, i)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	clients.Wait()
	seconds := time.Since(began).Seconds()
	if whole.Err() != nil {
		return Result{}, context.Cause(whole)
	}
	if failed != nil {
		return Result{}, failed
	}
	if len(all) == 0 {
		return Result{}, fmt.Errorf("load %s: no answers", l.Addr)
	}
	return Summary(all, l.Pipeline, seconds), nil
}

// Summary is the result of rounds that took so long, each of so many operations. It sorts them; there is at least one.
func Summary(rounds []time.Duration, operations int, seconds float64) Result {
	slices.Sort(rounds)
	n := uint64(len(rounds) * operations)
	return Result{n, float64(n) / seconds, rounds[len(rounds)/2], rounds[len(rounds)*99/100], rounds[len(rounds)-1]}
}

func (l *Load) client(ctx context.Context, conn net.Conn, i int) (took []time.Duration, err error) {
	in := resp.NewReplyReader(conn)
	value := make([]byte, l.Bytes)
	for j := range value {
		value[j] = 'x'
	}
	rnd := uint64(i)*0x9e3779b97f4a7c15 + 1
	var buf []byte
	for ctx.Err() == nil {
		buf = buf[:0]
		replies := 0
		for j := range l.Pipeline {
			rnd ^= rnd << 13
			rnd ^= rnd >> 7
			rnd ^= rnd << 17
			key := fmt.Appendf(nil, "key:%012d", rnd%uint64(l.Keys))
			if l.Read {
				buf = resp.AppendCommand(buf, []byte("GET"), key)
			} else {
				buf = resp.AppendCommand(buf, []byte("SET"), key, value)
			}
			replies++
			if l.Wait && !l.Read && (!l.Once || j == l.Pipeline-1) {
				buf = resp.AppendCommand(buf, []byte("WAIT"), []byte("1"), []byte("0"))
				replies++
			}
		}
		at := time.Now()
		if _, err := conn.Write(buf); err != nil {
			return took, fmt.Errorf("load %s: %w", l.Addr, err)
		}
		for range replies {
			v, err := in.Read()
			if err != nil {
				return took, fmt.Errorf("load %s: %w", l.Addr, err)
			}
			if v.Kind == resp.Error {
				return took, fmt.Errorf("load %s: %s", l.Addr, v.Str)
			}
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}
