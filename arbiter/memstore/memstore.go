// Package memstore keeps an arbiter's registers in memory: for tests, and for groups whose replicas all
// live and die with one process. What it granted is forgotten with the process, so a protected group that
// spans hosts needs boltstore.
package memstore

import (
	"context"
	"fmt"
	"sync"

	"understudy/arbiter"
	"understudy/arbiter/internal/bell"
)

// Store is an arbiter.Store in memory. Make one with New.
type Store struct {
	mu     sync.Mutex
	table  arbiter.Table
	closed bool
	bell   bell.Bell
}

// New returns an empty store.
func New() *Store { return &Store{} }

func (s *Store) readyLocked(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("%w: store is closed", arbiter.ErrUnreachable)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	return nil
}

// Get implements arbiter.Register.
func (s *Store) Get(ctx context.Context, group string) (arbiter.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx); err != nil {
		return arbiter.Record{}, err
	}
	return s.table.Get(group)
}

// CompareAndSet implements arbiter.Register.
func (s *Store) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx); err != nil {
		return arbiter.Record{}, false, err
	}
	current, won, err := s.table.CompareAndSet(group, next)
	if won {
		s.bell.Ring(group)
	}
	return current, won, err
}

// Watch implements arbiter.Register.
func (s *Store) Watch(ctx context.Context, group string, after uint64) (arbiter.Record, error) {
	return s.bell.Watch(ctx, group, after, s.Get)
}

// All implements arbiter.Store.
func (s *Store) All(ctx context.Context) (map[string]arbiter.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx); err != nil {
		return nil, err
	}
	return s.table.All(), nil
}

// Close implements arbiter.Store. It always returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.bell.RingAll()
	return nil
}
