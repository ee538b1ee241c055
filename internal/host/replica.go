package host

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
	"understudy/arbiter/memstore"
	"understudy/event"
	"understudy/internal/disk"
	"understudy/internal/lan"
	"understudy/internal/logchannel"
	"understudy/internal/shareddisk"
	"understudy/machine"
	"understudy/replica"
)

// Bounds of the log buffers, see replica.Config. The first is what a primary may have sent without an
// acknowledgement, the second what a backup may be behind; at either the primary's machine waits.
const (
	maxUnackedBytes   = 16 << 20
	maxUnappliedBytes = 64 << 20
)

// ErrHalted is wrapped by Run's error when this replica has lost its part: the other side won the view, or
// the machines diverged.
var ErrHalted = errors.New("halted")

// ErrDiverged is wrapped, with ErrHalted, when the backup's machine differs from the primary's.
var ErrDiverged = errors.New("diverged from the primary")

// Replica runs one machine of a group. See the package comment.
type Replica struct {
	opt   Options
	log   *slog.Logger
	start time.Time // zero of the local clock that the core sees
	ram   []byte
	m     *machine.Machine
	disks []*disk.Disk // this host's own: devices from 0
	// shared are the disks that all hosts reach: devices from len(disks). What belongs to them is in shared.go.
	shared []*shareddisk.Client
	port   *lan.Port
	out    *consoleWriter
	said   consoleLog
	life   string // this process's incarnation

	mu       sync.Mutex // guards core, ch, and what follows
	core     *replica.Core
	ch       *logchannel.Channel
	news     chan struct{} // closed and made anew at each change of role, view or protection
	known    known
	timeline Timeline
	heardAt  time.Time // when the newest message of the primary came
	claims   sync.WaitGroup
	unfollow context.CancelFunc // ends what the executor waits for as a backup

	stage  sync.Mutex    // held by whoever uses machine, disks and RAM: the executor, or a transfer that makes them
	wake   chan struct{} // capacity 1: something for the executor
	role   atomic.Uint32 // replica.Role, for the executor's quick look
	view   atomic.Uint64 // of the core
	stints atomic.Uint64 // times that this replica became primary
	wait   atomic.Bool   // the machine must wait: log full, arbiter unreachable, or about to be handed over
	halt   atomic.Bool   // replica.Core.Stopping
	ships  atomic.Bool   // replica.Core.Ships
	wanted atomic.Bool   // replica.Core.WantsEntry
	favour atomic.Pointer[favour]
	slowed atomic.Uint32 // percent of its time that the machine gives up for a transfer
	nics   atomic.Pointer[[]machine.NIC]
	inbox  inbox
	member *membership // nil in a pair, or alone
	mode   event.Mode  // how a backup follows; written by the executor, with mu held
	begun  bool        // this replica has led or followed: Options.Mode has had its say
	staged *staging    // not nil on a backup that follows by epochs; the executor's

	stats     stats
	lastBytes uint64 // of channels that have ended
	runCtx    context.Context
	cancel    context.CancelCauseFunc
	workers   sync.WaitGroup
}

// New opens what the replica needs: disks, memory, LAN. It does not talk to the peer yet.
func New(ctx context.Context, opt Options) (*Replica, error) {
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	if opt.Peer == "" && opt.Views == nil && opt.Arbiter == nil {
		opt.Arbiter = memstore.New()
	}
	if opt.Machine.Rate == 0 {
		opt.Machine.Rate = machine.DefaultRate
	}
	id := make([]byte, 16)
	rand.Read(id)
	r := &Replica{
		opt: opt, log: opt.Log, start: time.Now(), life: hex.EncodeToString(id),
		wake: make(chan struct{}, 1), news: make(chan struct{}),
	}
	r.nics.Store(&opt.Machine.NICs)
	r.mode = event.Mode{Following: event.Lockstep}
	r.runCtx, r.cancel = context.WithCancelCause(ctx)
	r.out = newConsoleWriter(opt.Console)
	r.inbox.wake = r.poke
	if err := r.open(ctx); err != nil {
		r.cancel(err)
		r.release()
		return nil, err
	}
	return r, nil
}

func (r *Replica) open(ctx context.Context) error {
	r.opt.Machine.Disks = nil
	for i, spec := range r.opt.Disks {
		if spec.Shared != "" {
			if err := r.openShared(ctx, i, spec.Shared); err != nil {
				return err
			}
			continue
		}
		d, err := disk.Open(spec.Path, spec.ReadOnly)
		if err != nil {
			return err
		}
		r.disks = append(r.disks, d)
		md := machine.Disk{Sectors: d.Sectors(), ReadOnly: spec.ReadOnly, Serial: fmt.Sprintf("disk%d", i)}
		if r.opt.Peer != "" || r.opt.Views != nil {
			if md.Hash, err = d.Hash(); err != nil {
				return err
			}
		}
		r.opt.Machine.Disks = append(r.opt.Machine.Disks, md)
	}
	if r.opt.LANAddr != "" {
		network := "tcp"
		if r.opt.LANAddr[0] == '/' {
			network = "unix"
		}
		// A LAN that was started again has forgotten where the guest is.
		d := lan.Dialer{Log: r.log, Identity: r.opt.Identity, Retry: r.opt.Views != nil, OnUp: func(p *lan.Port) {
			if replica.Role(r.role.Load()) == replica.Primary {
				r.announce(p)
			}
		}}
		port, err := d.Dial(ctx, network, r.opt.LANAddr)
		if err != nil {
			return fmt.Errorf("join the virtual LAN at %s: %w", r.opt.LANAddr, err)
		}
		r.port = port
	}
	if r.opt.Views != nil && !r.opt.MayFound {
		return nil // what the machine is made of, its primary will tell
	}
	ram, err := mapRAM(r.opt.Machine.MemBytes)
	if err != nil {
		return err
	}
	r.ram = ram
	return nil
}

func (r *Replica) release() {
	for _, d := range r.disks {
		d.Close()
	}
	for _, c := range r.shared {
		c.Close()
	}
	if r.port != nil {
		r.port.Close()
	}
	r.out.close()
	if r.ram != nil {
		unmapRAM(r.ram)
		r.ram = nil
	}
}

// now is the local monotonic clock that the core sees.
func (r *Replica) now() time.Duration { return time.Since(r.start) }

func (r *Replica) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Input types at a console of the guest. What comes while this replica does not lead is dropped.
func (r *Replica) Input(console uint8, p []byte) {
	if replica.Role(r.role.Load()) == replica.Primary {
		r.inbox.put(event.Entry{Kind: event.KindConsole, Device: console, Data: append([]byte(nil), p...)})
	}
}

// Run runs the replica until the guest shuts down, ctx ends, or it is halted. The first result tells how
// the guest ended, if it did.
func (r *Replica) Run(ctx context.Context) (machine.Down, error) {
	defer context.AfterFunc(ctx, func() { r.cancel(context.Cause(ctx)) })()
	defer r.release()
	defer r.stop()
	context.AfterFunc(r.runCtx, func() {
		r.poke()
		if r.opt.Listener != nil {
			r.opt.Listener.Close()
		}
		r.mu.Lock()
		if r.ch != nil {
			r.ch.Close()
		}
		r.mu.Unlock()
	})
	if err := r.meet(); err != nil {
		return machine.Up, err
	}
	if r.opt.Views == nil {
		r.opt.Machine = r.opt.Machine.Bare() // kernel and initial RAM disk are in the guest's RAM
	}
	calmCollector()
	r.workers.Go(r.tick)
	if r.port != nil {
		r.workers.Go(r.hear)
	}
	// In a goroutine of its own: its thread is given away.
	var down machine.Down
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		down, err = r.execute()
	}()
	<-done
	return down, err
}

// stop ends every goroutine of the replica.
func (r *Replica) stop() {
	r.cancel(nil)
	r.mu.Lock()
	disks, shared := r.disks, r.shared
	r.mu.Unlock()
	for _, d := range disks {
		d.Shut()
	}
	for _, c := range shared {
		c.Close()
	}
	if r.port != nil {
		r.port.Close()
	}
	r.workers.Wait()
	r.claims.Wait()
}

// meet makes the machine and, in a pair, finds the other side. A member of a group does neither: it takes the part
// that a view gives it.
func (r *Replica) meet() error {
	cfg := replica.Config{
		ID: r.opt.Name, Peer: r.opt.Peer, Incarnation: r.life,
		HeartbeatEvery: r.opt.SuspectAfter / 4, SuspectAfter: r.opt.SuspectAfter,
		ClaimRetryEvery: 50 * time.Millisecond, ResendAfter: time.Second,
		MaxUnackedBytes: maxUnackedBytes, MaxUnappliedBytes: maxUnappliedBytes,
	}
	adoptCore := func(c *replica.Core) {
		r.mu.Lock()
		r.core = c
		r.mu.Unlock()
	}
	if r.opt.Views != nil {
		adoptCore(replica.NewSpare(cfg))
		return r.enroll()
	}
	if r.opt.Listener != nil {
		adoptCore(replica.NewBackup(cfg))
		r.log.Info("waits for the primary", "name", r.opt.Name, "address", r.opt.Listener.Addr().String())
		ch, life, err := acceptPrimary(r.opt.Listener, r.opt.Identity, r.opt.Group, r.opt.Name, r.opt.Peer, r.life,
			func(err error) { r.log.Warn(err.Error()) },
			func(theirs machineParams) error {
				if theirs.BackupReads != r.opt.BackupReads {
					return fmt.Errorf("who reads shared disks differs: the primary has --shared-disk-reads %s, the backup %s",
						ReadsName(theirs.BackupReads), ReadsName(r.opt.BackupReads))
				}
				if err := adopt(&r.opt.Machine, theirs); err != nil {
					return err
				}
				return r.build()
			})
		if err != nil {
			return r.causeOr(err)
		}
		r.opt.Listener.Close()
		r.startDisks()
		r.join(ch, life)
		return nil
	}
	if err := r.build(); err != nil {
		return err
	}
	r.startDisks()
	adoptCore(replica.NewPrimary(cfg))
	if err := r.checkArbiter(); err != nil {
		return err
	}
	if r.opt.Peer == "" {
		r.do(func(now time.Duration) { r.core.BeginAlone(now) })
		return nil
	}
	r.log.Info("looks for its backup", "name", r.opt.Name, "address", r.opt.PeerAddr)
	ctx, cancel := context.WithTimeout(r.runCtx, r.opt.PeerTimeout)
	defer cancel()
	ch, life, err := logchannel.Dial(ctx, r.opt.PeerAddr, r.opt.Identity, r.hello(r.opt.Peer, 0))
	if err != nil {
		return r.causeOr(err)
	}
	r.join(ch, life)
	return nil
}

// build makes the machine in its first state.
func (r *Replica) build() (err error) {
	if r.m != nil {
		// An earlier primary left in the middle of the handshake: the machine is made of zeros again.
		if err := r.clearRAM(r.opt.Machine.MemBytes); err != nil {
			return err
		}
	}
	r.m, err = machine.New(r.opt.Machine, r.ram)
	return err
}

// clearRAM maps RAM of zeros in place of what there was.
func (r *Replica) clearRAM(bytes uint64) (err error) {
	r.m = nil
	if r.ram != nil {
		unmapRAM(r.ram)
		r.ram = nil
	}
	r.ram, err = mapRAM(bytes)
	return err
}

func (r *Replica) startDisks() {
	for _, d := range r.disks {
		d.Start(r.poke)
	}
	for _, c := range r.shared {
		c.Start(r.poke)
	}
}

func (r *Replica) hello(to string, view uint64) hello {
	p := describe(&r.opt.Machine)
	p.BackupReads = r.opt.BackupReads
	for i, c := range r.shared {
		p.Disks[len(r.disks)+i].Shared = c.Addr()
	}
	return hello{
		Version: ProtocolVersion, Group: r.opt.Group, From: r.opt.Name, To: to, Life: r.life, View: view, Machine: p,
	}
}

// causeOr prefers the reason why the replica was told to stop to what came of it.
func (r *Replica) causeOr(err error) error {
	if r.runCtx.Err() != nil {
		return context.Cause(r.runCtx)
	}
	return err
}

// checkArbiter finds out before the machine starts that the arbiter answers and that the group is new.
func (r *Replica) checkArbiter() error {
	ctx, cancel := context.WithTimeout(r.runCtx, 3*time.Second)
	defer cancel()
	rec, err := r.opt.Arbiter.Get(ctx, r.opt.Group)
	if err != nil {
		return fmt.Errorf("ask the arbiter about group %q: %w", r.opt.Group, err)
	}
	if rec.Number != 0 {
		return fmt.Errorf("group %q is already in view %d with primary %q: a replica that starts anew holds none of its state (choose another --group)",
			r.opt.Group, rec.Number, rec.Primary)
	}
	return nil
}

// join puts the log channel of a pair to work.
func (r *Replica) join(ch *logchannel.Channel, life string) {
	r.attach(ch, life)
	r.workers.Go(func() {
		err := ch.Receive(func(kind byte, body []byte) error { return r.step(ch, kind, body) })
		r.part(ch, err)
		r.do(func(now time.Duration) {
			if r.core.Role() == replica.Joining {
				// Nobody will greet this side again, and nothing was released that it would have to know of.
				r.core.Halt(now, "the primary left before it sent its first entry")
			}
		})
	})
}

// attach makes ch the log channel.
func (r *Replica) attach(ch *logchannel.Channel, life string) {
	r.mu.Lock()
	r.ch = ch
	r.mu.Unlock()
	r.do(func(now time.Duration) { r.core.PeerUp(now, life) })
}

// step gives the core a message that came over ch, if that is still the log channel.
func (r *Replica) step(ch *logchannel.Channel, kind byte, body []byte) error {
	m, err := logchannel.ParseMessage(kind, body)
	if err != nil {
		return fmt.Errorf("read log channel: %w", err)
	}
	r.do(func(now time.Duration) {
		if r.ch != ch {
			return
		}
		if m.Type == replica.MsgAppend {
			r.heardAt = time.Now()
			r.readAhead(m.Entries)
		}
		r.core.Step(now, m)
	})
	return nil
}

// part is the end of a channel.
func (r *Replica) part(ch *logchannel.Channel, err error) {
	ch.Close()
	ch.Wait()
	if r.runCtx.Err() == nil {
		r.log.Info("log channel closed", "reason", describeClose(err))
	}
	r.do(func(now time.Duration) {
		if r.ch == ch {
			r.ch = nil
			r.lastBytes += ch.SentBytes() + ch.ArrivedBytes()
			r.core.PeerDown(now)
			r.changed()
		}
	})
	r.poke()
}

func describeClose(err error) string {
	if errors.Is(err, net.ErrClosed) {
		return "closed here"
	}
	return err.Error()
}

// do steps the core with f and carries out what it asks for.
func (r *Replica) do(f func(now time.Duration)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	f(now)
	ready := r.core.Ready()
	if len(ready.Messages) > 0 && r.ch != nil {
		r.ch.Send(ready.Messages)
	}
	if ready.HangUp && r.ch != nil {
		r.ch.Finish()
		r.lastBytes += r.ch.SentBytes() + r.ch.ArrivedBytes()
		r.ch = nil
	}
	for _, o := range ready.Release {
		r.releaseOutput(o.(event.Output))
	}
	for _, o := range ready.Left {
		if o := o.(event.Output); o.Kind == event.OutConsole {
			r.said.write(o.Data)
		}
	}
	if r.runCtx.Err() != nil {
		ready.Notices, ready.Claim = nil, nil // we leave: what the other side makes of it is its business
	}
	for _, n := range ready.Notices {
		r.log.Info(n.Text, "name", r.opt.Name, "role", n.Role.String(), "view", uint64(n.View))
	}
	if ready.Claim != nil {
		r.claim(*ready.Claim)
	}
	role := r.core.Role()
	frozen, _ := r.core.Frozen()
	wait := frozen || r.core.Full()
	r.stats.solo.Store(r.core.Solo())
	r.stats.peerNs.Store(r.core.Progress())
	_, follow := r.core.Next()
	was := replica.Role(r.role.Swap(uint32(role)))
	r.view.Store(uint64(r.core.View()))
	r.ships.Store(r.core.Ships())
	poke := r.wait.Swap(wait) != wait || was != role || follow
	for _, f := range []struct {
		flag *atomic.Bool
		is   bool
	}{{&r.halt, r.core.Stopping()}, {&r.wanted, r.core.WantsEntry()}} {
		poke = f.flag.Swap(f.is) != f.is && f.is || poke
	}
	if poke {
		r.poke()
	}
	if leads := replica.Primary; was != leads && role == leads {
		r.stints.Add(1)
	} else if was == leads && role != leads {
		r.restShared()
	}
	if role == replica.Primary {
		r.tellShared()
	} else if follows(was) && !follows(role) && r.unfollow != nil {
		r.unfollow()
	}
	r.timeline.note(time.Now(), r.core, ready)
	r.note(was)
}

// claim asks the arbiter in a goroutine of its own; the answer steps the core.
func (r *Replica) claim(rec arbiter.Record) {
	r.claims.Go(func() {
		ctx, cancel := context.WithTimeout(r.runCtx, 2*time.Second)
		defer cancel()
		current, won, err := r.opt.Arbiter.CompareAndSet(ctx, r.opt.Group, rec)
		r.do(func(now time.Duration) {
			switch {
			case err == nil && won:
				r.stats.won.Add(1)
			case err == nil:
				r.stats.lost.Add(1)
			}
			if errors.Is(err, arbiter.ErrInvalid) || errors.Is(err, arbiter.ErrRefused) {
				r.core.Halt(now, fmt.Sprintf("the arbiter will never grant this claim: %v", err))
				return
			}
			r.core.Claimed(now, rec, current, won, err)
		})
	})
}

// releaseOutput lets one output out into the world. It must not block.
func (r *Replica) releaseOutput(o event.Output) {
	switch o.Kind {
	case event.OutNet:
		if r.port != nil && o.Device == 0 {
			r.port.Send(o.Data)
		}
	case event.OutConsole:
		r.said.write(o.Data)
		r.out.write(o.Data)
	case event.OutDisk:
		r.shared[int(o.Device)-len(r.disks)].Submit(*o.Disk)
	}
}

// tick lets the core's time pass.
func (r *Replica) tick() {
	// A backup tells at a tick what it has executed, and a planned change waits for that.
	t := time.NewTicker(min(r.opt.SuspectAfter/20, 5*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-r.runCtx.Done():
			return
		case <-t.C:
			r.do(func(now time.Duration) {
				r.core.Tick(now)
				r.checkFence(now)
				for _, c := range r.shared {
					c.Watch()
				}
			})
		}
	}
}

// hear takes frames from the LAN. A replica that does not lead throws them away: only the primary's log
// says what the guest received.
func (r *Replica) hear() {
	for frame := range r.port.Frames() {
		if replica.Role(r.role.Load()) == replica.Primary {
			r.inbox.put(event.Entry{Kind: event.KindNet, Data: frame})
		}
	}
}
