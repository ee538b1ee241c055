package control

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/view"
)

// States of a machine, as the API names them.
const (
	statePlacing  = "placing"  // no host was found to boot it yet
	stateStarting = "starting" // a host fetches the image or boots it
	stateRunning  = "running"
	stateStopped  = "stopped" // by its user
	stateEnded    = "ended"   // the guest has shut down
	stateStuck    = "stuck"   // its state is lost, or out of reach
)

// kept is what the store holds of a machine.
type kept struct {
	Spec       json.RawMessage `json:"spec"` // protojson of a MachineSpec
	ID         string          `json:"id"`   // of this creation
	Group      string          `json:"group"`
	Generation int             `json:"generation"` // starts so far: each is a group of its own
	Created    time.Time       `json:"created"`
	Founder    string          `json:"founder,omitempty"` // host that may found the group
	Founded    bool            `json:"founded"`           // the group has had a view
	Hosts      []string        `json:"hosts"`             // that are to run, or to keep the files of, a replica
	Last       string          `json:"last,omitempty"`    // newest primary: its disks are the newest
	Up         bool            `json:"up"`                // the guest came up
	Stopped    bool            `json:"stopped"`
	Ended      bool            `json:"ended"`
	ExitCode   int32           `json:"exitCode,omitempty"`
	Forwards   []string        `json:"forwards"`      // as bound
	Asked      []string        `json:"asked"`         // what the LAN daemon is asked for: once bound, ports stay
	LAN        string          `json:"lan,omitempty"` // its address; empty until the LAN daemon has answered
	Failovers  uint64          `json:"failovers"`
	Blackout   time.Duration   `json:"blackout,omitempty"` // of the newest failover
}

// machine is one machine. Guarded by Control.mu, as everything below.
type machine struct {
	kept
	spec  *api.MachineSpec
	dirty bool // kept is to be written
	// shown is kept as the store has it: hosts are told this and nothing newer.
	shown kept

	view     view.View // newest known
	claimant string    // who wrote it
	known    bool      // the register was read since control began
	looking  bool      // it is being read
	lookedAt time.Time
	acked    bool
	inSync   bool
	why      string            // what the view service waits for
	whys     map[uint64]string // why a view was claimed, from the view service's notices

	lanBusy bool // a call of the LAN daemon is under way
	lanOld  bool // a LAN of an earlier start may be there, and is to be removed first
	lanAt   time.Time
	lanErr  string
	state   string
	reason  string
	// stuckSince is since when nobody can go on with it.
	stuckSince time.Time
	refused    map[string]string // hosts that could not found it, and why
	progress   *api.HostProgress // newest word of the founder

	handing bool // a handover is under way
	// pause is how long the machine stood still for the handover that made view pauseView.
	pause     time.Duration
	pauseView uint64
	safe      bool      // it was protected at the last look
	transfer  int       // quarters of a state transfer told of; 0: none is under way
	joins     string    // backup of the view that has to be sent the state, until that was told of
	changed   time.Time // when primary last changed, until the failover was told of; else zero
	former    string    // primary before that
}

// host is one host that has come, or that the store knows.
type host struct {
	name        string
	address     string
	mem         uint64
	version     string
	incarnation string
	draining    bool
	told        bool                    // the view service knows that it is draining
	seen        time.Time               // newest report, or the begin of Work
	streams     int                     // open Work calls of incarnation
	ready       bool                    // connected and heard lately
	replicas    map[string]*api.Replica // by group

	client    understudyv1connect.ReplicaServiceClient // of the host at clientFor
	clientFor string
}

// keptHost is what the store holds of a host.
type keptHost struct {
	Address  string `json:"address"`
	Mem      uint64 `json:"memBytes"`
	Version  string `json:"version"`
	Draining bool   `json:"draining"`
}

func (m *machine) marshal() ([]byte, error) {
	spec, err := protojson.Marshal(m.spec)
	if err != nil {
		return nil, err
	}
	m.Spec = spec
	return json.Marshal(m.kept)
}

func unmarshalMachine(value []byte) (*machine, error) {
	m := &machine{spec: &api.MachineSpec{}, refused: map[string]string{}, whys: map[uint64]string{}}
	if err := json.Unmarshal(value, &m.kept); err != nil {
		return nil, err
	}
	// A newer control may have left fields that this one does not know: better without than not at all.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(m.Spec, m.spec); err != nil {
		return nil, err
	}
	m.shown = m.kept
	m.lanOld = !m.live()
	return m, nil
}

// groupName is a group's name at arbiter and view service: unlike that of any other machine that had the name, and of
// any other start.
func groupName(name, id string, generation int) string {
	if len(name) > 40 { // names have 63 bytes, as groups have
		name = name[:40]
	}
	return fmt.Sprintf("%s-%s-%d", name, id, generation)
}

// live tells whether replicas are to run.
func (m *machine) live() bool { return !m.Stopped && !m.Ended }

// want is the number of hosts that are to run a replica; -1 is all.
func (m *machine) want() int {
	switch {
	case m.spec.Unprotected:
		return 1
	case m.spec.Spares < 0:
		return -1
	}
	return 2 + int(m.spec.Spares)
}

// defaultMemBytes is what a machine is taken to need whose spec does not say.
const defaultMemBytes = 256 << 20

func (m *machine) mem() uint64 {
	if m.spec.MemBytes == 0 {
		return defaultMemBytes
	}
	return m.spec.MemBytes
}
