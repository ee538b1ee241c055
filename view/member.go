package view

import "cmp"

// Member is one life of a server in one group, as the view service is to see it: it collects answers and
// makes pings that keep the rules of the package comment. It is as pure as Core.
type Member struct {
	group, name, incarnation string

	seq      uint64
	seen     Answer // the newest view in an answer
	any      bool   // there was an answer
	outside  Number // newest view seen that does not name us
	clean    bool   // one was seen, be it view 0: what names us later means this life
	taken    Number // newest view in which this life has taken its part
	inSyncOf Number // view whose backup is in sync
	leaving  bool

	cannotFound bool
	addr        string
	client      string
	files       Files
}

// NewMember makes a server's new life. The incarnation is random per start; if the server claims views
// itself it is the Claimant of these.
func NewMember(group, name, incarnation string) *Member {
	return &Member{group: group, name: name, incarnation: incarnation}
}

// Ping makes the next ping. Every copy of the service may be sent the same one.
func (m *Member) Ping() Ping {
	m.seq++
	n := max(m.taken, m.outside)
	return Ping{
		Group: m.group, Server: m.name, Incarnation: m.incarnation, Seq: m.seq,
		View: n, InSync: n > 0 && n == m.inSyncOf, Leaving: m.leaving, CannotFound: m.cannotFound, Addr: m.addr, Client: m.client,
		Files: m.files,
	}
}

// Observe takes an answer to a ping or Get, from any copy, in any order, and tells whether it was a new view.
func (m *Member) Observe(a Answer) bool {
	if m.any && a.View.Number <= m.seen.View.Number {
		if a.View == m.seen.View { // what a copy of the service knows beside the view may come later
			m.seen.HandOver = a.HandOver
			m.seen.PrimaryAddr = cmp.Or(a.PrimaryAddr, m.seen.PrimaryAddr)
			m.seen.BackupAddr = cmp.Or(a.BackupAddr, m.seen.BackupAddr)
			m.seen.PrimaryClient = cmp.Or(a.PrimaryClient, m.seen.PrimaryClient)
			m.seen.BackupClient = cmp.Or(a.BackupClient, m.seen.BackupClient)
		}
		return false
	}
	m.any, m.seen = true, a
	if !a.View.Names(m.name) {
		m.outside, m.clean = a.View.Number, true
	}
	return true
}

// Seen is the newest answer, with what later ones added to it.
func (m *Member) Seen() Answer { return m.seen }

// View is the newest view observed.
func (m *Member) View() View { return m.seen.View }

// Taken is the newest view in which this life has taken its part; 0 is none.
func (m *Member) Taken() Number { return m.taken }

// MayFound tells that the newest view is the group's first and that it was granted to this very life: it
// may start the group's state from nothing.
func (m *Member) MayFound() bool {
	v := m.seen.View
	return v.Number == 1 && v.Primary == m.name && m.seen.Claimant == m.incarnation
}

// MayJoin tells that the newest view names this life as its backup, so that it may receive the state. It is
// false if an earlier life of the server may have been meant: then this one waits to be left out.
func (m *Member) MayJoin() bool {
	return m.seen.View.Number > 0 && m.seen.View.Backup == m.name && (m.clean || m.taken > 0)
}

// Take says that this life has taken its part in view n: as backup, that it is ready to receive state; as
// primary, that it holds all the state and acts. Only the server itself knows; it may do so before an answer
// names the view, when it has claimed the view itself.
func (m *Member) Take(n Number) { m.taken = max(m.taken, n) }

// InSync says, as primary of view n, that its backup now holds all the state: from now on until a higher
// view is granted nothing is released without the backup. It may be promoted from now on.
func (m *Member) InSync(n Number) { m.inSyncOf = max(m.inSyncOf, n) }

// CannotFound says that this life has nothing to start the group's state from, and is not to be asked to.
func (m *Member) CannotFound() { m.cannotFound = true }

// Addr says where the primary finds this life when it is backup.
func (m *Member) Addr(addr string) { m.addr = addr }

// Client says where clients find this life.
func (m *Member) Client(addr string) { m.client = addr }

// Files says what this life could bring the group back from, while it has no part.
func (m *Member) Files(f Files) { m.files = f }

// Leave says whether the server wants to be relieved of its roles.
func (m *Member) Leave(on bool) { m.leaving = on }
