package shareddisk

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/event"
)

func read(id, sector uint64, count uint32) event.DiskRequest {
	return event.DiskRequest{ID: id, Op: event.DiskRead, Sector: sector, Count: count}
}

// holding makes a client whose writes wait for a backup's reads.
func holding(t *testing.T, s *running, life string) *Client {
	t.Helper()
	o := Options{Addr: s.addr, Group: "g", Host: life[:1], Life: life, BackupReads: true}
	info, err := Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(o, info)
	c.Start(func() {})
	t.Cleanup(c.Close)
	return c
}

// answers checks which requests are answered next, in order.
func answers(t *testing.T, c *Client, ids ...uint64) []event.DiskDone {
	t.Helper()
	got := results(t, c, len(ids))
	if len(got) != len(ids) {
		t.Fatalf("%d results, want %v", len(got), ids)
	}
	for i, d := range got {
		if d.ID != ids[i] || d.Status != event.DiskOK {
			t.Fatalf("result %d: request %d with status %d, want %v", i, d.ID, d.Status, ids)
		}
	}
	return got
}

const markSector = 40

// settles checks that what may be sent was: a write elsewhere, submitted now, is answered next.
func settles(t *testing.T, c *Client, id uint64) {
	t.Helper()
	c.Submit(writeOf(id, markSector+id%20, id))
	answers(t, c, id)
}

func pin(t *testing.T, c *Client, id uint64, seq event.Seq, want bool) {
	t.Helper()
	if d, ok := c.Pin(id, seq); ok != want || ok && d.ID != id {
		t.Fatalf("pin %d to entry %d: %+v, %v", id, seq, d, ok)
	}
}

func sector(t *testing.T, path string, n uint64) uint64 {
	t.Helper()
	return binary.LittleEndian.Uint64(readAll(t, path)[n*512:])
}

// TestHeldUntilTheBackupHasRead: a write waits from the moment at which a read of the same sectors is submitted until the
// backup has executed the entry of it.
func TestHeldUntilTheBackupHasRead(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	c := holding(t, s, "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	c.Submit(writeOf(1, 5, 1))
	c.Submit(read(2, 4, 2))
	c.Submit(writeOf(3, 5, 3))
	if got := answers(t, c, 1, 2); got[1].Data[512] != 1 {
		t.Fatalf("read %d", got[1].Data[512])
	}
	c.Submit(writeOf(4, markSector, 4))
	for deadline := time.Now().Add(20 * time.Second); s.Status().Requests < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a write elsewhere waits too")
		}
	}
	if v := sector(t, path, 5); v != 1 {
		t.Fatalf("the sector holds %d before the read has an entry", v)
	}
	pin(t, c, 2, 10, true)
	answers(t, c, 4)
	for i, step := range []func(){
		func() {},
		func() { c.Follow(true, true, 9) },
		func() { c.Follow(true, false, 9) }, // by epochs from now on: the entry is not executed yet
		func() { // a lost connection changes nothing
			s.kill()
			s = serve(t, path, s.addr)
		},
	} {
		step()
		settles(t, c, 100+uint64(i))
		if v := sector(t, path, 5); v != 1 {
			t.Fatalf("the sector holds %d", v)
		}
		if st := c.Status(); st.Held != 1 || st.HeldTotal != 1 || st.HeldNs == 0 {
			t.Fatalf("%+v", st)
		}
	}
	c.Follow(true, true, 10)
	answers(t, c, 3)
	if v := sector(t, path, 5); v != 3 {
		t.Fatalf("the sector holds %d", v)
	}
	if st := c.Status(); st.Held != 0 || st.HeldAllNs == 0 {
		t.Errorf("%+v", st)
	}
}

// TestOrderAroundAHeldWrite: what overlaps keeps its order, a flush waits for the writes before it, all else passes.
func TestOrderAroundAHeldWrite(t *testing.T) {
	path := newDisk(t)
	c := holding(t, serve(t, path, ""), "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	for _, q := range []event.DiskRequest{
		read(1, 5, 1), writeOf(2, 5, 22), writeOf(3, 6, 33), read(4, 5, 2),
		{ID: 5, Op: event.DiskFlush},
		read(6, 6, 1),
		{ID: 7, Op: event.DiskDiscard, Sector: 4, Count: 2},
	} {
		c.Submit(q)
	}
	answers(t, c, 1, 3, 6)
	pin(t, c, 1, 1, true)
	pin(t, c, 6, 2, true)
	settles(t, c, 50)
	if st := c.Status(); st.Held != 4 {
		t.Fatalf("%+v", st)
	}
	c.Follow(true, true, 1)
	got := answers(t, c, 2, 4, 5)
	if d := got[1].Data; d[0] != 22 || d[512] != 33 {
		t.Fatalf("a read behind a held write gave %d, %d", d[0], d[512])
	}
	pin(t, c, 4, 3, true)
	c.Follow(true, true, 2)
	settles(t, c, 51) // 7 waits for 4, which the backup has not read yet
	if v := sector(t, path, 5); v != 22 {
		t.Fatalf("the sector holds %d", v)
	}
	c.Follow(true, true, 3)
	answers(t, c, 7)
	if v := sector(t, path, 5); v != 0 {
		t.Fatalf("the sector holds %d", v)
	}
}

// TestOvertakenReads: while nobody follows nothing waits; a read that a write has overtaken cannot be pinned later.
func TestOvertakenReads(t *testing.T) {
	for _, c := range []struct {
		name           string
		ships, replays bool
	}{{"alone", false, false}, {"by epochs", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			path := newDisk(t)
			p := holding(t, serve(t, path, ""), "a")
			p.Lead(1, []event.DiskRequest{read(1, 5, 1), writeOf(2, 5, 2), read(3, 6, 1), read(4, 5, 1)})
			p.Follow(c.ships, c.replays, 0)
			answers(t, p, 1, 2, 3, 4)
			p.Follow(true, true, 7)
			p.Submit(writeOf(5, 5, 5))
			p.Submit(writeOf(6, 6, 6))
			pin(t, p, 1, 8, false)
			pin(t, p, 3, 8, true)
			pin(t, p, 4, 9, true)
			settles(t, p, 50)
			p.Follow(true, true, 8)
			answers(t, p, 6)
			p.Follow(true, true, 9)
			answers(t, p, 5)
		})
	}
}

// TestNothingHeldAlone: when the arbiter has granted a view without a backup, what was held goes.
func TestNothingHeldAlone(t *testing.T) {
	c := holding(t, serve(t, newDisk(t), ""), "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	c.Submit(read(1, 5, 1))
	c.Submit(writeOf(2, 5, 2))
	answers(t, c, 1)
	pin(t, c, 1, 3, true)
	c.Submit(read(3, 6, 1))
	c.Submit(writeOf(4, 6, 4))
	answers(t, c, 3)
	c.Follow(false, false, 2)
	answers(t, c, 2, 4)
	pin(t, c, 3, 4, false)
}

// TestUnpinnedReads: a read whose data went into the log after all holds nothing back.
func TestUnpinnedReads(t *testing.T) {
	c := holding(t, serve(t, newDisk(t), ""), "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	c.Submit(read(1, 5, 1))
	c.Submit(writeOf(2, 5, 2))
	c.Submit(read(3, testSectors, 1)) // fails
	c.Submit(writeOf(4, testSectors, 4))
	for _, d := range results(t, c, 4) {
		if (d.Status == event.DiskOK) != (d.ID <= 2) {
			t.Fatalf("%+v", d)
		}
	}
	pin(t, c, 1, 1, false)
}

// TestNothingHeldIsSentByWhoHasLost: the successor issues it again when it has read what it had to.
func TestNothingHeldIsSentByWhoHasLost(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	c := holding(t, s, "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	c.Submit(read(1, 5, 1))
	c.Submit(writeOf(2, 5, 2))
	answers(t, c, 1)
	pin(t, c, 1, 3, true)
	c.Rest()
	c.Follow(false, false, 0)
	c.Lead(1, nil)
	settles(t, c, 50)
	if v := sector(t, path, 5); v != 0 {
		t.Fatalf("the sector holds %d", v)
	}
	if st := c.Status(); st.Waiting != 0 {
		t.Fatalf("%+v", st)
	}
}

// TestManyReads: when the backup is very far behind, reads are not pinned any more.
func TestManyReads(t *testing.T) {
	c := holding(t, serve(t, newDisk(t), ""), "a")
	c.Lead(1, nil)
	c.Follow(true, true, 0)
	for id := range uint64(maxPinned + 1) {
		c.Submit(read(id, id%testSectors, 1))
	}
	seq := event.Seq(0)
	for n := 0; n <= maxPinned; {
		for _, d := range c.Finished() {
			n++
			if _, ok := c.Pin(d.ID, seq+1); ok != (seq < maxPinned) {
				t.Fatalf("read %d after %d: %v", d.ID, seq, ok)
			} else if ok {
				seq++
			}
		}
	}
	c.Follow(true, true, seq)
	settles(t, c, 5000)
}

// A reader may read what its group has on the disk, and do nothing else.
func TestWhoFollowsMayOnlyRead(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	reader := hello{Host: "b", Life: "b", Reads: true}
	if w := greet(t, s.addr, reader); w.w.Error == "" || w.w.Fenced {
		t.Fatalf("before the group has the disk: %+v", w.w)
	}
	lead := greet(t, s.addr, hello{Host: "a", Life: "a", View: 3, Session: 1})
	lead.send(appendRequest(nil, writeOf(1, 5, 77)))
	lead.answer()
	for _, q := range []event.DiskRequest{writeOf(9, 5, 1), {ID: 9, Op: event.DiskFlush}, {ID: 9, Op: event.DiskDiscard, Sector: 5, Count: 1}} {
		w := greet(t, s.addr, reader)
		w.send(appendRequest(nil, q))
		if _, ok := w.answer(); ok {
			t.Errorf("operation %d was carried out", q.Op)
		}
		w.send(appendRequest(nil, read(2, 5, 1)))
		if d, ok := w.answer(); !ok || d.Data[0] != 77 {
			t.Errorf("%+v", d)
		}
	}
	lead.send(appendRequest(nil, read(3, 5, 1)))
	if d, ok := lead.answer(); !ok || d.Data[0] != 77 {
		t.Errorf("the leader is not heard any more: %+v", d)
	}
	if st := s.Status(); st.BackupReads != 3 || st.Requests != 2 || st.Refused != 3 || st.View != 3 || st.Host != "a" {
		t.Errorf("%+v", st)
	}
	for _, h := range []hello{{Host: "b", Life: "b", Reads: true, View: 4}, {Host: "b", Reads: true}, {Group: "other", Host: "b", Life: "b", Reads: true}} {
		if w := greet(t, s.addr, h); w.w.Error == "" {
			t.Errorf("%+v is welcome", h)
		}
	}
	// Another group takes the disk.
	old := greet(t, s.addr, reader)
	greet(t, s.addr, hello{Group: "g2", Host: "a", Life: "c", View: 1, Session: 1, Takes: "g"})
	old.send(appendRequest(nil, read(4, 5, 1)))
	if _, ok := old.answer(); ok {
		t.Error("a group reads the disk of another")
	}
	if w := greet(t, s.addr, reader); !w.w.Fenced {
		t.Errorf("%+v", w.w)
	}
}

func sumOf(id, sector uint64, data []byte) event.DiskSum {
	return event.DiskSum{ID: id, Sector: sector, Count: uint32(len(data) / 512), Sum: Sum(data)}
}

func always(time.Duration) bool { return true }

// TestReread: what the primary read, read ahead or not, in spite of a server that is away.
func TestReread(t *testing.T) {
	path := newDisk(t)
	content := readAll(t, path)
	for i := range content {
		content[i] = byte(i >> 9)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, path, "")
	a, b := holding(t, s, "a"), holding(t, s, "b")
	a.Lead(1, []event.DiskRequest{{ID: 1, Op: event.DiskFlush}})
	answers(t, a, 1)
	seq := event.Seq(0)
	next := func(n int) (event.Seq, event.DiskSum) {
		seq += 3
		at := uint64(seq) % (testSectors - 8)
		return seq, sumOf(uint64(seq), at, content[at*512:][:n*512])
	}
	one := func(s event.Seq, d event.DiskSum) {
		t.Helper()
		got, err := b.Reread(t.Context(), s, d, always)
		if err != nil || Sum(got) != d.Sum {
			t.Fatal(err)
		}
	}
	for round := range 6 {
		type entry struct {
			seq event.Seq
			d   event.DiskSum
		}
		var all []entry
		for range 2*maxAhead + 1 {
			e := entry{}
			e.seq, e.d = next(1 + round)
			all = append(all, e)
			if round != 1 {
				b.Fetch(e.seq, e.d)
				b.Fetch(e.seq, e.d)
			}
		}
		for i, e := range all {
			switch {
			case round == 3 && i == 100:
				s.kill()
				back := make(chan struct{})
				addr := s.addr
				go func() { time.Sleep(50 * time.Millisecond); s = serve(t, path, addr); close(back) }()
				defer func() { <-back }()
				one(e.seq, e.d)
				<-back
				continue
			case round == 4 && i%3 > 0:
				continue // an entry that never came to be
			case round == 5 && i == 10:
				// The result is there, and of another time. It is read again.
				b.mu.Lock()
				for k := range b.results {
					b.results[k].Data[0] ^= 1
				}
				b.mu.Unlock()
			}
			if round == 5 && i == 20 {
				break
			}
			one(e.seq, e.d)
		}
	}
	// What will never be.
	sq, d := next(2)
	d.Sum++
	if _, err := b.Reread(t.Context(), sq, d, always); !errors.Is(err, ErrDiffers) {
		t.Fatal(err)
	}
	sq, d = next(1)
	d.Sector = testSectors // an error of the disk
	asked := time.Duration(0)
	if _, err := b.Reread(t.Context(), sq, d, func(took time.Duration) bool { asked = took; return took < 300*time.Millisecond }); err == nil || !strings.Contains(err.Error(), "could not read") {
		t.Fatal(err)
	}
	if asked < 300*time.Millisecond {
		t.Fatalf("gave up after %v", asked)
	}
	s.kill()
	sq, d = next(1)
	if _, err := b.Reread(t.Context(), sq, d, func(took time.Duration) bool { return took < 300*time.Millisecond }); err == nil || !strings.Contains(err.Error(), "not possible for") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	sq, d = next(1)
	if _, err := b.Reread(ctx, sq, d, always); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s = serve(t, path, s.addr)
	greet(t, s.addr, hello{Group: "other", Host: "x", Life: "x", View: 1, Session: 1, Takes: "g"})
	var r *RefusedError
	if _, err := b.Reread(t.Context(), sq+1, d, always); !errors.As(err, &r) || !r.Fenced {
		t.Fatal(err)
	}
	b.Lead(9, nil)
	if _, err := b.Reread(t.Context(), sq+2, d, always); err == nil {
		t.Error("one that leads")
	}
}

// TestBackupReadsWhatThePrimaryRead plays primary and backup with random requests that overlap all the time. The backup
// executes entries late, joins and leaves, and the connections break. It always reads what the primary read.
func TestBackupReadsWhatThePrimaryRead(t *testing.T) {
	path := newDisk(t)
	s := serve(t, path, "")
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(7, seed))
	p, b := holding(t, s, "a"), holding(t, s, "b")
	p.Lead(1, nil)
	var (
		id                uint64
		seq, applied      event.Seq
		out, pins, refuse int
		backlog           []event.DiskSum
		at                []event.Seq
	)
	const places = 12 // sectors in use
	ships, replays := true, true
	p.Follow(ships, replays, 0)
	execute := func(n int) {
		for ; n > 0 && len(backlog) > 0; n-- {
			if _, err := b.Reread(t.Context(), at[0], backlog[0], func(d time.Duration) bool { return d < 20*time.Second }); err != nil {
				t.Fatalf("seed %d: entry %d: %v", seed, at[0], err)
			}
			applied = at[0]
			backlog, at = backlog[1:], at[1:]
		}
		p.Follow(ships, replays, applied)
	}
	wait := time.Now()
	for step := 0; step < 3000; {
		if time.Since(wait) > 20*time.Second {
			t.Fatalf("seed %d: stands still: %+v", seed, p.Status())
		}
		acts := 400
		if out < 32 {
			acts = rng.IntN(300)
			id++
			out++
			step++
			wait = time.Now()
			q := event.DiskRequest{ID: id, Sector: rng.Uint64N(places), Op: event.DiskRead}
			q.Count = 1 + uint32(rng.Uint64N(min(4, places-q.Sector)))
			switch rng.IntN(9) {
			case 0:
				q.Op, q.Sector, q.Count = event.DiskFlush, 0, 0
			case 1:
				q.Op = event.DiskDiscard
			case 2, 3, 4:
				q.Op = event.DiskWrite
				q.Data = make([]byte, q.Count*512)
				for i := range q.Count {
					binary.LittleEndian.PutUint64(q.Data[i*512:], id)
				}
			}
			p.Submit(q)
		}
		for _, d := range p.Finished() {
			out--
			seq++
			if len(d.Data) == 0 {
				continue
			}
			e, ok := p.Pin(d.ID, seq)
			switch {
			case ok:
				pins++
				e.Sum = Sum(d.Data)
				backlog, at = append(backlog, e), append(at, seq)
				if rng.IntN(4) > 0 {
					b.Fetch(seq, e)
				}
			case ships && replays:
				refuse++
			}
		}
		switch acts {
		case 0: // the backup is lost, or one joins with the state as it is now
			ships = false
			backlog, at, applied = nil, nil, seq
			b.Rest()
			p.Follow(ships, replays, seq)
		case 1:
			replays = false // what is in the log already is executed all the same
			p.Follow(ships, replays, applied)
		case 4, 5, 6, 7:
			if !ships {
				applied = seq
			}
			ships, replays = true, true
			p.Follow(ships, replays, applied)
		case 2:
			for _, c := range []*Client{p, b} {
				c.mu.Lock()
				if c.link != nil {
					c.link.Close()
				}
				c.mu.Unlock()
			}
		case 3:
			execute(len(backlog)) // a successor has executed all there is
			p.Lead(uint64(step)+2, p.pending())
			p.Follow(ships, replays, applied)
		}
		if acts < 30 || acts == 400 {
			execute(1 + rng.IntN(3))
			time.Sleep(20 * time.Microsecond)
		}
	}
	t.Logf("%d reads pinned, %d with data while somebody followed; %+v", pins, refuse, p.Status())
	if st := p.Status(); pins < 200 || st.HeldTotal < 100 {
		t.Errorf("%d reads pinned, %d requests held", pins, st.HeldTotal)
	}
}

// pending is what a machine would have in flight.
func (c *Client) pending() (all []event.DiskRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.results {
		all = append(all, event.DiskRequest{ID: d.ID, Op: event.DiskFlush})
	}
	for _, q := range c.queue {
		all = append(all, q.DiskRequest)
	}
	return all
}
