package agent

import (
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "understudy/api/understudy/v1"
)

// status is what the agent needs of a replica's status (docs/formats.md has all of it). What a replica does not say is
// zero; what it says beyond this is passed on to control as it is.
type status struct {
	Incarnation string    `json:"incarnation"`
	Role        string    `json:"role"`
	View        uint64    `json:"view"`
	Solo        bool      `json:"solo"`
	Frozen      string    `json:"frozen"`
	HaltReason  string    `json:"halt_reason"`
	Position    uint64    `json:"position"`
	GuestNs     uint64    `json:"guest_ns"`
	RunNs       uint64    `json:"run_ns"`
	IdleNs      uint64    `json:"idle_ns"`
	SlowedNs    uint64    `json:"slowed_ns"`
	LagNs       int64     `json:"lag_ns"`
	Held        int64     `json:"held"`
	HeldNs      int64     `json:"held_ns"`
	GateOutputs uint64    `json:"gate_outputs"`
	GateNs      uint64    `json:"gate_ns"`
	GateMaxNs   int64     `json:"gate_max_ns"`
	StopMaxNs   int64     `json:"stop_max_ns"`
	Entries     uint64    `json:"entries"`
	InSync      bool      `json:"in_sync"`
	LogBytes    uint64    `json:"log_bytes"`
	Failovers   uint64    `json:"failovers"`
	BlackoutNs  int64     `json:"blackout_ns"`
	GrantsWon   uint64    `json:"grants_won"`
	GrantsLost  uint64    `json:"grants_lost"`
	Transfer    *transfer `json:"transfer"`

	SharedDisks []struct {
		Held   int64 `json:"held"`
		HeldNs int64 `json:"held_ns"`
	} `json:"shared_disks"`
}

// transfer is how far the sending of the machine's state is.
type transfer struct {
	To             string `json:"to"`
	TotalBytes     uint64 `json:"total_bytes"`
	DoneBytes      uint64 `json:"done_bytes"`
	SentBytes      uint64 `json:"sent_bytes"`
	BytesPerSecond uint64 `json:"bytes_per_second"`
	LeftNs         int64  `json:"left_ns"`
	Round          int32  `json:"round"`
}

// parseStatus reads a status. A field of another kind than expected is left out: a newer replica is better half
// understood than not at all.
func parseStatus(raw []byte) (status, error) {
	var s status
	err := json.Unmarshal(raw, &s)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		err = nil
	}
	return s, err
}

// holdsState tells whether a replica of that role could go on with the machine.
func holdsState(role string) bool { return role == "primary" || role == "backup" }

// sent is what the present transfer has sent.
func (s *status) sent() uint64 {
	if s.Transfer == nil {
		return 0
	}
	return s.Transfer.SentBytes
}

func (t *transfer) proto() *pb.Transfer {
	if t == nil {
		return nil
	}
	return &pb.Transfer{
		To: t.To, TotalBytes: t.TotalBytes, DoneBytes: t.DoneBytes, SentBytes: t.SentBytes,
		BytesPerSecond: t.BytesPerSecond, Left: durationpb.New(time.Duration(t.LeftNs)), Round: t.Round,
	}
}
