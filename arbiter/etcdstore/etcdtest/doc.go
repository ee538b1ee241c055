// Package etcdtest tests etcdstore against etcd itself, whose server runs in the test. It is a module of its own, so
// that what the server needs (tracing, gateways, a raft) is no dependency of the product. Run it here with
//
//	go test ./...
package etcdtest
