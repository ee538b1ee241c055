package rsm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"understudy/event"
	"understudy/replica"
)

// batch is what the executor carries out in one go: some calls. It is an output of the core.
type batch struct {
	calls []*call
}

const (
	// maxBatchBytes bounds the commands of a batch, so that replies do not wait for more than some milliseconds of work.
	maxBatchBytes = 1 << 20
	// maxFlight bounds the batches at the gate: what comes meanwhile makes one larger batch. More of them are smaller and cost
	// more (50 clients, 2 processors shared with them: 13 operations a batch instead of 23).
	maxFlight = 1
)

// release answers the callers of a batch. mu is held.
func (n *Node) release(b *batch) {
	if len(n.flight) == 0 || n.flight[0] != b {
		panic("rsm: a batch left out of turn")
	}
	n.flight[0] = nil
	n.flight = n.flight[1:]
	if n.loaded.Add(-1) == maxFlight-1 {
		n.poke()
	}
	b.answer(nil)
}

// failFlight tells the callers of batches that will never be released. mu is held.
func (n *Node) failFlight() {
	for _, b := range n.flight {
		n.loaded.Add(-1)
		b.answer(ErrUnknown)
	}
	n.flight = nil
}

func (b *batch) answer(err error) {
	for _, c := range b.calls {
		c.done <- err
	}
}

// refuse answers the calls that wait in the queue of a node that is not primary.
func (n *Node) refuse() {
	for {
		calls := n.queue.take(nil, 1<<30)
		if len(calls) == 0 {
			return
		}
		for _, c := range calls {
			c.done <- ErrNotPrimary
		}
	}
}

// execute is the executor: the one goroutine that applies entries.
func (n *Node) execute() error {
	var seed [32]byte
	rand.Read(seed[:])
	x := &executor{n: n, rnd: mathrand.NewChaCha8(seed)}
	for {
		if n.runCtx.Err() != nil {
			return context.Cause(n.runCtx)
		}
		role := replica.Role(n.role.Load())
		if role != replica.Primary {
			n.refuse()
		}
		if err := x.mark(); err != nil {
			n.fail(err)
			continue
		}
		switch role {
		case replica.Halted:
			n.mu.Lock()
			why := n.core.HaltReason()
			n.mu.Unlock()
			return fmt.Errorf("%w: %s", ErrHalted, why)
		case replica.Backup, replica.Joining:
			if !x.follow() {
				n.pause(0)
			}
		case replica.Primary:
			x.lead()
		default:
			n.pause(0)
		}
	}
}

// pause waits for something to do, for d at most; 0: for as long as it takes.
func (n *Node) pause(d time.Duration) {
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-n.wake:
	case <-after:
	case <-n.runCtx.Done():
	}
}

type executor struct {
	n       *Node
	rnd     *mathrand.ChaCha8
	calls   []*call
	entries []event.Entry
	seeds   []uint64
	ticked  time.Duration // when the newest entry told the machine the time
	scratch []byte

	preparing atomic.Bool // the next log is being made
}

// lead does the primary's next step.
func (x *executor) lead() {
	n := x.n
	if n.files != nil && !n.files.Begun() {
		n.pause(10 * time.Millisecond) // the first mark is due
		return
	}
	if n.halt.Load() {
		x.step(true)
		if err := n.syncFiles(); err != nil {
			n.fail(err)
			return
		}
		n.do(func(now time.Duration) { n.core.Stopped(now) })
		return
	}
	if n.wait.Load() {
		n.pause(10 * time.Millisecond)
		return
	}
	now := n.now()
	tick := n.wanted.Load() || n.opt.ClockEvery > 0 && now-x.ticked >= n.opt.ClockEvery
	if tick || n.loaded.Load() < maxFlight {
		n.queue.gather()
		x.calls = n.queue.take(x.calls[:0], maxBatchBytes)
	}
	mark, sum := n.digests.due(n, now)
	if len(x.calls) > 0 || tick || mark || sum != nil {
		x.special(mark, sum)
		x.step(tick)
		x.rotate()
		return
	}
	d := time.Duration(0)
	if n.opt.ClockEvery > 0 {
		d = x.ticked + n.opt.ClockEvery - now
	}
	n.pause(d)
}

// step logs, ships and executes the calls that were taken. The log travels while the machine works.
func (x *executor) step(tick bool) {
	n := x.n
	n.stage.Lock()
	now := max(n.clock, time.Now().UnixNano())
	reads := x.encode(tick, now)
	var (
		need  event.Seq
		asked time.Duration
		err   error
	)
	n.do(func(now time.Duration) {
		if len(x.entries) > 0 {
			err = n.core.Append(now, x.entries)
		}
		if reads {
			asked = n.core.Ask(now)
		}
		need = n.core.Last()
		if err == nil && n.core.Role() != replica.Primary {
			err = replica.ErrNotPrimary
		}
		if tick {
			x.ticked = now
		}
	})
	b := &batch{calls: append([]*call(nil), x.calls...)}
	clear(x.calls)
	x.calls = x.calls[:0]
	if err != nil {
		n.stage.Unlock()
		b.answer(ErrNotPrimary)
		return
	}
	x.apply(b, tick, now)
	n.stage.Unlock()
	if err := n.keep(x.entries, len(b.calls) > 0); err != nil {
		n.fail(err)
		b.answer(ErrUnknown)
		return
	}
	if len(b.calls) == 0 {
		return
	}
	n.do(func(now time.Duration) {
		n.flight = append(n.flight, b)
		n.loaded.Add(1)
		// Should the part be lost by now, do fails all that is in flight.
		_ = n.core.Reply(now, need, asked, []any{b})
	})
}

// encode makes entries of the commands that were taken, and tells whether there are reads.
func (x *executor) encode(tick bool, now int64) (reads bool) {
	x.entries, x.seeds = x.entries[:0], x.seeds[:0]
	var data []byte
	begin := func(tick bool) {
		seed := x.rnd.Uint64()
		x.seeds = append(x.seeds, seed)
		data = appendHead(nil, tick, now, seed)
	}
	finish := func() {
		if data != nil {
			x.entries = append(x.entries, event.Entry{Kind: kindCommands, Data: data})
		}
		data = nil
	}
	if tick {
		begin(true)
	}
	for _, c := range x.calls {
		for i := range c.ops {
			cmd := c.ops[i].Command
			if cmd == nil {
				reads = true
				continue
			}
			if data != nil && len(data)+len(cmd) > maxEntryBytes {
				finish()
			}
			if data == nil {
				begin(false)
			}
			data = appendCommand(data, cmd)
		}
	}
	finish()
	return reads
}

// apply executes the operations of a batch, whose commands encode has cut into entries in the same way. stage is held.
func (x *executor) apply(b *batch, tick bool, now int64) {
	n := x.n
	n.clock = now
	entry, place, bytes := -1, 0, 0
	next := func() { entry, place, bytes = entry+1, 0, headBytes(now) }
	if tick {
		next()
		x.scratch = n.opt.Machine.Apply(x.scratch[:0], Entry{Time: now, Seed: mix(x.seeds[0], -1)})
	}
	var out []byte // replies of all of them; each keeps its part
	for _, c := range b.calls {
		for i := range c.ops {
			op := &c.ops[i]
			if op.Command == nil {
				op.Read()
				continue
			}
			if entry < 0 || bytes+len(op.Command) > maxEntryBytes {
				next()
			}
			bytes += len(binary.AppendUvarint(x.scratch[:0], uint64(len(op.Command)))) + len(op.Command)
			from := len(out)
			out = n.opt.Machine.Apply(out, Entry{Time: now, Seed: mix(x.seeds[entry], place), Command: op.Command})
			op.Reply = out[from:len(out):len(out)]
			place++
		}
	}
}

func headBytes(now int64) int { return len(appendHead(nil, false, now, 0)) }

// special appends the entries of digests, for which the machine has nothing to do.
func (x *executor) special(mark bool, sum []byte) {
	n := x.n
	if !mark && sum == nil {
		return
	}
	n.stage.Lock()
	defer n.stage.Unlock()
	var entries []event.Entry
	if sum != nil {
		entries = append(entries, event.Entry{Kind: kindSum, Data: sum})
	}
	if mark {
		entries = append(entries, event.Entry{Kind: kindMark})
	}
	var err error
	n.do(func(now time.Duration) { err = n.core.Append(now, entries) })
	if err != nil {
		return
	}
	if n.files != nil {
		if err := n.files.Append(entries); err != nil {
			n.fail(err)
			return
		}
	}
	if mark {
		n.digests.begin(n, entries[len(entries)-1].Seq)
	}
}

// follow executes what a backup holds, and tells whether there was anything.
func (x *executor) follow() bool {
	n := x.n
	any := false
	var done event.Seq
	var clock int64
	for n.runCtx.Err() == nil {
		if n.files != nil {
			if err := x.store(); err != nil {
				n.fail(err)
				return any
			}
		}
		var e event.Entry
		var ok bool
		n.do(func(now time.Duration) {
			if done > 0 {
				n.core.ExecutedTo(now, done, uint64(clock))
			}
			e, ok = n.core.Next()
		})
		if !ok {
			x.rotate()
			return any
		}
		any = true
		n.stage.Lock()
		err := x.replay(e)
		done, clock = e.Seq, n.clock
		n.stage.Unlock()
		if err != nil {
			n.diverged(e.Seq, err.Error())
			return any
		}
	}
	return any
}

// replay executes one entry of the primary's log. stage is held.
func (x *executor) replay(e event.Entry) error {
	n := x.n
	switch e.Kind {
	case kindCommands:
		now, err := parse(e.Data, func(e Entry) { x.scratch = n.opt.Machine.Apply(x.scratch[:0], e) })
		if err == nil && now < n.clock {
			err = fmt.Errorf("%w: time steps back", errEntry)
		}
		n.clock = now
		return err
	case kindMark:
		n.digests.begin(n, e.Seq)
		return nil
	case kindSum:
		if len(e.Data) != 16 {
			return errEntry
		}
		n.digests.compare(n, event.Seq(binary.BigEndian.Uint64(e.Data)), binary.BigEndian.Uint64(e.Data[8:]))
		return nil
	}
	return fmt.Errorf("%w: kind %d", errEntry, e.Kind)
}
