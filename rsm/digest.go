package rsm

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"understudy/event"
	"understudy/replica"
)

// digests compare the machines: both sides hash a snapshot of the same entry beside their work, the primary logs its result,
// and the backup halts if its own is another.
type digests struct {
	mu     sync.Mutex
	last   time.Duration // when the newest mark was set
	busy   bool          // a snapshot is being hashed here
	result []byte        // data of a kindSum entry to be logged
	mark   event.Seq     // newest mark hashed here
	sum    uint64
	theirs event.Seq // mark whose digest the primary told before we had ours
	want   uint64
	equal  uint64 // comparisons that found no difference
}

// due tells a primary whether a mark is to be set, and gives a result to be logged.
func (d *digests) due(n *Node, now time.Duration) (mark bool, sum []byte) {
	if n.opt.DigestEvery <= 0 {
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	sum, d.result = d.result, nil
	if !d.busy && now-d.last >= n.opt.DigestEvery {
		n.mu.Lock()
		mark = n.core.InSync()
		n.mu.Unlock()
		d.last = now
	}
	return mark, sum
}

// begin hashes the state after the mark at entry s. stage is held.
func (d *digests) begin(n *Node, s event.Seq) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy {
		return
	}
	d.busy = true
	snap := n.opt.Machine.Snapshot()
	n.workers.Go(func() {
		var h xxhash.Digest
		h.Reset()
		var buf []byte
		for done := false; !done && n.runCtx.Err() == nil; {
			buf, done = snap.Next(buf[:0], 64<<10)
			h.Write(buf)
			runtime.Gosched() // clients first
		}
		n.stage.Lock()
		snap.Close()
		n.stage.Unlock()
		d.hashed(n, s, h.Sum64())
	})
}

func (d *digests) hashed(n *Node, s event.Seq, sum uint64) {
	d.mu.Lock()
	d.busy = false
	d.mark, d.sum = s, sum
	theirs, want := d.theirs, d.want
	if replica.Role(n.role.Load()) == replica.Primary {
		d.result = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(s)), sum)
		n.poke()
	}
	d.mu.Unlock()
	if theirs == s {
		d.judge(n, s, sum, want)
	}
}

// compare takes the primary's digest.
func (d *digests) compare(n *Node, s event.Seq, want uint64) {
	d.mu.Lock()
	d.theirs, d.want = s, want
	ours, sum := d.mark, d.sum
	d.mu.Unlock()
	if ours == s {
		d.judge(n, s, sum, want)
	}
}

func (d *digests) judge(n *Node, s event.Seq, ours, theirs uint64) {
	if ours == theirs {
		d.mu.Lock()
		d.equal++
		d.mu.Unlock()
		return
	}
	if r := replica.Role(n.role.Load()); r == replica.Backup || r == replica.Joining {
		n.diverged(s, fmt.Sprintf("digest %016x, the primary's is %016x", ours, theirs))
	}
}
