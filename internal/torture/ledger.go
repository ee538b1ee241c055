package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Kinds of a Violation.
const (
	Lost       = "lost"       // an acknowledged effect is not there
	Doubled    = "doubled"    // an effect is there more than once
	Reordered  = "reordered"  // effects are there in another order than they were acknowledged in
	Wrong      = "wrong"      // an answer that no history explains
	Broken     = "broken"     // a connection has ended
	Silent     = "silent"     // no reply came within the bound
	Unsafe     = "unsafe"     // two primaries in one view, or a view number that fell
	Unshielded = "unshielded" // protection did not come back within the bound
	Failed     = "failed"     // a command of the fleet did not do what it must
)

// Violation is a promise that was not kept.
type Violation struct {
	Kind string
	Text string
}

func (v *Violation) Error() string { return v.Kind + ": " + v.Text }

func violation(kind, format string, args ...any) *Violation {
	return &Violation{kind, fmt.Sprintf(format, args...)}
}

const (
	counterKeys = 40
	textKeys    = 24
	valueKeys   = 120
	// textMaxBytes is when a text that is appended to begins anew.
	textMaxBytes = 2000
)

// op is a write, and the reply that it must have if all writes of the ledger before it were done once and in order.
type op struct {
	args []string
	want string
}

// ledger is what one client's keys hold. Nobody else writes to them, and its writes are done in the order of next.
type ledger struct {
	prefix   string
	rng      *rand.Rand
	token    int // number of the newest write
	counters map[string]int64
	strings  map[string]string
}

func newLedger(prefix string, rng *rand.Rand) *ledger {
	return &ledger{prefix: prefix, rng: rng, counters: map[string]int64{}, strings: map[string]string{}}
}

// next makes a write and takes it as done.
func (l *ledger) next() op {
	l.token++
	switch kind := l.rng.IntN(10); {
	case kind < 4:
		key := fmt.Sprintf("%s:n%d", l.prefix, l.rng.IntN(counterKeys))
		l.counters[key]++
		return op{[]string{"INCR", key}, strconv.FormatInt(l.counters[key], 10)}
	case kind < 8:
		key := fmt.Sprintf("%s:t%d", l.prefix, l.rng.IntN(textKeys))
		if len(l.strings[key]) > textMaxBytes {
			return l.set(key, "")
		}
		token := strconv.Itoa(l.token) + ","
		l.strings[key] += token
		return op{[]string{"APPEND", key, token}, strconv.Itoa(len(l.strings[key]))}
	}
	key := fmt.Sprintf("%s:v%d", l.prefix, l.rng.IntN(valueKeys))
	return l.set(key, strconv.Itoa(l.token))
}

// set replaces a value; the reply is the one before, which would otherwise never be looked at again.
func (l *ledger) set(key, value string) op {
	before := l.strings[key]
	l.strings[key] = value
	return op{[]string{"SET", key, value, "GET"}, before}
}

// check compares the reply to a write with the one that it must have.
func (o op) check(got string) *Violation {
	if got == o.want {
		return nil
	}
	if o.args[0] == "SET" {
		return entry{o.args[1], o.want}.compare(got)
	}
	kind := Wrong
	g, err1 := strconv.ParseInt(got, 10, 64)
	w, err2 := strconv.ParseInt(o.want, 10, 64)
	if err1 == nil && err2 == nil {
		if kind = Lost; g > w {
			kind = Doubled
		}
	}
	return violation(kind, "%s %s answered %q, want %q", o.args[0], o.args[1], got, o.want)
}

// entry is a key and the value that must be read back.
type entry struct{ key, want string }

// entries are all that was written, by key.
func (l *ledger) entries() []entry {
	all := make([]entry, 0, len(l.counters)+len(l.strings))
	for k, n := range l.counters {
		all = append(all, entry{k, strconv.FormatInt(n, 10)})
	}
	for k, s := range l.strings {
		all = append(all, entry{k, s})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return all
}

// compare compares what was read back.
func (e entry) compare(got string) *Violation {
	if got == e.want {
		return nil
	}
	if !strings.HasSuffix(e.want, ",") && !strings.HasSuffix(got, ",") {
		if v := (op{[]string{"GET", e.key}, e.want}).check(got); v.Kind != Wrong {
			return v // values only rise: a smaller one is older
		}
		return violation(Lost, "GET %s answered %q, want %q", e.key, got, e.want)
	}
	have, want := tokens(got), tokens(e.want)
	if slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want))) {
		return violation(Reordered, "%s has its parts in another order: %s", e.key, firstDifference(have, want))
	}
	count := map[string]int{}
	for _, t := range want {
		count[t]++
	}
	for _, t := range have {
		count[t]--
	}
	for _, t := range want {
		if count[t] > 0 {
			return violation(Lost, "%s lacks %q, which was acknowledged: %s", e.key, t, firstDifference(have, want))
		}
	}
	return violation(Doubled, "%s has a part too many: %s", e.key, firstDifference(have, want))
}

func tokens(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, ","), ",")
}

func firstDifference(have, want []string) string {
	for i := range max(len(have), len(want)) {
		switch {
		case i >= len(have):
			return fmt.Sprintf("it ends where part %d should be %q", i, want[i])
		case i >= len(want):
			return fmt.Sprintf("it goes on with %q where it should end, after %d parts", have[i], i)
		case have[i] != want[i]:
			return fmt.Sprintf("part %d is %q, want %q", i, have[i], want[i])
		}
	}
	return "no difference"
}
