package rsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/internal/logchannel"
	"understudy/internal/wal"
	"understudy/replica"
	"understudy/view"
)

// viewPatience is how long a primary that knows a newer view than we do waits for us to hear of it.
const viewPatience = 2 * time.Second

// receiveStates lets primaries whose backup we are to be send us their state, one after the other.
func (n *Node) receiveStates() {
	for {
		conn, err := n.ln.Accept()
		if err != nil {
			if n.runCtx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			n.log.Warn("cannot accept a primary", "err", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, say
			continue
		}
		n.workers.Go(func() {
			if err := n.receiveState(conn); err != nil && n.runCtx.Err() == nil {
				n.log.Warn(err.Error())
			}
		})
	}
}

// receiveState is one connection of a primary, from its hello to its end.
func (n *Node) receiveState(conn net.Conn) error {
	c, err := logchannel.Hear[params](conn, n.id, "")
	if err != nil {
		return err
	}
	if err := n.checkCaller(c); err != nil {
		return c.Refuse(err)
	}
	// A former attempt of the same primary may not know yet that it has failed.
	n.mu.Lock()
	if role := n.core.Role(); (role == replica.Spare || role == replica.Joining) && n.ch != nil {
		n.ch.Close()
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(n.runCtx, logchannel.HandshakeTimeout/2)
	free := n.until(ctx, func() bool { return n.ch == nil && n.core.Role() == replica.Spare })
	cancel()
	if !free || !n.restoring.CompareAndSwap(false, true) {
		return c.Refuse(errors.New("this server has another part"))
	}
	n.stage.Lock()
	in := &receiver{n: n, c: c, done: make(chan error, 1), end: make(chan struct{})}
	n.mu.Lock()
	free = n.ch == nil && n.core.Role() == replica.Spare
	n.mu.Unlock()
	var ch *logchannel.Channel
	if free {
		ch, err = c.Accept(n.life)
	} else {
		err = c.Refuse(errors.New("another primary was quicker"))
	}
	if err != nil {
		in.leave()
		return err
	}
	in.ch = ch
	if n.files != nil {
		in.snap, in.failed = n.files.Begin()
	}
	n.attach(ch, c.Life)
	n.log.Info("receives the state", "name", n.opt.Name, "from", c.From, "view", c.View)
	var from *io.PipeReader
	from, in.pipe = io.Pipe()
	go func() {
		err := n.opt.Machine.Restore(from)
		if err != nil {
			from.CloseWithError(err)
		} else {
			_, _ = io.Copy(io.Discard, from)
		}
		in.done <- err
	}()
	n.workers.Go(in.keepAlive)
	err = ch.Receive(in.frame)
	if !in.complete {
		in.pipe.CloseWithError(io.ErrUnexpectedEOF)
		<-in.done
		ch.SendFrame(frameSorry, []byte(err.Error())) // in vain if it is the channel that failed
		ch.Finish()
		time.AfterFunc(time.Second, ch.Close)
		ch.Wait()
		in.leave()
	}
	n.part(ch, err)
	return nil
}

// checkCaller tells whether the caller is the primary of a view whose backup is this very life.
func (n *Node) checkCaller(c *logchannel.Caller[params]) error {
	if err := c.Check(protocol, n.opt.Group, n.opt.Name); err != nil {
		return err
	}
	if c.Machine.Format != n.opt.Format {
		return fmt.Errorf("formats differ: the primary has %q, the backup %q", c.Machine.Format, n.opt.Format)
	}
	if err := c.CheckName(); err != nil {
		return err
	}
	// It may have heard of the view before us.
	deadline := time.Now().Add(viewPatience)
	for {
		v := n.member.pinger.View()
		switch {
		case v.Number == view.Number(c.View) && v.Primary == c.From && n.member.pinger.MayJoin():
			return nil
		case v.Number > view.Number(c.View), time.Now().After(deadline), n.runCtx.Err() != nil:
			return fmt.Errorf("%q sends its state in view %d, but view %d is {%s, %q} here", c.From, c.View, v.Number, v.Primary, v.Backup)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// receiver puts together the state that a primary sends. It holds Node.stage until it is complete.
type receiver struct {
	n        *Node
	c        *logchannel.Caller[params]
	ch       *logchannel.Channel
	pipe     *io.PipeWriter
	done     chan error    // of Machine.Restore
	end      chan struct{} // closed by leave
	snap     *wal.Writer   // nil: it is not kept on disk
	failed   error         // of snap
	complete bool
}

// leave gives the machine free.
func (in *receiver) leave() {
	close(in.end)
	if in.snap != nil {
		in.snap.Abort()
	}
	in.n.restoring.Store(false)
	in.n.stage.Unlock()
}

// keepAlive lets the primary hear that we live, though we have nothing to acknowledge yet.
func (in *receiver) keepAlive() {
	t := time.NewTicker(in.n.opt.SuspectAfter)
	defer t.Stop()
	for {
		select {
		case <-in.end:
			return
		case <-in.n.runCtx.Done():
			return
		case <-t.C:
			if !in.ch.SendFrame(frameAlive) {
				return
			}
		}
	}
}

// frame takes one frame of the primary.
func (in *receiver) frame(kind byte, body []byte) error {
	switch {
	case in.complete:
	case in.failed != nil:
		return in.failed
	case kind == frameState:
		if in.snap != nil {
			if _, err := in.snap.Write(body); err != nil {
				return err
			}
		}
		_, err := in.pipe.Write(body)
		return err
	case kind == frameEnd:
		return in.finish(body)
	}
	return in.n.step(in.ch, kind, body)
}

// finish lets the machine follow the log from the state that has come.
func (in *receiver) finish(body []byte) error {
	n := in.n
	seq, k := binary.Uvarint(body)
	clock, l := binary.Uvarint(body[max(k, 0):])
	if k <= 0 || l <= 0 || int64(clock) < 0 {
		return fmt.Errorf("%w: state without a sequence number", logchannel.ErrFrame)
	}
	in.pipe.Close()
	if err := <-in.done; err != nil {
		in.done <- err
		return err
	}
	n.clock = int64(clock)
	if in.snap != nil {
		rec := arbiter.Record{Number: in.c.View, Primary: in.c.From, Backup: n.opt.Name}
		if err := in.snap.Commit(seq, n.clock, wal.Mark{Record: rec, Part: wal.Joining}); err != nil {
			in.done <- nil
			return err
		}
	}
	in.complete = true
	in.leave()
	var err error
	n.do(func(now time.Duration) {
		if n.ch == in.ch {
			err = n.core.Restored(now, replica.ViewNumber(in.c.View), in.c.From, event.Seq(seq), clock)
		}
	})
	return err
}
