package control

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	api "understudy/api/understudy/v1"
)

// metrics are what Prometheus reads at /metrics: control's own counters, and at each reading what hosts reported last.
type metrics struct {
	c        *Control
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(c *Control) *metrics {
	m := &metrics{
		c: c, registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_events_total", Help: "What has happened since control began, by kind.",
		}, []string{"kind"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_api_calls_total", Help: "Calls of the control API that have ended.",
		}, []string{"procedure", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "understudy_api_call_seconds", Help: "How long calls of the control API took, streams left out.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"procedure"}),
	}
	m.registry.MustRegister(m.events, m.calls, m.seconds, m)
	return m
}

// knownKind bounds the kinds that are counted apart: hosts name theirs themselves.
func knownKind(kind string) string {
	for _, k := range []string{"host.", "machine.", "view.", "transfer.", "replica.", "lan.", "drain.", "image."} {
		if strings.HasPrefix(kind, k) && len(kind) < 32 {
			return kind
		}
	}
	switch kind {
	case "failover", "protected":
		return kind
	}
	return "other"
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("understudy_"+name, help, labels, nil)
}

var (
	dHostUp      = desc("host_ready", "1 if the host was heard lately.", "host")
	dHostMem     = desc("host_memory_bytes", "Memory for guests.", "host")
	dHostUsed    = desc("host_memory_used_bytes", "Of that, promised to machines.", "host")
	dView        = desc("machine_view", "Number of the newest view.", "machine")
	dState       = desc("machine_state", "1 for the state that the machine is in.", "machine", "state")
	dProtected   = desc("machine_protected", "1 if the backup could take over.", "machine")
	dFailovers   = desc("machine_failovers_total", "Changes of the primary.", "machine")
	dBlackout    = desc("machine_blackout_seconds", "How long the machine stood still at its newest failover.", "machine")
	dRole        = desc("replica_role", "1 for the role that the host's replica has.", "machine", "host", "role")
	dRepView     = desc("replica_view", "Newest view that the replica takes part in.", "machine", "host")
	dLag         = desc("replica_lag_seconds", "Guest time that the backup is behind, as the primary sees it.", "machine", "host")
	dLog         = desc("replica_log_bytes_total", "Bytes on the log channel in the replica's life: a primary's sent, a backup's received.", "machine", "host")
	dHeld        = desc("replica_held_outputs", "Outputs at the gate.", "machine", "host")
	dHeldFor     = desc("replica_held_seconds", "Age of the oldest output at the gate.", "machine", "host")
	dSlowed      = desc("replica_slowed_seconds_total", "Time that the primary slept for a backup that is behind.", "machine", "host")
	dPosition    = desc("replica_instructions_total", "Instructions executed.", "machine", "host")
	dFrozen      = desc("replica_frozen", "1 if the replica waits for the arbiter.", "machine", "host")
	dRestarts    = desc("replica_restarts_total", "How often the replica's process was started again.", "machine", "host")
	dWon         = desc("replica_grants_won_total", "Views that the replica claimed and was granted, in its life.", "machine", "host")
	dLost        = desc("replica_grants_lost_total", "Views that it claimed and another was granted.", "machine", "host")
	dViewCalls   = desc("view_calls_total", "Calls that the view service took, by kind.", "kind")
	dArbCalls    = desc("view_arbiter_calls_total", "Calls that the view service made of the arbiter, by kind.", "kind")
	dTransferred = desc("transfer_done_ratio", "How much of a state transfer under way is done.", "machine", "to")
)

// Describe implements prometheus.Collector: what there is depends on the fleet.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	n := m.c.views.Counts()
	for kind, v := range map[string]uint64{
		"ping": n.Pings, "stale_ping": n.StalePings, "get": n.Gets, "switch": n.Switches, "refused": n.Refused,
	} {
		count(dViewCalls, v, kind)
	}
	for kind, v := range map[string]uint64{
		"get": n.RegisterGets, "claim": n.Claims, "claim_lost": n.ClaimsLost, "error": n.CallErrors,
	} {
		count(dArbCalls, v, kind)
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, h := range m.c.hosts {
		gauge(dHostUp, bit(h.ready), h.name)
		gauge(dHostMem, float64(h.mem), h.name)
		gauge(dHostUsed, float64(m.c.memUsed(h.name, nil)), h.name)
	}
	for name, v := range m.c.machines {
		gauge(dView, float64(v.view.Number), name)
		gauge(dState, 1, name, v.state)
		gauge(dProtected, bit(v.live() && v.inSync), name)
		count(dFailovers, v.Failovers, name)
		if v.Blackout > 0 {
			gauge(dBlackout, v.Blackout.Seconds(), name)
		}
		for _, h := range m.c.hosts {
			if r := h.replicas[v.Group]; r != nil {
				m.replica(gauge, count, name, h.name, r)
			}
		}
	}
}

func (*metrics) replica(gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string),
	machine, host string, r *api.Replica,
) {
	s := statusOf(r)
	seconds := func(ns int64) float64 { return time.Duration(ns).Seconds() }
	role := r.Role
	switch role {
	case "spare", "joining", "backup", "primary", "halted":
	default:
		role = "none"
	}
	gauge(dRole, 1, machine, host, role)
	gauge(dRepView, float64(r.View), machine, host)
	if role == "primary" {
		gauge(dLag, seconds(s.LagNs), machine, host)
	}
	gauge(dHeld, float64(s.Held), machine, host)
	gauge(dHeldFor, seconds(s.HeldNs), machine, host)
	gauge(dFrozen, bit(s.Frozen != ""), machine, host)
	count(dLog, s.LogBytes, machine, host)
	count(dPosition, s.Position, machine, host)
	count(dRestarts, uint64(max(r.Restarts, 0)), machine, host)
	count(dWon, s.Won, machine, host)
	count(dLost, s.Lost, machine, host)
	gauge(dSlowed, seconds(int64(s.SlowedNs)), machine, host)
	if t := r.Transfer; t != nil && t.TotalBytes > 0 {
		gauge(dTransferred, float64(t.DoneBytes)/float64(t.TotalBytes), machine, t.To)
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// WrapUnary implements connect.Interceptor: it counts calls.
func (m *metrics) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		start := time.Now()
		resp, err := next(ctx, r)
		m.seconds.WithLabelValues(r.Spec().Procedure).Observe(time.Since(start).Seconds())
		m.ended(r.Spec().Procedure, err)
		return resp, err
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (m *metrics) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor: it counts streams that have ended.
func (m *metrics) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := next(ctx, conn)
		m.ended(conn.Spec().Procedure, err)
		return err
	}
}

func (m *metrics) ended(procedure string, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.calls.WithLabelValues(procedure, code).Inc()
}
