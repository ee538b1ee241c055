package kv

// Keys returns how many keys a database has, and how many of them have a deadline; as with DBSIZE, those that are due and not
// removed yet count.
func (s *Store) Keys(db int) (keys, deadlines int) {
	if db < 0 || db >= Databases {
		return 0, 0
	}
	d := s.dbs[db]
	return d.list.n, len(d.due.at)
}
