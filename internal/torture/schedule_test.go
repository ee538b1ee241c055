package torture

import (
	"reflect"
	"testing"
)

func harms(seed uint64, links bool, n int) (all []Harm) {
	s := NewSchedule(seed, links, false)
	for range n {
		all = append(all, s.Next())
	}
	return all
}

func TestSeed(t *testing.T) {
	if !reflect.DeepEqual(harms(7, true, 200), harms(7, true, 200)) {
		t.Error("the same seed gives other harms")
	}
	if reflect.DeepEqual(harms(7, true, 20), harms(8, true, 20)) {
		t.Error("another seed gives the same harms")
	}
}

// TestSchedule: every kind of harm comes, and no two blows together hit both primary and backup, which nothing survives.
func TestSchedule(t *testing.T) {
	for _, links := range []bool{false, true} {
		kinds, doubles := map[Kind]int{}, 0
		for _, h := range harms(1, links, 3000) {
			kinds[h.Kind]++
			hit := map[Role]bool{}
			for b := &h; b != nil; b = b.Then {
				switch b.Kind {
				case KillHost, KillReplica, StopHost, CutHost, CutOneWay, Drain:
					hit[b.Role] = true
				case Failover, KillJoining, StopJoining:
					hit[Backup] = true // it must live, or is killed: nobody else may hit the primary
				}
			}
			if hit[Primary] && hit[Backup] {
				t.Errorf("both of the pair are hit: %s", h)
			}
			if h.Then != nil {
				doubles++
			}
		}
		want := []Kind{KillHost, KillReplica, StopHost, KillControl, StopControl, Failover, Drain, KillJoining, StopJoining}
		cuts := []Kind{CutHost, CutOneWay, CutPeers}
		for _, k := range want {
			if kinds[k] < 50 {
				t.Errorf("%s comes %d times in 3000", k, kinds[k])
			}
		}
		for _, k := range cuts {
			if (kinds[k] > 0) != links {
				t.Errorf("links %v: %s comes %d times", links, k, kinds[k])
			}
		}
		if doubles < 200 {
			t.Errorf("%d double blows in 3000", doubles)
		}
	}
}

// TestMoves: a run that counts failovers has more of what makes them.
func TestMoves(t *testing.T) {
	count := func(moves bool) (n int) {
		s := NewSchedule(1, false, moves)
		for range 1000 {
			if h := s.Next(); h.Role == Primary || h.Kind == Failover {
				n++
			}
		}
		return n
	}
	if few, many := count(false), count(true); many < 800 || few > 600 {
		t.Errorf("of 1000 harms %d move the primary's part, %d if that is wished", few, many)
	}
}

func TestPlace(t *testing.T) {
	at := place{View: 3, Primary: "c", Backup: "a"}
	for r, want := range map[Role]string{Primary: "c", Backup: "a", Spare: "b"} {
		if got := at.host(r); got != want {
			t.Errorf("%s is %s, want %s", r, got, want)
		}
	}
	s := states{
		"a": {Role: "primary", View: 3, InSync: true}, // deposed, and does not know
		"b": {Role: "backup", View: 4}, "c": {Role: "primary", View: 4, InSync: true},
	}
	if p, protected := s.place(); p != (place{4, "c", "b"}) || !protected {
		t.Error(p, protected)
	}
	delete(s, "b")
	if p, protected := s.place(); p.Backup != "" || protected {
		t.Error("protected by a backup that does not answer:", p)
	}
}
