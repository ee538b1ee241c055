package host

import (
	"sync"

	"understudy/machine/mem"
	"understudy/machine/pages"
)

// shadow is the primary's copy of what its backup has of the machine's RAM: pages travel as the difference. It costs as
// much memory as the guest uses. Its user holds mu.
type shadow struct {
	mu    sync.Mutex
	b     []byte
	known []uint64 // a bit for each page that is as the backup has it; nil: all are
}

// newShadow makes the shadow of a blank machine or, if unknown is set, of one of which nothing is known yet.
func newShadow(ramBytes int, unknown bool) (*shadow, error) {
	b, err := mapRAM(uint64(ramBytes))
	if err != nil {
		return nil, err
	}
	s := &shadow{b: b}
	if unknown {
		s.known = make([]uint64, (ramBytes/mem.PageBytes+63)/64)
	}
	return s, nil
}

// add adds page n to the batch of e as it differs from what the backup has.
func (s *shadow) add(e *pages.Encoder, n uint32, p []byte) {
	old := s.b[int(n)*mem.PageBytes:][:mem.PageBytes]
	if s.known != nil && s.known[n/64]>>(n%64)&1 == 0 {
		s.known[n/64] |= 1 << (n % 64)
		e.Add(n, p, nil)
		copy(old, p)
		return
	}
	if e.Add(n, p, old) {
		copy(old, p)
	}
}

func (s *shadow) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.b != nil {
		unmapRAM(s.b)
		s.b = nil
	}
}
