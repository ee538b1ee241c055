package view

import "time"

// ServerStatus is what is known of one server of a group.
type ServerStatus struct {
	Name        string        `json:"name"`
	Incarnation string        `json:"incarnation"` // empty: never heard, known from a view only
	View        Number        `json:"view"`        // in its newest ping
	Silent      time.Duration `json:"silentNanos"` // since its newest ping, while others of the group were heard
	Dead        bool          `json:"dead"`
	Crashed     bool          `json:"crashed"` // restarted without its state: dead though it pings
	Leaving     bool          `json:"leaving"` // asked to leave, or drained
}

// Status is what is known of one group, for people to read.
type Status struct {
	Answer
	Why     string         `json:"why"` // what the group waits for, or that it is protected
	Error   string         `json:"error,omitempty"`
	Servers []ServerStatus `json:"servers"` // in the order in which they came
}

// Status returns what is known of a group in memory. The error wraps ErrUnknown.
func (c *Core) Status(now time.Duration, name string) (Status, error) {
	c.advance(now)
	g := c.groups[name]
	if g == nil {
		return Status{}, ErrUnknown
	}
	st := Status{Answer: g.known()}
	switch {
	case g.broken != nil:
		st.Error, st.Why = g.broken.Error(), "stopped"
	case !g.loaded:
		st.Why = "waits for the arbiter"
	default:
		_, st.Why = g.next()
	}
	if g.err != nil {
		st.Error = g.err.Error()
	}
	for _, s := range g.servers {
		st.Servers = append(st.Servers, ServerStatus{
			Name: s.name, Incarnation: s.life, View: s.view, Silent: g.time() - s.heard,
			Dead: g.dead(s), Crashed: s.crashed, Leaving: c.leaving(s),
		})
	}
	return st, nil
}
