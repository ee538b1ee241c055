package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func failoverCommand() *cobra.Command {
	var (
		o      clientFlags
		format string
	)
	c := &cobra.Command{
		Use:   "failover NAME",
		Short: "Make the backup of a machine its primary, as planned",
		Long:  `Has the primary hand over to its backup. Nothing is lost; the machine stands still for the switch only.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputFormat(format); err != nil {
				return err
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			r, err := f.Failover(c.Context(), &api.FailoverRequest{Name: args[0]})
			if err != nil {
				return f.explain(err)
			}
			if format == "json" {
				return writeJSON(c.OutOrStdout(), struct {
					View    uint64 `json:"view"`
					Primary string `json:"primary"`
					PauseNs int64  `json:"pause_ns"`
				}{r.View, r.Primary, ns(r.Pause)})
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is primary of view %d; the machine stood still for %v\n", r.Primary, r.View, r.Pause.AsDuration().Round(100*time.Microsecond))
			return nil
		},
	}
	c.ValidArgsFunction = completeMachines(&o, isLive)
	o.add(c.Flags())
	outputFlag(c.Flags(), &format)
	return c
}
