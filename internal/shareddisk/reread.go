package shareddisk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"understudy/event"
)

// A backup's own reads (Options.BackupReads). They need no grant: the server lets whoever belongs to the disk's group
// read, and nothing else. That the sectors are as the primary read them is the primary's to see to, see hold.go; the
// sum tells.

const (
	// maxAheadBytes and maxAhead bound what is read before the backup comes to it.
	maxAheadBytes = 8 << 20
	maxAhead      = 256
	// differTries is how often sectors are read that are not as the primary read them, before that is taken for final,
	// with differPause in between. A primary that has won a view without us holds nothing back, and this may be how we hear
	// of it first.
	differTries = 5
	differPause = 100 * time.Millisecond
	// readPause is the pause after a read that failed.
	readPause = 200 * time.Millisecond
)

// ErrDiffers is wrapped by Reread's error when sectors are not as the primary read them.
var ErrDiffers = errors.New("the disk is not as the primary read it")

// Sum is the checksum of what was read.
func Sum(data []byte) uint64 { return xxhash.Sum64(data) }

// room bounds what is read ahead.
type room struct {
	all   bool   // a leader's requests: the guest's ring bounds them
	first uint64 // which has room in any case: somebody waits for it
	bytes int
	n     int
}

// take takes q in, if it has room.
func (r *room) take(q *request) bool {
	if r.all {
		return true
	}
	size := int(q.Count) * 512
	if q.ID != r.first && (r.n >= maxAhead || r.bytes+size > maxAheadBytes) {
		return false
	}
	r.n++
	r.bytes += size
	return true
}

func (c *Client) roomLocked() (r room) {
	if c.view != 0 {
		return room{all: true}
	}
	r.first = uint64(c.awaited)
	for _, q := range c.sent {
		r.n++
		r.bytes += int(q.Count) * 512
	}
	for i := range c.results {
		r.n++
		r.bytes += len(c.results[i].Data)
	}
	return r
}

// Fetch tells a client that does not lead that the entry with number seq, which is on its way, completes a read: it is
// read ahead. Entries that were told of before are ignored.
func (c *Client) Fetch(seq event.Seq, d event.DiskSum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != 0 || !c.o.BackupReads || seq <= c.fetched {
		return
	}
	c.fetched = seq
	c.queue = append(c.queue, &request{DiskRequest: readOf(seq, d)})
	c.changed.Broadcast()
}

func readOf(seq event.Seq, d event.DiskSum) event.DiskRequest {
	return event.DiskRequest{ID: uint64(seq), Op: event.DiskRead, Sector: d.Sector, Count: d.Count}
}

// Reread gives what the entry with number seq says the primary read. It tries until it has it: the error is that of ctx,
// or says why it will never have it. patient is asked now and then, with how long that read has taken, whether
// to go on trying. Calls come in the order of the entries.
func (c *Client) Reread(ctx context.Context, seq event.Seq, d event.DiskSum, patient func(time.Duration) bool) ([]byte, error) {
	began := time.Now()
	c.waitsSince(began)
	defer c.waitsSince(time.Time{})
	where := fmt.Sprintf("sectors %d to %d of the shared disk at %s", d.Sector, d.Sector+uint64(d.Count)-1, c.o.Addr)
	told, differs := false, 0
	for {
		r, err := c.await(ctx, seq, d)
		pause, why := readPause, errors.New("the server could not read them")
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			pause, why = 0, c.why()
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", where, err)
		case r.Status == event.DiskOK && len(r.Data) == int(d.Count)*512 && Sum(r.Data) == d.Sum:
			if told {
				c.o.Log.Info("has read what the primary read", "what", where, "took", time.Since(began))
			}
			return r.Data, nil
		case r.Status == event.DiskOK:
			if differs++; differs >= differTries {
				return nil, fmt.Errorf("%w: %s: sum %016x here, %016x there", ErrDiffers, where, Sum(r.Data), d.Sum)
			}
			pause, why = differPause, ErrDiffers
		}
		if !told {
			told = true
			c.o.Log.Warn("cannot read what the primary read, and tries again", "what", where, "why", why)
		}
		if took := time.Since(began); !patient(took) {
			return nil, fmt.Errorf("read %s: not possible for %v: %w", where, took.Round(time.Millisecond), why)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (c *Client) waitsSince(at time.Time) {
	c.mu.Lock()
	c.waits = at
	c.mu.Unlock()
}

// await waits for the result of one read, for readPause at most.
func (c *Client) await(ctx context.Context, seq event.Seq, d event.DiskSum) (event.DiskDone, error) {
	ctx, cancel := context.WithTimeout(ctx, readPause)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.changed.Broadcast()
		c.mu.Unlock()
	})()
	c.mu.Lock()
	defer c.mu.Unlock()
	// Nobody will ask for older ones any more.
	q := readOf(seq, d)
	c.results = slices.DeleteFunc(c.results, func(r event.DiskDone) bool { return r.ID < q.ID })
	c.queue = slices.DeleteFunc(c.queue, func(p *request) bool { return p.ID < q.ID && !p.sent })
	c.fetched, c.awaited = max(c.fetched, seq), seq
	for {
		if i := slices.IndexFunc(c.results, func(r event.DiskDone) bool { return r.ID == q.ID }); i >= 0 {
			r := c.results[i]
			c.results = slices.Delete(c.results, i, i+1)
			c.changed.Broadcast() // there is room
			return r, nil
		}
		switch {
		case ctx.Err() != nil:
			return event.DiskDone{}, ctx.Err()
		case c.closed:
			return event.DiskDone{}, net.ErrClosed
		case c.view != 0:
			return event.DiskDone{}, errors.New("this replica leads")
		case c.fenced != "":
			return event.DiskDone{}, &RefusedError{c.o.Addr, c.fenced, true}
		}
		if !slices.ContainsFunc(c.queue, func(p *request) bool { return p.ID == q.ID }) {
			c.queue = slices.Insert(c.queue, 0, &request{DiskRequest: q})
			c.changed.Broadcast()
		}
		c.changed.Wait()
	}
}

// why is why nothing is answered.
func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil && c.err != nil {
		return c.err
	}
	return errors.New("no answer")
}
