// Package httpview runs the view service of package view: Service gives it a clock and an arbiter, Server
// puts it on the network as HTTP with JSON bodies, Client asks it. Pinger keeps a server's pings going to
// every copy of the service, and Cache remembers views for those who only want to know whom to talk to.
//
//	GET  /v1/views                   {"groups": ["db1", ...]}, those in memory
//	GET  /v1/views/{group}           {answer}: {"view": {"number": 2, "primary": "a", "backup": "b"}, "stale": false, ...}
//	POST /v1/views/{group}/ping      body {ping} without "group"; {answer}
//	GET  /v1/views/{group}/status    {answer, "why": "...", "servers": [...]}
//	POST /v1/views/{group}/switch    {"target": 3}: the view that will make the backup primary
//	POST /v1/drain                   body {"server": "a", "drain": true}; {"holding": ["db1"]}
//	GET  /v1/counts                  calls taken and made, by kind
//	GET  /healthz                    {"status": "ok"}
//
// Fields are those of view.Answer, view.Ping, view.Status and view.Counts. Other answers carry {"error":
// "text", "code": "..."}: invalid (400), forbidden (403), notNow (409), tooLarge (413), full (422), conflict (500), unknown
// (503: the register was not read yet, or the service ends; ask again).
//
// The server trusts whoever reaches it: give it a loopback address, a unix socket or a TLS listener that
// asks for client certificates.
package httpview

import (
	"context"
	"errors"
	"net/http"

	"understudy/view"
)

// Copy is one copy of the view service, in this process (Service) or elsewhere (Client).
type Copy interface {
	Ping(ctx context.Context, p view.Ping) (view.Answer, error)
	Get(ctx context.Context, group string) (view.Answer, error)
}

// maxBodyBytes bounds a request. A ping with every field at its bound and every byte escaped as \u00xx fits.
const maxBodyBytes = 8 << 10

// maxReplyBytes bounds what a client reads of one answer: a status of view.DefaultMaxServers servers fits.
const maxReplyBytes = 1 << 20

type errorReply struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

type groupsReply struct {
	Groups []string `json:"groups"`
}

type switchReply struct {
	Target view.Number `json:"target"`
}

type drainRequest struct {
	Server string `json:"server"`
	Drain  bool   `json:"drain"`
}

type drainReply struct {
	Holding []string `json:"holding"`
}

var (
	errTooLarge  = errors.New("request is too large")
	errForbidden = errors.New("forbidden")
)

// codes pair the errors of package view with what stands for them on the wire.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{view.ErrInvalid, "invalid", http.StatusBadRequest},
	{view.ErrNotNow, "notNow", http.StatusConflict},
	{errTooLarge, "tooLarge", http.StatusRequestEntityTooLarge},
	{errForbidden, "forbidden", http.StatusForbidden},
	{view.ErrFull, "full", http.StatusUnprocessableEntity},
	{view.ErrConflict, "conflict", http.StatusInternalServerError},
	{view.ErrUnknown, "unknown", http.StatusServiceUnavailable},
}
