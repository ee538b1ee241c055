package control

import (
	"fmt"
	"slices"
	"testing"

	api "understudy/api/understudy/v1"
	"understudy/view"
)

func TestPlace(t *testing.T) {
	ready := func(name string, free uint64) *candidate {
		return &candidate{name: name, ready: true, mem: 8 << 30, free: free << 20}
	}
	lost := func(c *candidate) *candidate { c.ready = false; return c }
	draining := func(c *candidate) *candidate { c.draining = true; return c }
	for _, c := range []struct {
		name    string
		spares  int32
		alone   bool
		view    view.View
		had     []string
		last    string
		founder string
		hosts   []*candidate
		want    string
	}{
		{"nobody is there", 1, false, view.View{}, nil, "", "", nil, `[] by ""`},
		{"the emptiest founds, alone", 1, false, view.View{}, nil, "", "", []*candidate{ready("a", 300), ready("b", 500)}, `[b] by "b"`},
		{"a founder stays", 1, false, view.View{}, nil, "", "a", []*candidate{ready("a", 300), ready("b", 500)}, `[a] by "a"`},
		{"a founder that is lost is replaced", 1, false, view.View{}, nil, "", "b", []*candidate{ready("a", 300), lost(ready("b", 500))}, `[a] by "a"`},
		{"no memory", 1, false, view.View{}, nil, "", "", []*candidate{ready("a", 200)}, `[] by ""`},
		{"only the last primary has the disks", 1, false, view.View{}, nil, "a", "", []*candidate{lost(ready("a", 300)), ready("b", 500)}, `[a] by ""`},
		{"backup and a spare", 1, false, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{ready("a", 300), ready("b", 500), ready("c", 400), ready("d", 900)}, `[a d b] by "a"`},
		{"no spare", 0, false, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{ready("a", 300), ready("b", 500), ready("c", 400)}, `[a b] by "a"`},
		{"all", -1, false, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{ready("a", 300), ready("b", 500), ready("c", 400)}, `[a b c] by "a"`},
		{"unprotected", 1, true, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{ready("a", 300), ready("b", 500)}, `[a] by "a"`},
		{"those that have it keep it", 0, false, view.View{Number: 1, Primary: "a"}, []string{"a", "c"}, "", "a", []*candidate{ready("a", 300), ready("b", 500), ready("c", 300)}, `[a c] by "a"`},
		{"a lost backup stays until a view says otherwise", 0, false, view.View{Number: 2, Primary: "a", Backup: "b"}, []string{"a", "b"}, "", "a", []*candidate{ready("a", 300), lost(ready("b", 500)), ready("c", 400)}, `[a b c] by "a"`},
		{"a lost spare does not", 1, false, view.View{Number: 2, Primary: "a", Backup: "b"}, []string{"a", "b", "c"}, "", "a", []*candidate{ready("a", 300), ready("b", 500), lost(ready("c", 400)), ready("d", 400)}, `[a b d] by "a"`},
		{"a draining primary gets two others", 0, false, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{draining(ready("a", 300)), ready("b", 500), ready("c", 400)}, `[a b c] by "a"`},
		{"whom the view names has a part, whoever was chosen", 0, false, view.View{Number: 1, Primary: "b"}, []string{"a"}, "", "a", []*candidate{ready("a", 300), ready("b", 300)}, `[b a] by "a"`},
		{"a spare without memory", 1, false, view.View{Number: 1, Primary: "a"}, []string{"a"}, "", "a", []*candidate{ready("a", 0), ready("b", 500), ready("c", 10)}, `[a b] by "a"`},
	} {
		m := &machine{spec: &api.MachineSpec{Name: "web", Spares: c.spares, Unprotected: c.alone}, refused: map[string]string{}}
		m.view, m.Hosts, m.Last, m.Founder = c.view, c.had, c.last, c.founder
		m.Founded = c.view.Number > 0
		place(m, c.hosts)
		if got := fmt.Sprintf("%v by %q", m.Hosts, m.Founder); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		hosts := slices.Clone(m.Hosts)
		m.dirty = false
		if place(m, c.hosts); m.dirty || !slices.Equal(m.Hosts, hosts) {
			t.Errorf("%s: placed again: %v", c.name, m.Hosts)
		}
	}
}

func TestEventsAreNumberedAndBounded(t *testing.T) {
	e := newEvents()
	for range 3*maxEvents + 1 {
		e.add(&api.Event{})
	}
	list, _ := e.since(0)
	if len(list) > maxEvents || len(list) < maxEvents/2 || list[len(list)-1].Seq != 3*maxEvents+1 {
		t.Fatalf("%d events, the last %v", len(list), list[len(list)-1])
	}
	for i, v := range list[1:] {
		if v.Seq != list[i].Seq+1 {
			t.Fatalf("after %d comes %d", list[i].Seq, v.Seq)
		}
	}
	if list, _ = e.since(3 * maxEvents); len(list) != 1 {
		t.Errorf("%d after the last but one", len(list))
	}
	if list, _ = e.since(100 * maxEvents); len(list) < maxEvents/2 {
		t.Errorf("a number of an earlier control: %d", len(list))
	}
}
