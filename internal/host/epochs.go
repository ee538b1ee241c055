package host

import (
	"context"
	"time"

	"understudy/event"
	"understudy/machine/pages"
)

// Checkpoint mode (Remus, Cully et al. 2008). The primary's machine runs in epochs. At the end of one it stops for as
// long as it takes to copy the pages that were written, and runs on while they are encoded and sent: what it says from
// then on is speculation, held until the epoch that it belongs to is with the backup. An epoch is a row of entries of the
// log, of which the last makes it whole, so the rules of package replica hold it together: output needs the
// epoch's last entry, and a backup goes live from the last whole epoch.
const (
	// epochMost is the length of an epoch while nothing waits for its end, if it is not fixed.
	epochMost = 100 * time.Millisecond
	// epochLeast is the length of the shortest one.
	epochLeast = 5 * time.Millisecond
	// epochCostShare bounds what epochs cost: one that ends early is this many times as long as its predecessor
	// took to be copied and encoded.
	epochCostShare = 10
	// maxEpochFrames bounds the frames that travel with an epoch so that they can be sent again. What is beyond is
	// left to the guest's own retransmission.
	maxEpochFrames = 256 << 10
)

// epoch is what changed in one.
type epoch struct {
	set     pages.Set
	numbers []uint32
	state   []byte
	pos     event.Position
	disk    [][]byte // encoded parts
	outs    []any    // to be held until the backup has the epoch
	left    []any    // that have left already, as nothing was to wait for: the backup hears of them
	covers  bool     // cut when output waited for the backup
}

// epochs is the leader's side of checkpoint mode.
type epochs struct {
	l        *leader
	shadow   *shadow
	work     chan *epoch // to the encoder
	free     chan *epoch // capacity 2: one runs while the other is encoded
	began    time.Time
	since    event.Position // of the last cut
	firstOut time.Time      // when the oldest output of the present epoch was made; zero: there is none
	fresh    bool           // something was delivered since the last cut
	disk     [][]byte
	outs     []any
	left     []any
	cost     time.Duration // of the last epoch, smoothed
	ended    chan struct{} // closed when the encoder has ended
}

func newEpochs(l *leader) *epochs {
	e := &epochs{l: l, work: make(chan *epoch, 1), free: make(chan *epoch, 2), ended: make(chan struct{}), began: time.Now()}
	for range cap(e.free) {
		e.free <- &epoch{}
	}
	go e.encode()
	return e
}

// end stops the encoder, after what it has.
func (e *epochs) end() {
	close(e.work)
	<-e.ended
	e.shadow.close()
}

// drain waits until every epoch that was cut is with the core.
func (e *epochs) drain() {
	var got []*epoch
	for range cap(e.free) {
		got = append(got, <-e.free)
	}
	for _, d := range got {
		e.free <- d
	}
}

// follow makes s what the backup has: one that is complete as of this stop. The caller has drained the epochs.
func (e *epochs) follow(s *shadow) {
	old := e.shadow
	e.shadow = s
	if old != s {
		old.close()
	}
	e.begin()
	e.disk, e.left = nil, nil
}

func (e *epochs) begin() {
	e.began, e.since, e.firstOut, e.fresh = time.Now(), e.l.r.m.Position(), time.Time{}, false
}

// hold takes outputs. They wait for the end of the epoch, unless nobody's acknowledgement is needed.
func (e *epochs) hold(outs []any) {
	if len(outs) == 0 && len(e.outs) == 0 {
		return
	}
	r := e.l.r
	r.do(func(now time.Duration) {
		if r.core.Solo() {
			r.core.Hold(now, e.outs)
			r.core.Hold(now, outs)
			if r.core.Ships() {
				e.left = append(append(e.left, e.outs...), outs...)
			}
			clear(e.outs)
			e.outs = e.outs[:0]
			return
		}
		e.outs = append(e.outs, outs...)
	})
	if len(e.outs) > 0 && e.firstOut.IsZero() {
		e.firstOut = time.Now()
	}
}

// limit is the length of the present epoch.
func (e *epochs) limit() time.Duration {
	switch fixed := e.l.r.mode.EpochNs; {
	case fixed > 0:
		return time.Duration(fixed)
	case !e.firstOut.IsZero():
		return min(max(epochLeast, epochCostShare*e.cost), epochMost)
	}
	return epochMost
}

// changed tells whether there is anything to tell the backup.
func (e *epochs) changed() bool {
	return e.fresh || len(e.outs) > 0 || len(e.disk) > 0 || e.l.r.m.Position() != e.since
}

// due tells whether the epoch is to end at this stop.
func (e *epochs) due(now time.Time) bool { return now.Sub(e.began) >= e.limit() && e.changed() }

// cut ends the epoch at this stop, if the encoder has room; otherwise the epoch goes on, unless must is set.
func (e *epochs) cut(must bool) {
	r := e.l.r
	var d *epoch
	select {
	case d = <-e.free:
	default:
		if !must {
			return
		}
		d = <-e.free
	}
	began := time.Now()
	d.numbers = r.m.TakeDirty(d.numbers[:0])
	d.set.Reset()
	for _, n := range d.numbers {
		d.set.Add(n, r.m.Page(int(n)))
	}
	d.state = r.m.SaveState()
	d.pos = r.m.Position()
	d.disk, e.disk = e.disk, nil
	d.outs, e.outs = e.outs, d.outs[:0]
	d.left, e.left = e.left, d.left[:0]
	r.mu.Lock()
	d.covers = !r.core.Solo()
	r.mu.Unlock()
	stop := time.Since(began)
	r.stats.epoch(len(d.numbers), stop)
	e.begin()
	e.work <- d
}

// encode makes entries of epochs, one after the other.
func (e *epochs) encode() {
	defer close(e.ended)
	r := e.l.r
	var enc pages.Encoder
	for d := range e.work {
		began := time.Now()
		var entries []event.Entry
		add := func(kind event.Kind, data []byte) {
			entries = append(entries, event.Entry{Pos: d.pos, Kind: kind, Data: data})
			r.stats.entry(kind, len(data))
		}
		e.shadow.mu.Lock()
		for i := 0; i < d.set.Len(); {
			enc.Begin([]byte{event.PartPages})
			for ; i < d.set.Len() && enc.Len() < batchBytes; i++ {
				n, p := d.set.At(i)
				e.shadow.add(&enc, n, p)
			}
			if n := enc.Count(); n > 0 {
				add(event.KindEpochPart, enc.Finish())
			} else {
				enc.Finish()
			}
		}
		e.shadow.mu.Unlock()
		for _, p := range d.disk {
			add(event.KindEpochPart, p)
		}
		frames := 0
		for _, o := range append(d.left, d.outs...) {
			o := o.(event.Output)
			if o.Kind == event.OutDisk {
				continue // of a shared disk: the state has it in flight
			}
			if o.Kind == event.OutNet {
				if frames += len(o.Data); frames > maxEpochFrames {
					continue
				}
			}
			add(event.KindEpochPart, event.AppendOutputPart(nil, o))
		}
		last := event.Entry{Pos: d.pos, Kind: event.KindEpochEnd, Data: d.state}
		r.stats.entry(last.Kind, len(last.Data))
		bytes := len(last.Data)
		for i := range entries {
			bytes += len(entries[i].Data)
		}
		r.stats.epochBytes.Add(uint64(bytes))
		r.do(func(now time.Duration) {
			// Errors say that the role was lost: then nothing of this happened.
			_ = r.core.Append(now, entries)
			r.core.Hold(now, d.outs) // needs the next entry, the end of the epoch
			if d.covers {
				r.core.Cover()
			}
			_ = r.core.Append(now, []event.Entry{last})
		})
		clear(d.outs)
		clear(d.left)
		took := time.Since(began)
		r.stats.encodeNs.Store(int64(took))
		e.free <- d
	}
}

// stopByEpochs is leader.stop in checkpoint mode: events are delivered as they come, and nothing of them is logged.
func (l *leader) stopByEpochs(mark bool) error {
	r, m := l.r, l.r.m
	e := l.epochs
	l.takeOutputs()
	l.gather()
	now := time.Now()
	if c, due := l.clock.due(now, m, len(l.raw) > 0 && m.Idle()); due {
		if err := l.deliverOnly(event.Entry{Kind: event.KindClock, Data: event.AppendClock(nil, c)}); err != nil {
			return err
		}
	}
	for _, in := range l.raw {
		if err := l.deliverOnly(in); err != nil {
			return err
		}
	}
	e.hold(l.outs)
	l.tookOutputs()
	if !r.ships.Load() {
		e.disk, e.left = nil, nil // nobody is to be told
		return nil
	}
	if mark {
		if len(e.free) == cap(e.free) { // else one is on its way
			e.cut(true)
		}
	} else if e.due(now) {
		e.cut(false)
		e.cost = (e.cost + time.Duration(r.stats.encodeNs.Load()) + time.Duration(r.stats.epochStopNs.Load())) / 2
	}
	return nil
}

// deliverOnly gives the machine an entry that does not go into the log, and notes what a disk has done.
func (l *leader) deliverOnly(in event.Entry) error {
	r := l.r
	in.Pos = r.m.Position()
	if r.opt.Tap != nil {
		r.opt.Tap(in)
	}
	if in.Kind == event.KindDisk && int(in.Device) < len(r.disks) && r.ships.Load() {
		d, err := event.ParseDiskDone(in.Data)
		if err != nil {
			return err
		}
		for _, q := range r.m.PendingDisk(int(in.Device)) {
			if q.ID == d.ID && d.Status == event.DiskOK && (q.Op == event.DiskWrite || q.Op == event.DiskDiscard) {
				l.epochs.disk = append(l.epochs.disk, event.AppendDiskPart(nil, in.Device, q))
			}
		}
	}
	l.epochs.fresh = true
	return r.m.Deliver(in)
}

// settle brings the machine to a stop at which none of its disk requests is outstanding, every output has an entry
// behind it, and no epoch is under way: the state is nowhere but in the machine and its log.
func (l *leader) settle() error {
	for range 1000 {
		if err := l.stop(false); err != nil {
			return err
		}
		pending := false
		for i, d := range l.r.disks {
			if len(l.r.m.PendingDisk(i)) > 0 {
				pending = true
				d.Quiesce()
			}
		}
		if !pending {
			break
		}
	}
	if err := l.finishEpoch(); err != nil {
		return err
	}
	return nil
}

// finishEpoch ends the present epoch, if there is one, and waits until it is with the core.
func (l *leader) finishEpoch() error {
	if l.r.mode.Following != event.Checkpoint {
		return nil
	}
	if l.r.ships.Load() {
		l.epochs.cut(true)
	}
	l.epochs.drain()
	return nil
}

// changeMode changes how the backup follows, at this stop.
func (l *leader) changeMode(to event.Mode) error {
	r := l.r
	if to.Following == r.mode.Following {
		r.setMode(to)
		if r.ships.Load() {
			l.appendMode(to)
		}
		return nil
	}
	if err := l.settle(); err != nil {
		return err
	}
	if to.Following == event.Lockstep {
		r.do(func(time.Duration) { r.core.ByEpochs(false) })
		l.appendMode(to)
		l.epochs.end()
		l.epochs = nil
		r.setMode(to)
		return nil
	}
	s, err := newShadow(len(r.ram), true)
	if err != nil {
		return err
	}
	l.appendMode(to)
	r.m.TakeDirty(nil)
	r.setMode(to)
	r.do(func(time.Duration) { r.core.ByEpochs(true) })
	l.epochs = newEpochs(l)
	l.epochs.follow(s)
	return nil
}

// appendMode tells the backup, if there is one.
func (l *leader) appendMode(m event.Mode) {
	r := l.r
	r.do(func(now time.Duration) {
		_ = r.core.Append(now, []event.Entry{{Pos: r.m.Position(), Kind: event.KindMode, Data: event.AppendMode(nil, m)}})
	})
}

// SetMode changes how the machine is protected, and waits until that is so.
func (r *Replica) SetMode(ctx context.Context, m event.Mode) error {
	return r.atStop(ctx, func(l *leader) error { return l.changeMode(m) })
}
