package rsm

import (
	"context"
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/internal/wal"
	"understudy/replica"
	"understudy/view"
	"understudy/view/httpview"
)

// membership is this node's life as a server of the view service.
type membership struct {
	pinger *httpview.Pinger

	// Guarded by Node.mu.
	seen   view.Answer // the newest
	taken  replica.ViewNumber
	synced replica.ViewNumber
	sender *sender // of the state to a backup that is to join; nil: none

	record  arbiter.Record // the newest heard of
	mark    wal.Mark       // the newest that the files have, or are to have
	marked  uint64         // view of the newest that they have
	offered uint64         // view whose files were offered
}

func (n *Node) enroll() {
	m := view.NewMember(n.opt.Group, n.opt.Name, n.life)
	m.Addr(n.opt.Advertise)
	m.Client(n.opt.ClientAddr)
	if n.opt.CannotFound || n.hasHistory() {
		m.CannotFound()
	}
	n.member.pinger = httpview.NewPinger(m, httpview.PingerOptions{PingInterval: n.opt.PingInterval, OnAnswer: n.hearView}, n.opt.Views...)
}

// hearView takes an answer of the view service.
func (n *Node) hearView(a view.Answer) {
	n.do(func(now time.Duration) {
		n.member.seen = a
		rec := arbiter.Record{
			Number: uint64(a.View.Number), Primary: a.View.Primary, Backup: a.View.Backup, Claimant: a.Claimant,
		}
		n.learn(rec)
		n.core.Adopt(now, rec)
		if a.HandOver && a.View.Number == view.Number(n.core.View()) {
			_ = n.core.HandOver(now) // it is asked for again with the next answer
		}
	})
	if n.member.pinger.MayJoin() {
		// Ready to receive the state: the service counts a server that takes no part as dead.
		n.member.pinger.Take(a.View.Number)
	}
}

// known is what note has seen last.
type known struct {
	role  replica.Role
	view  replica.ViewNumber
	peer  string
	sync  bool
	ships bool
}

// note is called after each step of the core, with mu held: it tells the view service and whoever waits what has
// changed, and begins to send the state to a new backup.
func (n *Node) note() {
	n.noteMark()
	c := n.core
	is := known{role: c.Role(), view: c.View(), peer: c.Peer(), sync: c.InSync(), ships: c.Ships()}
	mem := &n.member
	if is == n.known && (mem.sender != nil || is.role != replica.Primary || is.peer == "" || is.ships) {
		return
	}
	if is != n.known {
		n.known = is
		n.changed()
	}
	n.takePart()
	if is.sync && mem.synced != is.view {
		mem.synced = is.view
		mem.pinger.InSync(view.Number(is.view))
	}
	if s := mem.sender; s != nil && (is.role != replica.Primary || is.view != s.view) {
		s.giveUp()
	}
	if is.role == replica.Primary && is.peer != "" && !is.ships && mem.sender == nil && n.runCtx.Err() == nil {
		s := newSender(n, is.peer, is.view)
		mem.sender = s
		n.workers.Go(s.run)
	}
}

// takePart tells the view service that this node has its part. A primary's is in its files first: no later view can follow before.
// mu is held.
func (n *Node) takePart() {
	c, mem := n.core, &n.member
	switch v := c.View(); {
	case v == mem.taken:
	case c.Role() == replica.Primary && (n.files == nil || mem.marked == uint64(v)), c.Role() == replica.Backup && !c.Granted():
		mem.taken = v
		mem.pinger.Take(view.Number(v))
	}
}

// changed wakes all who wait for news. mu is held.
func (n *Node) changed() {
	close(n.news)
	n.news = make(chan struct{})
}

// until waits until ok, which is called with mu held, is true. It reports false if the node or ctx ends first.
func (n *Node) until(ctx context.Context, ok func() bool) bool {
	for {
		n.mu.Lock()
		if ok() {
			n.mu.Unlock()
			return true
		}
		news := n.news
		n.mu.Unlock()
		select {
		case <-news:
		case <-time.After(5 * time.Millisecond): // some things change without news
		case <-ctx.Done():
			return false
		case <-n.runCtx.Done():
			return false
		}
	}
}

// HandOver has the primary give its part to its backup, which must be in sync, and returns when it has.
func (n *Node) HandOver(ctx context.Context) error {
	var err error
	var from replica.ViewNumber
	n.do(func(now time.Duration) {
		from = n.core.View()
		err = n.core.HandOver(now)
	})
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	if !n.until(ctx, func() bool {
		return n.core.View() > from || n.core.Role() == replica.Halted || n.core.Role() == replica.Primary && !n.core.HandingOver()
	}) {
		return fmt.Errorf("hand over: %w", context.Cause(ctx))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.core.Role() == replica.Primary {
		return fmt.Errorf("hand over: the backup could not take over in time")
	}
	return nil
}

// Status is what a node knows of its part.
type Status struct {
	Name   string
	Role   string // spare, joining, backup, primary, halted
	View   uint64 // newest view in which it had a part
	Backup string // primary: the other's name in that view
	InSync bool   // primary: the backup holds the state, and may take over
	Solo   bool   // primary: acts without a backup's acknowledgements
	Frozen error  // why it waits for the arbiter; nil: it does not
	// Current is the newest view that the view service told, with the addresses of its servers.
	Current view.Answer
	// Last is the newest entry of the log here, Acked the newest that the backup is known to hold, Applied the newest that the
	// backup has executed.
	Last, Acked, Applied uint64
	// Digests is how often this node's state was found equal to the primary's.
	Digests uint64
}

// Status tells the node's part.
func (n *Node) Status() Status {
	n.mu.Lock()
	c := n.core
	s := Status{
		Name: n.opt.Name, Role: replica.Role(n.role.Load()).String(), View: uint64(c.View()), InSync: c.InSync(), Solo: c.Solo(), Current: n.member.seen,
		Last: uint64(c.Last()), Acked: uint64(c.Acked()), Applied: uint64(c.Applied()),
	}
	if c.Role() == replica.Primary {
		s.Backup = c.Peer()
	}
	if frozen, err := c.Frozen(); frozen {
		s.Frozen = err
	}
	n.mu.Unlock()
	n.digests.mu.Lock()
	s.Digests = n.digests.equal
	n.digests.mu.Unlock()
	return s
}

// IsPrimary tells whether this node answers.
func (n *Node) IsPrimary() bool { return replica.Role(n.role.Load()) == replica.Primary }
