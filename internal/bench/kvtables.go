package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"understudy/internal/kvbench"
)

func kvMs(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var kvHeader = []string{
	"clients × pipeline", "service", "a second: median", "lowest", "highest", "p50, ms", "p99, ms", "processor, µs each", "× Redis", "to reach",
}

// kvTables makes tables of what every contender did under each load, in the order in which they took turns.
func kvTables(all []*contender, results []*KVResult) *Section {
	s := &Section{Name: "kv", Title: "The key-value service, beside Redis and etcd"}
	tables := map[string]*Table{}
	var order []string
	i := 0
	for _, sh := range kvShapes {
		title := "Writes"
		switch {
		case sh.read:
			title = "Reads"
		case sh.files != "":
			title = "Writes, with files, synced: " + sh.files
		}
		t := tables[title]
		if t == nil {
			t = &Table{Header: kvHeader}
			tables[title], order = t, append(order, title)
		}
		var base *KVResult
		for _, c := range all {
			if !c.takes(sh) {
				continue
			}
			r := results[i]
			i++
			if c.base(sh) {
				base = r
			}
			t.Add(kvRow(sh, c, r, base)...)
		}
	}
	for _, title := range order {
		if t := tables[title]; len(t.Rows) > 0 {
			s.Parts = append(s.Parts, Part{Title: title, Table: *t, Notes: kvTitleNotes[title]})
		}
	}
	return s
}

// kvTitleNotes say what is particular to a table.
var kvTitleNotes = map[string][]string{
	"Writes": {
		"A write of ours is answered when the backup holds it. Redis says so with `WAIT 1 0`, sent with every write in one packet; \"once a " +
			"pipeline\" is one WAIT for 16 writes, which promises the same to a client that looks at the 16 answers together. etcd answers when " +
			"a put is synced to its file, so its rate is that of the disk; it is one server here, whose death stops the service, and three " +
			"would be slower. A pipeline of 16 is 16 puts side by side on one connection there, and its p50 and p99 are of one put.",
	},
	"Writes, with files, synced: everysec": {
		"`--dir` and `--fsync everysec` for both of our servers; `--appendonly yes --appendfsync everysec` for Redis and its replica.",
	},
	"Writes, with files, synced: always": {
		"Here ours is on both disks when it is answered. WAIT says that a replica has received a write, not that it has synced it " +
			"(WAITAOF, of Redis 7.2 and later, would).",
	},
	"Reads": {
		"Ours are linearizable: they are answered when the backup has confirmed that there is no newer primary. Redis answers at once what it " +
			"has; a master that was replaced goes on to do so.",
	},
}

func kvRow(sh shape, c *contender, r, base *KVResult) []string {
	of := func(f func(kvbench.Result) float64) (v []float64) {
		for _, x := range r.Rounds {
			v = append(v, f(x))
		}
		return v
	}
	rate := of(func(x kvbench.Result) float64 { return x.PerSecond })
	var cpu []float64
	for _, d := range r.CPU {
		cpu = append(cpu, float64(d.Nanoseconds())/1000)
	}
	ratio, mark := "", ""
	if base != nil && r != base {
		var each []float64
		for i := range rate {
			each = append(each, rate[i]/base.Rounds[i].PerSecond)
		}
		ratio = fmt.Sprintf("%.2f", median(each))
		if c.ours && sh.mark > 0 {
			mark = fmt.Sprintf("≥ %.1f", sh.mark)
		}
	}
	return []string{
		sh.String(), c.name, fmt.Sprintf("%.0f", median(rate)), fmt.Sprintf("%.0f", slices.Min(rate)), fmt.Sprintf("%.0f", slices.Max(rate)),
		fmt.Sprintf("%.2f", median(of(func(x kvbench.Result) float64 { return kvMs(x.P50) }))),
		fmt.Sprintf("%.2f", median(of(func(x kvbench.Result) float64 { return kvMs(x.P99) }))),
		fmt.Sprintf("%.1f", median(cpu)), ratio, mark,
	}
}

// kvNote says how the loads were measured, and on what.
func kvNote(o Options, all []*contender, busy string) string {
	var who []string
	for i, c := range all {
		if c.files != "" || i > 0 && c.on == all[i-1].on {
			continue
		}
		switch {
		case c.ours:
			who = append(who, "two servers of understudy kv and their control")
		case c.etcd:
			who = append(who, "one server of etcd "+c.on.Version)
		default:
			who = append(who, "Redis "+c.on.Version+" with one replica")
		}
	}
	return fmt.Sprintf("%s; all of them, and the clients in one process, on one machine, over loopback: %s. Each takes every load for %.1f s a "+
		"round, one after the other, while the others idle; %d rounds. SET and GET of 100,000 keys at random, values of 64 bytes. "+
		"Medians of the rounds; the ratio is the median of those of each round, with Redis + WAIT in the tables of writes. A round trip, p50 and p99, is that of a "+
		"whole pipeline. Processor time is that of all servers of a contender together, for each operation.",
		strings.Join(who, "; "), machineShape(busy), o.Scale*kvLoad.Seconds(), max(1, o.Rounds))
}

// machineShape says on what is measured: processors, other work before, and what a sync of a file costs.
func machineShape(busy string) string {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			if name, v, ok := strings.Cut(in.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d processors (%s), load average %s before it began, files on %s, where write and fdatasync of 4 KiB take %.2f ms",
		runtime.NumCPU(), model, busy, fileSystem(os.TempDir()), syncCost())
}

// loadAverage is how many threads have run or waited for a processor in the last minute.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// fileSystem names the kind of file system that a folder is on (statfs(2)).
func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	switch st.Type {
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x01021994:
		return "tmpfs (which is memory: syncing is free there)"
	case 0x794c7630:
		return "overlayfs"
	}
	return fmt.Sprintf("a file system of type %#x", st.Type)
}

// syncCost is the median time of a write with a sync, in milliseconds.
func syncCost() float64 {
	f, err := os.CreateTemp("", "understudy-bench-")
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []float64
	for range 50 {
		at := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0
		}
		took = append(took, kvMs(time.Since(at)))
	}
	return median(took)
}
