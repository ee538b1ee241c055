// Package kv holds the tests of the key-value service as its users meet it: real processes, real signals, and clients that we
// have not written, such as redis-cli, go-redis and redis-py.
//
//	UNDERSTUDY_SOAK=10      minutes of TestServersComeAndGo (default: three rounds)
//	UNDERSTUDY_SEED=1       which servers die, as a failed run printed it
//	UNDERSTUDY_REQUIRE=1    fail instead of skip where a client, or the right to make network namespaces, is missing
package kv
