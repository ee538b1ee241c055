package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
)

const (
	reportEvery = time.Second
	// reportTimeout is how long control may take to hear a report.
	reportTimeout = 5 * time.Second
	// reportEventsMax bounds the events of one report, as control does.
	reportEventsMax = 100
	// firstListWithin and nextListWithin are how long control may be silent: it sends its list at once and
	// then every ten seconds at least.
	firstListWithin = 10 * time.Second
	nextListWithin  = 25 * time.Second
	// redialFirst and redialMost bound the time between two attempts to reach control.
	redialFirst = 100 * time.Millisecond
	redialMost  = 3 * time.Second
)

// errSilent reports a control that holds the connection and says nothing.
var errSilent = errors.New("it says nothing")

// httpClient is for calls to a control process.
func (a *Agent) httpClient() *http.Client {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	if a.opt.Identity != nil {
		t.TLSClientConfig = a.opt.Identity.Client(ControlName)
		t.ForceAttemptHTTP2 = true
	}
	return &http.Client{Transport: t}
}

// talk keeps a conversation with control, whichever of its addresses answers, until the context ends.
func (a *Agent) talk(ctx context.Context) {
	client := a.httpClient()
	defer client.CloseIdleConnections()
	wait, said := redialFirst, ""
	for i := 0; ctx.Err() == nil; i++ {
		address := a.opt.Control[i%len(a.opt.Control)]
		heard, err := a.converse(ctx, understudyv1connect.NewHostServiceClient(client, a.opt.controlURL(address)), address)
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait = redialFirst
		}
		// Once for each new reason: control may be away for hours.
		if why := fmt.Sprintf("%s: %v", address, err); heard || why != said {
			a.opt.Log.Warn("control cannot be reached; the replicas go on, and this host keeps trying", "control", address, "err", err)
			said = why
		}
		if (i+1)%len(a.opt.Control) == 0 || heard {
			sleep(ctx, wait)
			wait = min(2*wait, redialMost)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// converse takes lists from control and reports to it until the connection ends. It tells whether control was heard.
func (a *Agent) converse(ctx context.Context, control understudyv1connect.HostServiceClient, address string) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(firstListWithin, func() { cancel(errSilent) })
	defer silence.Stop()
	stream, err := control.Work(ctx, &pb.WorkRequest{
		Host: a.opt.Name, Address: a.opt.address(), MemBytes: a.opt.MemBytes, Version: a.opt.Version, Incarnation: a.incarnation,
	})
	if err != nil {
		return false, cause(ctx, err)
	}
	defer stream.Close()
	reported := make(chan struct{})
	for stream.Receive() {
		if !heard {
			heard = true
			a.opt.Log.Info("connected to control", "control", address)
			a.setConnected(address)
			defer a.setConnected("")
			go func() {
				defer close(reported)
				a.reportTo(ctx, cancel, control)
			}()
			defer func() {
				cancel(nil)
				<-reported
			}()
		}
		silence.Reset(nextListWithin)
		a.apply(stream.Msg())
	}
	err = stream.Err()
	if err == nil {
		err = errors.New("it ended the conversation")
	}
	return heard, cause(ctx, err)
}

// cause gives the reason for which we ended a call ourselves, if we did.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func (a *Agent) setConnected(address string) {
	a.mu.Lock()
	a.connected = address
	a.mu.Unlock()
}

// reportTo reports every second, and at once when something has changed.
func (a *Agent) reportTo(ctx context.Context, end context.CancelCauseFunc, control understudyv1connect.HostServiceClient) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := a.reportOnce(ctx, control); err != nil && ctx.Err() == nil {
			a.opt.Log.Debug("report", "err", err)
			if connect.CodeOf(err) == connect.CodeFailedPrecondition {
				end(err) // it has forgotten us: say again who we are
				return
			}
			sleep(ctx, redialFirst)
		}
		select {
		case <-tick.C:
		case <-a.report:
		case <-ctx.Done():
		}
	}
}

// reportOnce sends one report. Events are dropped only when control has taken them: it may see one twice.
func (a *Agent) reportOnce(ctx context.Context, control understudyv1connect.HostServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	r, events, lost := a.makeReport()
	if _, err := control.Report(ctx, r); err != nil {
		return err
	}
	a.mu.Lock()
	// Those that were dropped meanwhile, because too many waited, were at the front too.
	a.events = a.events[max(0, events-(a.lost-lost)):]
	a.mu.Unlock()
	return nil
}

// makeReport says how everything is, and how many events are in it.
func (a *Agent) makeReport() (r *pb.ReportRequest, events, lost int) {
	r = &pb.ReportRequest{Host: a.opt.Name, Incarnation: a.incarnation}
	for _, k := range a.all() {
		k.mu.Lock()
		if k.wish != nil || k.cond.begun > 0 {
			r.Replicas = append(r.Replicas, k.cond.proto(a.opt.Name))
			if p := k.cond.progressProto(); p != nil {
				r.Progress = append(r.Progress, p)
			}
		}
		k.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.refused {
		r.Progress = append(r.Progress, proto.CloneOf(p))
	}
	r.Events = append(r.Events, a.events[:min(len(a.events), reportEventsMax)]...)
	return r, len(r.Events), a.lost
}

// lastReport tells control how everything is once the replicas have ended, if it was there lately.
func (a *Agent) lastReport() {
	a.mu.Lock()
	address := a.connected
	a.mu.Unlock()
	if address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	client := a.httpClient()
	defer client.CloseIdleConnections()
	if err := a.reportOnce(ctx, understudyv1connect.NewHostServiceClient(client, a.opt.controlURL(address))); err != nil {
		a.opt.Log.Warn("control does not hear that this host's replicas have ended", "err", err)
	}
}
