package rsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"understudy/event"
	"understudy/internal/logchannel"
	"understudy/replica"
)

// The frames of a state transfer.
const (
	frameState   = 'S' // a piece of the snapshot
	frameEnd     = 'E' // sequence number (uvarint), time (uvarint): the snapshot was of after this entry, and it is complete
	frameAlive   = 'R' // to the primary: the state is being taken
	frameSorry   = 'X' // to the primary: why the state could not be taken
	stateBytes   = 64 << 10
	protocol     = 1 // version of all that goes over the channel
	retryAfter   = 100 * time.Millisecond
	retryMost    = 5 * time.Second
	dialPatience = 2 * time.Second
)

// params is what a primary says of its machine.
type params struct {
	Format string `json:"format"`
}

// sender sends the machine's state to the backup of one view while the machine goes on.
type sender struct {
	n      *Node
	to     string
	view   replica.ViewNumber
	life   context.Context // ends with the view
	giveUp context.CancelFunc
}

func newSender(n *Node, to string, v replica.ViewNumber) *sender {
	s := &sender{n: n, to: to, view: v}
	s.life, s.giveUp = context.WithCancel(n.runCtx)
	return s
}

// run tries until the backup is in sync or the view has changed.
func (s *sender) run() {
	n := s.n
	defer func() {
		s.giveUp()
		n.mu.Lock()
		n.member.sender = nil
		n.mu.Unlock()
		n.do(func(time.Duration) {}) // there may be another backup by now
	}()
	for pause := retryAfter; s.wanted(); pause = min(2*pause, retryMost) {
		err := s.attempt()
		if !s.wanted() {
			return
		}
		n.log.Warn("state transfer was cut, and begins again", "name", n.opt.Name, "to", s.to, "err", err)
		select {
		case <-time.After(pause):
		case <-s.life.Done():
			return
		}
	}
}

// wanted tells whether the backup of our view still has no state.
func (s *sender) wanted() bool {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	c := s.n.core
	return s.n.runCtx.Err() == nil && c.Role() == replica.Primary && c.View() == s.view && c.Peer() == s.to && !c.InSync()
}

// attempt sends the state once. It returns nil when the backup is in sync.
func (s *sender) attempt() error {
	n := s.n
	n.mu.Lock()
	addr := ""
	if a := n.member.seen; replica.ViewNumber(a.View.Number) == s.view {
		addr = a.BackupAddr
	}
	n.mu.Unlock()
	if addr == "" {
		return fmt.Errorf("nobody knows the address of %s yet", s.to)
	}
	dial, cancel := context.WithTimeout(s.life, dialPatience)
	ch, life, err := logchannel.Dial(dial, addr, n.id, logchannel.Hello[params]{
		Version: protocol, Group: n.opt.Group, From: n.opt.Name, To: s.to, Life: n.life, View: uint64(s.view), Machine: params{n.opt.Format},
	})
	cancel()
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(s.life)
	n.attach(ch, life)
	n.workers.Go(func() {
		err := ch.Receive(func(kind byte, body []byte) error {
			switch kind {
			case frameAlive:
				n.do(func(now time.Duration) {
					if n.ch == ch {
						n.core.Joins(now)
					}
				})
				return nil
			case frameSorry:
				err := fmt.Errorf("the backup cannot take the state: %.200q", body)
				fail(err)
				return err
			}
			return n.step(ch, kind, body)
		})
		fail(fmt.Errorf("log channel to %s: %w", s.to, err))
		n.part(ch, err)
	})
	err = s.send(ctx, ch)
	if err != nil {
		ch.Close()
	}
	fail(err)
	return err
}

// send sends a snapshot with the log behind it, over a channel that stands.
func (s *sender) send(ctx context.Context, ch *logchannel.Channel) error {
	n := s.n
	n.stage.Lock()
	var seq event.Seq
	var err error
	began := time.Now()
	snap := n.opt.Machine.Snapshot()
	clock := n.clock
	ch.Hold()
	n.do(func(now time.Duration) {
		if n.ch != ch {
			err = errors.New("the channel serves no more")
			return
		}
		seq, err = n.core.Join(now)
	})
	n.stage.Unlock()
	stood := time.Since(began)
	defer func() {
		n.stage.Lock()
		snap.Close()
		n.stage.Unlock()
	}()
	if err != nil {
		return err
	}
	total := 0
	var buf []byte
	for done := false; !done; {
		buf, done = snap.Next(buf[:0], stateBytes)
		total += len(buf)
		runtime.Gosched() // clients first
		if !ch.SendFrame(frameState, buf) || ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	end := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(seq)), uint64(clock))
	if !ch.SendFrame(frameEnd, end) {
		return context.Cause(ctx)
	}
	ch.Resume()
	n.log.Info("has sent its state", "name", n.opt.Name, "to", s.to, "bytes", total, "after entry", uint64(seq), "stood still", stood, "took", time.Since(began))
	if !n.until(ctx, func() bool { return n.ch != ch || n.core.InSync() }) {
		return context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != ch {
		return fmt.Errorf("%s was lost before it was in sync", s.to)
	}
	return nil
}
