package bench

import (
	"context"
	"fmt"
	"math"
	"time"
)

func init() { Register(Definition{Name: "kernels", Run: speed}) }

// Speed is one kernel in one machine.
type Speed struct {
	Kernel       string  `json:"kernel"`
	Runner       string  `json:"runner"`
	Instructions uint64  `json:"instructions"`
	Seconds      float64 `json:"seconds"`    // processor time of the host, start taken off
	MIPS         float64 `json:"mips"`       // million guest instructions per second
	Ratio        float64 `json:"times_qemu"` // speed over that of the first QEMU
}

// speed compares our machine with QEMU on the kernels.
func speed(ctx context.Context, o Options) (*Section, error) {
	ours := Machine()
	runners := []Runner{ours, QEMU("QEMU"), QEMU("QEMU icount", "-icount", "shift=0")}
	for i, r := range runners {
		if err := r.Available(); err != nil {
			fmt.Fprintf(o.Log, "%s: %v; left out\n", r.Name, err)
			runners = runners[:i]
			break
		}
	}
	starts := map[string]time.Duration{}
	best := map[[2]string]time.Duration{}
	counts := map[string]uint64{}
	sums := map[string]uint64{}
	keep := func(k, r string, d time.Duration) {
		if old, ok := best[[2]string{k, r}]; !ok || d < old {
			best[[2]string{k, r}] = d
		}
	}
	for round := range max(o.Rounds, 1) {
		for _, r := range runners {
			_, d, err := r.Run(ctx, Empty, 1)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			if old, ok := starts[r.Name]; !ok || d < old {
				starts[r.Name] = d
			}
		}
		for _, k := range Kernels {
			if !o.Wants(k.Name) {
				continue
			}
			reps := max(uint64(float64(k.Reps)*o.Scale), 1)
			for i, r := range runners {
				res, d, err := r.Run(ctx, k.Name, reps)
				if err != nil {
					return nil, fmt.Errorf("%s in %s: %w", k.Name, r.Name, err)
				}
				if i == 0 && round == 0 {
					counts[k.Name], sums[k.Name] = res.Instret, res.Checksum
				}
				if res.Checksum != sums[k.Name] {
					return nil, fmt.Errorf("%s in %s gives %x, in %s %x", k.Name, r.Name, res.Checksum, runners[0].Name, sums[k.Name])
				}
				keep(k.Name, r.Name, d)
				fmt.Fprintf(o.Log, "round %d: %-10s %-12s %.3fs\n", round+1, k.Name, r.Name, d.Seconds())
			}
		}
	}

	s := &Section{Name: "kernels", Title: "Guest code, beside QEMU"}
	s.Table.Header = []string{"kernel"}
	for _, r := range runners {
		s.Table.Header = append(s.Table.Header, r.Name)
	}
	for _, r := range runners[1:] {
		s.Table.Header = append(s.Table.Header, "× "+r.Name)
	}
	var data []Speed
	logs := make([]float64, len(runners))
	products := make([]float64, len(runners))
	n := 0
	for _, k := range Kernels {
		if !o.Wants(k.Name) {
			continue
		}
		n++
		row := []string{k.Name}
		mips := make([]float64, len(runners))
		for i, r := range runners {
			sec := max((best[[2]string{k.Name, r.Name}] - starts[r.Name]).Seconds(), 1e-3)
			mips[i] = float64(counts[k.Name]) / sec / 1e6
			logs[i] += math.Log(mips[i])
			products[i] += math.Log(mips[0] / mips[i])
			row = append(row, fmt.Sprintf("%.0f", mips[i]))
			sp := Speed{Kernel: k.Name, Runner: r.Name, Instructions: counts[k.Name], Seconds: sec, MIPS: mips[i]}
			data = append(data, sp)
		}
		for i := range runners[1:] {
			row = append(row, fmt.Sprintf("%.2f", mips[0]/mips[i+1]))
		}
		for i := range runners {
			if len(runners) > 1 {
				data[len(data)-len(runners)+i].Ratio = mips[i] / mips[1]
			}
		}
		s.Table.Add(row...)
	}
	if n > 0 {
		row := []string{"geometric mean"}
		for i := range runners {
			row = append(row, fmt.Sprintf("%.0f", math.Exp(logs[i]/float64(n))))
		}
		for i := range runners[1:] {
			row = append(row, fmt.Sprintf("%.2f", math.Exp(products[i+1]/float64(n))))
		}
		s.Table.Add(row...)
	}
	s.Notes = []string{fmt.Sprintf("Million guest instructions per second of the host's processor time, start taken off; best of %d "+
		"alternating rounds. S mode, Sv39 with 4 KiB pages. The same executable, instruction counts (ours are exact) and "+
		"checksums in all columns. The last columns are how many times as fast as QEMU we are. %s.", max(o.Rounds, 1), QEMUVersion())}
	s.Data = data
	return s, nil
}
