package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"understudy/internal/control"
	"understudy/internal/kvbench"
)

func kvBenchCommand() *cobra.Command {
	var l kvbench.Load
	var tlsDir, as, server string
	c := &cobra.Command{
		Use:   "bench --addr HOST:PORT [flags]",
		Short: "Load a server that speaks Redis's protocol",
		Long: `Loads a key-value server, ours or Redis, and prints one JSON line with operations per second and the time of a client's rounds.
--wait sends WAIT 1 0 after every write: what Redis needs for the promise that ours gives with the reply. The comparison with
Redis, Sentinel and etcd in docs/benchmarks.md is made by cmd/bench.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := identity(tlsDir, as)
			if err != nil {
				return err
			}
			if id != nil {
				if server == "" {
					if server, _, err = net.SplitHostPort(l.Addr); err != nil {
						return fmt.Errorf("address of the server %q: want host:port", l.Addr)
					}
				}
				l.TLS = id.Client(server)
			}
			r, err := kvbench.Run(c.Context(), l)
			var wrong x509.HostnameError
			if errors.As(err, &wrong) {
				return withHint(err, "--server NAME, the name in the server's certificate")
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(r)
		},
	}
	f := c.Flags()
	f.StringVar(&l.Addr, "addr", "127.0.0.1:6379", "host:port of the server")
	f.IntVar(&l.Clients, "clients", 50, "connections")
	f.IntVar(&l.Pipeline, "pipeline", 1, "commands that a client sends before it waits for their replies")
	f.BoolVar(&l.Wait, "wait", false, "WAIT 1 0 after every write")
	f.BoolVar(&l.Once, "wait-once", false, "with --wait: once after each pipeline instead of after every write")
	f.BoolVar(&l.Read, "read", false, "read instead of write")
	f.IntVar(&l.Bytes, "bytes", 64, "bytes of a value")
	f.IntVar(&l.Keys, "keys", 100_000, "keys")
	f.DurationVar(&l.For, "for", 5*time.Second, "how long")
	f.StringVar(&tlsDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem and a client's certificate and key (environment: "+envTLSDir+")")
	f.StringVar(&as, "as", control.UserName, "with --tls-dir: name of the client's certificate")
	f.StringVar(&server, "server", "", "with --tls-dir: name in the server's certificate (default: the host of --addr)")
	return c
}
