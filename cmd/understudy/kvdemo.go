package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"understudy/internal/kvdemo"
	"understudy/rsm"
)

func kvDemoCommand() *cobra.Command {
	var o kvdemo.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a key-value group that loses its primary under load",
		Long: `Starts arbiter, view service and key-value servers as processes of their own on this machine, loads them, ends the primary with
kill -9, then every process at once, and reads everything back: each append that was acknowledged is there, once and in order. Exit
code 1: something was lost.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Exe, err = os.Executable(); err != nil {
				return err
			}
			if o.Dir, err = os.MkdirTemp("", "understudy-kv-"); err != nil {
				return err
			}
			if o.Say = c.ErrOrStderr(); asJSON {
				o.Say = io.Discard
			}
			r, err := kvdemo.Run(c.Context(), o)
			if err != nil {
				return withHint(err, "look at the logs in %s", o.Dir)
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(r); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(c.OutOrStdout(), "%d appends acknowledged (%.0f/s), %d lost, %d repeated, %d out of order\n", r.Appends, r.PerSecond, r.Lost, r.Repeated, r.Disorder)
				for _, b := range r.Blackouts {
					fmt.Fprintf(c.OutOrStdout(), "blackout: %v\n", time.Duration(b).Round(time.Millisecond))
				}
			}
			if r.AllKilled > 0 && !asJSON {
				fmt.Fprintf(c.OutOrStdout(), "every process killed and started again: %v\n", time.Duration(r.AllKilled).Round(time.Millisecond))
			}
			if !r.Proved {
				return &exitError{code: exitFailure, err: fmt.Errorf("acknowledged data was lost: see the logs in %s", o.Dir)}
			}
			return os.RemoveAll(o.Dir)
		},
	}
	f := c.Flags()
	f.IntVar(&o.Servers, "servers", 3, "key-value servers")
	f.IntVar(&o.Clients, "clients", 20, "clients")
	f.IntVar(&o.Kills, "kills", 1, "how often the primary is killed")
	f.BoolVar(&o.All, "all", true, "in the end kill every process, and start them again with their files")
	f.DurationVar(&o.Suspect, "suspect-after", rsm.DefaultSuspectAfter, "silence after which a server is suspected to be dead")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}
