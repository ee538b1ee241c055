package disk

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"

	"understudy/event"
)

// castagnoli is the polynomial of the checksums of copies and journals.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// burstBytes is how much of the disk one message may stand for, so that a call does not take long where
// there is much to look at and little to say.
const burstBytes = 16 << 20

// Progress is how far a copy is.
type Progress struct {
	TotalBytes uint64 // the disk's size
	LeftBytes  uint64 // of blocks that the copy has not, or not as they are now; changes let it grow
	SentBytes  uint64 // of messages
}

// Source copies a disk that is in use. It is for one goroutine, beside those that use the disk.
type Source struct {
	d      *Disk
	blocks uint64

	compared bool     // the target has said all that it has
	checked  uint64   // Compare is so far
	same     []extent // what the target has, not said to it yet
	cursor   uint64

	cut       bool
	submitted uint64 // at the cut
	results   []event.DiskDone
	done      bool

	sum         uint32 // CRC-32C of the messages
	sent        uint64
	buf, packed []byte
	err         error
}

// extent is a row of blocks.
type extent struct{ first, count uint64 }

// NewSource begins to note what changes on d. One source at a time can copy a disk. Close ends it.
func NewSource(d *Disk) (*Source, error) {
	if d.size.sectors > maxSectors {
		return nil, fmt.Errorf("copy disk %s: it has more than %d sectors", d.path, uint64(maxSectors))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unsent != nil {
		return nil, fmt.Errorf("copy disk %s: it is being copied already", d.path)
	}
	s := &Source{d: d, blocks: d.size.blocks(), buf: make([]byte, BlockBytes)}
	d.unsent = newBitmap(s.blocks)
	d.unsent.set(0, s.blocks)
	return s, nil
}

// Close ends the copying, complete or not.
func (s *Source) Close() {
	s.d.mu.Lock()
	s.d.unsent = nil
	s.d.mu.Unlock()
	s.fail(errors.New("copy disk: the source is closed"))
}

// fail makes err the source's end, unless it has ended before.
func (s *Source) fail(err error) error {
	if s.err == nil {
		s.err = err
	}
	return s.err
}

// Progress tells how far the copy is.
func (s *Source) Progress() Progress {
	p := Progress{TotalBytes: uint64(s.d.size.bytes()), SentBytes: s.sent}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.unsent != nil {
		p.LeftBytes = min(s.d.unsent.count*BlockBytes, p.TotalBytes)
	}
	return p
}

// Compare takes a message of the target about what it has already. After the last one it reports true.
func (s *Source) Compare(msg []byte) (complete bool, err error) {
	if s.err != nil {
		return false, s.err
	}
	if s.compared {
		return true, s.fail(fmt.Errorf("%w: more hashes than there are blocks", errMessage))
	}
	p := newParser(msg, s.d.size)
	for r, ok := p.next(); ok; r, ok = p.next() {
		switch r.kind {
		case recHashes, recZeros:
			if r.first < s.checked {
				return false, s.fail(fmt.Errorf("%w: block %d a second time", errMessage, r.first))
			}
			s.checked = r.first + r.count
			if err := s.compare(r); err != nil {
				return false, s.fail(err)
			}
		case recEnd:
			s.compared = true
		default:
			return false, s.fail(fmt.Errorf("%w: kind %#x from a target", errMessage, byte(r.kind)))
		}
	}
	if p.err != nil {
		return false, s.fail(p.err)
	}
	return s.compared, nil
}

// compare takes the blocks of r that are the same here off what is to be sent.
func (s *Source) compare(r record) error {
	s.claim(r.first, r.count) // before they are read: a change from here on must be sent
	for i := uint64(0); i < r.count; i++ {
		block := r.first + i
		if r.kind == recZeros {
			off, _ := s.d.size.span(block)
			if n := uint64(nextData(s.d.file, off, s.d.size.bytes())-off) / BlockBytes; n > 0 {
				n = min(n, r.count-i)
				s.addSame(block, n)
				i += n - 1
				continue
			}
		}
		b, err := s.read(block)
		if err != nil {
			return err
		}
		same := r.kind == recZeros && isZero(b) ||
			r.kind == recHashes && blockHash(b) == [hashBytes]byte(r.data[i*hashBytes:])
		if same {
			s.addSame(block, 1)
		} else {
			s.unclaim(block)
		}
	}
	return nil
}

// blockHash tells blocks apart: SHA-256, the first half.
func blockHash(b []byte) [hashBytes]byte {
	sum := sha256.Sum256(b)
	return [hashBytes]byte(sum[:hashBytes])
}

func (s *Source) addSame(first, n uint64) {
	if k := len(s.same); k > 0 && s.same[k-1].first+s.same[k-1].count == first {
		s.same[k-1].count += n
		return
	}
	s.same = append(s.same, extent{first, n})
}

// claim takes blocks off what is to be sent; unclaim puts one back.
func (s *Source) claim(first, n uint64) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.unsent.clear(first, n)
}

func (s *Source) unclaim(i uint64) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.unsent.set(i, 1)
}

func (s *Source) read(i uint64) ([]byte, error) {
	b, err := s.d.size.readBlock(s.d.file, i, s.buf)
	if err != nil {
		return nil, fmt.Errorf("copy disk %s: %w", s.d.path, err)
	}
	return b, nil
}

// Next appends the next message for the target to dst[:0]. The message is empty when there is nothing to send
// at present; after the cut there is something until done is reported, with the last message. The target must
// have said all that it has.
func (s *Source) Next(dst []byte) (msg []byte, done bool, err error) {
	msg = dst[:0]
	switch {
	case s.err != nil:
		return msg, false, s.err
	case !s.compared:
		return msg, false, s.fail(errors.New("copy disk: the target has not said what it has"))
	case s.done:
		return msg, true, nil
	}
	for len(s.same) > 0 && len(msg) < messageBytes {
		msg = appendRun(msg, recSame, s.same[0].first, s.same[0].count)
		s.same = s.same[1:]
	}
	looked := uint64(0)
	var run extent // of zeros, not in the message yet
	flush := func() {
		if run.count > 0 {
			msg = appendRun(msg, recZeros, run.first, run.count)
		}
		run = extent{}
	}
	for len(msg) < messageBytes && looked < burstBytes {
		i, hole, ok := s.pick()
		if !ok {
			break
		}
		var b []byte
		if hole == 0 {
			looked += BlockBytes
			if b, err = s.read(i); err != nil {
				return dst[:0], false, s.fail(err)
			}
			if isZero(b) {
				hole = 1
			}
		}
		if hole == 0 || run.first+run.count != i {
			flush()
		}
		if hole == 0 {
			msg = appendBlock(msg, i, b, &s.packed)
			continue
		}
		if run.count == 0 {
			run.first = i
		}
		run.count += hole
	}
	flush()
	if s.cut && len(s.same) == 0 && s.Progress().LeftBytes == 0 {
		if msg, err = s.appendCut(msg); err != nil {
			return dst[:0], false, s.fail(err)
		}
	}
	if !s.done {
		s.sum = crc32.Update(s.sum, castagnoli, msg)
	}
	s.sent += uint64(len(msg))
	return msg, s.done, nil
}

// pick takes the next block that is to be sent, or a row of hole blocks of zeros that need not be read.
func (s *Source) pick() (first, hole uint64, ok bool) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	u := s.d.unsent
	i, ok := u.next(s.cursor)
	if !ok {
		if i, ok = u.next(0); !ok {
			return 0, 0, false
		}
	}
	// What is written into the hole after this look is noted, and sent later: the lock makes sure that it is
	// noted after the hole's blocks were taken.
	off := int64(i) * BlockBytes
	if at := nextData(s.d.file, off, s.d.size.bytes()); at == s.d.size.bytes() {
		hole = s.blocks - i
	} else {
		hole = uint64(at-off) / BlockBytes
	}
	u.clear(i, max(hole, 1))
	s.cursor = i + max(hole, 1)
	return i, hole, true
}

// Cut makes the present state of the disk, with all that was submitted carried out, the state that the target
// gets. The caller keeps the contract in the package's documentation; inFlight is the machine's requests that
// wait for their completion. A request of them that this disk knows no result of is an error, as is one that
// is submitted before Next is done.
func (s *Source) Cut(inFlight []event.DiskRequest) error {
	if s.err != nil {
		return s.err
	}
	if !s.d.Quiesce() {
		return s.fail(fmt.Errorf("copy disk %s: it was closed", s.d.path))
	}
	waits := make(map[uint64]bool, len(inFlight))
	for _, r := range inFlight {
		waits[r.ID] = true
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, r := range s.d.results {
		if !waits[r.ID] {
			r.Data = nil // of a request that a reset of the device has forgotten: nobody will look at it
		}
		delete(waits, r.ID)
		s.results = append(s.results, r)
	}
	for id := range waits {
		return s.fail(fmt.Errorf("copy disk %s: request %d is in flight, and its result is neither here nor with the machine", s.d.path, id))
	}
	s.cut, s.submitted = true, s.d.submitted
	return nil
}

// appendCut appends what of the results, and of the end behind them, the message has room for.
func (s *Source) appendCut(msg []byte) ([]byte, error) {
	for len(s.results) > 0 && len(msg) < messageBytes {
		msg = appendResult(msg, s.results[0])
		s.results = s.results[1:]
	}
	if len(s.results) > 0 || len(msg) >= messageBytes {
		return msg, nil
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.submitted != s.submitted {
		return nil, fmt.Errorf("copy disk %s: requests were submitted before the copy was complete", s.d.path)
	}
	s.sum = crc32.Update(s.sum, castagnoli, msg)
	s.done = true
	return appendEnd(msg, s.sum), nil
}
