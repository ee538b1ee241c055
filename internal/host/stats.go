package host

import (
	"sync/atomic"
	"time"

	"understudy/event"
)

// stats are counters that the executor keeps and everybody may read.
type stats struct {
	position atomic.Uint64
	guestNs  atomic.Uint64
	runNs    atomic.Uint64
	idleNs   atomic.Uint64
	slowedNs atomic.Uint64
	entries  [16]atomic.Uint64 // by kind
	bytes    atomic.Uint64     // of entries' data
	leftOut  atomic.Uint64     // bytes that the log does not have, as the backup reads them by itself
	peerNs   atomic.Uint64     // guest time that the backup has executed to
	solo     atomic.Bool
	agreedAt atomic.Uint64
	won      atomic.Uint64 // claims
	lost     atomic.Uint64

	epochs                atomic.Uint64 // cut as primary, or applied as backup
	epochPages            atomic.Uint64 // of those cut
	epochBytes            atomic.Uint64 // of their entries' data
	epochStops            atomic.Int64  // time that the machine stood still for them, all together, in ns
	epochStopNs, encodeNs atomic.Int64  // of the newest

	transferSlowed atomic.Uint32 // most percent of its time that the machine gave up for a transfer

	failovers  atomic.Uint64 // from backup to primary
	blackoutNs atomic.Int64  // of the newest: from the last sign of the primary to going live
	stopNs     atomic.Int64  // longest stop of the machine for a transfer
	lastStopNs atomic.Int64  // the newest
	stoodAt    atomic.Int64  // when the machine last stood still to be handed over, ns since 1970
}

// failover notes that this replica leads now; heard is when it last heard the former primary.
func (s *stats) failover(heard, now time.Time) {
	s.failovers.Add(1)
	if !heard.IsZero() {
		s.blackoutNs.Store(int64(now.Sub(heard)))
	}
}

// epoch notes one that was cut.
func (s *stats) epoch(pages int, stop time.Duration) {
	s.epochs.Add(1)
	s.epochPages.Add(uint64(pages))
	s.epochStops.Add(int64(stop))
	s.epochStopNs.Store(int64(stop))
}

func (s *stats) stopped(d time.Duration) {
	s.lastStopNs.Store(int64(d))
	s.stopNs.Store(max(s.stopNs.Load(), int64(d)))
}

func (s *stats) ran(position, guestNs uint64, d time.Duration) {
	s.position.Store(position)
	s.guestNs.Store(guestNs)
	s.runNs.Add(uint64(d))
}

func (s *stats) idled(d time.Duration) { s.idleNs.Add(uint64(d)) }

func (s *stats) entry(k event.Kind, bytes int) {
	s.entries[k&15].Add(1)
	s.bytes.Add(uint64(bytes))
}

// lag is how far the backup's execution is behind in guest time; 0 without a backup.
func (s *stats) lag() time.Duration {
	if s.solo.Load() {
		return 0
	}
	return max(0, time.Duration(s.guestNs.Load())-time.Duration(s.peerNs.Load()))
}

func (s *stats) agree(position uint64) { s.agreedAt.Store(position) }
func (s *stats) agreed() uint64        { return s.agreedAt.Load() }
