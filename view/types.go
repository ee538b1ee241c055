package view

import (
	"errors"
	"fmt"
	"time"

	"understudy/arbiter"
)

// Number numbers the views of one group: 1, 2, … without a gap. 0 is "no view".
type Number uint64

// View assigns the roles of a group. Backup is empty if there is none; the zero View is that of a group
// that was never used.
type View struct {
	Number  Number `json:"number"`
	Primary string `json:"primary"`
	Backup  string `json:"backup"`
}

// Names tells whether server is primary or backup of v.
func (v View) Names(server string) bool {
	return server != "" && (server == v.Primary || server == v.Backup)
}

func viewOf(r arbiter.Record) View {
	return View{Number: Number(r.Number), Primary: r.Primary, Backup: r.Backup}
}

// Ping is what a server tells every PingInterval. Member makes them.
type Ping struct {
	Group       string `json:"group"`       // see arbiter.ValidGroup
	Server      string `json:"server"`      // 1 to arbiter.MaxNameBytes bytes of text without control characters
	Incarnation string `json:"incarnation"` // random per start of the server, 1 to arbiter.MaxClaimantBytes bytes
	Seq         uint64 `json:"seq"`         // 1, 2, … within an incarnation; older ones that arrive late are ignored
	View        Number `json:"view"`        // the newest view known and taken part in; 0 after a start
	InSync      bool   `json:"inSync"`      // from the primary of View: the backup holds all the state
	Leaving     bool   `json:"leaving"`     // the server wants to be relieved of its roles and given no other
	// CannotFound: the server has nothing to start the group's state from, so it is not to be the primary of view 1.
	CannotFound bool `json:"cannotFound,omitempty"`
	// Addr is where the primary finds this server when it is the backup, 0 to arbiter.MaxNameBytes bytes of text.
	Addr string `json:"addr,omitempty"`
	// Client is where clients find this server, of the same length.
	Client string `json:"client,omitempty"`
	// Files says what this server could bring the group back from.
	Files Files `json:"files,omitzero"`
}

// Files are what a server that has lost its part holds on disk. The zero Files are none.
type Files struct {
	// View, made by Claimant, is the newest in which the server had a part, as primary or as backup in sync. If it is the
	// group's newest then the files hold everything.
	View     Number `json:"view"`
	Claimant string `json:"claimant"`
	// Last is the newest entry in them. Of several servers the one with the most is preferred.
	Last uint64 `json:"last"`
}

// Answer is what the service knows of a group.
type Answer struct {
	View View `json:"view"`
	// Claimant is who wrote the view into the register (arbiter.Record.Claimant).
	Claimant string `json:"claimant"`
	// Stale: the arbiter could not be asked, there may be a newer view.
	Stale bool `json:"stale"`
	// Acked and InSync: what the primary of View said, as far as this copy of the service heard it.
	Acked  bool `json:"acked"`
	InSync bool `json:"inSync"`
	// HandOver: the primary of View is asked to hand over to its backup, by claiming {next: backup, itself}.
	HandOver bool `json:"handOver,omitempty"`
	// PrimaryAddr and BackupAddr are where these servers said that they are, as far as this copy heard them.
	PrimaryAddr string `json:"primaryAddr,omitempty"`
	BackupAddr  string `json:"backupAddr,omitempty"`
	// PrimaryClient and BackupClient are where these servers said that clients find them.
	PrimaryClient string `json:"primaryClient,omitempty"`
	BackupClient  string `json:"backupClient,omitempty"`
}

// Errors of Core. Those of its methods wrap one of them.
var (
	// ErrInvalid reports a ping, name or configuration that breaks the rules.
	ErrInvalid = errors.New("invalid view request")
	// ErrUnknown reports that the register was not read yet: ask again.
	ErrUnknown = errors.New("view not known yet")
	// ErrFull reports one more group, or server of a group, than the service was made for.
	ErrFull = errors.New("view service is full")
	// ErrNotNow reports a Switch that the rules do not allow in the present view.
	ErrNotNow = errors.New("cannot switch now")
	// ErrConflict reports a register that named two different views by one number. The group stops.
	ErrConflict = errors.New("register contradicts itself")
)

// Defaults of Config.
const (
	DefaultPingInterval = 100 * time.Millisecond
	DefaultDeadPings    = 5
	DefaultMaxGroups    = 1000
	DefaultMaxServers   = 64
)

// Config are the parameters of a Core. Zero values stand for the defaults.
type Config struct {
	ID           string        // random per start of the service: the Claimant of its records
	PingInterval time.Duration // how often servers ping
	DeadPings    int           // a server that was silent for more than this many intervals is dead
	RetryEvery   time.Duration // pause before an arbiter that failed is asked again; default PingInterval
	MaxGroups    int           // bounds the groups in memory
	MaxServers   int           // bounds the servers of one group in memory
}

func (c Config) complete() (Config, error) {
	if c.PingInterval == 0 {
		c.PingInterval = DefaultPingInterval
	}
	if c.DeadPings == 0 {
		c.DeadPings = DefaultDeadPings
	}
	if c.RetryEvery == 0 {
		c.RetryEvery = c.PingInterval
	}
	if c.MaxGroups == 0 {
		c.MaxGroups = DefaultMaxGroups
	}
	if c.MaxServers == 0 {
		c.MaxServers = DefaultMaxServers
	}
	if c.PingInterval < 0 || c.DeadPings < 0 || c.DeadPings > 1_000_000 || c.RetryEvery < 0 || c.MaxGroups < 0 || c.MaxServers < 0 {
		return c, fmt.Errorf("%w: configuration %+v is out of range", ErrInvalid, c)
	}
	if c.PingInterval > time.Hour {
		return c, fmt.Errorf("%w: ping interval of %v", ErrInvalid, c.PingInterval)
	}
	return c, validID("service id", c.ID)
}

// validServer and validID hold names to what a register can store.
func validServer(name string) error {
	if err := (arbiter.Record{Number: 1, Primary: name, Claimant: "x"}).Validate(); err != nil {
		return fmt.Errorf("%w: server: %w", ErrInvalid, err)
	}
	return nil
}

func validID(what, id string) error {
	if err := (arbiter.Record{Number: 1, Primary: "x", Claimant: id}).Validate(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, what, err)
	}
	return nil
}

func validGroup(name string) error {
	if err := arbiter.ValidGroup(name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// Validate returns nil if p can be taken, else an error that wraps ErrInvalid.
func (p Ping) Validate() error {
	if err := validGroup(p.Group); err != nil {
		return err
	}
	if err := validServer(p.Server); err != nil {
		return err
	}
	if err := validID("incarnation", p.Incarnation); err != nil {
		return err
	}
	for _, addr := range []string{p.Addr, p.Client} {
		if addr != "" {
			if err := validServer(addr); err != nil {
				return fmt.Errorf("address: %w", err)
			}
		}
	}
	if p.Files != (Files{}) {
		if err := (arbiter.Record{Number: uint64(p.Files.View), Primary: p.Server, Claimant: p.Files.Claimant}).Validate(); err != nil {
			return fmt.Errorf("%w: files: %w", ErrInvalid, err)
		}
	}
	if p.Seq == 0 {
		return fmt.Errorf("%w: ping without a sequence number", ErrInvalid)
	}
	return nil
}

// Call asks the caller for one arbiter call. It comes back as one Result, whatever happens.
type Call struct {
	ID    uint64
	Group string
	Next  arbiter.Record // to be claimed by CompareAndSet; the zero Record asks for Get
}

// Result is the outcome of a Call.
type Result struct {
	Call    uint64 // the Call's ID
	Group   string
	Current arbiter.Record // what the register holds now, if Err is nil
	Err     error
}

// Notice tells a change that users and logs want to hear of.
type Notice struct {
	Group string `json:"group"`
	View  Number `json:"view"`
	Text  string `json:"text"`
}

// Ready is what the caller must do now.
type Ready struct {
	Calls   []Call
	Notices []Notice
}

// Counts are the calls that a Core has taken and made, since it was made.
type Counts struct {
	Pings        uint64 `json:"pings"`        // valid ones
	StalePings   uint64 `json:"stalePings"`   // of these: late or repeated, not taken
	Gets         uint64 `json:"gets"`         // valid ones
	Switches     uint64 `json:"switches"`     // accepted
	Refused      uint64 `json:"refused"`      // calls of any kind that ended in an error, other than ErrUnknown
	RegisterGets uint64 `json:"registerGets"` // reads asked of the arbiter
	Claims       uint64 `json:"claims"`       // compare-and-sets asked of the arbiter
	ClaimsLost   uint64 `json:"claimsLost"`   // of these: somebody else's view was there
	CallErrors   uint64 `json:"callErrors"`   // arbiter calls that failed
}
