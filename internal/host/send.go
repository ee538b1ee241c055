package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/internal/logchannel"

	"understudy/machine/mem"
	"understudy/machine/pages"
	"understudy/replica"
)

// How a state transfer converges.
const (
	// batchBytes is about what one frame of pages holds.
	batchBytes = 256 << 10
	// cutAfter bounds what is left for the stop: as much as the link carries in this time. It is copied during the
	// stop and sent after it, with the log waiting behind it.
	cutAfter = 150 * time.Millisecond
	// minCutPages and maxCutPages bound that, whatever the link. 4,096 pages are copied in about 5 ms.
	minCutPages, maxCutPages = 256, 4096
	// slowAfterRounds is how many rounds a machine may dirty memory faster than it is sent before it is slowed.
	slowAfterRounds = 3
	// retryAfter is the pause before a transfer that was cut is tried again; it doubles up to retryMost.
	retryAfter, retryMost = 100 * time.Millisecond, 5 * time.Second
)

// slowSteps are the shares of its time, in percent, that the machine gives up one after the other until the transfer
// converges.
var slowSteps = [...]int{20, 40, 60, 80, 90, 95, 98, 99}

// errSorry is wrapped when the other side cannot take the state.
var errSorry = errors.New("the backup cannot take the state")

// Transfer is how far the sending of the state is.
type Transfer struct {
	To         string `json:"to"`
	TotalBytes uint64 `json:"total_bytes"` // memory in use, and disks
	DoneBytes  uint64 `json:"done_bytes"`  // of that, what the backup has as it is now
	SentBytes  uint64 `json:"sent_bytes"`  // on the wire
	PerSecond  uint64 `json:"bytes_per_second"`
	LeftNs     int64  `json:"left_ns"`         // estimate; 0: unknown
	Round      int    `json:"round"`           // of copying memory, from 1
	SlowedPct  int    `json:"slowed_percent"`  // of its time that the machine gives up so that the transfer converges
	StopNs     int64  `json:"stop_ns"`         // how long the machine stood still for the cut; 0 before
	Error      string `json:"error,omitempty"` // why the last attempt failed
}

// sender sends the machine's state to the backup of one view while the machine runs.
type sender struct {
	r    *Replica
	to   string
	view replica.ViewNumber

	life   context.Context // ends with the view
	giveUp context.CancelFunc

	mu sync.Mutex
	p  Transfer

	// of one attempt
	ch       *logchannel.Channel
	ctx      context.Context
	fail     context.CancelCauseFunc
	hashes   chan []byte // what the target says of its disks: index, message
	sources  []*disk.Source
	shadow   *shadow
	kept     bool // the leader has it now
	enc      pages.Encoder
	buf      []byte
	began    time.Time
	spent    uint64 // bytes since began, for the bound on bandwidth
	inMemory uint64
}

func newSender(r *Replica, to string, v replica.ViewNumber) *sender {
	s := &sender{r: r, to: to, view: v, p: Transfer{To: to}}
	s.life, s.giveUp = context.WithCancel(r.runCtx)
	return s
}

// run tries until the backup is in sync or the view has changed.
func (s *sender) run() {
	r := s.r
	// Not ahead of the machine on a host without a free processor. The thread ends with the goroutine.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), executorNice)
	defer func() {
		s.giveUp()
		r.mu.Lock()
		r.member.sender = nil
		r.mu.Unlock()
		r.do(func(time.Duration) {}) // there may be another backup by now
	}()
	pause := retryAfter
	for s.wanted() {
		began := time.Now()
		err := s.attempt()
		r.slowed.Store(0)
		if !s.wanted() {
			return
		}
		if err != nil {
			r.log.Warn("state transfer was cut, and begins again", "to", s.to, "err", err)
		}
		s.set(func(p *Transfer) {
			*p = Transfer{To: s.to}
			if err != nil {
				p.Error = err.Error()
			}
		})
		if time.Since(began) > retryMost {
			pause = retryAfter
		}
		select {
		case <-time.After(pause):
		case <-s.life.Done():
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// wanted tells whether the backup of our view still has no state.
func (s *sender) wanted() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	c := s.r.core
	return s.r.runCtx.Err() == nil && c.Role() == replica.Primary && c.View() == s.view && c.Peer() == s.to && !c.InSync()
}

func (s *sender) set(f func(*Transfer)) {
	s.mu.Lock()
	f(&s.p)
	s.mu.Unlock()
}

func (s *sender) progress() Transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// attempt sends the state once. It returns nil when the backup is in sync.
func (s *sender) attempt() error {
	r := s.r
	r.mu.Lock()
	addr := ""
	if a := r.member.seen; replica.ViewNumber(a.View.Number) == s.view {
		addr = a.BackupAddr
	}
	r.mu.Unlock()
	if addr == "" {
		return fmt.Errorf("nobody knows the address of %s yet", s.to)
	}
	dial, cancel := context.WithTimeout(s.life, 2*time.Second)
	ch, life, err := logchannel.Dial(dial, addr, r.opt.Identity, r.hello(s.to, uint64(s.view)))
	cancel()
	if err != nil {
		return err
	}
	s.ch = ch
	s.ctx, s.fail = context.WithCancelCause(s.life)
	s.hashes = make(chan []byte, 4)
	r.attach(ch, life)
	r.workers.Go(func() {
		err := ch.Receive(s.frame)
		s.fail(fmt.Errorf("log channel to %s: %s", s.to, describeClose(err)))
		r.part(ch, err)
	})
	err = s.send()
	if err != nil {
		ch.Close()
	}
	s.fail(err)
	return err
}

// frame takes what the backup says.
func (s *sender) frame(kind byte, body []byte) error {
	switch kind {
	case frameDisk:
		select {
		case s.hashes <- append([]byte(nil), body...):
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		return nil
	case frameSorry:
		err := fmt.Errorf("%w: %s", errSorry, body)
		s.fail(err)
		return err
	}
	return s.r.step(s.ch, kind, body)
}

// send is the whole transfer over a channel that stands.
func (s *sender) send() (err error) {
	r := s.r
	s.kept = false
	s.shadow, err = newShadow(len(r.ram), false)
	if err != nil {
		return err
	}
	defer func() {
		if !s.kept {
			s.shadow.close()
		}
	}()
	defer s.closeSources()
	if err := s.openSources(); err != nil {
		return err
	}
	s.began, s.spent = time.Now(), 0
	var dirty []uint32
	if err := r.atStop(s.ctx, func(l *leader) error {
		r.m.MarkAllDirty()
		dirty = r.m.TakeDirty(nil)
		return nil
	}); err != nil {
		return err
	}
	s.inMemory = uint64(len(dirty)) * mem.PageBytes
	r.log.Info("sends its state", "to", s.to, "view", uint64(s.view), "MiB", s.inMemory>>20, "disks", len(s.sources))
	slow := 0
	for round := 1; ; round++ {
		s.set(func(p *Transfer) { p.Round = round })
		roundBegan, sentBefore := time.Now(), s.spent
		if err := s.sendPages(dirty); err != nil {
			return err
		}
		if err := s.sendDisks(false); err != nil {
			return err
		}
		sent := len(dirty)
		dirty = dirty[:0]
		if err := r.atStop(s.ctx, func(*leader) error { dirty = r.m.TakeDirty(dirty); return nil }); err != nil {
			return err
		}
		took := max(time.Since(roundBegan), time.Microsecond)
		perSecond := float64(s.spent-sentBefore) / took.Seconds()
		pagesPerSecond := float64(sent) / took.Seconds()
		s.account(dirty, perSecond)
		limit := int(min(max(pagesPerSecond*cutAfter.Seconds(), minCutPages), maxCutPages))
		if len(dirty) <= limit && s.diskLeft() <= uint64(limit)*mem.PageBytes {
			break
		}
		if round > slowAfterRounds && len(dirty) > sent*3/4 && slow < len(slowSteps) {
			pct := slowSteps[slow]
			slow++
			r.slowed.Store(uint32(pct))
			r.stats.transferSlowed.Store(max(r.stats.transferSlowed.Load(), uint32(pct)))
			s.set(func(p *Transfer) { p.SlowedPct = pct })
			r.log.Info("slows the machine so that its backup can join", "percent", pct, "dirty pages", len(dirty))
		}
	}
	if err := s.cut(dirty); err != nil {
		return err
	}
	if !r.until(time.Hour, func() bool {
		c := r.core
		return r.ch != s.ch || c.InSync() || c.Role() != replica.Primary || c.View() != s.view
	}) {
		return context.Cause(r.runCtx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ch != s.ch || !r.core.InSync() {
		return fmt.Errorf("%s was lost before it was in sync", s.to)
	}
	return nil
}

// account updates the numbers that people see.
func (s *sender) account(dirty []uint32, perSecond float64) {
	left := uint64(len(dirty))*mem.PageBytes + s.diskLeft()
	s.set(func(p *Transfer) {
		p.TotalBytes = s.inMemory
		for _, src := range s.sources {
			p.TotalBytes += src.Progress().TotalBytes
		}
		p.DoneBytes = p.TotalBytes - min(left, p.TotalBytes)
		p.SentBytes = s.spent
		p.PerSecond = uint64(perSecond)
		p.LeftNs = 0
		if perSecond > 0 {
			p.LeftNs = int64(float64(left) / perSecond * 1e9)
		}
	})
}

// sendPages sends pages of RAM as they are now, with the machine running. One that changes while it is read is
// dirty again, and so is sent again.
func (s *sender) sendPages(numbers []uint32) error {
	var page [mem.PageBytes]byte
	s.enc.Begin(s.buf[:0])
	told := time.Now()
	for i, n := range numbers {
		copy(page[:], s.r.ram[int(n)*mem.PageBytes:])
		s.shadow.add(&s.enc, n, page[:])
		if s.enc.Len() >= batchBytes || i == len(numbers)-1 && s.enc.Count() > 0 {
			s.buf = s.enc.Finish()
			if err := s.frameOut(framePages, s.buf); err != nil {
				return err
			}
			s.enc.Begin(s.buf[:0])
			if now := time.Now(); now.Sub(told) > 100*time.Millisecond {
				told = now
				s.account(numbers[i:], float64(s.spent)/now.Sub(s.began).Seconds())
			}
		}
	}
	s.buf = s.enc.Finish()[:0]
	return nil
}

// frameOut sends one frame, when the bound on bandwidth allows it.
func (s *sender) frameOut(kind byte, parts ...[]byte) error {
	for _, p := range parts {
		s.spent += uint64(len(p))
	}
	s.spent += logchannel.HeadBytes + 1
	if b := s.r.opt.Bandwidth; b > 0 {
		due := s.began.Add(time.Duration(float64(s.spent) / float64(b) * 1e9))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-s.ctx.Done():
			}
		}
	}
	if !s.ch.SendFrame(kind, parts...) || s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

func (s *sender) openSources() error {
	for _, d := range s.r.disks {
		src, err := disk.NewSource(d)
		if err != nil {
			return err
		}
		s.sources = append(s.sources, src)
	}
	for complete := 0; complete < len(s.sources); {
		select {
		case msg := <-s.hashes:
			if len(msg) == 0 || int(msg[0]) >= len(s.sources) {
				return fmt.Errorf("%w: of a disk that there is not", logchannel.ErrFrame)
			}
			done, err := s.sources[msg[0]].Compare(msg[1:])
			if err != nil {
				return err
			}
			if done {
				complete++
			}
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	return nil
}

func (s *sender) closeSources() {
	for _, src := range s.sources {
		src.Close()
	}
	s.sources = nil
}

func (s *sender) diskLeft() (left uint64) {
	for _, src := range s.sources {
		left += src.Progress().LeftBytes
	}
	return left
}

// sendDisks sends what of the disks has changed, after the cut to the very end.
func (s *sender) sendDisks(toEnd bool) error {
	var buf []byte
	told := time.Now()
	for i, src := range s.sources {
		for {
			msg, done, err := src.Next(buf)
			if err != nil {
				return err
			}
			buf = msg
			if len(msg) > 0 {
				if err := s.frameOut(frameDisk, []byte{byte(i)}, msg); err != nil {
					return err
				}
				if now := time.Now(); now.Sub(told) > 100*time.Millisecond {
					told = now
					s.account(nil, float64(s.spent)/now.Sub(s.began).Seconds())
				}
			}
			if done || len(msg) == 0 && !toEnd {
				break
			}
		}
	}
	return nil
}

// cut stops the machine to take what is left of its state, lets it run on, and sends that. The log waits on the
// channel behind it.
func (s *sender) cut(dirty []uint32) error {
	r := s.r
	var (
		set      pages.Set
		state    []byte
		disks    [][]byte
		seq      event.Seq
		consoles int64
		said     []byte
		stood    time.Duration
	)
	err := r.atStop(s.ctx, func(l *leader) error {
		began := time.Now()
		defer func() { stood = time.Since(began) }()
		if l.epochs != nil {
			l.epochs.drain() // what a former backup was to be told
		}
		// All that the machine has said is with the core: it has, unless the machine has to wait (the log is full).
		for l.takeOutputs(); len(l.outs) > 0; l.takeOutputs() {
			if err := l.stop(true); err != nil {
				return err
			}
		}
		for i, src := range s.sources {
			if err := src.Cut(r.m.PendingDisk(i)); err != nil {
				return err
			}
			for {
				msg, done, err := src.Next(nil)
				if err != nil {
					return err
				}
				disks = append(disks, append([]byte{byte(i)}, msg...))
				if done {
					break
				}
			}
		}
		dirty = mergePages(dirty, r.m.TakeDirty(nil))
		for _, n := range dirty {
			set.Add(n, r.m.Page(int(n)))
		}
		state = event.AppendMode(nil, r.mode)
		state = r.m.AppendState(state)
		var err error
		s.ch.Hold()
		r.do(func(now time.Duration) {
			if r.ch != s.ch {
				err = fmt.Errorf("%s is not our backup any more", s.to)
				return
			}
			consoles, said = r.said.state()
			seq, err = r.core.Join(now)
		})
		if err == nil && l.epochs != nil {
			// The first epoch is encoded against what is sent below, so not before that.
			s.shadow.mu.Lock()
			s.kept = true
			l.epochs.follow(s.shadow)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.kept {
		defer s.shadow.mu.Unlock()
	}
	s.set(func(p *Transfer) { p.StopNs = int64(stood) })
	r.stats.stopped(stood)
	r.log.Info("the machine stood still to be copied", "to", s.to, "stop", stood, "pages", len(dirty))
	for _, msg := range disks {
		if err := s.frameOut(frameDisk, msg); err != nil {
			return err
		}
	}
	s.enc.Begin(s.buf[:0])
	for i := range set.Len() {
		n, p := set.At(i)
		s.shadow.add(&s.enc, n, p)
		if s.enc.Len() >= batchBytes || i == set.Len()-1 {
			s.buf = s.enc.Finish()
			if err := s.frameOut(framePages, s.buf); err != nil {
				return err
			}
			s.enc.Begin(s.buf[:0])
		}
	}
	s.buf = s.enc.Finish()[:0]
	if err := s.frameOut(frameConsole, binary.BigEndian.AppendUint64(nil, uint64(consoles)), said); err != nil {
		return err
	}
	if len(state) > logchannel.MaxFrameBytes-64 {
		return fmt.Errorf("the machine's state has %d bytes, more than a frame holds", len(state))
	}
	if err := s.frameOut(frameState, binary.AppendUvarint(nil, uint64(seq)), state); err != nil {
		return err
	}
	s.ch.Resume()
	return nil
}

// mergePages gives the numbers that are in a or b; both rise.
func mergePages(a, b []uint32) []uint32 {
	out := make([]uint32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		n := min(a[0], b[0])
		out = append(out, n)
		if a[0] == n {
			a = a[1:]
		}
		if b[0] == n {
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}
