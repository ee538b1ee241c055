package rsm

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"understudy/replica"
)

// Op is an operation on the machine: a command or a read.
type Op struct {
	// Command is proposed, if it is not nil. Reply is then the machine's reply; it belongs to the caller.
	Command []byte
	// Read, if Command is nil, looks at the machine between two entries. It must not change anything, and must be quick: the
	// machine waits for it.
	Read  func()
	Reply []byte
}

// call is the operations of one Do, on their way.
type call struct {
	ops   []Op
	bytes int
	done  chan error // capacity 1
}

// queue holds the calls that nobody has taken yet. Its bound is the number of callers: each waits.
type queue struct {
	mu    sync.Mutex
	calls []*call
	ended bool
}

func (q *queue) put(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.calls = append(q.calls, c)
	return true
}

// take moves what waits to into, up to about maxBytes of commands.
func (q *queue) take(into []*call, maxBytes int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.calls) && bytes < maxBytes {
		bytes += q.calls[n].bytes
		n++
	}
	into = append(into, q.calls[:n]...)
	rest := copy(q.calls, q.calls[n:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	return into
}

// gather lets callers that are about to put a call run first, as long as more come of it: a batch costs much the same whether
// it is large or small. If nobody wants to run it takes no time.
func (q *queue) gather() {
	for was := -1; ; {
		q.mu.Lock()
		n := len(q.calls)
		q.mu.Unlock()
		if n == was || n == 0 {
			return
		}
		was = n
		runtime.Gosched()
	}
}

// withdraw takes a call back that nobody has taken.
func (q *queue) withdraw(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.calls {
		if q.calls[i] == c {
			q.calls = append(q.calls[:i], q.calls[i+1:]...)
			return true
		}
	}
	return false
}

func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan error, 1)} }}

// Started is operations that are on their way.
type Started struct{ c *call }

// Start is Do for a caller that goes on meanwhile. With an error nothing was begun. Otherwise ops are not to be touched until
// Started.Done gives Do's error, which it does at the latest when Run ends.
func (n *Node) Start(ops []Op) (Started, error) {
	bytes := 0
	for i := range ops {
		if len(ops[i].Command) > MaxCommandBytes {
			return Started{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(ops[i].Command))
		}
		bytes += len(ops[i].Command)
	}
	if replica.Role(n.role.Load()) != replica.Primary {
		return Started{}, ErrNotPrimary
	}
	c := calls.Get().(*call)
	c.ops, c.bytes = ops, bytes
	if !n.queue.put(c) {
		return Started{}, ErrNotPrimary
	}
	n.poke()
	return Started{c}, nil
}

// Done gives Do's error, once; then End must be called. What was started on one node ends in the order in which it was started.
func (s Started) Done() <-chan error { return s.c.done }

// End gives back what the operations needed.
func (s Started) End() {
	s.c.ops = nil
	calls.Put(s.c)
}

// Do executes operations in their order, others perhaps between them, and returns when all of them may be answered. On
// ErrUnknown, some commands may have been executed, and ops must not be used again; on another error none was.
func (n *Node) Do(ctx context.Context, ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	s, err := n.Start(ops)
	if err != nil {
		return err
	}
	select {
	case err := <-s.c.done:
		s.End()
		return err
	case <-ctx.Done():
	}
	if n.queue.withdraw(s.c) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
}

// Propose has every replica execute a command, and returns the machine's reply when the command can no longer be lost.
func (n *Node) Propose(ctx context.Context, cmd []byte) ([]byte, error) {
	if cmd == nil {
		cmd = []byte{}
	}
	ops := []Op{{Command: cmd}}
	err := n.Do(ctx, ops)
	if err != nil {
		return nil, err
	}
	return ops[0].Reply, nil
}

// Read calls look between two entries, and returns when what it saw can be answered: see the package comment. look must not
// change the machine, and must be quick. It may be called even if Read fails, and with an error that wraps ErrUnknown it may be
// called later.
func (n *Node) Read(ctx context.Context, look func()) error {
	return n.Do(ctx, []Op{{Read: look}})
}

// Peek calls look between two entries of whatever state this server has, old or new, whatever its part. It must not change
// the machine. ErrBusy: there is no state to look at.
func (n *Node) Peek(look func()) error {
	if n.restoring.Load() {
		return ErrBusy
	}
	n.stage.Lock()
	defer n.stage.Unlock()
	look()
	return nil
}
