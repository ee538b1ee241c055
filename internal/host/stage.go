package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"understudy/event"
	"understudy/internal/disk"
	"understudy/machine/pages"
)

// staging is a backup's side of checkpoint mode: the parts of an epoch that is not whole yet. They count for nothing
// until its end has come.
type staging struct {
	batches [][]byte
	disk    [][]byte
	outs    []any
	bytes   int
	journal *disk.Journal // nil without disks
	dec     pages.Decoder
	applied bool // an epoch was: requests in flight are in the machine's state and nowhere else
}

// maxStagedOver bounds an epoch beyond the size of RAM: disk writes, outputs.
const maxStagedOver = 256 << 20

// beginEpochs makes the backup follow by epochs from here on.
func (r *Replica) beginEpochs() error {
	r.staged = &staging{}
	if len(r.disks) == 0 {
		return nil
	}
	for _, d := range r.disks {
		d.Quiesce()
	}
	var err error
	r.staged.journal, err = disk.OpenJournal(r.journalPath(), r.disks)
	return err
}

func (r *Replica) journalPath() string {
	return filepath.Join(filepath.Dir(r.diskPath(0)), "disks.journal")
}

// forgetJournal removes what a former life has left: its epochs are not of the disks that are here now.
func (r *Replica) forgetJournal() error {
	if err := os.Remove(r.journalPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old journal: %w", err)
	}
	return nil
}

// endEpochs ends that. If an epoch was applied, the requests that the machine has in flight were never carried out here:
// they are now.
func (r *Replica) endEpochs() error {
	s := r.staged
	if s == nil {
		return nil
	}
	r.staged = nil
	if s.journal != nil {
		s.journal.Discard()
		if err := s.journal.Close(); err != nil {
			return err
		}
	}
	if s.applied {
		for i, d := range r.disks {
			d.Finished() // results that came with the state: of requests that are done, or made again
			for _, q := range r.m.PendingDisk(i) {
				d.Submit(q)
			}
		}
	}
	return nil
}

// stageEntry takes one entry of checkpoint mode.
func (r *Replica) stageEntry(e event.Entry) error {
	s := r.staged
	var outs []any
	switch e.Kind {
	case event.KindEpochPart:
		if err := s.part(e.Data); err != nil {
			return fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		if s.bytes += len(e.Data); s.bytes > len(r.ram)+len(r.ram)/8+maxStagedOver {
			return fmt.Errorf("entry %d: an epoch of more than %d MiB", e.Seq, s.bytes>>20)
		}
	case event.KindEpochEnd:
		if err := r.commit(e); err != nil {
			return fmt.Errorf("epoch of entry %d: %w", e.Seq, err)
		}
		outs = s.outs
		s.batches, s.disk, s.outs, s.bytes = s.batches[:0], s.disk[:0], nil, 0
	case event.KindMode:
		m, err := event.ParseMode(e.Data)
		if err != nil {
			return err
		}
		if err := r.changeFollowing(m); err != nil {
			return err
		}
	case event.KindCommit: // of the machine's end
	default:
		return r.diverged("entry %d is of kind %d, in checkpoint mode", e.Seq, e.Kind)
	}
	r.stats.entry(e.Kind, len(e.Data))
	r.do(func(now time.Duration) {
		r.core.Hold(now, outs)
		r.core.ExecutedTo(now, e.Seq, r.m.TimeNs())
	})
	return nil
}

func (s *staging) part(p []byte) error {
	if len(p) == 0 {
		return errors.New("empty part of an epoch")
	}
	switch p[0] {
	case event.PartPages:
		s.batches = append(s.batches, p[1:])
	case event.PartWrite, event.PartDiscard:
		s.disk = append(s.disk, p)
	case event.PartOutput:
		o, err := event.ParseOutputPart(p)
		if err != nil {
			return err
		}
		s.outs = append(s.outs, o)
	default:
		return fmt.Errorf("part of an epoch of kind %#x", p[0])
	}
	return nil
}

// commit makes a whole epoch the machine's state.
func (r *Replica) commit(e event.Entry) error {
	s := r.staged
	for _, b := range s.batches {
		if err := s.dec.Check(b, r.m.Pages()); err != nil {
			return err
		}
	}
	for _, b := range s.batches {
		if err := s.dec.Decode(b, r.m.Pages(), r.m.Page, r.m.InstallPage); err != nil {
			return err
		}
	}
	if len(s.disk) > 0 {
		if s.journal == nil {
			return errors.New("a write to a disk that there is not")
		}
		for _, p := range s.disk {
			d, q, err := event.ParseDiskPart(p)
			if err == nil && q.Op == event.DiskDiscard {
				err = s.journal.Zero(d, q.Sector, q.Count)
			} else if err == nil {
				err = s.journal.Write(d, q.Sector, q.Data)
			}
			if err != nil {
				return err
			}
		}
		if err := s.journal.Commit(uint64(e.Seq)); err != nil {
			return err
		}
	}
	if err := r.m.LoadState(e.Data); err != nil {
		return err
	}
	if r.m.Position() != e.Pos {
		return r.diverged("the epoch of entry %d is for position %d, its state is of %d", e.Seq, e.Pos, r.m.Position())
	}
	s.applied = true
	r.stats.ran(uint64(e.Pos), r.m.TimeNs(), 0)
	r.stats.epochs.Add(1)
	return nil
}

// changeFollowing carries out a KindMode entry on a backup.
func (r *Replica) changeFollowing(m event.Mode) error {
	was := r.mode.Following
	r.setMode(m)
	switch {
	case was == m.Following:
		return nil
	case m.Following == event.Checkpoint:
		return r.beginEpochs()
	}
	return r.endEpochs()
}

// setMode notes how the machine is protected.
func (r *Replica) setMode(m event.Mode) {
	r.mu.Lock()
	r.mode = m
	r.mu.Unlock()
}
