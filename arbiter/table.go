package arbiter

import "fmt"

// Table is the registers of many groups in memory, without a lock: the core of memstore, and what a
// simulation uses directly. The zero Table is empty and ready.
type Table struct {
	records map[string]Record
}

// Get returns the group's current record; zero if it was never set.
func (t *Table) Get(group string) (Record, error) {
	if err := ValidGroup(group); err != nil {
		return Record{}, err
	}
	return t.records[group], nil
}

// CompareAndSet claims next for the group, by the rule of Decide.
func (t *Table) CompareAndSet(group string, next Record) (current Record, won bool, err error) {
	current, err = t.Get(group)
	if err != nil {
		return Record{}, false, err
	}
	result, won, err := Decide(current, next)
	if err != nil || !won || result == current {
		return result, won, err
	}
	if current.Number == 0 && len(t.records) >= MaxGroups {
		return current, false, fmt.Errorf("%w: the store holds %d groups already", ErrRefused, MaxGroups)
	}
	if t.records == nil {
		t.records = make(map[string]Record)
	}
	t.records[group] = result
	return result, true, nil
}

// All returns a copy of every record that was set.
func (t *Table) All() map[string]Record {
	all := make(map[string]Record, len(t.records))
	for g, r := range t.records {
		all[g] = r
	}
	return all
}
