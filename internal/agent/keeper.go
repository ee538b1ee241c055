package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	pollEvery = 200 * time.Millisecond
	// readyWithin is how long a replica may take until it says that it is ready.
	readyWithin = 2 * time.Minute
	// silentAfter is when a replica that does not answer is reported.
	silentAfter = 3 * time.Second
	// boundLogEvery is how often the size of a replica's log is looked at.
	boundLogEvery = 10 * time.Second
)

// keeper keeps one assignment: one goroutine starts lives, watches them and ends them.
type keeper struct {
	a    *Agent
	id   string
	dir  string
	log  *slog.Logger
	poke chan struct{} // the wish has changed, or there is room again

	startOnce sync.Once // of the goroutine

	mu   sync.Mutex
	wish *job // nil: end it and remove its files
	cond condition
	ch   *child // of the life that runs
	tail consoleTail

	// Of the goroutine alone.
	store *store
	back  backoff
}

func newKeeper(a *Agent, id string) *keeper {
	return &keeper{
		a: a, id: id, dir: filepath.Join(a.opt.Dir, "machines", id), log: a.opt.Log.With("id", id),
		poke: make(chan struct{}, 1),
	}
}

// want sets the wish.
func (k *keeper) want(j *job) {
	k.mu.Lock()
	old := k.wish
	k.wish = j
	if j != nil {
		if k.cond.group != j.GetGroup() {
			k.tail.reset()
			k.cond.up = false
		}
		k.cond.group, k.cond.machine = j.GetGroup(), j.name()
	}
	k.mu.Unlock()
	if old == nil || j == nil || !proto.Equal(old.Assignment, j.Assignment) {
		k.wake()
	}
}

func (k *keeper) wake() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

func (k *keeper) wanted() *job {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wish
}

// goesOn tells whether a life begun for j is still wanted.
func (k *keeper) goesOn(j *job) bool {
	now := k.wanted()
	return now != nil && !now.GetStopped() && now.GetGroup() == j.GetGroup()
}

// run keeps the assignment until the context ends or its files are removed.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		j := k.wanted()
		if j == nil {
			gone, err := k.remove()
			if gone {
				return
			}
			if err != nil {
				k.failed("remove", err)
				k.wait(ctx, backoffMost)
			}
			continue
		}
		if err := k.open(); err != nil {
			k.failed("start", err)
			k.wait(ctx, growing(2))
			continue
		}
		r := k.store.rec
		switch {
		case r.Ended == j.GetGroup():
			k.give()
			k.update(func(c *condition) {
				c.ended, c.code, c.err = true, r.Code, ""
				c.idle(r)
			})
			k.wait(ctx, -1)
		case j.GetStopped():
			k.give()
			k.back = backoff{}
			k.update(func(c *condition) {
				c.err, c.role = "", "stopped"
				c.idle(r)
			})
			k.wait(ctx, -1)
		default:
			k.wait(ctx, k.live(ctx, j))
		}
	}
}

// wait sleeps for d, for ever if it is negative, or until there is something to look at.
func (k *keeper) wait(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
	case <-k.poke:
	case <-ctx.Done():
	}
}

func (k *keeper) open() error {
	if k.store != nil {
		return nil
	}
	s, err := openStore(k.dir)
	if err != nil {
		return err
	}
	k.store = s
	k.mu.Lock()
	defer k.mu.Unlock()
	s.loadTail(&k.tail, k.cond.group)
	return nil
}

// give gives the machine's memory back and has those try again that may have waited for it.
func (k *keeper) give() {
	if k.a.room.give(k.id) {
		k.a.wakeAll()
	}
}

// remove removes all that is left of the machine. The agent forgets the keeper, unless the machine has come back.
func (k *keeper) remove() (gone bool, err error) {
	k.give()
	if err := os.RemoveAll(k.dir); err != nil {
		return false, fmt.Errorf("remove the machine's files: %w", err)
	}
	k.store = nil
	if !k.a.forget(k) {
		return false, nil
	}
	k.log.Info("machine removed")
	return true, nil
}

// failed reports what kept a life from beginning.
func (k *keeper) failed(step string, err error) {
	k.mu.Lock()
	known := k.cond.err == words(err)
	k.mu.Unlock()
	if !known { // the same each half minute tells nothing
		k.log.Error("cannot go on", "step", step, "err", words(err))
	}
	k.update(func(c *condition) {
		c.idle(record{})
		c.err = words(err)
		c.progress = &progressLine{step: step, text: words(err), done: -1, err: words(err)}
	})
}

// update changes the condition and has it reported at once if that matters.
func (k *keeper) update(f func(*condition)) {
	k.mu.Lock()
	before := k.cond.key()
	f(&k.cond)
	after := k.cond.key()
	k.mu.Unlock()
	if before != after {
		k.a.changed()
	}
}

// live begins a life, watches it until it has ended, and says how long to wait before the next.
func (k *keeper) live(ctx context.Context, j *job) time.Duration {
	l, n, err := k.prepare(ctx, j)
	if err != nil {
		if ctx.Err() != nil || !k.goesOn(j) {
			return 0
		}
		k.failed("prepare", err)
		k.back.failures++
		return growing(k.back.failures)
	}
	boundLog(k.store.logPath())
	p, err := startProcess(k.a.starter, k.a.opt.Exe, replicaArgs(&k.a.opt, j, l), k.store.logPath())
	if err != nil {
		k.failed("start", k.full(err))
		k.back.failures++
		return growing(k.back.failures)
	}
	k.log.Info("replica started", "machine", j.name(), "group", j.GetGroup(), "life", n, "pid", p.pid(), "founds", l.founding)
	k.a.event("replica.started", j.name(), 0, fmt.Sprintf("life %d, process %d", n, p.pid()))
	k.update(func(c *condition) {
		c.begin(p.pid(), n, fmt.Sprintf("%s-%s-%d", k.a.opt.Name, k.a.incarnation, n))
		c.progress = &progressLine{step: "start", text: "replica starts", done: -1}
	})
	wished := k.watch(ctx, j, p, n)
	return k.after(j, p, wished)
}

// watch returns when the process has ended, and tells whether that was our wish.
func (k *keeper) watch(ctx context.Context, j *job, p *process, n int) (wished bool) {
	pollCtx, stop := context.WithCancel(ctx)
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		k.poll(pollCtx, j, p, n)
	}()
	defer func() {
		<-polled // it ends with the process, when it has read what that said last
		stop()
	}()
	late := time.NewTimer(readyWithin)
	defer late.Stop()
	ready := p.ready
	for {
		select {
		case <-p.done:
			return false
		case <-ready:
			ready = nil
			late.Stop()
		case <-late.C:
			k.log.Warn("the replica is not ready in time and is ended", "pid", p.pid())
			p.stop(termPatience)
			return false
		case <-k.poke:
			if k.goesOn(j) {
				continue
			}
			p.stop(termPatience)
			return true
		case <-ctx.Done():
			p.stop(termPatience)
			return true
		}
	}
}

// poll asks the replica how it is, again and again.
func (k *keeper) poll(ctx context.Context, j *job, p *process, n int) {
	select {
	case <-p.ready:
	case <-p.done:
		return
	case <-ctx.Done():
		return
	}
	ch := newChild(k.store.socket())
	defer ch.close()
	// Once it holds the machine it has all that the guest ever said at the offsets that hold for all replicas.
	holds, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		select {
		case <-holds:
			k.tail.follow(ctx, ch, p.done, func() { k.update(func(c *condition) { c.up = true }) })
		case <-p.done:
		case <-ctx.Done():
		}
	}()
	var once sync.Once
	defer func() {
		// A process that has ended closes its end of the socket: what it said last is read to the end.
		select {
		case <-followed:
		case <-time.After(time.Second):
		}
	}()
	k.mu.Lock()
	k.ch = ch
	k.cond.progress = nil
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.ch = nil
		k.mu.Unlock()
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	heard, bounded := time.Now(), time.Now()
	for {
		s, raw, err := ch.status(ctx)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			heard = now
			k.observe(j, s, raw, n)
			if holdsState(s.Role) {
				once.Do(func() { close(holds) })
			}
		case now.Sub(heard) > silentAfter:
			k.update(func(c *condition) { c.err = "the replica's process does not answer" })
		}
		if now.Sub(bounded) > boundLogEvery {
			bounded = now
			boundLog(p.logPath)
		}
		select {
		case <-tick.C:
		case <-p.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// observe takes what the replica said of itself.
func (k *keeper) observe(j *job, s status, raw []byte, n int) {
	k.mu.Lock()
	role, view := k.cond.role, k.cond.status.View
	k.mu.Unlock()
	if holdsState(s.Role) {
		if err := k.store.holds(n, s.Role, s.View); err != nil {
			k.log.Error("cannot note that the replica holds the machine", "err", err)
		}
	}
	if s.Role != role || s.View != view {
		k.log.Info("replica", "machine", j.name(), "role", s.Role, "view", s.View)
	}
	k.update(func(c *condition) { c.observe(s, raw, time.Now()) })
}

// after draws the consequences of a life's end.
func (k *keeper) after(j *job, p *process, wished bool) time.Duration {
	why, lived := p.why(), time.Since(p.started)
	code := p.exitCode()
	if wished {
		k.log.Info("replica ended", "machine", j.name())
		k.saveTail(j)
		k.update(func(c *condition) { c.finish("") })
		return 0
	}
	k.log.Warn("replica ended", "machine", j.name(), "code", code, "why", why)
	k.a.event("replica.ended", j.name(), 0, why)
	if code == exitDown || code == exitFailed || code == exitReboot {
		k.saveTail(j)
		r := k.store.rec
		r.Ended, r.Code, r.Reason = j.GetGroup(), code, why
		if err := k.store.save(r); err != nil {
			// It is not started again by this agent; the next one would join a group that has ended.
			k.log.Error("cannot note that the guest has ended", "err", err)
			k.store.rec = r
		}
		k.update(func(c *condition) {
			c.finish("")
			c.ended, c.code = true, code
		})
		return 0
	}
	k.update(func(c *condition) { c.finish(why) })
	return k.back.after(code, lived)
}

// saveTail keeps the end of the console for when nobody runs the machine any more.
func (k *keeper) saveTail(j *job) {
	if err := k.store.saveTail(&k.tail, j.GetGroup()); err != nil {
		k.log.Warn("console", "err", err)
	}
}
