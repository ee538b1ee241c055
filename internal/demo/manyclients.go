package demo

import (
	"context"
	"fmt"
	"slices"
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
	latencies, took, err := c.Time(ctx, d, command)
	return int64(len(latencies)), took, err
}

// Time is Run, and gives how long each answer took, in no order.
func (c *Clients) Time(ctx context.Context, d time.Duration, command func(n int64) []string) (latencies []time.Duration, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	all := make([][]time.Duration, len(c.all))
	errs := make(chan error, len(c.all))
	start := time.Now()
	for i, one := range c.all {
		wg.Go(func() {
			for ctx.Err() == nil {
				asked := time.Now()
				if _, err := one.do(replyTimeout, command(next.Add(1))...); err != nil {
					errs <- err
					return
				}
				all[i] = append(all[i], time.Since(asked))
			}
		})
	}
	wg.Wait()
	took = time.Since(start)
	select {
	case err = <-errs:
		return nil, took, fmt.Errorf("load: %w", err)
	default:
		return slices.Concat(all...), took, nil
	}
}

// Close ends the connections.
func (c *Clients) Close() {
	for _, one := range c.all {
		one.conn.Close()
	}
}
