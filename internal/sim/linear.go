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
	for _, c := range clients {
		for i := range c.past {
			if c.past[i].done {
				ops = append(ops, &c.past[i])
			}
		}
	}
	slices.SortFunc(ops, func(x, y *operation) int { return cmp.Compare(x.version, y.version) })
	for i, o := range ops {
		if i == 0 {
			continue
		}
		before := ops[i-1]
		if o.version == before.version {
			return fmt.Errorf("client %d's request %d and client %d's request %d both were the %d. to be executed",
				before.answer.client, before.answer.request, o.answer.client, o.answer.request, o.version)
		}
		change := int64(0)
		if o.op != opRead {
			change = o.amount
		}
		// An operation that nobody got an answer to may stand between two versions.
		if o.version == before.version+1 && o.value != before.value+change {
			return fmt.Errorf("client %d's request %d gave %d after %d (change %d)", o.answer.client, o.answer.request, o.value, before.value, change)
		}
	}
	// Whoever was answered before another asked was executed before it.
	latest := 0 // of the operations so far, the one that was asked last
	for i, o := range ops {
		if l := ops[latest]; l.asked > o.got {
			return fmt.Errorf("client %d's request %d was executed before client %d's request %d, but asked after that was answered",
				l.answer.client, l.answer.request, o.answer.client, o.answer.request)
		}
		if o.asked > ops[latest].asked {
			latest = i
		}
	}
	return nil
}
