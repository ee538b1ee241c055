package sim

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"

	"understudy/replica"
)

// checkPatience is how long the checker may look at the history of one key. It needs some milliseconds as a rule.
const checkPatience = 20 * time.Second

// keyModel is one key: its value as a result. An operation without an output was not answered.
var keyModel = porcupine.Model{
	Init: func() any { return result{n: missing} },
	Step: func(state, input, output any) (bool, any) {
		was, op := state.(result), input.(*kvOperation)
		got, isAnswered := output.(result)
		is, says := was, result{}
		switch op.verb {
		case verbGet:
			says = was
		case verbSet:
			is = result{int64(len(op.token)), hashOf(hashStart, op.token)}
		case verbAppend:
			if was.n == missing {
				was = result{0, hashStart}
			}
			is = result{was.n + int64(len(op.token)), hashOf(was.hash, op.token)}
			says.n = is.n
		case verbDel:
			is = result{n: missing}
			if was.n != missing {
				says.n = 1
			}
		case verbIncr:
			is.n = max(was.n, 0) + 1
			says.n = is.n
		}
		return !isAnswered || says == got, is
	},
}

// keyHistory is what clients did to a key: all that was answered, and what may have been executed.
func keyHistory(users []*user, k int) []porcupine.Operation {
	var ops []porcupine.Operation
	for _, u := range users {
		for i := range u.past {
			op := &u.past[i]
			if op.key != k || op.verb == verbBrief || op.fate == fateNever || op.fate == fateOpen && op.verb == verbGet {
				continue
			}
			o := porcupine.Operation{ClientId: u.id, Input: op, Call: int64(op.asked), Return: math.MaxInt64}
			if op.fate == fateKnown {
				o.Output, o.Return = op.result, int64(op.got)
			}
			ops = append(ops, o)
		}
	}
	return ops
}

// histories checks what clients saw, key by key.
func (t *watchers) histories() {
	w := t.w
	for k := range w.keys {
		ops := keyHistory(w.users, k)
		t.counts.Checked += len(ops)
		switch porcupine.CheckOperationsTimeout(keyModel, ops, checkPatience) {
		case porcupine.Illegal:
			w.fail(ruleLinear, "the history of key %s, %d operations, is not linearizable", w.keys[k].name, len(ops))
		case porcupine.Unknown:
			t.counts.Unchecked++
		}
	}
}

// once looks at the value of a key to which clients only append: each text (kvOperation.token) is there once, those of a client in its order, and
// none of those that were said never to be executed. It calls each, if not nil, for all.
func (t *watchers) once(k int, value []byte, each func(op *kvOperation)) {
	w := t.w
	newest := make([]uint64, len(w.users))
	for len(value) > 0 {
		text, rest, _ := bytes.Cut(value, []byte(";"))
		value = rest
		who, which, _ := bytes.Cut(text, []byte("."))
		id, err := strconv.Atoi(string(who))
		number, err2 := strconv.ParseUint(string(which), 10, 64)
		if err != nil || err2 != nil || id >= len(w.users) || number == 0 || number > w.users[id].number {
			w.fail(ruleOnceEach, "key %s has %q, which nobody appended", w.keys[k].name, text)
			return
		}
		if number <= newest[id] {
			w.fail(ruleOnceEach, "key %s: request %d of %s was executed after its request %d, or twice", w.keys[k].name, number, w.users[id].name, newest[id])
			return
		}
		newest[id] = number
		op := &w.users[id].past[number-1]
		if op.fate == fateNever {
			w.fail(ruleOnceEach, "key %s: request %d of %s was executed, but its client was told that it was not", w.keys[k].name, number, w.users[id].name)
			return
		}
		if each != nil {
			each(op)
		}
	}
}

// lastValues looks at what the last primary holds: every append that was acknowledged.
func (t *watchers) lastValues() {
	w := t.w
	for _, p := range w.members {
		if p == nil || p.dead || p.role != replica.Primary || uint64(p.core.View()) != w.reg.record.Number {
			continue
		}
		for k := range w.keys {
			if w.keys[k].kind != keyLog {
				continue
			}
			there := map[*kvOperation]bool{}
			reply := p.kv.st.look([][]byte{[]byte("GET"), w.keys[k].name}, p.kv.st.clock, 0)
			t.once(k, bulk(reply), func(op *kvOperation) { there[op] = true })
			for _, u := range w.users {
				for i := range u.past {
					if op := &u.past[i]; op.key == k && op.verb == verbAppend && op.fate == fateKnown && !there[op] {
						w.fail(ruleOnceEach, "key %s: request %d of %s was answered, but is not there", w.keys[k].name, i+1, u.name)
						return
					}
				}
			}
		}
	}
}

// bulk is the string of a reply to GET, or nothing.
func bulk(reply []byte) []byte {
	_, b, _ := bytes.Cut(reply, []byte("\r\n"))
	return bytes.TrimSuffix(b, []byte("\r\n"))
}
