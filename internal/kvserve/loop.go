package kvserve

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"understudy/rsm"
)

const (
	// turnBytes of commands are started together, or a little more.
	turnBytes = 256 << 10
	// receiveBytes is what is read of one connection before others have their turn.
	receiveBytes = 64 << 10
	// roundEvents is how many connections one round looks at.
	roundEvents = 256
)

// loop serves all connections that are plain sockets, in one goroutine: what many clients have sent is read in one go and carried
// out together, with one system call per command to read and one per reply to write, and no switch to another goroutine for each.
//
// A connection is in one of three states. It is read from and its commands are taken; or it is busy, its operations are on their
// way; or it has replies for which its socket has no room. Only in the first is more read from it, so what a client can
// make the server hold is bounded as if it had a goroutine of its own.
type loop struct {
	s       *Server
	poll    *poller
	joining chan *polled
	clients map[int32]*polled
	again   []*polled // may be read from, though nothing will tell
	turn    *turn     // operations that are taken and not started; nil: none
	turns   []*turn   // those behind which turn has come
	flying  []*turn   // started, oldest first
	busy    int       // clients whose operations are in one of these
	blocked int       // clients for whose replies there is no room
	spare   []*turn
}

// polled is a connection in the loop.
type polled struct {
	*conn
	sock    *socket
	ready   bool // there may be something to read
	ending  bool // so may be the end, behind it
	busy    bool
	queued  bool // in loop.again
	gone    bool
	written int       // of out
	patient time.Time // until when there must be room for out; zero: it is not waited for
}

// turn is the operations of some clients, which are carried out together.
type turn struct {
	l       *life
	ops     []rsm.Op
	bytes   int
	members []member
	started rsm.Started
}

// member is a client with its first operation in a turn.
type member struct {
	c  *polled
	at int
}

func newLoop(s *Server) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &loop{s: s, poll: p, joining: make(chan *polled), clients: map[int32]*polled{}}, nil
}

// join hands a connection over to the loop, which ends it. False: ctx has ended.
func (l *loop) join(ctx context.Context, c *conn, sock *socket) bool {
	select {
	case l.joining <- &polled{conn: c, sock: sock, ready: true}:
		return true
	case <-ctx.Done():
		return false
	}
}

// run serves until ctx ends.
func (l *loop) run(ctx context.Context) {
	events, seen := make(chan []unix.EpollEvent), make(chan struct{}, 1)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		l.poll.watch(make([]unix.EpollEvent, roundEvents), func(e []unix.EpollEvent) bool {
			select {
			case events <- e:
			case <-ctx.Done():
				return false
			}
			select {
			case <-seen:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() {
		l.poll.close()
		<-watching
		for _, c := range l.clients {
			l.drop(c)
		}
	}()
	own := make([]unix.EpollEvent, roundEvents)
	look := time.NewTicker(max(l.s.opt.patience/8, time.Millisecond))
	defer look.Stop()
	for {
		var done <-chan error
		if len(l.flying) > 0 {
			done = l.flying[0].started.Done()
		}
		var more <-chan struct{}
		if len(l.again) > 0 {
			more = closed
		}
		select {
		case <-ctx.Done():
			return
		case c := <-l.joining:
			l.welcome(c)
		case e := <-events:
			l.arrived(e)
			seen <- struct{}{}
		case err := <-done:
			t := l.flying[0]
			l.flying = append(l.flying[:0], l.flying[1:]...)
			t.started.End()
			if l.busy < len(l.clients) {
				// What has come meanwhile is on its way before the others are answered.
				l.arrived(l.poll.poll(own))
				if len(l.flying) > 0 {
					runtime.Gosched()
				}
			}
			l.answer(t, err)
		case <-more:
		case now := <-look.C:
			l.hurry(now)
		}
		l.rest()
	}
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (l *loop) welcome(c *polled) {
	l.clients[int32(c.sock.fd)] = c
	if err := l.poll.add(c.sock); err != nil {
		l.s.log.Warn("cannot serve a client", "client", c.nc.RemoteAddr().String(), "err", err)
		l.drop(c)
		return
	}
	l.serve(c)
}

// arrived serves the clients whose sockets have changed, and starts what they want.
func (l *loop) arrived(events []unix.EpollEvent) {
	for i := range events {
		c := l.clients[events[i].Fd]
		if c == nil {
			continue
		}
		if events[i].Events&^unix.EPOLLOUT != 0 {
			c.ready = true
			c.ending = c.ending || events[i].Events&^(unix.EPOLLOUT|unix.EPOLLIN) != 0
		}
		l.serve(c)
	}
	l.start()
}

// rest serves those that nothing else will wake, once each.
func (l *loop) rest() {
	for n := len(l.again); n > 0; n-- {
		c := l.again[0]
		l.again = append(l.again[:0], l.again[1:]...)
		c.queued = false
		l.serve(c)
	}
	l.start()
}

// serve does what can be done now for a client that is not busy: writes its replies, takes its commands, reads once.
func (l *loop) serve(c *polled) {
	for read := false; !c.busy && !c.gone; {
		more := true
		if c.patient.IsZero() {
			if more = c.take(); len(c.ops) > 0 && l.want(c) {
				return
			}
		}
		switch {
		case !l.send(c):
			return
		case c.closing:
			l.drop(c)
			return
		case more:
			continue
		case !c.ready:
			return
		case read:
			if !c.queued {
				c.queued = true
				l.again = append(l.again, c)
			}
			return
		}
		read = true
		b := c.in.Space(readBytes)
		b = b[:min(len(b), receiveBytes)]
		n, again, err := c.sock.receive(b)
		if err != nil {
			l.drop(c)
			return
		}
		c.in.Commit(n)
		if again || n < len(b) && !c.ending {
			c.ready = false
		}
	}
}

// send writes replies, and reports whether there was room for all of them.
func (l *loop) send(c *polled) bool {
	if len(c.out) == 0 {
		return true
	}
	n, err := c.sock.transmit(c.out[c.written:])
	c.written += n
	switch {
	case err != nil:
		l.drop(c)
		return false
	case c.written == len(c.out):
		c.written = 0
		c.sent()
		if !c.patient.IsZero() {
			c.patient = time.Time{}
			l.blocked--
		}
		return true
	case c.patient.IsZero():
		c.patient = time.Now().Add(l.s.opt.patience)
		l.blocked++
	}
	return false
}

// want adds a client's operations to those that are to be started, if none is too large.
func (l *loop) want(c *polled) bool {
	bytes := 0
	for i := range c.ops {
		n := len(c.ops[i].Command)
		if n > rsm.MaxCommandBytes {
			c.settle(rsm.ErrTooLarge)
			return false
		}
		bytes += n
	}
	t := l.turn
	if t != nil && (t.l != c.l || t.bytes > 0 && t.bytes+bytes > turnBytes) {
		l.turns, t = append(l.turns, t), nil
	}
	if t == nil {
		if n := len(l.spare); n > 0 {
			t, l.spare = l.spare[n-1], l.spare[:n-1]
		} else {
			t = &turn{}
		}
		t.l = c.l
	}
	t.members = append(t.members, member{c, len(t.ops)})
	t.ops = append(t.ops, c.ops...)
	t.bytes += bytes
	c.busy = true
	l.busy++
	l.turn = t
	return true
}

// start starts what is wanted.
func (l *loop) start() {
	for l.turn != nil {
		all := append(l.turns, l.turn)
		l.turn, l.turns = nil, nil
		for i, t := range all {
			var err error
			if t.started, err = t.l.node.Start(t.ops); err != nil {
				l.answer(t, err) // which may want more
			} else {
				l.flying = append(l.flying, t)
			}
			all[i] = nil
		}
		if l.turns == nil {
			l.turns = all[:0]
		}
	}
}

// answer gives the members of a turn their replies, and goes on with them.
func (l *loop) answer(t *turn, err error) {
	for _, m := range t.members {
		c := m.c
		c.busy = false
		l.busy--
		if c.gone {
			continue
		}
		copy(c.ops, t.ops[m.at:])
		if !c.settle(err) {
			l.drop(c)
			continue
		}
		l.serve(c)
	}
	if err == nil && cap(t.ops) < 1<<16 {
		clear(t.ops)
		clear(t.members)
		t.ops, t.members, t.bytes, t.started, t.l = t.ops[:0], t.members[:0], 0, rsm.Started{}, nil
		l.spare = append(l.spare, t)
	}
}

// hurry ends clients that have not read their replies in time.
func (l *loop) hurry(now time.Time) {
	if l.blocked == 0 {
		return
	}
	for _, c := range l.clients {
		if !c.patient.IsZero() && now.After(c.patient) {
			l.s.log.Warn("closed a client that does not read", "client", c.nc.RemoteAddr().String(), "bytes", len(c.out)-c.written)
			l.drop(c)
		}
	}
}

// drop ends a connection.
func (l *loop) drop(c *polled) {
	if c.gone {
		return
	}
	c.gone = true
	if !c.patient.IsZero() {
		l.blocked--
	}
	delete(l.clients, int32(c.sock.fd))
	c.sock.free()
	l.s.forget(c.conn)
}
