package rsm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"understudy/arbiter/memstore"
	"understudy/rsm"
	"understudy/view"
	"understudy/view/httpview"
)

const patience = 60 * time.Second

// journal is a machine that remembers every command with its time and seed. A command is 8 bytes of client and 8 of number,
// then text; a client's repeated command is executed once.
type journal struct {
	lines []string
	last  map[string]string // reply to a client's newest command, with its number
	ticks int
	slow  time.Duration // between two pieces of a snapshot
	flaw  *atomic.Bool  // a machine that differs
}

func newJournal() *journal { return &journal{last: map[string]string{}} }

func (j *journal) Apply(dst []byte, e rsm.Entry) []byte {
	if e.Command == nil {
		j.ticks++
		return dst
	}
	who, num := string(e.Command[:8]), string(e.Command[8:16])
	if old, ok := j.last[who]; ok && old[:8] >= num {
		return append(dst, old[8:]...)
	}
	text := string(e.Command[16:])
	if j.flaw != nil && j.flaw.Load() {
		text += "?"
	}
	j.lines = append(j.lines, fmt.Sprintf("%s %d %d", text, e.Time, e.Seed))
	reply := fmt.Sprint(len(j.lines))
	j.last[who] = num + reply
	return append(dst, reply...)
}

func (j *journal) Snapshot() rsm.Snapshot {
	var b []byte
	put := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(j.ticks))
	b = binary.AppendUvarint(b, uint64(len(j.lines)))
	for _, l := range j.lines {
		put(l)
	}
	b = binary.AppendUvarint(b, uint64(len(j.last)))
	for i := range clients {
		if r, ok := j.last[client(i)]; ok {
			put(client(i))
			put(r)
		}
	}
	if j.slow > 0 {
		return &slowly{rsm.Bytes(b), j.slow}
	}
	return rsm.Bytes(b)
}

type slowly struct {
	rsm.Snapshot
	pause time.Duration
}

func (s *slowly) Next(dst []byte, max int) ([]byte, bool) {
	time.Sleep(s.pause)
	return s.Snapshot.Next(dst, 200)
}

func (j *journal) Restore(from io.Reader) error {
	all, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	r := bytes.NewReader(all)
	number := func() int {
		n, e := binary.ReadUvarint(r)
		err = errors.Join(err, e)
		return int(n)
	}
	get := func() string {
		b := make([]byte, min(number(), len(all)))
		_, e := io.ReadFull(r, b)
		err = errors.Join(err, e)
		return string(b)
	}
	j.lines, j.last = nil, map[string]string{}
	j.ticks = number()
	for range number() {
		j.lines = append(j.lines, get())
	}
	for range number() {
		who := get()
		j.last[who] = get()
	}
	return err
}

const clients = 1000

func client(i int) string { return fmt.Sprintf("c%07d", i) }

type group struct {
	t     *testing.T
	reg   *memstore.Store
	views *httpview.Service
	log   *slog.Logger
	nodes map[string]*node
}

type node struct {
	*rsm.Node
	m    *journal
	kill func()
	err  chan error
}

func newGroup(t *testing.T) *group {
	g := &group{t: t, reg: memstore.New(), nodes: map[string]*node{}, log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		g.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if g.views, err = httpview.NewService(g.reg, httpview.Options{View: view.Config{PingInterval: 100 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range g.nodes {
			n.kill()
		}
		g.views.Close()
	})
	return g
}

func (g *group) start(name string, tune ...func(*rsm.Options)) *node {
	g.t.Helper()
	m := newJournal()
	o := rsm.Options{
		Name: name, Group: "g", Machine: m, Arbiter: g.reg, Views: []httpview.Copy{g.views}, SuspectAfter: 500 * time.Millisecond,
		ClockEvery: 20 * time.Millisecond, Log: g.log, ClientAddr: name + ":6379",
	}
	for _, f := range tune {
		f(&o)
	}
	r, err := rsm.New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Node: r, m: m, err: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		n.err <- r.Run(ctx)
		close(ended)
	}()
	n.kill = func() { cancel(); <-ended }
	g.nodes[name] = n
	return n
}

func (g *group) await(what string, ok func() bool) {
	g.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			text := ""
			for _, n := range g.nodes {
				text += fmt.Sprintf("\n%+v", n.Status())
			}
			g.t.Fatalf("waited in vain for %s%s", what, text)
		}
	}
}

// want waits until the view is {primary, backup} and, with a backup, in sync.
func (g *group) want(primary, backup string) {
	g.t.Helper()
	g.await(fmt.Sprintf("{%s, %q}", primary, backup), func() bool {
		s := g.nodes[primary].Status()
		return s.Role == "primary" && s.Backup == backup && s.InSync == (backup != "")
	})
}

// primary is a node that answers.
func (g *group) primary() *node {
	for _, n := range g.nodes {
		if n.IsPrimary() {
			return n
		}
	}
	return nil
}

// propose tries until some node answers.
func (g *group) propose(ctx context.Context, who, number int, text string) (string, error) {
	cmd := fmt.Appendf(nil, "%s%08d%s", client(who), number, text)
	for ctx.Err() == nil {
		if n := g.primary(); n != nil {
			reply, err := n.Propose(ctx, cmd)
			if err == nil {
				return string(reply), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return "", ctx.Err()
}

type op struct{ write bool }

// model is the journal as porcupine sees it: a write's result is the number of lines, a read's the same.
var model = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		n := state.(int)
		if input.(op).write {
			return output.(int) == n+1, n + 1
		}
		return output.(int) == n, n
	},
}

// TestFailoverLosesNothing: a load of writes and reads, the primary killed twice, spares that step in. Every write happened
// once, the history is linearizable, and the survivors hold the same state.
func TestFailoverLosesNothing(t *testing.T) {
	g := newGroup(t)
	digests := func(o *rsm.Options) { o.DigestEvery = 50 * time.Millisecond }
	g.start("a", digests)
	g.want("a", "")
	g.start("b", digests)
	g.want("a", "b")
	g.start("c", digests)
	g.start("d", digests)

	var mu sync.Mutex // guards history and g.nodes
	var history []porcupine.Operation
	var load sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now()
	wrote := make([]int, 8)
	for w := range wrote {
		load.Go(func() {
			for i := 1; ctx.Err() == nil; i++ {
				o := porcupine.Operation{ClientId: w, Call: int64(time.Since(began))}
				var result int
				if w%2 == 0 {
					o.Input = op{write: true}
					reply, err := g.propose(t.Context(), w, i, fmt.Sprintf("%d-%d", w, i))
					if err != nil {
						return
					}
					fmt.Sscan(reply, &result)
					wrote[w] = i
				} else {
					o.Input = op{}
					for {
						if n := g.primary(); n != nil && n.Read(t.Context(), func() { result = len(n.m.lines) }) == nil {
							break
						}
						time.Sleep(time.Millisecond)
					}
				}
				o.Output, o.Return = result, int64(time.Since(began))
				mu.Lock()
				history = append(history, o)
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(history) }
	more := func() { n := count() + 40; g.await("the load to go on", func() bool { return count() > n }) }
	more()
	for range 2 {
		p := g.primary()
		before := p.Status()
		p.kill()
		g.await("another primary with a backup in sync", func() bool {
			q := g.primary()
			return q != nil && q.Status().InSync && q.Status().View > before.View
		})
		more()
	}
	p := g.primary()
	backup := g.nodes[p.Status().Backup]
	g.await("equal digests", func() bool { return backup.Status().Digests > 2 })
	stop()
	load.Wait()
	if r := porcupine.CheckOperationsTimeout(model, history, 20*time.Second); r == porcupine.Illegal {
		t.Error("the history is not linearizable")
	} else {
		t.Logf("%d operations: %v", len(history), r)
	}
	var lines []string
	if err := p.Read(t.Context(), func() { lines = append(lines, p.m.lines...) }); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	var at int64
	for _, l := range lines {
		var text string
		var now int64
		fmt.Sscan(l, &text, &now)
		seen[text]++
		if now < at {
			t.Errorf("time steps back to %d at %s", now, l)
		}
		at = now
	}
	for w := 0; w < len(wrote); w += 2 {
		for i := 1; i <= wrote[w]; i++ {
			if k := seen[fmt.Sprintf("%d-%d", w, i)]; k != 1 {
				t.Errorf("write %d-%d is there %d times", w, i, k)
			}
		}
	}
	last := uint64(p.Status().Last)
	g.await("the backup to follow", func() bool { return backup.Status().Applied >= last })
	_ = backup.Peek(func() {
		if n := len(backup.m.lines); n != len(lines) {
			t.Errorf("the backup has %d lines, not %d", n, len(lines))
			return
		}
		for i := range lines {
			if backup.m.lines[i] != lines[i] {
				t.Errorf("line %d: %q, not %q", i, backup.m.lines[i], lines[i])
				return
			}
		}
	})
}

// TestServesWhileItSendsItsState: a snapshot that takes longer than the patience for a silent backup holds nothing up.
func TestServesWhileItSendsItsState(t *testing.T) {
	g := newGroup(t)
	quick := func(o *rsm.Options) { o.SuspectAfter = 200 * time.Millisecond }
	a := g.start("a", quick, func(o *rsm.Options) { o.Machine.(*journal).slow = 5 * time.Millisecond })
	g.want("a", "")
	for i := 1; i <= 2000; i++ {
		if _, err := g.propose(t.Context(), i%clients, i, "before"); err != nil {
			t.Fatal(err)
		}
	}
	b := g.start("b", quick)
	during := 0
	for i := 3000; !a.Status().InSync; i++ {
		if _, err := g.propose(t.Context(), i%clients, i, "during"); err != nil {
			t.Fatal(err)
		}
		during++
		time.Sleep(time.Millisecond)
	}
	if during < 10 {
		t.Errorf("only %d commands while the state was sent", during)
	}
	t.Logf("%d commands meanwhile", during)
	last := a.Status().Last
	g.await("the backup to follow", func() bool { return b.Status().Applied >= last })
	_ = b.Peek(func() {
		if n := len(b.m.lines); n != 2000+during {
			t.Errorf("the backup has %d lines, not %d", n, 2000+during)
		}
	})
}

// TestBothDead: a third server that holds nothing does not begin anew.
func TestBothDead(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	g.nodes["b"].kill()
	g.nodes["a"].kill()
	g.start("c")
	g.start("a")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if r, err := g.propose(ctx, 1, 1, "x"); err == nil {
		t.Fatalf("a group without state answered %q", r)
	}
	if err := g.nodes["c"].Read(ctx, func() {}); !errors.Is(err, rsm.ErrNotPrimary) {
		t.Fatal(err)
	}
}

// TestDivergenceIsDetected: a backup whose machine does something else halts.
func TestDivergenceIsDetected(t *testing.T) {
	g := newGroup(t)
	digests := func(o *rsm.Options) { o.DigestEvery = 20 * time.Millisecond }
	g.start("a", digests)
	g.want("a", "")
	flaw := &atomic.Bool{}
	b := g.start("b", digests, func(o *rsm.Options) { o.Machine.(*journal).flaw = flaw })
	g.want("a", "b")
	g.await("equal digests", func() bool { return b.Status().Digests > 1 })
	flaw.Store(true)
	if _, err := g.propose(t.Context(), 1, 1, "x"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.err:
		if !errors.Is(err, rsm.ErrHalted) {
			t.Fatal(err)
		}
		t.Log(err)
	case <-time.After(patience):
		t.Fatal("the backup went on")
	}
}

func TestHandOver(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	g.want("a", "")
	g.start("b")
	g.want("a", "b")
	if _, err := g.propose(t.Context(), 1, 1, "x"); err != nil {
		t.Fatal(err)
	}
	if err := a.HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.want("b", "a")
	if r, err := g.propose(t.Context(), 1, 2, "y"); err != nil || r != "2" {
		t.Fatalf("%q, %v", r, err)
	}
	if _, err := a.Propose(t.Context(), []byte("x")); !errors.Is(err, rsm.ErrNotPrimary) {
		t.Fatal(err)
	}
	g.await("clients to be sent to b", func() bool { return a.Status().Current.PrimaryClient == "b:6379" })
	if _, err := g.nodes["b"].Propose(t.Context(), make([]byte, rsm.MaxCommandBytes+1)); !errors.Is(err, rsm.ErrTooLarge) {
		t.Fatal(err)
	}
}

// TestLargeCommands: the commands of one call fill several entries, and have the same seeds on both sides.
func TestLargeCommands(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	g.want("a", "")
	b := g.start("b")
	g.want("a", "b")
	var ops []rsm.Op
	reads := 0
	for i := range 10 {
		size := []int{10, 200 << 10, 300 << 10, 100 << 10}[i%4]
		ops = append(ops, rsm.Op{Command: fmt.Appendf(nil, "%s%08d%s", client(1), i+1, bytes.Repeat([]byte("x"), size))})
		ops = append(ops, rsm.Op{Read: func() { reads = len(a.m.lines) }})
	}
	if err := a.Do(t.Context(), ops); err != nil || reads != 10 || string(ops[18].Reply) != "10" {
		t.Fatalf("%v, %d lines read, reply %q", err, reads, ops[18].Reply)
	}
	last := a.Status().Last
	g.await("the backup to follow", func() bool { return b.Status().Applied >= last })
	_ = b.Peek(func() {
		_ = a.Peek(func() {
			for i := range a.m.lines {
				if a.m.lines[i] != b.m.lines[i] {
					t.Errorf("line %d differs: ...%s, ...%s", i, a.m.lines[i][len(a.m.lines[i])-50:], b.m.lines[i][len(b.m.lines[i])-50:])
				}
			}
		})
	})
}
