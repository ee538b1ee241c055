// Package lanapi runs many virtual LANs in one process, one per protected group, and lets whoever runs a fleet
// create and remove them: Daemon has the LANs, Server puts it on the network as HTTP with JSON bodies, Client
// asks it.
//
//	GET    /v1/lans           {"lans": [{status}, ...]} in the order of their names, without leases and views
//	GET    /v1/lans/{name}    {status}
//	PUT    /v1/lans/{name}    body {spec}; {status}. Makes the LAN, or makes it as the spec says
//	DELETE /v1/lans/{name}    {"name": "db1"}: the LAN, its forwards and all connections through it are gone
//	GET    /healthz           {"status": "ok"}
//
// A spec is {"forwards": ["127.0.0.1:8080:80", "127.0.0.1:0:53/udp"], "outbound": false, "mac": "52:54:00:00:00:01"},
// see Spec; a status {"name": "db1", "listen": "127.0.0.1:40001", "forwards": [{"spec": "127.0.0.1:8080:80", "at":
// "127.0.0.1:8080"}, ...], ...}, see Status. A put that is repeated changes nothing. One that fails changes nothing
// either. A forward that stays keeps its connections and, where its port was 0, the port that it got.
//
// Other answers carry {"error": "text", "code": "..."}: invalid (400), notFound (404), portInUse and conflict
// (409), tooLarge (413), full (422), store (500: the change could not be written down and was not made),
// unknown (503: ask again).
//
// With Options.Dir the set of LANs is on disk before a put or delete is answered, and a daemon that is started
// again has the LANs at their old addresses, so that replicas' cables find them; so are the views that were
// announced (see package lan), within moments. Connections of clients do not outlive the daemon, and guests
// without a fixed lease may be given another address when they next ask for one.
//
// The server trusts whoever reaches it, and so does every LAN: without Options.Identity give them loopback
// addresses or unix sockets. The identity's certificate has the name lan.CertificateName; any certificate of its
// authority opens any LAN and the admin API.
package lanapi

import (
	"errors"
	"net/http"

	"understudy/internal/lan"
)

const (
	// MaxLANs bounds the LANs of a daemon, MaxForwards those of one LAN.
	MaxLANs     = 256
	MaxForwards = 64

	maxForwardBytes = 128      // of one forward's text
	maxBodyBytes    = 32 << 10 // of a request: a spec with every bound reached fits
	maxReplyBytes   = 8 << 20  // of an answer: a list of MaxLANs fits
)

var (
	// ErrInvalid reports a name or spec that can never be.
	ErrInvalid = errors.New("LAN request is invalid")
	// ErrNotFound reports a name that no LAN has.
	ErrNotFound = errors.New("there is no such LAN")
	// ErrConflict reports a change that a LAN cannot undergo, or an address that this host does not have.
	ErrConflict = errors.New("LAN cannot be changed so")
	// ErrFull reports one LAN more than MaxLANs.
	ErrFull = errors.New("the daemon has as many LANs as it takes")
	// ErrStore reports a change that could not be written down.
	ErrStore = errors.New("store the set of LANs")
	// ErrClosed reports a daemon that has ended.
	ErrClosed = errors.New("LAN daemon is closed")

	errTooLarge = errors.New("request is too large")
)

// Spec is what a LAN shall be.
type Spec struct {
	// Forwards are ports of the host that lead to the first guest, as lan.ParseForward reads them; at most
	// MaxForwards, none twice. Port 0 picks a free port, which the forward then keeps.
	Forwards []string `json:"forwards"`
	// Outbound lets guests open connections to the outside. It cannot be changed later.
	Outbound bool `json:"outbound"`
	// MAC, if set, is the hardware address to which DHCP gives the first guest's IP address, the one that
	// forwards lead to; else whoever asks first has it.
	MAC string `json:"mac,omitempty"`
	// Listen is where replicas join; empty means a free port of Options.JoinHost. It cannot be changed later.
	// It is for the process that runs the daemon, not for those who ask over the network.
	Listen string `json:"-"`
}

// Forward is an open forward.
type Forward struct {
	Spec  string `json:"spec"`            // as it was asked for
	At    string `json:"at"`              // host and port that it is reached at
	Error string `json:"error,omitempty"` // why it is not open, after a restart; it is tried again
}

// Status is a LAN as it is.
type Status struct {
	Name     string    `json:"name"`
	Listen   string    `json:"listen"` // where replicas join: host:port or the path of a unix socket
	Forwards []Forward `json:"forwards"`
	Outbound bool      `json:"outbound"`
	MAC      string    `json:"mac,omitempty"`
	Error    string    `json:"error,omitempty"`  // why replicas cannot join, after a restart; it is tried again
	Leases   []Lease   `json:"leases,omitempty"` // in the order of the IP addresses
	Views    []View    `json:"views,omitempty"`  // in the order of the MAC addresses
	Stats    lan.Stats `json:"stats"`
}

// Lease is a guest's address.
type Lease struct {
	MAC string `json:"mac"`
	IP  string `json:"ip"`
}

// View is the highest view that a port has announced for a MAC address.
type View struct {
	MAC  string `json:"mac"`
	View uint64 `json:"view"`
}

type listReply struct {
	LANs []Status `json:"lans"`
}

type deleteReply struct {
	Name string `json:"name"`
}

type errorReply struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

// codes pair errors with what stands for them on the wire.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{ErrInvalid, "invalid", http.StatusBadRequest},
	{ErrNotFound, "notFound", http.StatusNotFound},
	{lan.ErrPortInUse, "portInUse", http.StatusConflict},
	{ErrConflict, "conflict", http.StatusConflict},
	{errTooLarge, "tooLarge", http.StatusRequestEntityTooLarge},
	{ErrFull, "full", http.StatusUnprocessableEntity},
	{ErrStore, "store", http.StatusInternalServerError},
	{ErrClosed, "unknown", http.StatusServiceUnavailable},
}
