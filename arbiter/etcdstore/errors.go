package etcdstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"understudy/arbiter"
)

// The reasons for which etcd does not do what it is asked. They come wrapped with the endpoints and what to
// do, and with arbiter.ErrUnreachable: a replica that meets one stays frozen until somebody has helped.
var (
	// ErrNoAnswer: no member answered in time, or those that did have no majority.
	ErrNoAnswer = errors.New("etcd does not answer, or has no quorum")
	// ErrCertificate: one side did not accept the other's certificate, or one side speaks TLS and the other
	// does not.
	ErrCertificate = errors.New("no TLS connection to etcd")
	// ErrDenied: etcd does not know the user, or does not let it read and write under the prefix.
	ErrDenied = errors.New("etcd denies access")
	// ErrCorrupt: the value of a key is not a record.
	ErrCorrupt = errors.New("store is damaged")
)

// explain says what went wrong in our own words and what to do about it.
func (s *Store) explain(verb string, err error) error {
	what := fmt.Sprintf("%s etcd at %s", verb, strings.Join(s.endpoints, ", "))
	silent := isSilent(err)
	why := s.trouble.recent()
	if silent && why != nil {
		err = fmt.Errorf("%w: %w", err, why.err)
	}
	switch {
	case silent && why != nil && why.tls:
		return fmt.Errorf("%w: %s: %w (%w): check the certificates, their authority, and that both sides use TLS", arbiter.ErrUnreachable, what, ErrCertificate, err)
	case isDenied(err):
		return fmt.Errorf("%w: %s: %w (%w): check the user, the password and the rights under %s", arbiter.ErrUnreachable, what, ErrDenied, err, s.prefix)
	case silent:
		return fmt.Errorf("%w: %s: %w (%w): check that most members run and reach each other", arbiter.ErrUnreachable, what, ErrNoAnswer, err)
	}
	return fmt.Errorf("%w: %s: %w", arbiter.ErrUnreachable, what, err)
}

// code finds the gRPC code in the error types of the client, some of which hide it.
func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

func isDenied(err error) bool {
	for _, denied := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthNotEnabled} {
		if errors.Is(err, denied) || strings.Contains(err.Error(), denied.Error()) {
			return true
		}
	}
	c := code(err)
	return c == codes.PermissionDenied || c == codes.Unauthenticated
}

func isSilent(err error) bool {
	c := code(err)
	return errors.Is(err, context.DeadlineExceeded) || c == codes.DeadlineExceeded || c == codes.Unavailable
}

// decode reads the answer to a request for one key: its record and modification revision, zero if there is no
// such key.
func (s *Store) decode(kvs []*mvccpb.KeyValue) (rec arbiter.Record, modified int64, err error) {
	if len(kvs) == 0 {
		return rec, 0, nil
	}
	rec, err = s.parse(kvs[0].Key, kvs[0].Value)
	return rec, kvs[0].ModRevision, err
}

func (s *Store) parse(key, value []byte) (rec arbiter.Record, err error) {
	if len(value) > maxValueBytes {
		err = fmt.Errorf("%d bytes", len(value))
	} else if err = json.Unmarshal(value, &rec); err == nil {
		err = rec.Validate()
	}
	if err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: %w: key %s of etcd at %s: %v: never start over with an empty key while replicas of the group live",
			arbiter.ErrUnreachable, ErrCorrupt, key, strings.Join(s.endpoints, ", "), err)
	}
	return rec, nil
}
