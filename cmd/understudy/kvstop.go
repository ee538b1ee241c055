package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"understudy/internal/kvserve"
)

const (
	// handOverPatience is how long a server that is asked to end waits until another can take its part.
	handOverPatience = 10 * time.Second
	// spareWait is how long a primary without a backup waits for control to give it one. Control does so with the next ping, if
	// there is a spare.
	spareWait     = time.Second
	handOverRetry = 20 * time.Millisecond
)

// runKV runs a server until ctx, which ends with the first signal, is done and its backup has taken over, or a second signal
// comes.
func runKV(ctx context.Context, s *kvserve.Server, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	ran := make(chan error, 1)
	go func() { ran <- s.Run(life) }()
	select {
	case err := <-ran:
		return err
	case <-ctx.Done():
	}
	patient, giveUp := context.WithTimeout(life, handOverPatience)
	defer giveUp()
	go func() {
		for range 2 { // the first is the one that ended ctx
			select {
			case <-signals:
			case <-patient.Done():
				return
			}
		}
		giveUp()
	}()
	handOver(patient, s, log)
	end(context.Cause(ctx))
	return <-ran
}

// handOver returns when this server is not primary any more, or cannot give its part to another.
func handOver(ctx context.Context, s *kvserve.Server, log *slog.Logger) {
	began := time.Now()
	for s.Node().IsPrimary() {
		var err error
		if s.Node().Status().Backup != "" {
			// It may yet be receiving the state.
			if err = s.Node().HandOver(ctx); err == nil {
				log.Info("handed over")
				return
			}
		} else if time.Since(began) > spareWait {
			log.Warn("there is no backup to hand over to")
			return
		}
		select {
		case <-time.After(handOverRetry):
		case <-ctx.Done():
			log.Warn("ends without handing over", "err", err)
			return
		}
	}
}
