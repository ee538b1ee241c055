// Package demo runs a protected machine in real processes on this host, kills one side under load, and
// tells what a client saw of it. The tests and benchmarks with real processes use its parts.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"understudy/internal/host"
)

// Options of a demo.
type Options struct {
	Pair PairOptions
	Kill string        // "primary" or "backup"
	Load time.Duration // how long the load runs before the kill, and again after it
	Boot time.Duration // how long the guest may take to boot
	// Keep, if set, is told the result and where the machine can be reached; the survivor then runs on until
	// the context ends.
	Keep  func(rep *Report, addr string, survivor host.Status)
	View  io.Writer // the live view goes here; nil: no view
	Plain bool      // lines instead of a view that redraws itself
}

// Run runs the demo. The report is complete as far as the demo came; the error says why it ended early.
func Run(ctx context.Context, o Options) (*Report, error) {
	rep := &Report{Killed: o.Kill}
	if o.Kill != "primary" && o.Kill != "backup" {
		return rep, fmt.Errorf("kill %q: want primary or backup", o.Kill)
	}
	v := newView(o.View, o.Plain)
	defer v.close()
	v.phase("starting virtual LAN, arbiter, host a (primary) and host b (backup)")
	start := time.Now()
	p, err := StartPair(ctx, o.Pair)
	if err != nil {
		return rep, err
	}
	defer p.Close()
	v.watch(p)
	v.phase("booting Debian's kernel in both, redis-server is started in it")

	bootCtx, cancel := context.WithTimeoutCause(ctx, o.Boot, errors.New("the guest did not boot in time"))
	defer cancel()
	load, err := awaitGuest(bootCtx, p)
	if err != nil {
		return rep, err
	}
	defer load.Close()
	rep.BootS = time.Since(start).Seconds()
	v.phase(fmt.Sprintf("redis answers after %.1f s; writing over one TCP connection", rep.BootS))

	// The load runs until it is told to stop; its one connection is never opened again.
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	loadDone := make(chan error, 1)
	go func() { loadDone <- load.Run(loadCtx) }()
	v.count(load.Acks)
	before, _ := StatusOf(p.A)
	beforeAt := time.Now()
	if err := sleep(ctx, o.Load, loadDone); err != nil {
		return rep, err
	}
	if s, err := StatusOf(p.A); err == nil {
		rep.LogMbitS = float64(s.LogBytes-before.LogBytes) * 8 / time.Since(beforeAt).Seconds() / 1e6
	}
	victim, survivor := p.A, p.B
	if o.Kill == "backup" {
		victim, survivor = p.B, p.A
	}
	if s, err := StatusOf(p.A); err != nil || s.Role != "primary" || s.Solo {
		return rep, fmt.Errorf("the machine is not protected any more before the kill (this host may be overloaded; --suspect-after raises the bound): host a: %s; host b: %s",
			p.A.LastWords(), p.B.LastWords())
	}
	rep.AckedBefore = load.Acks()
	killed := time.Now()
	v.phase(fmt.Sprintf("kill -9 of the %s (host %s) under load", o.Kill, victim.Name))
	if err := victim.Kill(); err != nil {
		return rep, err
	}
	v.dead(victim)
	if err := sleep(ctx, o.Load, loadDone); err != nil {
		return rep, err
	}
	v.phase("reading back every acknowledged write over the same connection")
	stopLoad()
	runErr := <-loadDone
	rep.AckedAfter = load.Acks() - rep.AckedBefore
	rep.BlackoutMs = millis(load.Blackout(killed))
	s, err := StatusOf(survivor)
	if err != nil {
		return rep, fmt.Errorf("ask the survivor: %w", err)
	}
	rep.times(killed, s.Timeline)
	rep.View = s.View
	if runErr == nil {
		rep.Lost, rep.Duplicated, runErr = load.Verify()
	}
	rep.SameConnection = runErr == nil
	if runErr != nil {
		rep.Error = fmt.Sprintf("the connection was lost: %v", runErr)
	}
	v.close()
	if o.Keep != nil && runErr == nil {
		rep.Kept = true
		o.Keep(rep, p.Addr, s)
		<-ctx.Done()
	}
	return rep, nil
}

// awaitGuest waits for Redis, and tells early when a replica has ended instead.
func awaitGuest(ctx context.Context, p *Pair) (*Load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.A.Done():
			cancel(fmt.Errorf("host a ended: %s", p.A.LastWords()))
		case <-p.B.Done():
			cancel(fmt.Errorf("host b ended: %s", p.B.LastWords()))
		case <-ctx.Done():
		}
	}()
	return Await(ctx, p.Addr, "demo")
}

// sleep waits while the load runs; a load that fails ends the wait, as its result is already known.
func sleep(ctx context.Context, d time.Duration, load chan error) error {
	select {
	case <-time.After(d):
	case err := <-load:
		load <- err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
