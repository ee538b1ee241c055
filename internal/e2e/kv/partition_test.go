package kv

import (
	"crypto/tls"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"understudy/internal/control"
	"understudy/internal/e2e/fleet"
	"understudy/kv/resp"
	"understudy/view"
)

// TestPartitions: every part has a network of its own, and certificates, since addresses are not loopback's.
func TestPartitions(t *testing.T) {
	long(t)
	n, err := fleet.NewNet("control", "client", "kv1", "kv2", "kv3")
	if errors.Is(err, fleet.ErrNoNet) && os.Getenv("UNDERSTUDY_REQUIRE") == "" {
		t.Skipf("%v: it needs root and ip(8)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	g := startGroup(t, options{servers: 3, deadAfter: 2 * time.Second, net: n, tls: certificates(t, func(part string) string { return n.IP(part) }, "kv1", "kv2", "kv3")})
	l := g.load(4)
	l.more(50)
	type cut struct {
		from string
		to   []string
	}
	for _, c := range []struct {
		name string
		cuts func(primary, backup, spare string) []cut
		// alone: the primary keeps its clients and nobody else.
		alone bool
	}{
		{"primary from all but its clients", func(p, b, s string) []cut {
			return []cut{{p, []string{b, s, "control"}}, {b, []string{p}}, {s, []string{p}}, {"control", []string{p}}}
		}, true},
		{"primary not heard but by its clients", func(p, b, s string) []cut { return []cut{{p, []string{b, s, "control"}}} }, true},
		{"primary not heard by control", func(p, b, s string) []cut { return []cut{{p, []string{"control"}}} }, false},
		{"control not heard by primary", func(p, b, s string) []cut { return []cut{{"control", []string{p}}} }, false},
		{"primary not heard by backup", func(p, b, s string) []cut { return []cut{{p, []string{b}}} }, false},
		{"backup not heard by primary", func(p, b, s string) []cut { return []cut{{b, []string{p}}} }, false},
		{"backup not heard by control", func(p, b, s string) []cut { return []cut{{b, []string{"control"}}} }, false},
	} {
		if !t.Run(c.name, func(t *testing.T) {
			g.t, l.t = t, t
			a := g.until("a protected group with a spare", func(a view.Answer) bool { return isProtected(a) && g.spareReady(a) })
			l.more(50)
			var former *raw
			if c.alone {
				former = g.connect(t, a)
				former.do(t, "SET", "k", "old")
			}
			for _, cut := range c.cuts(a.View.Primary, a.View.Backup, g.spare(a)) {
				check(t, n.Cut(cut.from, cut.to...))
			}
			if c.alone {
				b := g.until("the backup to lead", func(b view.Answer) bool { return b.View.Primary == a.View.Backup && b.Acked })
				now := g.connect(t, b)
				// Whoever is answered by this one will hear nothing of the other any more.
				now.do(t, "SET", "k", "new")
				for _, words := range [][]string{{"GET", "k"}, {"SET", "k", "lost"}, {"INCR", "n"}} {
					former.send(t, words...)
				}
				if got := now.do(t, "GET", "k"); got != `"new"` {
					t.Error(got)
				}
			}
			l.more(100)
			// With the wire still cut: there is a spare.
			g.until("a protected group without the wire", func(b view.Answer) bool { return isProtected(b) && b.View.Number > a.View.Number })
			l.more(50)
			check(t, n.HealAll())
			if c.alone {
				// When it hears what has become of it, it hangs up.
				_ = former.SetDeadline(time.Now().Add(patience))
				for {
					v, err := former.in.Read()
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the former primary keeps its connections")
					}
					if err != nil {
						break
					}
					if v.Kind != resp.Error {
						t.Errorf("the former primary answers %s", v)
					}
				}
			}
			l.more(50)
		}) {
			return
		}
	}
	g.t, l.t = t, t
	l.check()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect opens a connection of a client to the primary.
func (g *group) connect(t *testing.T, a view.Answer) *raw {
	t.Helper()
	c, err := g.dial(t.Context(), a.PrimaryClient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c = tls.Client(c, g.identity(control.UserName).Client(a.View.Primary))
	return &raw{c, resp.NewReplyReader(c)}
}

// spareReady tells whether control has heard of a server that could become the backup.
func (g *group) spareReady(a view.Answer) bool {
	st, err := g.views.Status(g.t.Context(), groupName)
	return err == nil && slices.ContainsFunc(st.Servers, func(s view.ServerStatus) bool {
		return s.Name == g.spare(a) && s.Incarnation != "" && !s.Dead && !s.Crashed
	})
}
