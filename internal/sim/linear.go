package sim

import (
	"cmp"
	"fmt"
	"slices"
)

// linear checks the clients' histories: there is an order of all requests, each between its asking and its
// answer, in which a counter gives these answers. The machine tells the order that it claims (answer.version), so
// that it remains to check it; a test compares this with the general checker.
func linear(clients []*client) error {
	var ops []*operation
	var open []int64 // what the requests without an answer add, if they were executed
	for _, c := range clients {
		for i := range c.past {
			o := &c.past[i]
			switch {
			case o.done:
				ops = append(ops, o)
			case o.op == opRead:
				open = append(open, 0)
			default:
				open = append(open, o.amount)
			}
		}
	}
	slices.SortFunc(ops, func(x, y *operation) int { return cmp.Compare(x.version, y.version) })
	before := &operation{}
	for _, o := range ops {
		if o.version == before.version {
			return fmt.Errorf("%v and %v both were executed as number %d", before, o, o.version)
		}
		extra := o.value - before.value
		if o.op != opRead {
			extra -= o.amount
		}
		if !someOf(open, o.version-before.version-1, extra) {
			return fmt.Errorf("%v gave %d after %v gave %d", o, o.value, before, before.value)
		}
		before = o
	}
	// Whoever was answered before another asked was executed before it.
	latest := &operation{} // of the operations so far, the one that was asked last
	for _, o := range ops {
		if latest.asked > o.got {
			return fmt.Errorf("%v was executed before %v, but asked after that was answered", latest, o)
		}
		if o.asked > latest.asked {
			latest = o
		}
	}
	return nil
}

// someOf tells whether n of the amounts sum up to sum.
func someOf(amounts []int64, n uint64, sum int64) bool {
	if n == 0 {
		return sum == 0
	}
	for i, a := range amounts {
		if someOf(amounts[i+1:], n-1, sum-a) {
			return true
		}
	}
	return false
}

func (o *operation) String() string {
	return fmt.Sprintf("request %d of client %d", o.answer.request, o.answer.client)
}
