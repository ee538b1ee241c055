package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"understudy/view"
	"understudy/view/httpview"
)

// complainEvery is how often it is said that a copy of the view service does not answer.
const complainEvery = 10 * time.Second

// complaining says when a copy of the view service does not answer pings, and why.
type complaining struct {
	httpview.Copy
	log *slog.Logger

	mu   sync.Mutex
	said time.Time // zero: it answered the newest ping
}

// Ping implements httpview.Copy.
func (c *complaining) Ping(ctx context.Context, p view.Ping) (view.Answer, error) {
	a, err := c.Copy.Ping(ctx, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && !c.said.IsZero():
		c.said = time.Time{}
		c.log.Info("control answers again", "name", p.Server)
	case err != nil && time.Since(c.said) > complainEvery && ctx.Err() != context.Canceled:
		c.said = time.Now()
		c.log.Warn("control does not answer", "name", p.Server, "err", err)
	}
	return a, err
}
