package compare

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"understudy/kv/resp"
)

// Probe is one command of a Prober.
type Probe struct {
	At   time.Time // when it was sent
	Took time.Duration
}

// Prober sends a command every millisecond on each of a few connections, SET and GET in turn, and remembers how long each took.
type Prober struct {
	stop context.CancelFunc
	all  sync.WaitGroup
	mu   sync.Mutex
	seen []Probe
	err  error
}

// StartProber connects and begins.
func StartProber(ctx context.Context, addr string, conns, keys int) (*Prober, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &Prober{stop: stop}
	for i := range conns {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			_ = p.Stop()
			return nil, err
		}
		p.all.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
			if err := p.run(ctx, c, i, keys); err != nil && ctx.Err() == nil {
				p.mu.Lock()
				p.err = fmt.Errorf("probe: %w", err)
				p.mu.Unlock()
			}
		})
	}
	return p, nil
}

func (p *Prober) run(ctx context.Context, c net.Conn, i, keys int) error {
	in := resp.NewReplyReader(c)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var buf []byte
	for n := i; ctx.Err() == nil; n++ {
		key := fillKey(n * 7919 % keys)
		buf = resp.AppendCommand(buf[:0], []byte("GET"), key)
		if n%2 == 0 {
			buf = resp.AppendCommand(buf[:0], []byte("SET"), key, make([]byte, 64))
		}
		at := time.Now()
		if _, err := c.Write(buf); err != nil {
			return err
		}
		v, err := in.Read()
		if err != nil {
			return err
		}
		if v.Kind == resp.Error {
			return fmt.Errorf("%s", v.Str)
		}
		took := time.Since(at)
		p.mu.Lock()
		p.seen = append(p.seen, Probe{at, took})
		p.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// Took is how long each command took that was sent between two times, the shortest first.
func (p *Prober) Took(from, to time.Time) (took []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.seen {
		if !x.At.Before(from) && x.At.Before(to) {
			took = append(took, x.Took)
		}
	}
	slices.Sort(took)
	return took
}

// Stop ends the probes and tells what went wrong with them.
func (p *Prober) Stop() error {
	p.stop()
	p.all.Wait()
	return p.err
}

func fillKey(i int) []byte { return fmt.Appendf(nil, "key:%012d", i) }

// Fill sets so many keys to values of 64 bytes.
func Fill(ctx context.Context, addr string, keys int) error {
	const conns, batch = 4, 256
	var all sync.WaitGroup
	errs := make([]error, conns)
	for i := range conns {
		all.Go(func() { errs[i] = fill(ctx, addr, keys*i/conns, keys*(i+1)/conns, batch) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

func fill(ctx context.Context, addr string, from, to, batch int) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	in := resp.NewReplyReader(c)
	value := make([]byte, 64)
	var buf []byte
	for ; from < to; from += batch {
		buf = buf[:0]
		n := min(batch, to-from)
		for i := range n {
			buf = resp.AppendCommand(buf, []byte("SET"), fillKey(from+i), value)
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
		for range n {
			v, err := in.Read()
			if err != nil {
				return err
			}
			if v.Kind == resp.Error {
				return fmt.Errorf("%s", v.Str)
			}
		}
	}
	return nil
}
