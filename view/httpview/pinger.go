package httpview

import (
	"context"
	"sync"
	"time"

	"understudy/view"
)

// PingerOptions tune NewPinger. The zero value is ready for use.
type PingerOptions struct {
	PingInterval time.Duration // default view.DefaultPingInterval
	// Timeout bounds one ping; default three intervals. A ping that hangs in a broken connection is given up
	// and sent on a new one before the service holds the server for dead.
	Timeout time.Duration
	// OnView is told of every new view, newest last, from one goroutine at a time. It must return soon and
	// may call the Pinger.
	OnView func(view.Answer)
	// OnAnswer is told of every answer that is not older than what is known, from several goroutines. It must
	// return soon and may call the Pinger.
	OnAnswer func(view.Answer)
}

// Pinger lets the life of a server in one group be heard by every copy of the view service. A copy that
// hangs or is down does not hold up the pings to the others. Safe for concurrent use.
type Pinger struct {
	opts   PingerOptions
	copies []Copy
	kicks  []chan struct{} // one per copy: ping now

	mu     sync.Mutex
	member *view.Member

	telling sync.Mutex // OnView is called under it
	told    view.Number
	any     bool
}

// NewPinger makes a pinger that owns the member from now on. Run lets it ping.
func NewPinger(m *view.Member, o PingerOptions, copies ...Copy) *Pinger {
	if o.PingInterval <= 0 {
		o.PingInterval = view.DefaultPingInterval
	}
	if o.Timeout <= 0 {
		o.Timeout = 3 * o.PingInterval
	}
	p := &Pinger{opts: o, copies: copies, member: m}
	for range copies {
		p.kicks = append(p.kicks, make(chan struct{}, 1))
	}
	return p
}

// Run pings until ctx ends.
func (p *Pinger) Run(ctx context.Context) {
	var all sync.WaitGroup
	for i, c := range p.copies {
		all.Go(func() { p.run(ctx, c, p.kicks[i]) })
	}
	all.Wait()
}

func (p *Pinger) run(ctx context.Context, c Copy, kick chan struct{}) {
	t := time.NewTicker(p.opts.PingInterval)
	defer t.Stop()
	for ctx.Err() == nil {
		p.mu.Lock()
		ping := p.member.Ping()
		p.mu.Unlock()
		limit, cancel := context.WithTimeout(ctx, p.opts.Timeout)
		a, err := c.Ping(limit, ping)
		cancel()
		if err == nil {
			p.observe(a)
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-kick:
		}
	}
}

func (p *Pinger) observe(a view.Answer) {
	p.mu.Lock()
	fresh := p.member.Observe(a)
	seen := p.member.Seen()
	p.mu.Unlock()
	if p.opts.OnAnswer != nil && a.View == seen.View {
		p.opts.OnAnswer(seen)
	}
	if !fresh || p.opts.OnView == nil {
		return
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	if p.any && a.View.Number <= p.told {
		return // another copy's newer answer was told first
	}
	p.any, p.told = true, a.View.Number
	p.opts.OnView(a)
}

// change changes what the pings say and, if they say something else afterwards, has them sent at once.
func (p *Pinger) change(do func(*view.Member)) {
	p.mu.Lock()
	was := *p.member
	do(p.member)
	same := was == *p.member
	p.mu.Unlock()
	if same {
		return
	}
	for _, k := range p.kicks {
		select {
		case k <- struct{}{}:
		default: // one is due already
		}
	}
}

// Take is view.Member.Take; the pings that say so leave at once.
func (p *Pinger) Take(n view.Number) { p.change(func(m *view.Member) { m.Take(n) }) }

// InSync is view.Member.InSync; the pings that say so leave at once.
func (p *Pinger) InSync(n view.Number) { p.change(func(m *view.Member) { m.InSync(n) }) }

// Leave is view.Member.Leave; the pings that say so leave at once.
func (p *Pinger) Leave(on bool) { p.change(func(m *view.Member) { m.Leave(on) }) }

// Files is view.Member.Files; the pings that say so leave at once.
func (p *Pinger) Files(f view.Files) { p.change(func(m *view.Member) { m.Files(f) }) }

// View is the newest view that any copy told.
func (p *Pinger) View() view.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member.View()
}

// Taken is view.Member.Taken.
func (p *Pinger) Taken() view.Number {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member.Taken()
}

// MayFound is view.Member.MayFound.
func (p *Pinger) MayFound() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member.MayFound()
}

// MayJoin is view.Member.MayJoin.
func (p *Pinger) MayJoin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member.MayJoin()
}
