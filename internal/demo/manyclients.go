package demo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Clients is a number of connections to Redis that each send one command at a time.
type Clients struct {
	all []*client
}

// Connect opens n connections.
func Connect(addr string, n int) (*Clients, error) {
	c := &Clients{}
	for range n {
		one, err := dial(addr)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.all = append(c.all, one)
	}
	return c, nil
}

// Do sends one command on the first connection and gives the reply.
func (c *Clients) Do(timeout time.Duration, args ...string) (string, error) {
	return c.all[0].do(timeout, args...)
}

// Run sends commands on all connections for the time given and tells how many were answered, and the time
// that took. command makes the n-th command of all.
func (c *Clients) Run(ctx context.Context, d time.Duration, command func(n int64) []string) (answers int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var next, done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, len(c.all))
	start := time.Now()
	for _, one := range c.all {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := one.do(replyTimeout, command(next.Add(1))...); err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took = time.Since(start)
	select {
	case err = <-errs:
		return 0, took, fmt.Errorf("load: %w", err)
	default:
		return done.Load(), took, nil
	}
}

// Close ends the connections.
func (c *Clients) Close() {
	for _, one := range c.all {
		one.conn.Close()
	}
}
