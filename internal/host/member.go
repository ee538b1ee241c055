package host

import (
	"context"
	"fmt"
	"time"

	"understudy/arbiter"
	"understudy/replica"
	"understudy/view"
	"understudy/view/httpview"
)

// membership is this replica's life as a server of the view service.
type membership struct {
	pinger *httpview.Pinger
	silent context.CancelFunc // ends the pings: a halted replica is no candidate for anything

	// Guarded by Replica.mu.
	seen   view.Answer // the newest
	taken  replica.ViewNumber
	synced replica.ViewNumber
	sender *sender // of the state to a backup that is to join; nil: none
}

// enroll makes this replica known to the view service and ready for the part that it is given.
func (r *Replica) enroll() error {
	if r.opt.MayFound {
		if err := r.build(); err != nil {
			return err
		}
		r.opt.Machine = r.opt.Machine.Bare()
		r.startDisks()
	}
	server := view.NewMember(r.opt.Group, r.opt.Name, r.life)
	server.Addr(r.opt.Advertise)
	if !r.opt.MayFound {
		server.CannotFound()
	}
	pings, silent := context.WithCancel(r.runCtx)
	mem := &membership{silent: silent}
	mem.pinger = httpview.NewPinger(server, httpview.PingerOptions{PingInterval: r.opt.PingInterval, OnAnswer: r.hearView}, r.opt.Views...)
	r.mu.Lock()
	r.member = mem
	r.mu.Unlock()
	r.log.Info("ready for a part", "name", r.opt.Name, "group", r.opt.Group, "address", r.opt.Advertise, "can found", r.opt.MayFound)
	r.workers.Go(func() { mem.pinger.Run(pings) })
	r.workers.Go(r.receiveStates)
	return nil
}

// hearView takes an answer of the view service.
func (r *Replica) hearView(a view.Answer) {
	r.do(func(now time.Duration) {
		r.member.seen = a
		r.core.Adopt(now, arbiter.Record{
			Number: uint64(a.View.Number), Primary: a.View.Primary, Backup: a.View.Backup, Claimant: a.Claimant,
		})
		if a.HandOver && a.View.Number == view.Number(r.core.View()) {
			_ = r.core.HandOver(now) // it is asked for again with the next answer
		}
	})
	if p := r.member.pinger; p.MayJoin() && p.Taken() < a.View.Number {
		// Ready to receive the state: the service counts a server that takes no part as dead.
		r.member.pinger.Take(a.View.Number)
	}
}

// note is called after each step of the core, with mu held: it tells the view service and whoever waits what has
// changed, and begins to send the state to a new backup.
func (r *Replica) note(was replica.Role) {
	c := r.core
	is := known{role: c.Role(), view: c.View(), peer: c.Peer(), sync: c.InSync(), ships: c.Ships()}
	if is != r.known {
		if was == replica.Backup && is.role == replica.Primary {
			r.stats.failover(r.heardAt, time.Now())
		}
		r.known = is
		r.changed()
	}
	mem := r.member
	if mem == nil {
		return
	}
	if is.role == replica.Halted {
		mem.silent()
	}
	if (is.role == replica.Primary || is.role == replica.Backup && !c.Granted()) && is.view != mem.taken {
		mem.taken = is.view
		mem.pinger.Take(view.Number(is.view))
	}
	if is.sync && mem.synced != is.view {
		mem.synced = is.view
		mem.pinger.InSync(view.Number(is.view))
	}
	if s := mem.sender; s != nil && (is.role != replica.Primary || is.view != s.view) {
		s.giveUp()
	}
	if is.role == replica.Primary && is.peer != "" && !is.ships && mem.sender == nil && r.runCtx.Err() == nil {
		s := newSender(r, is.peer, is.view)
		mem.sender = s
		r.workers.Go(s.run)
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

// changed wakes all who wait for news. mu is held.
func (r *Replica) changed() {
	close(r.news)
	r.news = make(chan struct{})
}

// until waits until ok, which is called with mu held, is true. It reports false if the replica ends first, or if
// it takes longer than d.
func (r *Replica) until(d time.Duration, ok func() bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		r.mu.Lock()
		if ok() {
			r.mu.Unlock()
			return true
		}
		news := r.news
		r.mu.Unlock()
		select {
		case <-news:
		case <-time.After(2 * time.Millisecond): // some things change without news
		case <-t.C:
			return false
		case <-r.runCtx.Done():
			return false
		}
	}
}

// HandOver has the primary give its part to its backup, and waits until that leads. It gives the view in which it
// does and how long the machine stood still as seen from here.
func (r *Replica) HandOver() (replica.ViewNumber, time.Duration, error) {
	var err error
	var view replica.ViewNumber
	began := time.Now()
	r.do(func(now time.Duration) {
		view = r.core.View()
		err = r.core.HandOver(now)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("hand over: %w", err)
	}
	done := r.until(10*r.opt.SuspectAfter+time.Second, func() bool {
		return r.core.View() > view && r.heardAt.After(began) || r.core.Role() == replica.Halted || r.core.Role() == replica.Primary && !r.core.HandingOver()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if !done || r.core.View() == view || r.core.Role() == replica.Primary {
		return 0, 0, fmt.Errorf("hand over: the backup could not take over in time; the machine runs on here")
	}
	stood := r.stats.stoodAt.Load()
	return r.core.View(), r.heardAt.Sub(time.Unix(0, stood)), nil
}
