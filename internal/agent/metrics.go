package agent

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// roles are those that a replica can have, for metrics: exactly one of them is 1 while its process runs.
var roles = []string{"spare", "joining", "backup", "primary", "halted"}

// metricsHandler serves the metrics of this host: docs/metrics.md has the list.
func (a *Agent) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(a))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: quietLog(a.opt.Log), MaxRequestsInFlight: 4})
}

// metric is one metric of a replica and how it is taken from its condition.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(c *condition, total sums) float64
}

// collector reads everything at the scrape: nothing has to be kept up to date.
type collector struct {
	a                                           *Agent
	replica                                     []metric
	role                                        *prometheus.Desc
	memory, reserved, connected, info, draining *prometheus.Desc
}

const second = 1e9 // nanoseconds

func newCollector(a *Agent) *collector {
	host := prometheus.Labels{"host": a.opt.Name}
	labels := []string{"group", "machine"}
	c := &collector{a: a}
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("understudy_replica_"+name, help, append(labels[:2:2], more...), host)
	}
	gauge := func(name, help string, f func(c *condition) float64) {
		c.replica = append(c.replica, metric{desc(name, help), prometheus.GaugeValue, func(c *condition, _ sums) float64 { return f(c) }})
	}
	counter := func(name, help string, f func(s sums) float64) {
		c.replica = append(c.replica, metric{desc(name, help), prometheus.CounterValue, func(_ *condition, s sums) float64 { return f(s) }})
	}
	c.role = desc("role", "1 for the role that the replica has.", "role")
	gauge("up", "Whether the replica's process runs.", func(c *condition) float64 { return truth(c.pid != 0) })
	gauge("view", "Number of the newest view that the replica knows.", func(c *condition) float64 { return float64(c.status.View) })
	gauge("solo", "Whether the replica is primary without a backup.", func(c *condition) float64 { return truth(c.status.Solo) })
	gauge("in_sync", "Whether the primary's backup could take over.", func(c *condition) float64 { return truth(c.status.InSync) })
	gauge("frozen", "Whether the machine stands still because the arbiter cannot be reached.", func(c *condition) float64 { return truth(c.status.Frozen != "") })
	gauge("lag_seconds", "Guest time that the backup is behind; on the primary.", func(c *condition) float64 { return float64(c.status.LagNs) / second })
	gauge("held_outputs", "Outputs that wait for the backup's acknowledgement.", func(c *condition) float64 { return float64(c.status.Held) })
	gauge("held_oldest_seconds", "Age of the oldest output that waits.", func(c *condition) float64 { return float64(c.status.HeldNs) / second })
	gauge("held_longest_seconds", "Longest time that an output waited in the present life.", func(c *condition) float64 { return float64(c.status.GateMaxNs) / second })
	gauge("shared_disk_held", "Requests of shared disks that wait for the backup to read what they replace.", func(c *condition) float64 {
		n := int64(0)
		for _, d := range c.status.SharedDisks {
			n += d.Held
		}
		return float64(n)
	})
	gauge("shared_disk_held_oldest_seconds", "For how long the oldest of them has waited.", func(c *condition) float64 {
		ns := int64(0)
		for _, d := range c.status.SharedDisks {
			ns = max(ns, d.HeldNs)
		}
		return float64(ns) / second
	})
	gauge("stop_longest_seconds", "Longest stop of the machine for a state transfer in the present life.", func(c *condition) float64 { return float64(c.status.StopMaxNs) / second })
	gauge("last_blackout_seconds", "How long the machine stood still at the last failover to this replica.", func(c *condition) float64 { return float64(c.status.BlackoutNs) / second })
	sending := func(name, help string, f func(t *transfer) float64) {
		gauge(name, help, func(c *condition) float64 {
			if c.status.Transfer == nil {
				return 0
			}
			return f(c.status.Transfer)
		})
	}
	sending("transfer_size_bytes", "State that is to be sent to a new backup; 0: no transfer.", func(t *transfer) float64 { return float64(t.TotalBytes) })
	sending("transfer_done_bytes", "How much of it the new backup has.", func(t *transfer) float64 { return float64(t.DoneBytes) })
	counter("log_bytes_total", "Bytes on the log channel.", func(s sums) float64 { return float64(s.logBytes) })
	counter("log_entries_total", "Log entries appended or executed.", func(s sums) float64 { return float64(s.entries) })
	counter("transfer_sent_bytes_total", "Bytes sent for state transfers.", func(s sums) float64 { return float64(s.sentBytes) })
	counter("outputs_held_total", "Outputs that were held and released.", func(s sums) float64 { return float64(s.gateOutputs) })
	counter("outputs_held_seconds_total", "Sum of the times for which they were held.", func(s sums) float64 { return float64(s.gateNs) / second })
	counter("failovers_total", "Times that the replica went from backup to primary.", func(s sums) float64 { return float64(s.failovers) })
	counter("grants_won_total", "View numbers won from the arbiter.", func(s sums) float64 { return float64(s.grantsWon) })
	counter("grants_lost_total", "View numbers that the other side won.", func(s sums) float64 { return float64(s.grantsLost) })
	counter("run_seconds_total", "Time spent executing the guest.", func(s sums) float64 { return float64(s.runNs) / second })
	counter("idle_seconds_total", "Time spent waiting with an idle guest.", func(s sums) float64 { return float64(s.idleNs) / second })
	counter("slowed_seconds_total", "Time for which the primary was slowed because its backup was behind.", func(s sums) float64 { return float64(s.slowedNs) / second })
	c.replica = append(c.replica, metric{
		desc("restarts_total", "Lives begun after the first."), prometheus.CounterValue,
		func(c *condition, _ sums) float64 { return float64(max(0, c.begun-1)) },
	})
	of := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("understudy_host_"+name, help, labels, host)
	}
	c.memory = of("memory_bytes", "Memory for guests; 0: not bounded.")
	c.reserved = of("memory_reserved_bytes", "Memory that guests of this host have reserved.")
	c.connected = of("control_connected", "Whether the host is connected to control.")
	c.draining = of("draining", "Whether the host is being relieved of its parts.")
	c.info = of("info", "The host's version.", "version")
	return c
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe lists the metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.replica {
		out <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.role, c.memory, c.reserved, c.connected, c.draining, c.info} {
		out <- d
	}
}

// Collect takes their values.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, k := range c.a.all() {
		k.mu.Lock()
		cond := k.cond
		k.mu.Unlock()
		// A group being started anew has one keeper that ends and one that begins: once is enough.
		if cond.group == "" || seen[cond.group] {
			continue
		}
		seen[cond.group] = true
		total := cond.sums.plus(cond.status)
		for _, m := range c.replica {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&cond, total), cond.group, cond.machine)
		}
		for _, r := range roles {
			out <- prometheus.MustNewConstMetric(c.role, prometheus.GaugeValue, truth(cond.role == r), cond.group, cond.machine, r)
		}
	}
	a := c.a
	a.mu.Lock()
	connected, drain := a.connected != "", a.drain
	a.mu.Unlock()
	out <- prometheus.MustNewConstMetric(c.memory, prometheus.GaugeValue, float64(a.opt.MemBytes))
	out <- prometheus.MustNewConstMetric(c.reserved, prometheus.GaugeValue, float64(a.room.reserved()))
	out <- prometheus.MustNewConstMetric(c.connected, prometheus.GaugeValue, truth(connected))
	out <- prometheus.MustNewConstMetric(c.draining, prometheus.GaugeValue, truth(drain))
	out <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, a.opt.Version)
}
