package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func hostsCommand() *cobra.Command {
	var (
		o      clientFlags
		format string
	)
	c := &cobra.Command{
		Use:   "hosts",
		Short: "List hosts",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputFormat(format); err != nil {
				return err
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			r, err := f.ListHosts(c.Context(), &api.ListHostsRequest{})
			if err != nil {
				return f.explain(err)
			}
			if format == "json" {
				hosts := []hostJSON{}
				for _, h := range r.Hosts {
					hosts = append(hosts, toHost(h))
				}
				return writeJSON(c.OutOrStdout(), hosts)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATE\tPRIMARY OF\tBACKUP OF\tMEMORY\tUSED\tADDRESS\tSEEN")
			for _, h := range r.Hosts {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", h.Name, h.State, h.Primaries, h.Backups, sizeText(h.MemBytes), sizeText(h.MemUsedBytes),
					dash(h.Address), ageText(h.Seen, time.Now()))
			}
			return w.Flush()
		},
	}
	o.add(c.Flags())
	outputFlag(c.Flags(), &format)
	return c
}

func drainCommand() *cobra.Command {
	var (
		o          clientFlags
		undo, wait bool
	)
	c := &cobra.Command{
		Use:   "drain HOST",
		Short: "Relieve a host of all its parts",
		Long: `Has a host hand over every machine that it is primary of, and replaces it where it is backup or stands ready. It is given
no other part until drain --undo. A machine without a backup that is in sync stays until it has one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if undo && wait {
				return fmt.Errorf("either --undo or --wait, not both")
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			last := ""
			for {
				r, err := f.Drain(c.Context(), &api.DrainRequest{Host: args[0], On: !undo})
				if err != nil {
					return f.explain(err)
				}
				holds := strings.Join(r.Holding, ", ")
				if undo || holds == "" {
					fmt.Fprintln(c.OutOrStdout(), args[0])
					return nil
				}
				if holds != last {
					fmt.Fprintf(c.ErrOrStderr(), "%s still has a part in %s\n", args[0], holds)
					last = holds
				}
				if !wait {
					fmt.Fprintln(c.OutOrStdout(), args[0])
					return nil
				}
				if err := pause(c.Context(), 300*time.Millisecond); err != nil {
					return err
				}
			}
		},
	}
	c.ValidArgsFunction = completeHosts(&o)
	o.add(c.Flags())
	c.Flags().BoolVar(&undo, "undo", false, "let the host take parts again")
	c.Flags().BoolVar(&wait, "wait", false, "return when the host has no part any more")
	return c
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
