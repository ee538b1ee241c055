package rsm

import (
	"io"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/memstore"
	"understudy/event"
	"understudy/internal/wal"
	"understudy/replica"
	"understudy/view"
	"understudy/view/httpview"
)

type nothing struct{}

func (nothing) Apply(dst []byte, _ Entry) []byte { return dst }
func (nothing) Snapshot() Snapshot               { return Bytes([]byte("nothing")) }
func (nothing) Restore(from io.Reader) error     { _, err := io.Copy(io.Discard, from); return err }

// TestMarkIsBehindItsEntries: the entry by which a backup learns that it is in sync is in its files before the mark that says so. If
// it dies between the two, and the primary too, then its files must not offer to lead without that entry.
func TestMarkIsBehindItsEntries(t *testing.T) {
	reg := memstore.New()
	views, err := httpview.NewService(reg, httpview.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer views.Close()
	n, err := New(Options{Name: "b", Group: "g", Machine: nothing{}, Arbiter: reg, Views: []httpview.Copy{views}, Dir: t.TempDir(), Fsync: "always"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.ln.Close()
	defer n.closeFiles()
	rec := arbiter.Record{Number: 1, Primary: "a", Backup: "b", Claimant: "x"}
	w, err := n.files.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(4, 0, wal.Mark{Record: rec, Part: wal.Joining}); err != nil {
		t.Fatal(err)
	}
	n.do(func(now time.Duration) { n.core.PeerUp(now, "x") })
	n.hearView(view.Answer{View: view.View{Number: 1, Primary: "a", Backup: "b"}, Claimant: "x"})
	n.do(func(now time.Duration) { err = n.core.Restored(now, 1, "a", 4, 0) })
	if err != nil {
		t.Fatal(err)
	}
	n.do(func(now time.Duration) {
		n.core.Step(now, replica.Message{
			Type: replica.MsgAppend, View: 1, Sent: 1, InSync: true, SyncAt: 5,
			Entries: []event.Entry{{Seq: 5, Kind: kindCommands, Data: appendCommand(appendHead(nil, false, 1, 1), []byte("x"))}},
		})
	})
	if r := n.core.Role(); r != replica.Backup || !n.marking.Load() {
		t.Fatalf("role %v; a mark is due: %t", r, n.marking.Load())
	}
	if err := (&executor{n: n}).mark(); err != nil {
		t.Fatal(err)
	}
	if m, last := n.files.Held(); m != (wal.Mark{Record: rec, Part: wal.Backup}) || last != 5 {
		t.Errorf("the files hold %+v and entries up to %d, want those of a backup and entry 5", m, last)
	}
}
