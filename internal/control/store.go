package control

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Store keeps what control must not forget: values under keys such as "machine/web". A call that returned no error is
// durable. Safe for concurrent use.
type Store interface {
	// All returns every value by its key.
	All(ctx context.Context) (map[string][]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	// Delete removes a key; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	Close() error
}

var bucket = []byte("control 1")

// BoltStore is a Store in one bbolt file.
type BoltStore struct{ db *bbolt.DB }

// OpenBolt opens the file at path, making it if it does not exist. It waits a little for another process that has it
// open.
func OpenBolt(path string) (*BoltStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 3 * time.Second})
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bucket)
			return err
		})
	}
	if err != nil {
		if db != nil {
			_ = db.Close()
		}
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return &BoltStore{db}, nil
}

// All implements Store.
func (s *BoltStore) All(context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			all[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return all, err
}

// Put implements Store.
func (s *BoltStore) Put(_ context.Context, key string, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), value) })
}

// Delete implements Store.
func (s *BoltStore) Delete(_ context.Context, key string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(key)) })
}

// Close implements Store.
func (s *BoltStore) Close() error { return s.db.Close() }

// EtcdStore is a Store under a prefix in etcd.
type EtcdStore struct {
	client *clientv3.Client
	prefix string
}

// NewEtcd returns a store in an etcd whose client it owns from now on. The prefix ends without a slash.
func NewEtcd(client *clientv3.Client, prefix string) *EtcdStore {
	return &EtcdStore{client, prefix + "/"}
}

// All implements Store.
func (s *EtcdStore) All(ctx context.Context) (map[string][]byte, error) {
	r, err := s.client.Get(ctx, s.prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, kv := range r.Kvs {
		all[string(kv.Key[len(s.prefix):])] = kv.Value
	}
	return all, nil
}

// Put implements Store.
func (s *EtcdStore) Put(ctx context.Context, key string, value []byte) error {
	_, err := s.client.Put(ctx, s.prefix+key, string(value))
	return err
}

// Delete implements Store.
func (s *EtcdStore) Delete(ctx context.Context, key string) error {
	_, err := s.client.Delete(ctx, s.prefix+key)
	return err
}

// Close implements Store.
func (s *EtcdStore) Close() error { return s.client.Close() }
