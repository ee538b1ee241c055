package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func eventsCommand() *cobra.Command {
	var (
		o               clientFlags
		follow          bool
		format, machine string
	)
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened: views, failovers, transfers, hosts that come and go",
		Long: `Shows what has happened since control began, oldest first; control remembers the newest few thousand events. With
-o json, one object a line.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputFormat(format); err != nil {
				return err
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			seq, heard := int64(0), false
			for {
				stream, err := f.WatchEvents(c.Context(), &api.WatchEventsRequest{Follow: follow, SinceSeq: seq, Machine: machine})
				if err == nil {
					for stream.Receive() {
						e := stream.Msg()
						seq, heard = e.Seq, true
						if err := printEvent(c.OutOrStdout(), e, format); err != nil {
							return err
						}
					}
					err = stream.Err()
					stream.Close()
				}
				switch {
				case c.Context().Err() != nil:
					return c.Context().Err()
				case err == nil && !follow:
					return nil
				case err != nil && (!follow || !heard || !isAway(err)):
					return f.explain(err)
				}
				// Control was ended or restarted; its numbers begin anew then, which it understands.
				if err := pause(c.Context(), 500*time.Millisecond); err != nil {
					return err
				}
			}
		},
	}
	o.add(c.Flags())
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as things happen")
	c.Flags().StringVar(&machine, "machine", "", "only what concerns this machine")
	_ = c.RegisterFlagCompletionFunc("machine", completeMachines(&o, nil))
	outputFlag(c.Flags(), &format)
	return c
}

func printEvent(w io.Writer, e *api.Event, format string) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(toEvent(e))
	}
	who := e.Machine
	if who == "" {
		who = e.Host
	}
	_, err := fmt.Fprintf(w, "%s  %-18s  %-12s  %s\n", e.At.AsTime().Local().Format("15:04:05.000"), e.Kind, who, e.Text)
	return err
}
