// Package kvbench loads servers that speak Redis's protocol, to compare them: the same clients against understudy kv and against
// Redis with a replica and WAIT after every write.
package kvbench

import (
	"context"
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
	Read     bool // GET instead of SET
	Bytes    int  // of a value
	Keys     int
	For      time.Duration
}

// Result is what came of it.
type Result struct {
	Operations uint64        `json:"operations"`
	PerSecond  float64       `json:"per_second"`
	P50        time.Duration `json:"p50_ns"` // of a client's round: its pipeline
	P99        time.Duration `json:"p99_ns"`
	Max        time.Duration `json:"max_ns"`
}

// Run loads a server.
func Run(ctx context.Context, l Load) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, l.For)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var clients sync.WaitGroup
	began := time.Now()
	for i := range l.Clients {
		clients.Go(func() {
			took, err := l.client(ctx, i)
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
	if failed != nil {
		return Result{}, failed
	}
	if len(all) == 0 {
		return Result{}, fmt.Errorf("no answers from %s", l.Addr)
	}
	slices.Sort(all)
	n := uint64(len(all) * l.Pipeline)
	return Result{n, float64(n) / seconds, all[len(all)/2], all[len(all)*99/100], all[len(all)-1]}, nil
}

func (l *Load) client(ctx context.Context, i int) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
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
		for range l.Pipeline {
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
			if l.Wait && !l.Read {
				buf = resp.AppendCommand(buf, []byte("WAIT"), []byte("1"), []byte("0"))
				replies++
			}
		}
		at := time.Now()
		if _, err := conn.Write(buf); err != nil {
			return took, err
		}
		for range replies {
			v, err := in.Read()
			if err != nil {
				return took, err
			}
			if v.Kind == resp.Error {
				return took, fmt.Errorf("%s: %s", l.Addr, v.Str)
			}
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}
