package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/internal/logchannel"
	"understudy/internal/shareddisk"
	"understudy/machine"
	"understudy/machine/pages"
	"understudy/replica"
	"understudy/view"
)

// modeBytes is the size of an encoded event.Mode.
const modeBytes = 9

// viewPatience is how long a primary that knows a newer view than we do waits for us to hear of it.
const viewPatience = 2 * time.Second

// receiveStates lets primaries whose backup we are to be send us their state, one after the other.
func (r *Replica) receiveStates() {
	for {
		conn, err := r.opt.Listener.Accept()
		if err != nil {
			if r.runCtx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.log.Warn("cannot accept a primary", "err", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, say
			continue
		}
		r.workers.Go(func() {
			if err := r.receiveState(conn); err != nil && r.runCtx.Err() == nil {
				r.log.Warn(err.Error())
			}
		})
	}
}

// receiveState is one connection of a primary, from its hello to its end.
func (r *Replica) receiveState(conn net.Conn) error {
	c, err := logchannel.Hear[machineParams](conn, r.opt.Identity, "")
	if err != nil {
		return err
	}
	if err := r.checkCaller(c); err != nil {
		return c.Refuse(err)
	}
	// A former attempt of the same primary may not know yet that it has failed.
	r.mu.Lock()
	if role := r.core.Role(); (role == replica.Spare || role == replica.Joining) && r.ch != nil {
		r.ch.Close()
	}
	r.mu.Unlock()
	if !r.until(logchannel.HandshakeTimeout/2, func() bool { return r.ch == nil && r.core.Role() == replica.Spare }) {
		return c.Refuse(errors.New("this replica has another part"))
	}
	r.stage.Lock()
	r.mu.Lock()
	free := r.ch == nil && r.core.Role() == replica.Spare
	r.mu.Unlock()
	var in *receiver
	err = errors.New("another primary was quicker")
	if free {
		in, err = r.newReceiver(c)
	}
	if err != nil {
		r.stage.Unlock()
		return c.Refuse(err)
	}
	ch, err := c.Accept(r.life)
	if err != nil {
		in.close()
		r.stage.Unlock()
		return err
	}
	in.ch = ch
	r.attach(ch, c.Life)
	r.log.Info("receives the state", "from", c.From, "view", c.View, "MiB", in.cfg.MemBytes>>20)
	r.workers.Go(in.tellHashes)
	err = ch.Receive(in.frame)
	if !in.complete {
		ch.SendFrame(frameSorry, []byte(err.Error())) // in vain if it is the channel that failed
		ch.Finish()
		time.AfterFunc(time.Second, ch.Close)
		<-in.told
		ch.Wait()
		in.close()
		r.stage.Unlock()
	}
	r.part(ch, err)
	return nil
}

// checkCaller tells whether the caller is the primary of a view whose backup is this very life.
func (r *Replica) checkCaller(c *caller) error {
	if err := c.Check(ProtocolVersion, r.opt.Group, r.opt.Name); err != nil {
		return err
	}
	if err := c.CheckName(); err != nil {
		return err
	}
	// It may have heard of the view before us.
	deadline := time.Now().Add(viewPatience)
	for {
		v := r.member.pinger.View()
		switch {
		case v.Number == view.Number(c.View) && v.Primary == c.From && r.member.pinger.MayJoin():
			return nil
		case v.Number > view.Number(c.View), time.Now().After(deadline), r.runCtx.Err() != nil:
			return fmt.Errorf("%q sends its state in view %d, but view %d is {%s, %q} here", c.From, c.View, v.Number, v.Primary, v.Backup)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// receiver puts together the state that a primary sends. It holds Replica.stage until it is complete.
type receiver struct {
	r        *Replica
	c        *caller
	ch       *logchannel.Channel
	cfg      machine.Config
	m        *machine.Machine
	dec      pages.Decoder
	targets  []*disk.Target
	shared   []*shareddisk.Client
	told     chan struct{} // closed when the primary was told what the targets have
	whole    int           // targets that are complete
	complete bool
}

// newReceiver makes room for the machine that the caller describes. r.stage is held.
func (r *Replica) newReceiver(c *caller) (in *receiver, err error) {
	in = &receiver{r: r, c: c, told: make(chan struct{})}
	if in.cfg, err = c.Machine.config(); err != nil {
		return nil, err
	}
	if in.cfg.MemBytes > r.opt.MaxMemBytes {
		return nil, fmt.Errorf("the machine has %d MiB of memory, this replica takes %d at most", in.cfg.MemBytes>>20, r.opt.MaxMemBytes>>20)
	}
	r.mu.Lock()
	old, oldShared := r.disks, r.shared
	r.disks, r.shared = nil, nil
	r.mu.Unlock()
	for _, d := range old {
		d.Close()
	}
	for _, c := range oldShared {
		c.Close()
	}
	if err := r.clearRAM(in.cfg.MemBytes); err != nil {
		return nil, err
	}
	if in.m, err = machine.NewBlank(in.cfg, r.ram); err != nil {
		return nil, err
	}
	for i, d := range in.cfg.Disks {
		if addr := c.Machine.Disks[i].Shared; addr != "" {
			client, err := r.sharedDisk(r.runCtx, addr, d, c.Machine.BackupReads)
			if err != nil {
				in.close()
				return nil, err
			}
			in.shared = append(in.shared, client)
			continue
		}
		if len(in.shared) > 0 {
			in.close()
			return nil, errMalformed // shared disks come last
		}
		t, err := disk.NewTarget(r.diskPath(i), d.Sectors, true)
		if err != nil {
			in.close()
			return nil, err
		}
		in.targets = append(in.targets, t)
	}
	return in, nil
}

// diskPath is where this replica's copy of disk i is.
func (r *Replica) diskPath(i int) string {
	if i < len(r.opt.Disks) && r.opt.Disks[i].Shared == "" {
		return r.opt.Disks[i].Path
	}
	return filepath.Join(r.opt.StateDir, fmt.Sprintf("disk%d.raw", i))
}

func (in *receiver) close() {
	for _, t := range in.targets {
		t.Close()
	}
	for _, c := range in.shared {
		c.Close()
	}
}

// tellHashes tells the primary what of the disks is here already.
func (in *receiver) tellHashes() {
	defer close(in.told)
	var buf []byte
	for i, t := range in.targets {
		for {
			msg, complete, err := t.Hashes(buf)
			if err != nil {
				in.ch.SendFrame(frameSorry, []byte(err.Error()))
				in.ch.Finish()
				return
			}
			buf = msg
			if !in.ch.SendFrame(frameDisk, []byte{byte(i)}, msg) {
				return
			}
			if complete {
				break
			}
		}
	}
}

// frame takes one frame of the primary.
func (in *receiver) frame(kind byte, body []byte) error {
	if in.complete {
		return in.r.step(in.ch, kind, body)
	}
	switch kind {
	case framePages:
		return in.dec.Decode(body, in.m.Pages(), in.m.Page, in.m.InstallPage)
	case frameDisk:
		if len(body) == 0 || int(body[0]) >= len(in.targets) {
			return fmt.Errorf("%w: of a disk that there is not", logchannel.ErrFrame)
		}
		<-in.told // ends at the latest when the channel does
		done, err := in.targets[body[0]].Apply(body[1:])
		if done {
			in.whole++
		}
		return err
	case frameConsole:
		if len(body) < 8 {
			return fmt.Errorf("%w: console without an offset", logchannel.ErrFrame)
		}
		end := int64(binary.BigEndian.Uint64(body))
		if end < int64(len(body)-8) {
			return fmt.Errorf("%w: console of %d bytes at offset %d", logchannel.ErrFrame, len(body)-8, end)
		}
		in.r.said.restore(end, body[8:])
		return nil
	case frameState:
		return in.finish(body)
	}
	return in.r.step(in.ch, kind, body) // a heartbeat before the state
}

// finish makes the machine of all that has come, and lets it follow the log.
func (in *receiver) finish(body []byte) error {
	r := in.r
	seq, n := binary.Uvarint(body)
	if n <= 0 {
		return fmt.Errorf("%w: state without a sequence number", logchannel.ErrFrame)
	}
	if in.whole != len(in.targets) {
		return fmt.Errorf("%w: the state came before the disks were complete", logchannel.ErrFrame)
	}
	if len(body) < n+modeBytes {
		return fmt.Errorf("%w: state without a mode", logchannel.ErrFrame)
	}
	mode, err := event.ParseMode(body[n : n+modeBytes])
	if err != nil {
		return err
	}
	if err := in.m.LoadState(body[n+modeBytes:]); err != nil {
		return err
	}
	var disks []*disk.Disk
	for _, t := range in.targets {
		d, err := t.Finish()
		if err != nil {
			for _, d := range disks {
				d.Close()
			}
			return err
		}
		disks = append(disks, d)
	}
	if len(disks) > 0 {
		if err := r.forgetJournal(); err != nil {
			return err
		}
	}
	r.m = in.m
	r.staged = nil
	r.setMode(mode)
	r.opt.Machine = in.cfg
	r.nics.Store(&in.cfg.NICs)
	r.mu.Lock()
	r.disks, r.shared = disks, in.shared
	r.opt.BackupReads = in.c.Machine.BackupReads
	r.mu.Unlock()
	r.startDisks()
	calmCollector()
	r.stats.ran(uint64(r.m.Position()), r.m.TimeNs(), 0)
	in.complete = true
	r.stage.Unlock()
	r.do(func(now time.Duration) {
		if r.ch == in.ch {
			err = r.core.Restored(now, replica.ViewNumber(in.c.View), in.c.From, event.Seq(seq), r.m.TimeNs())
		}
	})
	return err
}
