package bench

import (
	"fmt"
	"time"
)

func (u *Usage) mbits() float64           { return float64(u.LinkBytes) * 8 / u.Seconds / 1e6 }
func (u *Usage) epochRate() float64       { return float64(u.Epochs) / u.Seconds }
func (u *Usage) perEpoch() float64        { return float64(max(u.Epochs, 1)) }
func (u *Usage) pages() float64           { return float64(u.EpochPages) / u.perEpoch() }
func (u *Usage) epochKB() float64         { return float64(u.EpochBytes) / u.perEpoch() / 1e3 }
func (u *Usage) stopMs() float64          { return u.EpochStopMs / u.perEpoch() }
func compiled(r *CheckpointResult) *Usage { return &r.Compile.Usage }
func fifty(r *CheckpointResult) *Usage    { return &r.Fifty.Usage }

// checkpointRuns are the results of all rounds, to be asked for medians.
type checkpointRuns struct {
	of    map[string][]*CheckpointResult
	alone map[int][]*CheckpointResult // by round: its first and last measure
}

func newCheckpointRuns(all []CheckpointResult) *checkpointRuns {
	c := &checkpointRuns{of: map[string][]*CheckpointResult{}, alone: map[int][]*CheckpointResult{}}
	for i := range all {
		r := &all[i]
		c.of[r.Protection] = append(c.of[r.Protection], r)
		if r.Protection == alone {
			c.alone[r.Round] = append(c.alone[r.Round], r)
		}
	}
	return c
}

// median is that of a number over the rounds.
func (c *checkpointRuns) median(protection string, f func(*CheckpointResult) float64) float64 {
	var v []float64
	for _, r := range c.of[protection] {
		v = append(v, f(r))
	}
	return median(v)
}

// against is the median of what compare makes of a number and of the same while unprotected: the mean of the measures
// before and after it in the same round.
func (c *checkpointRuns) against(protection string, f func(*CheckpointResult) float64, compare func(v, unprotected float64) float64) float64 {
	var v []float64
	for _, r := range c.of[protection] {
		var sum float64
		for _, a := range c.alone[r.Round] {
			sum += f(a)
		}
		v = append(v, compare(f(r), sum/float64(len(c.alone[r.Round]))))
	}
	return median(v)
}

func units(r *CheckpointResult) float64     { return r.Compile.Rate }
func oneRate(r *CheckpointResult) float64   { return r.One.Rate }
func oneP50(r *CheckpointResult) float64    { return r.One.P50Ms }
func oneP99(r *CheckpointResult) float64    { return r.One.P99Ms }
func fiftyRate(r *CheckpointResult) float64 { return r.Fifty.Rate }
func fiftyP50(r *CheckpointResult) float64  { return r.Fifty.P50Ms }
func fiftyP99(r *CheckpointResult) float64  { return r.Fifty.P99Ms }

func slowdown(v, unprotected float64) float64 { return (unprotected/v - 1) * 100 }
func share(v, unprotected float64) float64    { return v / unprotected * 100 }
func added(v, unprotected float64) float64    { return v - unprotected }

// checkpointSection makes tables of the numbers.
func checkpointSection(all []CheckpointResult, rounds int, memBytes uint64) *Section {
	c := newCheckpointRuns(all)
	s := &Section{Name: "checkpoint", Title: "Checkpoint mode, and lockstep beside it", Data: all}
	s.Notes = []string{fmt.Sprintf("A machine of %d MiB from the redis image, booted once: every row is the same process, whose backup comes and goes and whose "+
		"mode is changed. Medians of %d rounds, in each of which every row is measured once, with the unprotected machine before and after; "+
		"each is compared with these two of its own round. Primary, backup, virtual LAN and clients share this host, so what the primary "+
		"encodes and the backup does is taken from the processors that an unprotected machine has for itself; the row with a busy machine "+
		"beside it shows how much of a difference that makes alone.", memBytes>>20, rounds)}
	s.Parts = []Part{c.compilePart(), c.redisPart(), c.choicePart()}
	return s
}

func (c *checkpointRuns) compilePart() Part {
	p := Part{Title: "Compile-like load"}
	p.Table.Header = []string{
		"protection", "units/s", "slowdown", "to reach", "Remus, kernel compile", "epochs/s", "pages per epoch", "kB per epoch", "stop per epoch, ms", "log Mbit/s",
	}
	for _, q := range protections() {
		if len(c.of[q.name]) == 0 {
			continue
		}
		over := func(f func(*Usage) float64) float64 {
			return c.median(q.name, func(r *CheckpointResult) float64 { return f(compiled(r)) })
		}
		row := []string{q.name, fmt.Sprintf("%.1f", c.median(q.name, units)), "", "", "", "", "", "", "", ""}
		if q.name != alone {
			row[2] = fmt.Sprintf("%+.0f %%", c.against(q.name, units, slowdown))
		}
		if q.epoch == 25*time.Millisecond {
			row[3] = "≤ +20 %"
		}
		if q.remus > 0 {
			row[4] = fmt.Sprintf("%+.0f %%", q.remus)
		}
		if q.mode == "checkpoint" {
			row[5], row[6], row[7] = fmt.Sprintf("%.1f", over((*Usage).epochRate)), fmt.Sprintf("%.0f", over((*Usage).pages)), fmt.Sprintf("%.0f", over((*Usage).epochKB))
			row[8] = fmt.Sprintf("%.2f", over((*Usage).stopMs))
		}
		if q.mode != "" {
			row[9] = fmt.Sprintf("%.1f", over((*Usage).mbits))
		}
		p.Table.Add(row...)
	}
	p.Notes = []string{
		"A shell script in the guest (`internal/bench/guest/compile.sh`): for each unit five short processes (sed, awk, gzip, md5sum, rm) that read and " +
			"write small files on the guest's disk, after eight units a \"link\" that compresses all of their output and removes the files. Work " +
			"is counted outside, by the lines that reach the console, against real time.",
		"Published for Remus (Cully et al. 2008, section 6.2): a kernel compilation at 10, 20, 30, 40 epochs a second, relative to the same virtual machine " +
			"unprotected. A guest that is interpreted dirties memory more slowly than one that runs on the processor itself.",
	}
	return p
}

func (c *checkpointRuns) redisPart() Part {
	p := Part{Title: "Redis SET"}
	p.Table.Header = []string{
		"protection", "1 client: op/s", "p50, ms", "p99, ms", "p50 added, ms", "to reach", "50 clients: op/s", "of unprotected", "to reach", "p50, ms", "p99, ms",
		"pages per epoch", "kB per epoch",
	}
	for _, q := range protections() {
		if len(c.of[q.name]) == 0 {
			continue
		}
		number := func(f func(*CheckpointResult) float64) string { return fmt.Sprintf("%.1f", c.median(q.name, f)) }
		row := []string{
			q.name, number(oneRate), number(oneP50), number(oneP99), "", "", number(fiftyRate), "", "", number(fiftyP50), number(fiftyP99), "", "",
		}
		if q.name != alone {
			row[4] = fmt.Sprintf("%.1f", c.against(q.name, oneP50, added))
			row[7] = fmt.Sprintf("%.0f %%", c.against(q.name, fiftyRate, share))
		}
		if q.mode == "checkpoint" {
			if q.epoch > 0 {
				row[5] = fmt.Sprintf("≤ %d", q.epoch.Milliseconds()+5)
			}
			if q.name == adaptive {
				row[8] = "≥ 70 %"
			}
			row[11] = fmt.Sprintf("%.0f", c.median(q.name, func(r *CheckpointResult) float64 { return fifty(r).pages() }))
			row[12] = fmt.Sprintf("%.0f", c.median(q.name, func(r *CheckpointResult) float64 { return fifty(r).epochKB() }))
		}
		p.Table.Add(row...)
	}
	p.Notes = []string{"100 bytes to one of a thousand keys, append-only file synced every second. Each client sends its next command when it has the answer to " +
		"the last: with epochs of fixed length 50 clients cannot do more than 50 commands an epoch, whatever an epoch costs. The last two columns are " +
		"of the 50 clients."}
	return p
}

// choicePart puts the two modes side by side.
func (c *checkpointRuns) choicePart() Part {
	p := Part{Title: "Lockstep or checkpoint"}
	p.Table.Header = []string{"", inLockstep, adaptive}
	row := func(what, format string, f func(protection string) float64) {
		cells := []string{what}
		for _, q := range p.Table.Header[1:] {
			if len(c.of[q]) == 0 {
				cells = append(cells, "")
			} else {
				cells = append(cells, fmt.Sprintf(format, f(q)))
			}
		}
		p.Table.Add(cells...)
	}
	row("compile-like load, slowdown", "%+.0f %%", func(q string) float64 { return c.against(q, units, slowdown) })
	row("Redis, 1 client: median latency added, ms", "%.1f", func(q string) float64 { return c.against(q, oneP50, added) })
	row("Redis, 1 client: 99th percentile added, ms", "%.1f", func(q string) float64 { return c.against(q, oneP99, added) })
	row("Redis, 50 clients: throughput of unprotected", "%.0f %%", func(q string) float64 { return c.against(q, fiftyRate, share) })
	loads := []struct {
		name string
		of   func(*CheckpointResult) *Usage
	}{{"idle", func(r *CheckpointResult) *Usage { return r.Idle }}, {"compile-like load", compiled}, {"Redis, 50 clients", fifty}}
	for _, what := range []struct {
		name, format string
		f            func(*Usage) float64
	}{
		{"log, Mbit/s", "%.2f", (*Usage).mbits},
		{"processors that the primary takes", "%.2f", func(u *Usage) float64 { return u.PrimaryCPU }},
		{"processors that the backup takes", "%.2f", func(u *Usage) float64 { return u.BackupCPU }},
	} {
		for _, l := range loads {
			row(what.name+": "+l.name, what.format, func(q string) float64 {
				return c.median(q, func(r *CheckpointResult) float64 { return what.f(l.of(r)) })
			})
		}
	}
	p.Table.Add("the machine must be deterministic", "yes", "no")
	return p
}
