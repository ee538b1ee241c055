package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"understudy/internal/kvbench"
)

func kvBenchCommand() *cobra.Command {
	var l kvbench.Load
	c := &cobra.Command{
		Use:   "bench --addr HOST:PORT [flags]",
		Short: "Load a server that speaks Redis's protocol",
		Long: `Loads a key-value server, ours or Redis, and prints one JSON line with operations per second and the time of a client's rounds.
--wait sends WAIT 1 0 after every write: what Redis needs for the promise that ours gives with the reply. The comparison with
Redis, Sentinel and etcd in docs/benchmarks.md is made by cmd/bench.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := kvbench.Run(c.Context(), l)
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
	return c
}
