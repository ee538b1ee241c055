package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	api "understudy/api/understudy/v1"
)

// each does something for every machine that is named, goes on after an error, and prints the names that it was done for.
func each(c *cobra.Command, o *clientFlags, names []string, do func(ctx context.Context, f *fleet, name string) error) error {
	f, err := o.dial()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := f.explain(do(c.Context(), f, name)); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.OutOrStdout(), name)
	}
	return errors.Join(errs...)
}

func stopCommand() *cobra.Command {
	var (
		o     clientFlags
		grace time.Duration
	)
	c := &cobra.Command{
		Use:   "stop NAME...",
		Short: "Stop machines",
		Long: `Ends all replicas of a machine, as if power was cut; its disks stay, and understudy start boots it from them. A guest
that should shut down in good order is told so inside.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return each(c, &o, args, func(ctx context.Context, f *fleet, name string) error {
				_, err := f.Stop(ctx, &api.StopRequest{Name: name, Grace: durationpb.New(grace)})
				return err
			})
		},
	}
	c.ValidArgsFunction = completeMachines(&o, isLive)
	o.add(c.Flags())
	c.Flags().DurationVarP(&grace, "time", "t", 10*time.Second, "how long to wait for hosts to say that nothing runs any more")
	return c
}

func startCommand() *cobra.Command {
	var o clientFlags
	c := &cobra.Command{
		Use:   "start NAME...",
		Short: "Start machines that were stopped or have ended",
		Long:  `Boots a machine anew from the disks of the host that was its primary last.`,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return each(c, &o, args, func(ctx context.Context, f *fleet, name string) error {
				_, err := f.Start(ctx, &api.StartRequest{Name: name})
				return err
			})
		},
	}
	c.ValidArgsFunction = completeMachines(&o, func(m *api.Machine) bool { return !isLive(m) })
	o.add(c.Flags())
	return c
}

func rmCommand() *cobra.Command {
	var (
		o     clientFlags
		force bool
	)
	c := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove machines and their disks",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return each(c, &o, args, func(ctx context.Context, f *fleet, name string) error {
				_, err := f.Remove(ctx, &api.RemoveRequest{Name: name, Force: force})
				return err
			})
		},
	}
	c.ValidArgsFunction = completeMachines(&o, nil)
	o.add(c.Flags())
	c.Flags().BoolVarP(&force, "force", "f", false, "machines that run as well")
	return c
}
