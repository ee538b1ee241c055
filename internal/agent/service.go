package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/pki"
)

const (
	requestMaxBytes = 1 << 20
	consoleChunk    = 32 << 10
)

// serverTLS accepts members of the fleet; Handler says who may do what.
func serverTLS(id *pki.Identity) *tls.Config {
	c := id.Server("")
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}

// quietLog takes what net/http says of broken connections.
func quietLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// Handler serves the ReplicaService for control, and GET /metrics.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	path, service := understudyv1connect.NewReplicaServiceHandler(replicaService{a}, connect.WithReadMaxBytes(requestMaxBytes))
	mux.Handle(path, a.controlOnly(service))
	mux.Handle("GET /metrics", a.metricsHandler())
	return mux
}

// controlOnly keeps other members of the fleet from commanding replicas.
func (a *Agent) controlOnly(h http.Handler) http.Handler {
	if a.opt.Identity == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].VerifyHostname(ControlName) != nil {
			http.Error(w, "only control may ask for this", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// replicaService carries out control's wishes by asking the replica's own process.
type replicaService struct{ a *Agent }

// ReplicaConsole streams what the guest has said.
func (s replicaService) ReplicaConsole(ctx context.Context, r *pb.ReplicaConsoleRequest, out *connect.ServerStream[pb.ConsoleChunk]) error {
	if tail, over := s.a.tailOf(r.GetGroup()); over {
		data, at := tail.read(r.GetFrom())
		for len(data) > 0 {
			n := min(len(data), consoleChunk)
			if err := out.Send(&pb.ConsoleChunk{Data: data[:n], Offset: at}); err != nil {
				return err
			}
			data, at = data[n:], at+int64(n)
		}
		return nil
	}
	ch, err := s.a.childOf(r.GetGroup())
	if err != nil {
		return connectError(err)
	}
	body, at, err := ch.console(ctx, int(r.GetConsole()), r.GetFrom(), r.GetFollow())
	if err != nil {
		return connectError(err)
	}
	defer body.Close()
	buf := make([]byte, consoleChunk)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := out.Send(&pb.ConsoleChunk{Data: buf[:n], Offset: at}); err != nil {
				return err
			}
			at += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			// The replica went away: whoever follows goes on from the same offset elsewhere.
			return connectError(err)
		}
	}
}

// ReplicaType sends keystrokes to the guest.
func (s replicaService) ReplicaType(ctx context.Context, r *pb.ReplicaTypeRequest) (*pb.ReplicaTypeResponse, error) {
	ch, err := s.a.childOf(r.GetGroup())
	if err == nil {
		err = ch.command(ctx, "/console", url.Values{"n": {strconv.Itoa(int(r.GetConsole()))}}, r.GetData(), nil)
	}
	if err != nil {
		return nil, connectError(err)
	}
	return &pb.ReplicaTypeResponse{}, nil
}

// HandOver has the primary give its part to its backup.
func (s replicaService) HandOver(ctx context.Context, r *pb.HandOverRequest) (*pb.HandOverResponse, error) {
	var answer struct {
		View    uint64 `json:"view"`
		PauseNs int64  `json:"pause_ns"`
	}
	ch, err := s.a.childOf(r.GetGroup())
	if err == nil {
		err = ch.command(ctx, "/handover", nil, nil, &answer)
	}
	if err != nil {
		return nil, connectError(err)
	}
	return &pb.HandOverResponse{View: answer.View, Pause: durationpb.New(time.Duration(answer.PauseNs))}, nil
}

// SetReplicaMode changes how the machine is protected.
func (s replicaService) SetReplicaMode(ctx context.Context, r *pb.SetReplicaModeRequest) (*pb.SetReplicaModeResponse, error) {
	q := url.Values{"mode": {"lockstep"}}
	if r.GetMode() == pb.Mode_MODE_CHECKPOINT {
		q.Set("mode", "checkpoint")
		if d := r.GetEpoch().AsDuration(); d > 0 {
			q.Set("epoch", d.String())
		}
	}
	ch, err := s.a.childOf(r.GetGroup())
	if err == nil {
		err = ch.command(ctx, "/mode", q, nil, nil)
	}
	if err != nil {
		return nil, connectError(err)
	}
	return &pb.SetReplicaModeResponse{}, nil
}

// connectError gives an error the code that control can act on.
func connectError(err error) error {
	var no *refusal
	var away *notRunning
	switch {
	case errors.Is(err, errNoReplica):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.As(err, &away):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case errors.As(err, &no):
		switch no.code {
		case http.StatusBadRequest:
			return connect.NewError(connect.CodeInvalidArgument, err)
		case http.StatusNotFound:
			return connect.NewError(connect.CodeNotFound, err)
		case http.StatusConflict:
			return connect.NewError(connect.CodeFailedPrecondition, err)
		case http.StatusRequestedRangeNotSatisfiable:
			return connect.NewError(connect.CodeOutOfRange, err)
		case http.StatusNotImplemented, http.StatusMethodNotAllowed:
			return connect.NewError(connect.CodeUnimplemented, err)
		case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
			return connect.NewError(connect.CodeUnavailable, err)
		}
		return connect.NewError(connect.CodeInternal, err)
	}
	// The socket refused, or the process went away in between.
	return connect.NewError(connect.CodeUnavailable, err)
}
