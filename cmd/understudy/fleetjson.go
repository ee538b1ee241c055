package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "understudy/api/understudy/v1"
	"understudy/internal/host"
)

// What -o json prints. docs/formats.md has it as a contract: fields may be added, not renamed.

type machineJSON struct {
	Name        string     `json:"name"`
	ID          string     `json:"id"`
	Image       string     `json:"image"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	Progress    string     `json:"progress,omitempty"`
	Protection  string     `json:"protection"`
	InSync      bool       `json:"in_sync"`
	View        uint64     `json:"view"`
	Primary     string     `json:"primary"`
	Backup      string     `json:"backup"`
	Hosts       []string   `json:"hosts"`
	Forwards    []string   `json:"forwards"`
	Created     *time.Time `json:"created,omitempty"`
	Failovers   uint64     `json:"failovers"`
	BlackoutNs  int64      `json:"last_blackout_ns,omitempty"`
	ExitCode    *int32     `json:"exit_code,omitempty"`
	Mode        string     `json:"mode"`
	MemBytes    uint64     `json:"mem_bytes,omitempty"`
	Spares      int32      `json:"spares"`
	Unprotected bool       `json:"unprotected,omitempty"`
}

type inspectJSON struct {
	machineJSON
	Group          string        `json:"group"`
	Cmdline        string        `json:"cmdline,omitempty"`
	EpochNs        int64         `json:"epoch_ns,omitempty"`
	SuspectAfterNs int64         `json:"suspect_after_ns,omitempty"`
	LagMaxNs       int64         `json:"lag_max_ns,omitempty"`
	BandwidthBytes uint64        `json:"bandwidth_bytes,omitempty"`
	Outbound       bool          `json:"outbound,omitempty"`
	Volumes        []volumeJSON  `json:"volumes,omitempty"`
	SharedDisks    []string      `json:"shared_disks,omitempty"`
	SharedReads    string        `json:"shared_disk_reads,omitempty"`
	Replicas       []replicaJSON `json:"replicas"`
}

type volumeJSON struct {
	Name      string `json:"name"`
	SizeBytes uint64 `json:"size_bytes"`
}

type replicaJSON struct {
	Host        string          `json:"host"`
	Role        string          `json:"role"`
	View        uint64          `json:"view"`
	PID         int32           `json:"pid,omitempty"`
	Incarnation string          `json:"incarnation,omitempty"`
	Restarts    int32           `json:"restarts"`
	Error       string          `json:"error,omitempty"`
	GuestUp     bool            `json:"guest_up"`
	At          *time.Time      `json:"at,omitempty"`
	Transfer    *transferJSON   `json:"transfer,omitempty"`
	Status      json.RawMessage `json:"status,omitempty"`
}

type transferJSON struct {
	To             string `json:"to"`
	TotalBytes     uint64 `json:"total_bytes"`
	DoneBytes      uint64 `json:"done_bytes"`
	SentBytes      uint64 `json:"sent_bytes"`
	BytesPerSecond uint64 `json:"bytes_per_second"`
	LeftNs         int64  `json:"left_ns,omitempty"`
	Round          int32  `json:"round"`
}

type hostJSON struct {
	Name         string     `json:"name"`
	State        string     `json:"state"`
	Address      string     `json:"address"`
	Seen         *time.Time `json:"seen,omitempty"`
	MemBytes     uint64     `json:"mem_bytes"`
	MemUsedBytes uint64     `json:"mem_used_bytes"`
	Primaries    int32      `json:"primaries"`
	Backups      int32      `json:"backups"`
	Version      string     `json:"version"`
}

type eventJSON struct {
	Seq     int64      `json:"seq"`
	At      *time.Time `json:"at"`
	Kind    string     `json:"kind"`
	Machine string     `json:"machine,omitempty"`
	Host    string     `json:"host,omitempty"`
	View    uint64     `json:"view,omitempty"`
	Text    string     `json:"text"`
}

func toMachine(m *api.Machine) machineJSON {
	s := m.GetSpec()
	j := machineJSON{
		Name: s.GetName(), ID: m.Id, Image: s.GetImage(), State: m.State, Reason: m.Reason, Progress: m.Progress,
		Protection: m.Protection, InSync: m.InSync, View: m.View, Primary: m.Primary, Backup: m.Backup,
		Hosts: list(m.Hosts), Forwards: list(m.Forwards), Created: at(m.Created), Failovers: m.Failovers,
		BlackoutNs: ns(m.LastBlackout), Mode: modeName(s.GetMode()), MemBytes: s.GetMemBytes(), Spares: s.GetSpares(),
		Unprotected: s.GetUnprotected(),
	}
	if m.State == "ended" {
		j.ExitCode = &m.ExitCode
	}
	return j
}

func toInspect(m *api.Machine) inspectJSON {
	s := m.GetSpec()
	j := inspectJSON{
		machineJSON: toMachine(m), Group: m.Group, Cmdline: s.GetCmdline(), EpochNs: ns(s.GetEpoch()),
		SuspectAfterNs: ns(s.GetSuspectAfter()), LagMaxNs: ns(s.GetLagMax()), BandwidthBytes: s.GetBandwidthBytes(),
		Outbound: s.GetOutbound(), SharedDisks: s.GetSharedDisks(), Replicas: []replicaJSON{},
	}
	if len(j.SharedDisks) > 0 {
		j.SharedReads = host.ReadsName(s.GetSharedDiskReads() == api.SharedDiskReads_SHARED_DISK_READS_DISK)
	}
	for _, v := range s.GetVolumes() {
		j.Volumes = append(j.Volumes, volumeJSON{v.Name, v.SizeBytes})
	}
	for _, r := range m.Replicas {
		v := replicaJSON{
			Host: r.Host, Role: r.Role, View: r.View, PID: r.Pid, Incarnation: r.Incarnation, Restarts: r.Restarts,
			Error: r.Error, GuestUp: r.GuestUp, At: at(r.At),
		}
		if t := r.Transfer; t != nil {
			v.Transfer = &transferJSON{t.To, t.TotalBytes, t.DoneBytes, t.SentBytes, t.BytesPerSecond, ns(t.Left), t.Round}
		}
		if json.Valid([]byte(r.StatusJson)) {
			v.Status = json.RawMessage(r.StatusJson)
		}
		j.Replicas = append(j.Replicas, v)
	}
	return j
}

func toHost(h *api.Host) hostJSON {
	return hostJSON{h.Name, h.State, h.Address, at(h.Seen), h.MemBytes, h.MemUsedBytes, h.Primaries, h.Backups, h.Version}
}

func toEvent(e *api.Event) eventJSON {
	return eventJSON{e.Seq, at(e.At), e.Kind, e.Machine, e.Host, e.View, e.Text}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func at(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	v := t.AsTime()
	return &v
}

func ns(d *durationpb.Duration) int64 {
	if d == nil {
		return 0
	}
	return int64(d.AsDuration())
}

func modeName(m api.Mode) string {
	if m == api.Mode_MODE_CHECKPOINT {
		return "checkpoint"
	}
	return "lockstep"
}

// parseMode reads a mode's name.
func parseMode(s string) (api.Mode, error) {
	switch s {
	case "lockstep":
		return api.Mode_MODE_LOCKSTEP, nil
	case "checkpoint":
		return api.Mode_MODE_CHECKPOINT, nil
	}
	return 0, fmt.Errorf("mode %q: want lockstep or checkpoint", s)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// sizeText writes bytes as people do.
func sizeText(n uint64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 10<<30:
		return fmt.Sprintf("%dG", n>>30)
	case n >= 1<<30:
		return strings.Replace(fmt.Sprintf("%.1fG", float64(n)/(1<<30)), ".0G", "G", 1)
	}
	return fmt.Sprintf("%dM", n>>20)
}

// ageText is how long ago something was, in one unit.
func ageText(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	d := max(now.Sub(t.AsTime()), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
