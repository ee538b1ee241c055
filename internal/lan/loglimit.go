package lan

import (
	"sync"
	"time"
)

// logLimiter lets a guest cause at most burst log lines a second. The zero value is ready.
type logLimiter struct {
	mu    sync.Mutex
	since time.Time
	n     int
}

const logBurst = 20

// allow reports whether one more line may be written.
func (l *logLimiter) allow() bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= time.Second {
		l.since, l.n = now, 0
	}
	l.n++
	return l.n <= logBurst
}
