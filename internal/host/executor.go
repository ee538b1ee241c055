package host

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/internal/lan"
	"understudy/machine"
	"understudy/replica"
)

// sliceInstructions is how far the primary runs before it looks for input: about 0.1 ms. It bounds the
// latency of input; a slice's end costs well below a microsecond.
const sliceInstructions = 50_000

// goodbyeTimeout is how long a primary whose guest has shut down waits for its backup to see that.
const goodbyeTimeout = 10 * time.Second

// executorNice is the nice value of the executor's thread. The guest takes all the processor time it can
// get; heartbeats, acknowledgements and frames need little, but at once, in every process of this host.
const executorNice = 5

// execute is the executor: the one goroutine that touches the machine.
func (r *Replica) execute() (machine.Down, error) {
	// The thread ends with the goroutine, so that nothing else inherits its nice value.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), executorNice)
	for {
		if r.runCtx.Err() != nil {
			return machine.Up, context.Cause(r.runCtx)
		}
		switch replica.Role(r.role.Load()) {
		case replica.Halted:
			r.mu.Lock()
			why := r.core.HaltReason()
			r.mu.Unlock()
			return machine.Up, fmt.Errorf("%w: %s", ErrHalted, why)
		case replica.Backup, replica.Joining:
			if down, err := r.onStage(r.follow); err != nil || down != machine.Up {
				return down, err
			}
		case replica.Primary:
			if down, err := r.onStage(r.lead); err != nil || down != machine.Up {
				return down, err
			}
		default:
			r.pause(nil)
		}
	}
}

// onStage runs a part of the executor that uses the machine.
func (r *Replica) onStage(part func() (machine.Down, error)) (machine.Down, error) {
	r.stage.Lock()
	defer r.stage.Unlock()
	return part()
}

// pause waits for something to happen, or for the timer if it is not nil.
func (r *Replica) pause(timer <-chan time.Time) {
	select {
	case <-r.wake:
	case <-timer:
	case <-r.runCtx.Done():
	}
}

// leader is the state of the executor while it leads.
type leader struct {
	r       *Replica
	clock   clock
	timer   *time.Timer
	entries []event.Entry // of the present stop
	reads   []read        // those that may go without their data
	holds   bool          // at the newest stop a write to a shared disk waited for the backup
	urged   time.Time     // when urge last said so
	raw     []event.Entry
	outs    []any
	digest  time.Time
	slowed  time.Duration // owed to a backup that is behind
	epochs  *epochs       // nil in lockstep mode
}

// lead runs the machine as primary until the guest ends, the role is lost, or the replica is stopped.
func (r *Replica) lead() (machine.Down, error) {
	l := &leader{r: r, timer: time.NewTimer(time.Hour), digest: time.Now().Add(r.opt.DigestEvery)}
	defer l.timer.Stop()
	l.clock.begin(time.Now(), r.m, r.opt.Machine.WallClockNs)
	if r.port != nil {
		r.announce(r.port)
	}
	r.inbox.clear()
	if err := r.endEpochs(); err != nil {
		return machine.Up, err
	}
	stint, ok := r.leadShared()
	if !ok {
		return machine.Up, nil
	}
	if r.mode.Following == event.Checkpoint {
		if err := l.leadByEpochs(); err != nil {
			return machine.Up, err
		}
	}
	defer func() {
		if l.epochs != nil {
			l.epochs.end()
		}
	}()
	if !r.begun && r.opt.Mode != r.mode {
		if err := l.changeMode(r.opt.Mode); err != nil {
			return machine.Up, err
		}
	}
	r.begun = true
	// What the machine asked for before we led is ours to provide now. Disk requests were carried out when
	// the log produced them; their results wait at the disks. After an epoch they were just issued again.
	for _, want := range r.m.PendingEntropy() {
		r.provideEntropy(want)
	}
	for replica.Role(r.role.Load()) == replica.Primary && r.stints.Load() == stint && r.runCtx.Err() == nil {
		if r.wait.Load() {
			if l.grant(); r.wait.Load() {
				r.pause(nil)
			}
			continue
		}
		if r.halt.Load() {
			if err := l.standStill(); err != nil {
				return machine.Up, err
			}
			continue
		}
		if err := l.stop(r.wanted.Load()); err != nil {
			return machine.Up, err
		}
		l.grant()
		if down := r.m.Down(); down != machine.Up {
			if err := l.finishEpoch(); err != nil {
				return machine.Up, err
			}
			r.sayGoodbye()
			return down, nil
		}
		if r.m.Idle() && (len(l.entries) == 0 || l.epochs != nil && len(l.raw) == 0) {
			l.idle()
		} else {
			l.run()
		}
	}
	if r.port != nil && replica.Role(r.role.Load()) == replica.Backup {
		for _, n := range *r.nics.Load() {
			r.port.Announce(0, n.MAC)
		}
	}
	return machine.Up, nil
}

// standStill stops the machine so that it can be handed over: nothing that it said is without an entry behind it.
func (l *leader) standStill() error {
	r := l.r
	if r.mode.Following == event.Checkpoint {
		if err := l.settle(); err != nil {
			return err
		}
	}
	r.stats.stoodAt.Store(time.Now().UnixNano())
	if r.mode.Following != event.Checkpoint {
		if err := l.stop(true); err != nil {
			return err
		}
	}
	if l.takeOutputs(); len(l.outs) > 0 {
		return nil // a shared disk's result let another request start: the next turn takes it along
	}
	r.do(func(now time.Duration) { r.core.Stopped(now) })
	return nil
}

// run executes one slice.
func (l *leader) run() {
	m := l.r.m
	begin, from := time.Now(), m.Position()
	m.RunSlice(from + sliceInstructions)
	end := time.Now()
	l.clock.ran(end.Sub(begin), uint64(m.Position()-from))
	l.r.stats.ran(uint64(m.Position()), m.TimeNs(), end.Sub(begin))
	l.slow(end.Sub(begin))
}

// sliceMost is the longest that a slice counts for when the primary is slowed. One that took longer was not executing all
// the time: this host ran something else, or was stopped; a sleep in proportion to that would go on for seconds, in which
// the guest serves nobody and nothing ends this replica.
const sliceMost = 2 * time.Millisecond

// slow keeps the backup from falling behind for good: beyond LagMax the primary sleeps after each slice,
// up to nine times as long as the slice took (VMware FT, section 2.3, takes CPU from it for the same end).
func (l *leader) slow(slice time.Duration) {
	share := 0.0
	over := l.r.stats.lag() - l.r.opt.LagMax
	if l.holds {
		over += l.r.opt.LagMax // the guest waits for what waits for the backup
	}
	if over > 0 {
		share = min(9, 9*float64(over)/float64(l.r.opt.LagMax))
	}
	if pct := float64(l.r.slowed.Load()); pct > 0 {
		share = max(share, pct/(100-pct)) // a transfer does not keep up
	}
	if share > 0 {
		if l.slowed += time.Duration(share * float64(min(slice, sliceMost))); l.slowed >= 2*time.Millisecond {
			time.Sleep(l.slowed)
			l.r.stats.slowedNs.Add(uint64(l.slowed))
			l.slowed = 0
		}
	}
}

// takeOutputs takes what the machine said: those for the world join outs, until they are with the core.
func (l *leader) takeOutputs() {
	for _, o := range l.r.m.TakeOutputs() {
		if l.r.local(o) {
			l.outs = append(l.outs, o)
		}
	}
}

// tookOutputs tells that outs are with the core.
func (l *leader) tookOutputs() {
	clear(l.outs)
	l.outs = l.outs[:0]
}

// stop is what happens between two slices: it takes what the machine said, delivers what came for it, and
// ships the log of that. With mark set there is an entry at this position in any case.
func (l *leader) stop(mark bool) error {
	if l.epochs != nil {
		return l.stopByEpochs(mark)
	}
	r, m := l.r, l.r.m
	l.takeOutputs()
	l.gather()
	now := time.Now()
	l.entries, l.reads = l.entries[:0], l.reads[:0]
	if c, due := l.clock.due(now, m, len(l.raw) > 0 && m.Idle()); due {
		if err := l.deliver(event.Entry{Kind: event.KindClock, Data: event.AppendClock(nil, c)}); err != nil {
			return err
		}
	}
	for _, e := range l.raw {
		if err := l.deliver(e); err != nil {
			return err
		}
	}
	if r.opt.DigestEvery > 0 && now.After(l.digest) && (!r.stats.solo.Load() || r.opt.Tap != nil) {
		l.digest = now.Add(r.opt.DigestEvery)
		sum := binary.LittleEndian.AppendUint64(nil, m.Digest())
		if err := l.deliver(event.Entry{Kind: event.KindDigest, Data: sum}); err != nil {
			return err
		}
	}
	mark = l.urge(now) || mark
	if (len(l.outs) > 0 || mark) && len(l.entries) == 0 {
		if err := l.deliver(event.Entry{Kind: event.KindCommit}); err != nil {
			return err
		}
	}
	if len(l.entries) == 0 {
		return nil
	}
	r.do(func(now time.Duration) {
		l.leaveOut()
		r.core.Hold(now, l.outs)
		// An error says that the role was lost since the last stop: what this one delivered was never shipped
		// and its outputs never left, so it did not happen, and the caller's loop ends.
		_ = r.core.Append(now, l.entries)
	})
	for i := range l.entries {
		r.stats.entry(l.entries[i].Kind, len(l.entries[i].Data))
	}
	l.tookOutputs()
	return nil
}

// gather takes what came for the machine.
func (l *leader) gather() {
	l.raw = l.r.inbox.take(l.raw[:0])
	for i, d := range l.r.disks {
		for _, done := range d.Finished() {
			l.raw = append(l.raw, event.Entry{Kind: event.KindDisk, Device: uint8(i), Data: event.AppendDiskDone(nil, done)})
		}
	}
	for i, c := range l.r.shared {
		for _, done := range c.Finished() {
			l.raw = append(l.raw, event.Entry{Kind: event.KindDisk, Device: uint8(len(l.r.disks) + i), Data: event.AppendDiskDone(nil, done)})
		}
	}
}

// leadByEpochs begins to lead in checkpoint mode.
func (l *leader) leadByEpochs() error {
	r := l.r
	s, err := newShadow(len(r.ram), true)
	if err != nil {
		return err
	}
	r.m.TakeDirty(nil) // what a backup of this view has, it has as of now
	r.do(func(time.Duration) { r.core.ByEpochs(true) })
	l.epochs = newEpochs(l)
	l.epochs.follow(s)
	return nil
}

// deliver gives the machine an entry at the present position and notes it for the log. What a disk read is
// not in the log, as the backup reads its own copy, unless there is none: a shared disk's is.
func (l *leader) deliver(e event.Entry) error {
	e.Pos = l.r.m.Position()
	if l.r.opt.Tap != nil {
		l.r.opt.Tap(e)
	}
	if err := l.r.m.Deliver(e); err != nil {
		return err
	}
	if e.Kind == event.KindDisk && int(e.Device) < len(l.r.disks) {
		d, err := event.ParseDiskDone(e.Data)
		if err != nil {
			return err
		}
		d.Data = nil
		e.Data = event.AppendDiskDone(nil, d)
	}
	if sum, ok := l.r.sumOf(e); ok {
		l.reads = append(l.reads, read{len(l.entries), sum})
	}
	l.entries = append(l.entries, e)
	return nil
}

// idle waits, with the guest, for input or for its next alarm.
func (l *leader) idle() {
	r := l.r
	var timer <-chan time.Time
	now := time.Now()
	if at, armed := r.m.Alarm(); armed {
		d := l.clock.until(now, at)
		if d <= 0 {
			l.clock.wake() // the next stop delivers the clock entry that makes the alarm due
			return
		}
		l.timer.Reset(d)
		timer = l.timer.C
	}
	if e := l.epochs; e != nil && r.ships.Load() && e.changed() {
		d := e.limit() - now.Sub(e.began)
		if d <= 0 {
			d = 200 * time.Microsecond // the encoder is busy
		}
		if timer == nil || d < l.clock.until(now, alarmOf(r.m)) {
			l.timer.Reset(d)
			timer = l.timer.C
		}
	}
	r.pause(timer)
	r.stats.idled(time.Since(now))
}

// alarmOf is the guest time of the next alarm, which must be armed.
func alarmOf(m *machine.Machine) uint64 {
	at, _ := m.Alarm()
	return at
}

// local carries out an output that is a request to this host rather than to the world. It reports whether
// the output is for the world.
func (r *Replica) local(o event.Output) bool {
	switch o.Kind {
	case event.OutDisk:
		if r.isShared(o) {
			return replica.Role(r.role.Load()) == replica.Primary // a backup's is nobody's: it would be issued again
		}
		if int(o.Device) < len(r.disks) {
			r.disks[o.Device].Submit(*o.Disk)
		}
		return false
	case event.OutEntropy:
		if replica.Role(r.role.Load()) == replica.Primary {
			r.provideEntropy(o.Want)
		}
		return false
	}
	return true
}

func (r *Replica) provideEntropy(n int) {
	p := make([]byte, n)
	rand.Read(p)
	r.inbox.put(event.Entry{Kind: event.KindEntropy, Data: p})
}

// announce tells the LAN that the guest's address is behind this port from now on.
func (r *Replica) announce(port *lan.Port) {
	for _, n := range *r.nics.Load() {
		if v := r.view.Load(); v > 0 {
			port.Announce(v, n.MAC)
		}
		port.Send(lan.Announce(n.MAC))
	}
}

// sayGoodbye ends a machine that has shut down: the backup must execute the end too, or it would take over
// a machine that is off.
func (r *Replica) sayGoodbye() {
	r.do(func(now time.Duration) {
		_ = r.core.Append(now, []event.Entry{{Pos: r.m.Position(), Kind: event.KindCommit}})
		r.core.Finish()
	})
	patience := time.NewTimer(goodbyeTimeout)
	defer patience.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		r.mu.Lock()
		done := r.core.Role() != replica.Primary || r.core.HeldOutputs() == 0 && r.sharedIdle() && (r.core.Solo() || r.core.Applied() == r.core.Last())
		r.mu.Unlock()
		if done || r.runCtx.Err() != nil {
			return
		}
		select {
		case <-patience.C:
			r.log.Warn("the backup did not follow to the end in time")
			return
		case <-look.C:
		case <-r.runCtx.Done():
		}
	}
}

// follow executes the log as backup until the role changes, the guest ends or the replica is stopped.
func (r *Replica) follow() (machine.Down, error) {
	r.begun = true
	ctx, cancel := context.WithCancel(r.runCtx)
	defer cancel()
	r.mu.Lock()
	r.unfollow = cancel
	r.mu.Unlock()
	if r.mode.Following == event.Checkpoint && r.staged == nil {
		if err := r.beginEpochs(); err != nil {
			return machine.Up, err
		}
	}
	for {
		r.mu.Lock()
		e, ok := r.core.Next()
		role := r.core.Role()
		r.mu.Unlock()
		if role != replica.Backup && role != replica.Joining || r.runCtx.Err() != nil {
			return machine.Up, nil
		}
		switch {
		case ok:
			if err := r.replay(ctx, e); err != nil {
				if ctx.Err() != nil {
					return machine.Up, nil // our part has ended, or we leave
				}
				r.do(func(now time.Duration) { r.core.Halt(now, err.Error()) })
				return machine.Up, fmt.Errorf("%w: %w", ErrHalted, err)
			}
			if r.m.Down() != machine.Up {
				r.do(func(time.Duration) { r.core.Finish() })
			}
		case r.m.Down() != machine.Up:
			// The primary leaves when it has heard that this side executed the end.
			r.mu.Lock()
			parted := r.ch == nil
			if parted {
				// It left after its last output had, which nobody could tell us of any more.
				for _, o := range r.core.Unreleased() {
					if o := o.(event.Output); o.Kind == event.OutConsole {
						r.said.write(o.Data)
					}
				}
			}
			r.mu.Unlock()
			if parted {
				return r.m.Down(), nil
			}
			r.pause(nil)
		default:
			r.pause(nil)
		}
	}
}

// replay executes up to an entry's position and delivers it. If ctx ends before it could be delivered, that is the error.
func (r *Replica) replay(ctx context.Context, e event.Entry) error {
	if r.staged != nil {
		return r.stageEntry(e)
	}
	m := r.m
	begin := time.Now()
	var outs []any
	// A completed disk request may have let another one start, so there may be something to carry out even
	// if there is nothing to execute.
	for first := true; first || m.Position() < e.Pos; first = false {
		stop := m.Run(e.Pos)
		for _, o := range m.TakeOutputs() {
			if r.local(o) {
				outs = append(outs, o)
			}
		}
		if m.Position() < e.Pos && (stop == machine.StopIdle || stop == machine.StopDown) {
			return r.diverged("the guest here stopped at position %d, entry %d is for %d", m.Position(), e.Seq, e.Pos)
		}
	}
	if m.Position() != e.Pos {
		return r.diverged("entry %d is for position %d, the machine is at %d", e.Seq, e.Pos, m.Position())
	}
	r.stats.ran(uint64(e.Pos), m.TimeNs(), time.Since(begin))
	if err := r.deliverLogged(ctx, e); err != nil {
		return err
	}
	r.stats.entry(e.Kind, len(e.Data))
	r.do(func(now time.Duration) {
		r.core.Hold(now, outs)
		r.core.ExecutedTo(now, e.Seq, m.TimeNs())
		if _, more := r.core.Next(); e.Kind == event.KindDiskSum && !more {
			r.core.Tick(now) // a write of the primary may wait to hear of it
		}
	})
	return nil
}

func (r *Replica) deliverLogged(ctx context.Context, e event.Entry) error {
	switch e.Kind {
	case event.KindDiskSum:
		var err error
		if e, err = r.reread(ctx, e); err != nil {
			return err
		}
	case event.KindDisk:
		logged, err := event.ParseDiskDone(e.Data)
		if i := int(e.Device) - len(r.disks); err == nil && i >= 0 && i < len(r.shared) {
			break // all of it is in the log
		}
		if err != nil || int(e.Device) >= len(r.disks) {
			return r.diverged("entry %d completes a request of a disk that is not here", e.Seq)
		}
		here, ok := r.disks[e.Device].Await(logged.ID)
		if !ok {
			return fmt.Errorf("disk %s was closed", r.disks[e.Device].Path())
		}
		settled, err := disk.Settle(logged, here)
		if err != nil {
			return fmt.Errorf("disk %s: %w", r.disks[e.Device].Path(), err)
		}
		e.Data = event.AppendDiskDone(nil, settled)
	case event.KindDigest:
		if len(e.Data) != 8 {
			return r.diverged("entry %d holds no digest", e.Seq)
		}
		theirs, ours := binary.LittleEndian.Uint64(e.Data), r.m.Digest()
		if theirs != ours {
			return r.diverged("the state at position %d differs (digest %016x there, %016x here); it was the same at position %d",
				e.Pos, theirs, ours, r.stats.agreed())
		}
		r.stats.agree(uint64(e.Pos))
	case event.KindMode:
		m, err := event.ParseMode(e.Data)
		if err != nil {
			return r.diverged("%v", err)
		}
		return r.changeFollowing(m)
	}
	if err := r.m.Deliver(e); err != nil {
		return r.diverged("%v", err)
	}
	return nil
}

func (r *Replica) diverged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDiverged, fmt.Sprintf(format, args...))
}
