package main

import (
	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func inspectCommand() *cobra.Command {
	var o clientFlags
	c := &cobra.Command{
		Use:   "inspect NAME...",
		Short: "Show all that is known of machines, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := o.dial()
			if err != nil {
				return err
			}
			machines := []inspectJSON{}
			for _, name := range args {
				r, err := f.GetMachine(c.Context(), &api.GetMachineRequest{Name: name})
				if err != nil {
					return f.explain(err)
				}
				machines = append(machines, toInspect(r.Machine))
			}
			return writeJSON(c.OutOrStdout(), machines)
		},
	}
	c.ValidArgsFunction = completeMachines(&o, nil)
	o.add(c.Flags())
	return c
}
