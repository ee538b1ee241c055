package httpview

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"understudy/arbiter"
	"understudy/view"
)

// maxCalls bounds the arbiter calls under way. Groups beyond it wait their turn.
const maxCalls = 32

// Options tune NewService. The zero value is ready for use.
type Options struct {
	View        view.Config       // ID is made up if it is empty
	CallTimeout time.Duration     // bounds one arbiter call; default 2 s
	Log         *slog.Logger      // nil discards
	Notify      func(view.Notice) // if set, hears of every change; it must return soon and not call the Service
}

// Service is one copy of the view service. Safe for concurrent use.
type Service struct {
	register arbiter.Register
	opts     Options
	start    time.Time
	ctx      context.Context
	cancel   context.CancelFunc
	slots    chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	core    *view.Core    // owned by whoever holds mu, who hands out its Ready before letting go
	learned chan struct{} // closed, and replaced, when the arbiter has answered
}

// NewService starts a copy of the view service over a register. Close ends it. The error wraps
// view.ErrInvalid.
func NewService(register arbiter.Register, o Options) (*Service, error) {
	if o.View.ID == "" {
		o.View.ID = "view-" + rand.Text()
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	core, err := view.New(o.View)
	if err != nil {
		return nil, err
	}
	s := &Service{
		register: register, opts: o, start: time.Now(), slots: make(chan struct{}, maxCalls), core: core,
		learned: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.tick)
	return s, nil
}

// Close ends the service and waits until nothing of it runs. Calls after it fail with view.ErrUnknown.
func (s *Service) Close() {
	s.mu.Lock() // no arbiter call starts after this
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Service) tick() {
	t := time.NewTicker(max(s.core.Config().PingInterval/2, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			_ = s.input(func(now time.Duration) { s.core.Tick(now) })
		}
	}
}

// input gives the core one input and carries out what it wants.
func (s *Service) input(do func(now time.Duration)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return fmt.Errorf("%w: the service has ended", view.ErrUnknown)
	}
	do(time.Since(s.start))
	r := s.core.Ready()
	for _, n := range r.Notices {
		s.opts.Log.Info(n.Text, "group", n.Group, "view", n.View)
		if s.opts.Notify != nil {
			s.opts.Notify(n)
		}
	}
	for _, c := range r.Calls {
		s.running.Go(func() { s.call(c) })
	}
	return nil
}

func (s *Service) call(c view.Call) {
	r := view.Result{Call: c.ID, Group: c.Group}
	select {
	case <-s.ctx.Done():
		return
	case s.slots <- struct{}{}:
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.CallTimeout)
	if c.Next.Number == 0 {
		r.Current, r.Err = s.register.Get(ctx, c.Group)
	} else {
		r.Current, _, r.Err = s.register.CompareAndSet(ctx, c.Group, c.Next)
	}
	cancel()
	<-s.slots
	_ = s.input(func(now time.Duration) {
		s.core.Result(now, r)
		close(s.learned)
		s.learned = make(chan struct{})
	})
}

// Ping is view.Core.Ping. It waits a little for a register that has yet to be read.
func (s *Service) Ping(ctx context.Context, p view.Ping) (a view.Answer, err error) {
	return s.known(ctx, p.Group, func(now time.Duration) (view.Answer, error) { return s.core.Ping(now, p) })
}

// Get is view.Core.Get. It waits a little for a register that has yet to be read.
func (s *Service) Get(ctx context.Context, group string) (view.Answer, error) {
	return s.known(ctx, group, func(now time.Duration) (view.Answer, error) { return s.core.Get(now, group) })
}

// known gives the core an input and returns the answer. If that is "not known yet" it waits, at most for a
// PingInterval, until the arbiter has said something about the group.
func (s *Service) known(ctx context.Context, group string, do func(now time.Duration) (view.Answer, error)) (a view.Answer, err error) {
	var learned chan struct{}
	if ended := s.input(func(now time.Duration) { a, err = do(now); learned = s.learned }); ended != nil {
		return view.Answer{}, ended
	}
	var limit <-chan time.Time
	for errors.Is(err, view.ErrUnknown) && !errors.Is(err, arbiter.ErrUnreachable) {
		if limit == nil {
			limit = time.After(s.core.Config().PingInterval)
		}
		select {
		case <-ctx.Done():
			return a, err
		case <-s.ctx.Done():
			return a, err
		case <-limit:
			return a, err
		case <-learned:
		}
		s.mu.Lock()
		a, err = s.core.Known(group)
		learned = s.learned
		s.mu.Unlock()
	}
	return a, err
}

// Switch is view.Core.Switch.
func (s *Service) Switch(_ context.Context, group string) (n view.Number, err error) {
	if ended := s.input(func(now time.Duration) { n, err = s.core.Switch(now, group) }); ended != nil {
		return 0, ended
	}
	return n, err
}

// Drain is view.Core.Drain. It returns view.Core.Holding: the groups whose view still names the server.
func (s *Service) Drain(_ context.Context, server string, on bool) (holding []string, err error) {
	ended := s.input(func(now time.Duration) {
		if err = s.core.Drain(now, server, on); err == nil {
			holding = s.core.Holding(server)
		}
	})
	if ended != nil {
		return nil, ended
	}
	return holding, err
}

// Status is view.Core.Status.
func (s *Service) Status(_ context.Context, group string) (st view.Status, err error) {
	if ended := s.input(func(now time.Duration) { st, err = s.core.Status(now, group) }); ended != nil {
		return view.Status{}, ended
	}
	return st, err
}

// Groups is view.Core.Groups.
func (s *Service) Groups() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Groups()
}

// Counts is view.Core.Counts.
func (s *Service) Counts() view.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Counts()
}
