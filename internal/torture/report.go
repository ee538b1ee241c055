package torture

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// Row is one failure and what came of it. Times are nanoseconds.
type Row struct {
	N           int    `json:"n"`
	Harm        string `json:"harm"`
	Hit         string `json:"hit"`
	AtNs        int64  `json:"at_ns"` // since the guest was first protected
	Before      string `json:"before"`
	After       string `json:"after"`
	BlackoutNs  int64  `json:"blackout_ns"`  // longest time in which a busy client was without an acknowledgement
	ProtectedNs int64  `json:"protected_ns"` // from the harm until the guest was protected again; 0: it never ceased to be
	Verdict     string `json:"verdict"`      // "ok", or what was not kept
}

// Report is what a run found.
type Report struct {
	Mode        string `json:"mode"`
	Seed        uint64 `json:"seed"`
	Command     string `json:"command"` // does the same harm again
	Seconds     int    `json:"seconds"`
	Failures    int    `json:"failures"`  // rows
	Failovers   int    `json:"failovers"` // how often the primary's part moved
	Acks        int    `json:"acks"`      // replies to the clients
	Connections int    `json:"connections"`
	Blackout    Spread `json:"blackout"`
	Protected   Spread `json:"protected"`
	Verdict     string `json:"verdict"`       // "ok", or what was not kept
	Dir         string `json:"dir,omitempty"` // where the logs are, if they were kept
	Rows        []Row  `json:"rows"`
}

// Spread is the middle and the end of a distribution, in nanoseconds.
type Spread struct {
	MedianNs int64 `json:"median_ns"`
	WorstNs  int64 `json:"worst_ns"`
}

func spread(all []int64) (s Spread) {
	if len(all) > 0 {
		slices.SortFunc(all, cmp.Compare[int64])
		s = Spread{all[len(all)/2], all[len(all)-1]}
	}
	return s
}

const ok = "ok"

// OK tells whether every promise was kept.
func (r *Report) OK() bool { return r.Verdict == ok }

// sum fills in the figures over all rows.
func (r *Report) sum() {
	var blackouts, protections []int64
	for _, row := range r.Rows {
		blackouts = append(blackouts, row.BlackoutNs)
		if row.ProtectedNs > 0 {
			protections = append(protections, row.ProtectedNs)
		}
	}
	r.Failures, r.Blackout, r.Protected = len(r.Rows), spread(blackouts), spread(protections)
}

// PrintHeader writes the titles of the rows.
func PrintHeader(w io.Writer) {
	fmt.Fprintf(w, "%4s  %8s  %-58s  %-34s  %-9s  %-9s  %9s  %9s  %s\n", "NO", "AT", "HARM", "HIT", "BEFORE", "AFTER", "BLACKOUT", "PROTECTED", "VERDICT")
}

// Print writes the row as a line.
func (r Row) Print(w io.Writer) {
	protected := "kept"
	if r.ProtectedNs > 0 {
		protected = seconds(r.ProtectedNs)
	}
	fmt.Fprintf(w, "%4d  %8s  %-58s  %-34s  %-9s  %-9s  %9s  %9s  %s\n", r.N, seconds(r.AtNs), r.Harm, r.Hit, r.Before, r.After,
		seconds(r.BlackoutNs), protected, r.Verdict)
}

func seconds(ns int64) string { return fmt.Sprintf("%.2f s", time.Duration(ns).Seconds()) }

// Print writes the summary.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s mode, seed %d: %d failures in %d s, %d failovers, %d acknowledgements over %d connections\n",
		r.Mode, r.Seed, r.Failures, r.Seconds, r.Failovers, r.Acks, r.Connections)
	fmt.Fprintf(w, "blackout         median %s, worst %s\n", seconds(r.Blackout.MedianNs), seconds(r.Blackout.WorstNs))
	fmt.Fprintf(w, "until protected  median %s, worst %s\n", seconds(r.Protected.MedianNs), seconds(r.Protected.WorstNs))
	if r.OK() {
		fmt.Fprintln(w, "nothing lost, nothing doubled, every connection alive")
		return
	}
	fmt.Fprintf(w, "NOT KEPT: %s\nrepeat with: %s\nthe logs are in %s\n", r.Verdict, r.Command, r.Dir)
}
