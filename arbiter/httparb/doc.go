// Package httparb puts an arbiter's registers on the network: HTTP with JSON bodies.
//
//	GET  /v1/groups                  {"groups": {"db1": {record}, ...}}
//	GET  /v1/groups/{group}          {record}; number 0 if it was never set
//	POST /v1/groups/{group}/claim    body {record}; {"current": {record}, "won": true|false}
//	GET  /healthz                    {"status": "ok"} if the store answers, else 503
//
// A record is {"number": 2, "primary": "hostB", "backup": "", "claimant": "random id"}. A lost race is a
// 200 with "won": false. Other answers carry {"error": "text"}:
//
//	400, 404, 405, 413, 422   the request can never succeed as it is; the register did not change
//	503 and anything else     the outcome is unknown; repeat the same request
//
// The server trusts whoever reaches it: give it a loopback address, a unix socket or a TLS listener that
// asks for client certificates.
package httparb

import "understudy/arbiter"

// maxBodyBytes bounds a claim. A record with every field at its bound and every byte escaped as \u00xx fits.
const maxBodyBytes = 8 << 10

// maxReplyBytes bounds what the client reads of one answer about one group.
const maxReplyBytes = 64 << 10

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
