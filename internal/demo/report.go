package demo

import (
	"fmt"
	"io"
	"time"

	"understudy/internal/host"
)

// Report is the result of a demo. `understudy demo --json` prints it as one JSON object; the fields are a
// contract: they may be added to, not renamed. Times are in milliseconds.
type Report struct {
	// Lost is the number of acknowledged writes that cannot be read back. Duplicated is the number of
	// effects beyond the acknowledged ones. Both must be 0.
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	// AckedBefore and AckedAfter are the writes that Redis acknowledged before and after the kill.
	AckedBefore int `json:"acked_before"`
	AckedAfter  int `json:"acked_after"`
	// SameConnection tells whether the client's one TCP connection lived through all of it.
	SameConnection bool `json:"same_connection"`
	// Killed is the side that was killed: primary or backup.
	Killed string `json:"killed"`
	// BlackoutMs is the time between the last acknowledgement before the kill and the first after it, as
	// the client saw it.
	BlackoutMs float64 `json:"blackout_ms"`
	// DetectMs is the time from the kill until the survivor asked the arbiter, GrantMs from there until it
	// had won the view, GoLiveMs from there until its first frame left.
	DetectMs float64 `json:"detect_ms"`
	GrantMs  float64 `json:"grant_ms"`
	GoLiveMs float64 `json:"golive_ms"`
	// LogMbitS is the mean bandwidth of the log channel under this load, in Mbit/s.
	LogMbitS float64 `json:"log_mbit_s"`
	// View is the view that the survivor won.
	View uint64 `json:"view"`
	// BootS is the time from the start of the pair until Redis answered, in seconds.
	BootS float64 `json:"boot_s"`
	// Error is what went wrong, if something did.
	Error string `json:"error,omitempty"`
	// Kept tells that the survivor was left running until the user ended it.
	Kept bool `json:"-"`
}

// OK tells whether the demo showed what it is meant to show.
func (r *Report) OK() bool {
	return r.Error == "" && r.Lost == 0 && r.Duplicated == 0 && r.SameConnection && r.AckedBefore > 0 && r.AckedAfter > 0
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// times fills in the survivor's timeline.
func (r *Report) times(killed time.Time, t host.Timeline) {
	since := func(ns, from int64) float64 {
		if ns == 0 || from == 0 {
			return 0
		}
		return millis(time.Duration(ns - from))
	}
	r.DetectMs = since(t.Suspected, killed.UnixNano())
	r.GrantMs = since(t.Granted, t.Suspected)
	r.GoLiveMs = since(t.FirstOutput, t.Granted)
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	yes := map[bool]string{true: "yes", false: "NO"}
	fmt.Fprintf(w, `
  killed                          %s
  acknowledged before / after     %d / %d
  acknowledged writes lost        %d
  effects duplicated              %d
  same TCP connection             %s
  blackout seen by the client     %.1f ms
    detected after                %.1f ms
    view %d granted after          %.1f ms
    first frame after             %.1f ms
  log bandwidth                   %.2f Mbit/s
`, r.Killed, r.AckedBefore, r.AckedAfter, r.Lost, r.Duplicated, yes[r.SameConnection], r.BlackoutMs, r.DetectMs, r.View, r.GrantMs, r.GoLiveMs, r.LogMbitS)
	if r.Error != "" {
		fmt.Fprintf(w, "  error                           %s\n", r.Error)
	}
}
