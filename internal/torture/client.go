package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// pattern is a way to use a connection.
type pattern struct {
	name  string
	batch int           // writes sent at once
	pause time.Duration // between two batches: up to this, at random
	idle  bool          // writes only when it is asked to verify
}

// patterns are the clients of a run.
var patterns = []pattern{
	{name: "counter", batch: 1, pause: 4 * time.Millisecond},
	{name: "steady", batch: 1, pause: 20 * time.Millisecond},
	{name: "pipeline", batch: 40, pause: 60 * time.Millisecond},
	{name: "idle", batch: 3, idle: true},
}

// client is one connection, opened at the start of a run and used to its end.
type client struct {
	pattern
	c   *redisConn
	l   *ledger
	rng *rand.Rand

	verify chan *verification
	done   chan struct{} // closed when run has returned

	mu      sync.Mutex
	acks    int
	lastAck time.Time
	marked  time.Time
	longest time.Duration // between two acknowledgements, since marked
	waiting bool          // for a reply
	failure error         // valid once done is closed
}

// verification has a client read back everything and then wait.
type verification struct {
	result chan error
	resume chan struct{}
}

func newClient(addr string, p pattern, seed uint64, limit time.Duration) (*client, error) {
	c, err := dialRedis(addr, limit)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, uint64(len(p.name))<<8|uint64(p.batch)))
	return &client{
		pattern: p, c: c, l: newLedger(p.name, rng), rng: rng, verify: make(chan *verification), done: make(chan struct{}),
		lastAck: time.Now(),
	}, nil
}

// run writes until the context ends or a promise is broken.
func (c *client) run(ctx context.Context) {
	defer close(c.done)
	defer c.c.close()
	stop := context.AfterFunc(ctx, c.c.close)
	defer stop()
	err := c.loop(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.failure = err
	c.mu.Unlock()
}

func (c *client) loop(ctx context.Context) error {
	for {
		var pause <-chan time.Time
		if !c.idle {
			pause = time.After(time.Duration(c.rng.Int64N(int64(c.pause))))
		}
		select {
		case <-ctx.Done():
			return nil
		case v := <-c.verify:
			err := c.readBack()
			if err != nil {
				err = fmt.Errorf("client %s: %w", c.name, err)
			}
			v.result <- err
			if err != nil {
				return err
			}
			select {
			case <-v.resume:
			case <-ctx.Done():
			}
			c.mu.Lock()
			c.lastAck = time.Now() // it was not its turn
			c.mu.Unlock()
		case <-pause:
			if err := c.write(); err != nil {
				return fmt.Errorf("client %s: %w", c.name, err)
			}
		}
	}
}

// write sends a batch and reads its replies.
func (c *client) write() error {
	ops := make([]op, c.batch)
	for i := range ops {
		ops[i] = c.l.next()
		c.c.add(ops[i].args...)
	}
	c.wait(true)
	defer c.wait(false)
	if err := c.c.flush(); err != nil {
		return err
	}
	for _, o := range ops {
		got, err := c.c.reply()
		if err != nil {
			return err
		}
		c.acked()
		if v := o.check(got); v != nil {
			return v
		}
	}
	return nil
}

func (c *client) readBack() error {
	if c.idle {
		if err := c.write(); err != nil {
			return err
		}
	}
	c.wait(true)
	defer c.wait(false)
	return c.c.readBack(c.l.entries(), c.acked)
}

func (c *client) wait(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = on
}

func (c *client) acked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.idle {
		c.longest = max(c.longest, c.since(now))
	}
	c.lastAck = now
	c.acks++
}

// since is how long there has been no acknowledgement, as far as it was measured; mu is held.
func (c *client) since(now time.Time) time.Duration {
	if c.lastAck.Before(c.marked) {
		return now.Sub(c.marked) // a wait that began earlier has other reasons
	}
	return now.Sub(c.lastAck)
}

// mark begins to measure anew.
func (c *client) mark() (acks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest, c.marked = 0, time.Now()
	return c.acks
}

// blackout is the longest time between two acknowledgements since mark; one that lasts counts.
func (c *client) blackout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && !c.idle {
		return max(c.longest, c.since(time.Now()))
	}
	return c.longest
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acks
}

// failed is why it ended, nil while it goes on.
func (c *client) failed() error {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.failure
	default:
		return nil
	}
}

// load is all clients of a run.
type load struct {
	addr    string
	limit   time.Duration
	clients []*client
}

func startLoad(ctx context.Context, beside *sync.WaitGroup, addr string, seed uint64, limit time.Duration) (*load, error) {
	l := &load{addr: addr, limit: limit}
	for _, p := range patterns {
		c, err := newClient(addr, p, seed, limit)
		if err != nil {
			for _, c := range l.clients {
				c.c.close()
			}
			return nil, fmt.Errorf("connect to Redis in the guest: %w", err)
		}
		l.clients = append(l.clients, c)
	}
	for _, c := range l.clients {
		beside.Go(func() { c.run(ctx) })
	}
	return l, nil
}

// failed is the first failure of a client.
func (l *load) failed() error {
	for _, c := range l.clients {
		if err := c.failed(); err != nil {
			return err
		}
	}
	return nil
}

// mark begins to measure anew, and gives a function that tells whether every busy client was served since.
func (l *load) mark() (served func() bool) {
	acks := make([]int, len(l.clients))
	for i, c := range l.clients {
		acks[i] = c.mark()
	}
	return func() bool {
		for i, c := range l.clients {
			// Replies of two batches may have been under way.
			if !c.idle && c.count() < acks[i]+2*c.batch {
				return false
			}
		}
		return true
	}
}

func (l *load) blackout() time.Duration {
	longest := time.Duration(0)
	for _, c := range l.clients {
		longest = max(longest, c.blackout())
	}
	return longest
}

// waits is how long the client that waits longest has been without an acknowledgement.
func (l *load) waits() time.Duration {
	longest := time.Duration(0)
	for _, c := range l.clients {
		c.mu.Lock()
		if c.waiting {
			longest = max(longest, time.Since(c.lastAck))
		}
		c.mu.Unlock()
	}
	return longest
}

func (l *load) acks() int {
	n := 0
	for _, c := range l.clients {
		n += c.count()
	}
	return n
}

var errEnded = errors.New("it has ended")

// verify has all clients stop writing and read back what was acknowledged, each over its own connection; then
// everything is read once more over a new one.
func (l *load) verify(ctx context.Context) error {
	v := &verification{result: make(chan error, len(l.clients)), resume: make(chan struct{})}
	defer close(v.resume)
	for _, c := range l.clients {
		select {
		case c.verify <- v:
		case <-c.done:
			return orElse(c.failed(), fmt.Errorf("client %s: %w", c.name, errEnded))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for range l.clients {
		select {
		case err := <-v.result:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	fresh, err := dialRedis(l.addr, l.limit)
	if err != nil {
		return violation(Broken, "a new connection: %v", err)
	}
	defer fresh.close()
	stop := context.AfterFunc(ctx, fresh.close)
	defer stop()
	for _, c := range l.clients {
		if err := fresh.readBack(c.l.entries(), func() {}); err != nil {
			return fmt.Errorf("a new connection reads client %s's keys: %w", c.name, err)
		}
	}
	return nil
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
