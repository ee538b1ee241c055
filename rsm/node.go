package rsm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/internal/logchannel"
	"understudy/internal/pki"
	"understudy/internal/wal"
	"understudy/replica"
)

// Node is one life of a server of a group.
type Node struct {
	opt   Options
	log   *slog.Logger
	start time.Time // zero of the local clock that the core sees
	life  string
	id    *pki.Identity
	ln    net.Listener

	// stage is held by whoever uses the machine. Whoever finds it free finds all of the log executed that was appended here.
	// Locked before mu.
	stage     sync.Mutex
	clock     int64 // time of the newest entry executed; guarded by stage
	restoring atomic.Bool
	files     *wal.WAL // nil: everything is in memory. Guarded by stage, but for what may be called at any time

	mu     sync.Mutex // guards what follows
	core   *replica.Core
	ch     *logchannel.Channel
	news   chan struct{} // closed and made anew at each change of role, view or protection
	known  known
	flight []*batch // at the core's gate, oldest first
	member membership
	claims sync.WaitGroup

	queue  queue
	wake   chan struct{} // capacity 1: something for the executor
	role   atomic.Uint32 // replica.Role, for a quick look
	wait   atomic.Bool   // no entry may be appended now: log full, arbiter unreachable, or about to be handed over
	halt   atomic.Bool   // replica.Core.Stopping
	wanted atomic.Bool   // replica.Core.WantsEntry
	loaded atomic.Int32  // batches at the gate

	marking atomic.Bool // the executor is to mark the files
	void    atomic.Bool // what the files hold is wrong

	digests digests
	runCtx  context.Context
	cancel  context.CancelCauseFunc
	workers sync.WaitGroup
}

// New makes a node. It listens, but has no part before Run.
func New(opt Options) (*Node, error) {
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	n := &Node{
		opt: opt, log: opt.Log, start: time.Now(), life: hex.EncodeToString(id),
		wake: make(chan struct{}, 1), news: make(chan struct{}),
	}
	if opt.TLSDir != "" {
		var err error
		if n.id, err = pki.Load(opt.TLSDir, opt.Name); err != nil {
			return nil, err
		}
	}
	n.core = replica.NewSpare(replica.Config{
		ID: opt.Name, Incarnation: n.life, HeartbeatEvery: opt.SuspectAfter / 4, SuspectAfter: opt.SuspectAfter,
		ClaimRetryEvery: 50 * time.Millisecond, ResendAfter: time.Second,
		MaxUnackedBytes: opt.MaxUnackedBytes, MaxUnappliedBytes: 2 * opt.MaxUnackedBytes, Durable: opt.Dir != "",
	})
	if opt.Dir != "" {
		if err := n.openFiles(); err != nil {
			return nil, err
		}
	}
	var err error
	if n.ln, err = net.Listen("tcp", opt.Listen); err != nil {
		n.closeFiles()
		return nil, err
	}
	if n.opt.Advertise == "" {
		n.opt.Advertise = n.ln.Addr().String()
	}
	n.runCtx, n.cancel = context.WithCancelCause(context.Background())
	n.enroll()
	return n, nil
}

// Addr is where this node listens for state and log.
func (n *Node) Addr() net.Addr { return n.ln.Addr() }

// Run takes the parts that views give this node, until ctx ends or its part has gone to another (ErrHalted). It is called once.
func (n *Node) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { n.cancel(context.Cause(ctx)) })()
	context.AfterFunc(n.runCtx, func() {
		n.poke()
		n.ln.Close()
		n.mu.Lock()
		if n.ch != nil {
			n.ch.Close()
		}
		n.mu.Unlock()
	})
	n.log.Info("ready for a part", "name", n.opt.Name, "group", n.opt.Group, "address", n.opt.Advertise)
	if n.files != nil {
		m, last := n.files.Held()
		n.workers.Go(func() { n.consult(m, last) })
	}
	n.workers.Go(func() { n.member.pinger.Run(n.runCtx) })
	n.workers.Go(n.receiveStates)
	n.workers.Go(n.tick)
	err := n.execute()
	n.cancel(err)
	n.workers.Wait()
	n.claims.Wait()
	n.role.Store(uint32(replica.Halted))
	n.queue.end()
	n.mu.Lock()
	n.failFlight()
	n.mu.Unlock()
	n.refuse()
	n.closeFiles()
	return err
}

func (n *Node) now() time.Duration { return time.Since(n.start) }

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// do steps the core with f and carries out what it asks for.
func (n *Node) do(f func(now time.Duration)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	f(now)
	ready := n.core.Ready()
	if len(ready.Messages) > 0 && n.ch != nil {
		n.ch.Send(ready.Messages)
	}
	if ready.HangUp && n.ch != nil {
		n.ch.Finish()
		n.ch = nil
	}
	for _, o := range ready.Release {
		n.release(o.(*batch))
	}
	if n.runCtx.Err() != nil {
		ready.Notices, ready.Claim = nil, nil // we leave: what the other side makes of it is its business
	}
	for _, note := range ready.Notices {
		n.log.Info(note.Text, "name", n.opt.Name, "role", note.Role.String(), "view", uint64(note.View))
	}
	if ready.Claim != nil {
		n.claim(*ready.Claim)
	}
	role := n.core.Role()
	if role != replica.Primary {
		n.failFlight()
	}
	frozen, _ := n.core.Frozen()
	wait := frozen || n.core.Full()
	_, follow := n.core.Next()
	follow = follow || n.files != nil && n.core.Unstored() != nil
	was := replica.Role(n.role.Swap(uint32(role)))
	poke := was != role || n.wait.Swap(wait) != wait || follow
	for _, f := range []struct {
		flag *atomic.Bool
		is   bool
	}{{&n.halt, n.core.Stopping()}, {&n.wanted, n.core.WantsEntry()}} {
		poke = f.flag.Swap(f.is) != f.is && f.is || poke
	}
	if poke {
		n.poke()
	}
	n.note()
}

// claim asks the arbiter in a goroutine of its own; the answer steps the core.
func (n *Node) claim(rec arbiter.Record) {
	n.claims.Go(func() {
		ctx, cancel := context.WithTimeout(n.runCtx, 2*time.Second)
		defer cancel()
		current, won, err := n.opt.Arbiter.CompareAndSet(ctx, n.opt.Group, rec)
		n.do(func(now time.Duration) {
			if errors.Is(err, arbiter.ErrInvalid) || errors.Is(err, arbiter.ErrRefused) {
				n.core.Halt(now, fmt.Sprintf("the arbiter will never grant this claim: %v", err))
				return
			}
			if err == nil {
				n.learn(current)
			}
			n.core.Claimed(now, rec, current, won, err)
		})
	})
}

// tick lets the core's time pass.
func (n *Node) tick() {
	t := time.NewTicker(min(n.opt.SuspectAfter/20, 5*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-n.runCtx.Done():
			return
		case <-t.C:
			n.do(func(now time.Duration) { n.core.Tick(now) })
		}
	}
}

// attach makes ch the log channel.
func (n *Node) attach(ch *logchannel.Channel, life string) {
	n.mu.Lock()
	n.ch = ch
	n.mu.Unlock()
	n.do(func(now time.Duration) { n.core.PeerUp(now, life) })
}

// step gives the core a message that came over ch, if that is still the log channel.
func (n *Node) step(ch *logchannel.Channel, kind byte, body []byte) error {
	m, err := logchannel.ParseMessage(kind, body)
	if err != nil {
		return fmt.Errorf("read log channel: %w", err)
	}
	n.do(func(now time.Duration) {
		if n.ch == ch {
			n.core.Step(now, m)
		}
	})
	return nil
}

// part is the end of a channel.
func (n *Node) part(ch *logchannel.Channel, err error) {
	ch.Close()
	ch.Wait()
	if n.runCtx.Err() == nil {
		n.log.Info("log channel closed", "name", n.opt.Name, "reason", err)
	}
	n.do(func(now time.Duration) {
		if n.ch == ch {
			n.ch = nil
			n.core.PeerDown(now)
			n.changed()
		}
	})
	n.poke()
}

// diverged halts a backup whose machine is not the primary's.
func (n *Node) diverged(e event.Seq, why string) {
	n.void.Store(true)
	n.do(func(now time.Duration) {
		n.core.Halt(now, fmt.Sprintf("diverged from the primary at entry %d: %s", e, why))
	})
}
