// Package httparb puts an arbiter's registers on the network: HTTP with JSON bodies.
//
//	GET  /v1/groups                  {"groups": {"db1": {record}, ...}}
//	GET  /v1/groups/{group}          {record}; number 0 if it was never set
//	GET  /v1/groups/{group}/watch    {record} as soon as its number is greater than the parameter after=N; the
//	                                 current record when wait_ms (at most 20,000, default 5,000) are over
//	POST /v1/groups/{group}/claim    body {record}; {"current": {record}, "won": true|false}
//	GET  /healthz                    {"status": "ok"} if the store answers, else 503
//
// A record is {"number": 2, "primary": "hostB", "backup": "", "claimant": "random id"}. A lost race is a
// 200 with "won": false. Other answers carry {"error": "text"}:
//
//	400, 404, 405, 413, 422   the request can never succeed as it is; the register did not change
//	503 and anything else     the outcome is unknown; repeat the same request
//
// The server trusts whoever reaches it: give it a loopback address, a unix socket or, with [ServerTLS], a
// listener that lets nobody in without a certificate of the right authority.
package httparb

import (
	"time"

	"understudy/arbiter"
)

// maxBodyBytes bounds a claim. A record with every field at its bound and every byte escaped as \u00xx fits.
const maxBodyBytes = 8 << 10

// maxReplyBytes bounds what the client reads of one answer about one group.
const maxReplyBytes = 64 << 10

// defaultWait and maxWait bound how long the server holds the answer to a watch. A client asks for
// defaultWait again and again, so that it notices within that time (and its timeout) when the server's host
// has vanished without a word.
const (
	defaultWait = 5 * time.Second
	maxWait     = 20 * time.Second
)

// maxWatches bounds the watches that a server holds at once. One more is answered with 503.
const maxWatches = 4096

type claimReply struct {
	Current arbiter.Record `json:"current"`
	Won     bool           `json:"won"`
}

type groupsReply struct {
	Groups map[string]arbiter.Record `json:"groups"`
}

type errorReply struct {
	Error string `json:"error"`
}
