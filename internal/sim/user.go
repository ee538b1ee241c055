package sim

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"understudy/kv/resp"
)

// ask is one operation as a client of the key-value service sends it, again and again until it is answered.
type ask struct {
	u      *user
	number uint64
	read   bool
	args   [][]byte
}

// manner is how a server answers.
type manner uint8

const (
	answered manner = iota
	refused         // not the primary: this copy of the request was not executed and will not be
	unknown         // the connection broke
)

type verb uint8

const (
	verbGet verb = iota
	verbSet
	verbAppend
	verbDel
	verbIncr
	verbBrief // a key that lives for some milliseconds: for the digests alone
)

var verbNames = [...]string{"GET", "SET", "APPEND", "DEL", "INCR", "SET"}

// result is what a client was told: a number, or how long a value is and its hash. missing: there is none.
type result struct {
	n    int64
	hash uint64
}

const missing = -1

type fate uint8

const (
	fateOpen  fate = iota // nobody knows whether it was executed, or will be
	fateKnown             // answered
	fateNever             // it was refused, and there was but one copy of it
)

// kvOperation is an operation in a client's history.
type kvOperation struct {
	verb  verb
	key   int
	token string
	asked time.Duration
	got   time.Duration
	after uint64 // commands that had been executed as far as any client knew when it was asked
	fate  fate
	result
}

// user is a client of the key-value service: it does one operation at a time, at whomever it takes for the primary, and
// repeats it there or elsewhere until it is answered.
type user struct {
	w      *World
	id     int
	name   string
	number uint64 // of the newest operation
	reads  int    // of twenty operations
	leader int    // slot of the server that it asks
	open   bool
	tries  int // of the newest operation
	copies int // of it that were sent
	ask    *ask
	past   []kvOperation
	cut    time.Duration                   // cannot be reached until
	apart  [len(memberNames)]time.Duration // the same of single servers
	after  int                             // operations asked and answered after the faults had stopped
}

// keyKind is what is done with a key.
type keyKind uint8

const (
	keyRegister keyKind = iota // set, appended to, removed
	keyCounter
	keyLog // only appended to
)

type key struct {
	name []byte
	kind keyKind
	open int // operations of which nobody will ever know what became of them
}

// maxOpen bounds these for each key, so that the histories can be checked.
const maxOpen = 2

func (w *World) newUsers() {
	w.reader = resp.NewReplyReader(&w.replies)
	kinds := []keyKind{keyRegister, keyCounter, keyLog, keyRegister, keyLog}
	for i := range 2 + w.rng.intn(len(kinds)-1) {
		w.keys = append(w.keys, key{name: fmt.Appendf(nil, "k%d", i), kind: kinds[i]})
	}
	for i := range 2 + w.rng.intn(11) {
		u := &user{w: w, id: i, name: fmt.Sprintf("user%d", i), leader: w.rng.intn(w.s.hosts), reads: [...]int{3, 7, 18, 20}[w.rng.intn(4)]}
		if w.s.readers && i > 1 {
			u.reads = 20
		}
		w.users = append(w.users, u)
	}
}

func (u *user) think() {
	w := u.w
	most := w.s.think
	if w.healed > 0 || len(u.past) > 2000 {
		most = 20 * ms // enough was asked
	}
	d := w.rng.between(0, most)
	if w.rng.chance(100) {
		d += w.rng.between(0, 100*ms)
	}
	w.plan(d, nil, u.begin)
}

// begin asks for something new.
func (u *user) begin() {
	w := u.w
	if u.open {
		return
	}
	u.number++
	op := kvOperation{key: w.rng.intn(len(w.keys)), token: fmt.Sprintf("%d.%d;", u.id, u.number), asked: w.now, after: w.watch.told}
	k := &w.keys[op.key]
	switch r := w.rng.intn(20); {
	case r < u.reads:
		op.verb = verbGet
	case r == 19:
		op.verb = verbBrief
	case k.kind == keyCounter:
		op.verb = verbIncr
	case k.kind == keyLog, w.rng.chance(2):
		op.verb = verbAppend
	case !w.rng.chance(5):
		op.verb = verbSet
	default:
		op.verb = verbDel
	}
	args := [][]byte{[]byte(verbNames[op.verb]), k.name}
	switch op.verb {
	case verbSet, verbAppend:
		args = append(args, []byte(op.token))
	case verbBrief:
		args[1] = fmt.Appendf(nil, "b%d", w.rng.intn(8))
		args = append(args, []byte(op.token), []byte("PX"), strconv.AppendInt(nil, int64(1+w.rng.intn(60)), 10))
	}
	u.ask = &ask{u, u.number, op.verb == verbGet, args}
	u.past = append(u.past, op)
	u.open, u.tries, u.copies = true, 0, 0
	if w.telling {
		w.tell(nil, "%s asks request %d: %s", u.name, u.number, bytes.Join(args, []byte(" ")))
	}
	u.send()
}

// send sends the operation once more, and sees to it if there is no answer.
func (u *user) send() {
	w := u.w
	u.tries++
	try, number := u.tries, u.number
	copies := 1
	if w.rng.permille(w.s.twice) {
		copies = 2
	}
	for range copies {
		u.copies++
		if u.lost(u.leader) {
			continue
		}
		a, slot := u.ask, u.leader
		w.plan(w.userDelay(), nil, func() {
			switch p := w.members[slot]; {
			case p != nil && !p.dead:
				w.plan(0, p, func() { p.kv.hear(a) })
			case a.u.reaches(slot):
				w.plan(w.clientDelay(), nil, func() { u.hears(a.number, &call{ask: a}, unknown) })
			}
		})
	}
	w.plan(w.rng.between(25*ms, 120*ms), nil, func() {
		if u.open && u.number == number && u.tries == try {
			u.again()
		}
	})
}

func (u *user) reaches(slot int) bool { return u.w.now >= u.cut && u.w.now >= u.apart[slot] }

func (u *user) lost(slot int) bool { return !u.reaches(slot) || u.w.rng.permille(u.w.s.clientLoss) }

// again tries the operation anew, perhaps elsewhere; or, seldom, the client goes on without having learnt what became of it.
func (u *user) again() {
	w := u.w
	w.watch.counts.Retries++
	if k := &w.keys[u.past[len(u.past)-1].key]; w.rng.chance(12) && k.open < maxOpen && w.healed == 0 {
		k.open++
		w.tell(nil, "%s gives up request %d", u.name, u.number)
		u.open = false
		u.think()
		return
	}
	try, number := u.tries, u.number
	later := func(after time.Duration) {
		w.plan(after, nil, func() {
			if u.open && u.number == number && u.tries == try {
				u.send()
			}
		})
	}
	pause := w.rng.between(0, time.Duration(min(u.tries, 10))*3*ms)
	switch w.rng.intn(4) {
	case 0: // once more there
		later(pause)
	case 1:
		u.leader = w.rng.intn(w.s.hosts)
		later(pause)
	default: // ask a copy of the view service
		s := w.services[w.rng.intn(len(w.services))]
		s.then(w.userDelay(), func() {
			a, err := s.core.Known(groupName)
			w.plan(w.userDelay(), nil, func() {
				for i, name := range memberNames[:w.s.hosts] {
					if err == nil && name == a.View.Primary {
						u.leader = i
					}
				}
			})
		})
		later(5*ms + pause)
	}
}

// respond is a server's answer on its way.
func (w *World) respond(p *process, c *call, how manner) {
	u := c.u
	if u.lost(p.slot) {
		return
	}
	copies := 1
	if w.rng.permille(w.s.twice) {
		copies = 2
	}
	number := c.number
	for range copies {
		w.plan(w.userDelay(), nil, func() { u.hears(number, c, how) })
	}
}

// userDelay is mostly short, and sometimes longer than a failover takes.
func (w *World) userDelay() time.Duration {
	if w.rng.permille(w.s.late) && w.healed == 0 {
		return w.rng.between(ms, 400*ms)
	}
	return w.clientDelay()
}

func (u *user) hears(number uint64, c *call, how manner) {
	if !u.open || number != u.number {
		return
	}
	w := u.w
	op := &u.past[len(u.past)-1]
	if how != answered {
		w.watch.counts.Refused++
		if how == refused && u.copies == 1 && w.rng.chance(2) {
			w.tell(nil, "%s is told that request %d is not executed, and takes that for its fate", u.name, number)
			op.fate = fateNever
			u.open = false
			u.think()
			return
		}
		u.again()
		return
	}
	if w.telling {
		w.tell(nil, "%s has the answer to request %d: %.60q", u.name, number, c.reply)
	}
	ok := false
	if op.result, ok = u.w.parse(op, c.reply); !ok {
		w.fail(ruleLinear, "%s is answered %q to request %d", u.name, c.reply, number)
		return
	}
	op.fate, op.got = fateKnown, w.now
	u.open = false
	w.watch.heard(u, op, c)
	if w.healed > 0 && op.asked >= w.healed {
		u.after++
	}
	u.think()
}

// parse reads a reply. Not ok: the operation cannot have it.
func (w *World) parse(op *kvOperation, reply []byte) (result, bool) {
	w.replies.Reset()
	w.replies.Write(reply)
	v, err := w.reader.Read()
	if err != nil {
		return result{}, false
	}
	switch op.verb {
	case verbSet, verbBrief:
		return result{}, v.Kind == resp.Simple
	case verbAppend, verbDel, verbIncr:
		return result{n: v.Int}, v.Kind == resp.Int
	}
	if v.Kind == resp.Null {
		return result{n: missing}, true
	}
	if w.keys[op.key].kind == keyCounter {
		n, err := strconv.ParseInt(string(v.Str), 10, 64)
		return result{n: n}, err == nil
	}
	return result{int64(len(v.Str)), hashOf(hashStart, string(v.Str))}, v.Kind == resp.Bulk
}

const hashStart = 14695981039346656037

// hashOf goes on with the hash of a string: FNV-1a, so that the hash of two strings in a row comes of the first one's.
func hashOf(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
