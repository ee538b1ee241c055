package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	api "understudy/api/understudy/v1"
)

func modeCommand() *cobra.Command {
	var (
		o     clientFlags
		epoch time.Duration
	)
	c := &cobra.Command{
		Use:   "mode NAME lockstep|checkpoint",
		Short: "Change how a running machine is protected",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			mode, err := parseMode(args[1])
			if err != nil {
				return err
			}
			req := &api.SetModeRequest{Name: args[0], Mode: mode}
			if epoch != 0 {
				if mode != api.Mode_MODE_CHECKPOINT {
					return fmt.Errorf("--epoch is for checkpoint mode")
				}
				req.Epoch = durationpb.New(epoch)
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			if _, err = f.SetMode(c.Context(), req); err != nil {
				return f.explain(err)
			}
			fmt.Fprintln(c.OutOrStdout(), args[0])
			return nil
		},
	}
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, to string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return completeMachines(&o, isLive)(cmd, args, to)
		case 1:
			return []cobra.Completion{"lockstep", "checkpoint"}, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	o.add(c.Flags())
	c.Flags().DurationVar(&epoch, "epoch", 0, "time between two checkpoints, as 25ms (default: it adapts)")
	return c
}
