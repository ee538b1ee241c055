// Package etcdstore keeps an arbiter's registers in etcd, for a fleet that runs one already.
//
// A group's register is one key, Prefix/GROUP, whose value is the record as JSON. A claim reads it, decides, and
// writes with a transaction that compares the key's modification revision. Reads are linearizable: a member that
// is cut off from the others answers nothing. There is no lease under the key, for a lease that runs out would
// un-set the register and its numbers would be granted again; for the same reason the keys must not be deleted,
// nor the cluster restored from an older snapshot, while replicas of their groups live.
//
// A lost answer is no danger: the client sends a transaction again only when it cannot have been carried out,
// and a claim that was is recognised by its record (see arbiter.Decide).
package etcdstore

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"understudy/arbiter"
)

const (
	// DefaultPrefix is where keys begin unless Options.Prefix says otherwise.
	DefaultPrefix = "/understudy/arbiter"
	// DefaultTimeout bounds one call unless its context ends earlier. etcd elects a new leader in one to two
	// seconds; a claim that meets an election is repeated by its claimant.
	DefaultTimeout = 2 * time.Second

	// A connection over which nothing comes back is given up after keepAliveTime and keepAliveTimeout, so
	// that a watch notices when a member's host has vanished without a word. etcd refuses clients that ping
	// more often than every five seconds.
	keepAliveTime    = 6 * time.Second
	keepAliveTimeout = 3 * time.Second
	// maxReconnectDelay bounds the pause between attempts to connect.
	maxReconnectDelay = time.Second

	// maxValueBytes bounds what is taken for a record.
	maxValueBytes = 8 << 10
)

// Options tune New. The zero value is ready for use.
type Options struct {
	Prefix             string        // of all keys; "" means DefaultPrefix; slashes at its end do not count
	TLS                *tls.Config   // nil: without TLS
	Username, Password string        // of etcd's own authentication; "": without
	Timeout            time.Duration // bounds each call; 0 means DefaultTimeout
}

// Store is an arbiter.Store in etcd. New makes one.
type Store struct {
	client    *clientv3.Client
	endpoints []string
	prefix    string
	timeout   time.Duration
	closed    atomic.Bool
	trouble   trouble
}

// New returns a store in the etcd cluster whose members answer at the endpoints, each "host:port". It connects
// when first used (see Warm), except with a user name, which etcd must accept within the timeout.
func New(endpoints []string, o Options) (*Store, error) {
	if o.Prefix = strings.TrimRight(o.Prefix, "/"); o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, errors.New("etcd user name and password go together")
	}
	if len(endpoints) == 0 {
		return nil, errors.New("no etcd endpoint, want host:port")
	}
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	s := &Store{prefix: o.Prefix, timeout: o.Timeout}
	urls := make([]string, len(endpoints))
	for i, e := range endpoints {
		if host, port, err := net.SplitHostPort(e); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("etcd endpoint %q: want host:port", e)
		}
		urls[i] = scheme + e
	}
	s.endpoints = endpoints
	reconnect := backoff.DefaultConfig
	reconnect.BaseDelay, reconnect.MaxDelay = 50*time.Millisecond, maxReconnectDelay
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            urls,
		DialTimeout:          o.Timeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		PermitWithoutStream:  true,
		TLS:                  o.TLS,
		Username:             o.Username,
		Password:             o.Password,
		Logger:               zap.NewNop(), // what matters comes back as an error
		DialOptions: append(s.trouble.options(o.TLS),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: o.Timeout})),
	})
	if err != nil {
		return nil, s.explain("connect to", err)
	}
	s.client = client
	return s, nil
}

func (s *Store) key(group string) string { return s.prefix + "/" + group }

// begin bounds a call.
func (s *Store) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.closed.Load() {
		return nil, nil, fmt.Errorf("%w: the connection to etcd is closed", arbiter.ErrUnreachable)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	return ctx, cancel, nil
}

// Warm opens a connection, if none is open, and asks for a linearizable read. A replica calls it every few
// seconds so that a claim, which is in the path of a failover, starts with a connection that works.
func (s *Store) Warm(ctx context.Context) error {
	_, err := s.Get(ctx, "healthz")
	return err
}

// Get implements arbiter.Register.
func (s *Store) Get(ctx context.Context, group string) (arbiter.Record, error) {
	rec, _, err := s.get(ctx, group)
	return rec, err
}

// get also returns the revision of etcd at which the record was current.
func (s *Store) get(ctx context.Context, group string) (rec arbiter.Record, revision int64, err error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return rec, 0, err
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return rec, 0, err
	}
	defer cancel()
	resp, err := s.client.Get(ctx, s.key(group))
	if err != nil {
		return rec, 0, s.explain("read from", err)
	}
	rec, _, err = s.decode(resp.Kvs)
	return rec, resp.Header.GetRevision(), err
}

// CompareAndSet implements arbiter.Register.
func (s *Store) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, false, err
	}
	if err := next.Validate(); err != nil {
		return arbiter.Record{}, false, err
	}
	value, err := json.Marshal(next)
	if err != nil {
		return arbiter.Record{}, false, fmt.Errorf("%w: %v", arbiter.ErrInvalid, err)
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return arbiter.Record{}, false, err
	}
	defer cancel()
	key := s.key(group)
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return arbiter.Record{}, false, s.explain("read from", err)
	}
	current, modified, err := s.decode(resp.Kvs)
	if err != nil {
		return arbiter.Record{}, false, err
	}
	// A transaction that does not succeed shows a later record, which decides. More rounds than two mean
	// that somebody deletes the key again and again.
	for range 8 {
		result, won, err := arbiter.Decide(current, next)
		if err != nil || !won || result == current {
			return result, won, err
		}
		if current.Number == 0 {
			if err := s.checkRoom(ctx); err != nil {
				return arbiter.Record{}, false, err
			}
		}
		// ModRevision 0 stands for a key that does not exist.
		txn, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
			Then(clientv3.OpPut(key, string(value))).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			return arbiter.Record{}, false, s.explain("claim in", err)
		}
		if txn.Succeeded {
			return next, true, nil
		}
		current, modified, err = s.decode(txn.Responses[0].GetResponseRange().GetKvs())
		if err != nil {
			return arbiter.Record{}, false, err
		}
	}
	return arbiter.Record{}, false, fmt.Errorf("%w: key %s changes against the rules", arbiter.ErrUnreachable, key)
}

// checkRoom refuses one more group than arbiter.MaxGroups. Groups made at the same instant may pass it.
func (s *Store) checkRoom(ctx context.Context) error {
	resp, err := s.client.Get(ctx, s.prefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return s.explain("read from", err)
	}
	if resp.Count >= arbiter.MaxGroups {
		return fmt.Errorf("%w: the store holds %d groups already", arbiter.ErrRefused, arbiter.MaxGroups)
	}
	return nil
}

// Watch implements arbiter.Register.
func (s *Store) Watch(ctx context.Context, group string, after uint64) (arbiter.Record, error) {
	rec, revision, err := s.get(ctx, group)
	if err != nil || rec.Number > after {
		return rec, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// WithRequireLeader: a member that lost the others ends the watch instead of being silent.
	events := s.client.Watch(clientv3.WithRequireLeader(ctx), s.key(group), clientv3.WithRev(revision+1))
	for resp := range events {
		if err := resp.Err(); err != nil {
			return arbiter.Record{}, s.explain("watch", err)
		}
		for _, e := range resp.Events {
			if e.Type != clientv3.EventTypePut {
				continue
			}
			rec, err := s.parse(e.Kv.Key, e.Kv.Value)
			if err != nil {
				return arbiter.Record{}, err
			}
			if rec.Number > after {
				return rec, nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return arbiter.Record{}, fmt.Errorf("%w: watch group %q: %w", arbiter.ErrUnreachable, group, err)
	}
	return arbiter.Record{}, fmt.Errorf("%w: watch group %q: etcd ended it", arbiter.ErrUnreachable, group)
}

// All implements arbiter.Store.
func (s *Store) All(ctx context.Context) (map[string]arbiter.Record, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	resp, err := s.client.Get(ctx, s.prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, s.explain("read from", err)
	}
	all := make(map[string]arbiter.Record, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		group := strings.TrimPrefix(string(kv.Key), s.prefix+"/")
		if arbiter.ValidGroup(group) != nil {
			continue // not ours: another store's prefix begins with ours
		}
		if all[group], err = s.parse(kv.Key, kv.Value); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Close implements arbiter.Store. Watches and calls under way end with an error.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd: %w", err)
	}
	return nil
}
