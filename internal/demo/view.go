package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"understudy/internal/host"
)

// view shows the pair on a terminal: a table that redraws itself, or, off a terminal, one line for each
// phase.
type view struct {
	w     io.Writer
	plain bool

	mu     sync.Mutex
	now    string
	pair   *Pair
	gone   map[*Process]bool
	acks   func() int
	lines  int // of the last drawing
	last   map[string]sample
	stop   chan struct{}
	drawn  sync.WaitGroup
	closed bool
	start  time.Time
}

type sample struct {
	at    time.Time
	bytes uint64
	pos   uint64
	acks  int
}

func newView(w io.Writer, plain bool) *view {
	v := &view{w: w, plain: plain, gone: map[*Process]bool{}, last: map[string]sample{}, stop: make(chan struct{}), start: time.Now()}
	if w != nil && !plain {
		v.drawn.Go(v.run)
	}
	return v
}

func (v *view) phase(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = text
	if v.w == nil {
		return
	}
	v.erase()
	fmt.Fprintf(v.w, "%6.1f s  %s\n", time.Since(v.start).Seconds(), text)
}

func (v *view) watch(p *Pair) {
	v.mu.Lock()
	v.pair = p
	v.mu.Unlock()
}

func (v *view) dead(p *Process) {
	v.mu.Lock()
	v.gone[p] = true
	v.mu.Unlock()
}

func (v *view) count(acks func() int) {
	v.mu.Lock()
	v.acks = acks
	v.mu.Unlock()
}

func (v *view) run() {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-t.C:
			v.draw()
		}
	}
}

// erase removes the last drawing; v.mu is held.
func (v *view) erase() {
	if v.lines > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", v.lines)
		v.lines = 0
	}
}

func (v *view) draw() {
	v.mu.Lock()
	p, gone, acks := v.pair, v.gone, v.acks
	v.mu.Unlock()
	if p == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "          host  role          view    guest time      position    M instr/s   log Mbit/s      lag  held\n")
	for _, r := range []*Process{p.A, p.B} {
		v.mu.Lock()
		dead := gone[r]
		v.mu.Unlock()
		if r == nil {
			continue
		}
		if dead {
			fmt.Fprintf(&b, "          %-4s  killed\n", r.Name)
			continue
		}
		s, err := StatusOf(r)
		if err != nil {
			fmt.Fprintf(&b, "          %-4s  no answer\n", r.Name)
			continue
		}
		b.WriteString(v.row(r.Name, s))
	}
	if acks != nil {
		n := acks()
		rate := v.rate("acks", 0, 0, n)
		fmt.Fprintf(&b, "          client: %d writes acknowledged, %.0f/s\n", n, rate[2])
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	v.erase()
	text := b.String()
	io.WriteString(v.w, text)
	v.lines = strings.Count(text, "\n")
}

func (v *view) row(name string, s host.Status) string {
	rate := v.rate(name, s.LogBytes, s.Position, 0)
	role := s.Role
	if s.Solo {
		role += " (alone)"
	}
	if s.Frozen != "" {
		role = "frozen"
	}
	return fmt.Sprintf("          %-4s  %-14s %3d  %10.3f s  %12d  %11.1f  %11.3f  %5.0f ms  %4d\n", name, role, s.View,
		float64(s.GuestNs)/1e9, s.Position, rate[1]/1e6, rate[0]*8/1e6, float64(s.LagNs)/1e6, s.Held)
}

// rate gives per-second differences to the last sample of that name.
func (v *view) rate(name string, bytes, pos uint64, acks int) (r [3]float64) {
	now := time.Now()
	old, ok := v.last[name]
	v.last[name] = sample{now, bytes, pos, acks}
	if d := now.Sub(old.at).Seconds(); ok && d > 0 && bytes >= old.bytes && pos >= old.pos {
		r = [3]float64{float64(bytes-old.bytes) / d, float64(pos-old.pos) / d, float64(acks-old.acks) / d}
	}
	return r
}

// close ends the view and leaves its last drawing on the screen.
func (v *view) close() {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return
	}
	v.closed = true
	v.lines = 0
	close(v.stop)
	v.mu.Unlock()
	v.drawn.Wait()
}
