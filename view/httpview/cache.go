package httpview

import (
	"context"
	"errors"
	"sync"
	"time"

	"understudy/view"
)

// DefaultAskEvery is how often a Cache asks at most about one group.
const DefaultAskEvery = view.DefaultPingInterval

// Cache remembers views, for clients of the groups. It asks the service when it knows nothing of a group and
// when it is told that what it knows is wrong, not otherwise: the service sees failures, not operations. Make
// one with NewCache. Safe for concurrent use. It keeps an entry for every group ever asked for.
type Cache struct {
	copies   []Copy
	askEvery time.Duration

	mu     sync.Mutex
	groups map[string]*cached
}

type cached struct {
	asking  chan struct{} // holds a token while nobody asks
	known   bool
	view    view.View
	wrong   bool // view led nowhere
	asked   bool
	askedAt time.Time
}

// NewCache makes an empty cache over the copies of the service, which are asked in this order until one
// answers. Copies are asked again about a group no earlier than askEvery later; 0 means DefaultAskEvery.
func NewCache(askEvery time.Duration, copies ...Copy) *Cache {
	if askEvery <= 0 {
		askEvery = DefaultAskEvery
	}
	return &Cache{copies: copies, askEvery: askEvery, groups: make(map[string]*cached)}
}

func (c *Cache) entry(group string) *cached {
	g := c.groups[group]
	if g == nil {
		g = &cached{asking: make(chan struct{}, 1)}
		g.asking <- struct{}{}
		c.groups[group] = g
	}
	return g
}

// View returns the group's view: the one remembered, or, if there is none or it was found wrong, a fresh
// one. While the service does not answer it is the one remembered all the same; without one View tries until
// ctx ends. Only bad names fail at once (view.ErrInvalid).
func (c *Cache) View(ctx context.Context, group string) (view.View, error) {
	c.mu.Lock()
	g := c.entry(group)
	if g.known && !g.wrong {
		defer c.mu.Unlock()
		return g.view, nil
	}
	c.mu.Unlock()
	select { // one asks, the others wait for what it learns
	case <-g.asking:
		defer func() { g.asking <- struct{}{} }()
	case <-ctx.Done():
		return view.View{}, ctx.Err()
	}
	for {
		c.mu.Lock()
		v, known, wrong := g.view, g.known, g.wrong
		pause := c.askEvery - time.Since(g.askedAt)
		if !g.asked {
			pause = 0
		}
		if known && (!wrong || pause > 0) {
			c.mu.Unlock()
			return v, nil
		}
		if pause <= 0 {
			g.asked, g.askedAt = true, time.Now()
		}
		c.mu.Unlock()
		if pause > 0 {
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
				return view.View{}, ctx.Err()
			}
		}
		a, err := c.ask(ctx, group)
		switch {
		case err == nil:
			c.Learn(group, a.View)
			c.mu.Lock()
			g.wrong = g.wrong && a.Stale
			v = g.view
			c.mu.Unlock()
			return v, nil
		case errors.Is(err, view.ErrInvalid):
			return view.View{}, err
		case known:
			return v, nil
		}
	}
}

func (c *Cache) ask(ctx context.Context, group string) (a view.Answer, err error) {
	err = ErrUnreachable
	for _, one := range c.copies {
		if a, err = one.Get(ctx, group); err == nil || errors.Is(err, view.ErrInvalid) {
			return a, err
		}
	}
	return a, err
}

// Wrong says that view n of the group led nowhere: its primary did not answer, or refused. The next View
// asks. A newer view that was learnt meanwhile stays.
func (c *Cache) Wrong(group string, n view.Number) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.entry(group); n >= g.view.Number {
		g.wrong = true
	}
}

// Learn remembers a view that was told on the way, such as by a server that refused. An older one than what
// is known is ignored.
func (c *Cache) Learn(group string, v view.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.entry(group); !g.known || v.Number > g.view.Number {
		g.known, g.wrong, g.view = true, false, v
	}
}
