// Package api holds the definition of the control API and the Go code generated from it: understudy/v1 has the messages,
// understudy/v1/understudyv1connect the clients and handlers. Any client of Connect, gRPC or plain JSON over HTTP can
// use the same definition. `go generate ./api` makes the code anew; it needs Go and nothing else.
package api

//go:generate go -C ../tools run ./protogen ../api
