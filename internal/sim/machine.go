package sim

import (
	"encoding/binary"

	"understudy/event"
)

// Instructions that the toy machine takes for its jobs.
const (
	requestCost = 40
	chatterCost = 25
	diskCost    = 15
)

// said is an output of the toy machine.
type said struct {
	n     int       // place in the machine's output, from 1
	chain uint64    // hash of all that the machine did up to here: two machines that say it have one past
	need  event.Seq // the entry that a backup must hold to be able to say it: the first after the position of output
	reply bool      // an answer to a client, else chatter on the console
	answer
}

// answer is what a client gets.
type answer struct {
	client  int
	request uint32
	value   int64  // of the counter after the request
	version uint64 // place of the request among all that were executed
}

type opKind uint8

const (
	opRead opKind = iota
	opAdd
	opSync // an addition that is answered when the disk has it
)

// request is what a client asks for. A client has one request open at a time and repeats it until answered.
type request struct {
	client int
	number uint32
	op     opKind
	amount int64
}

func (r request) bytes() []byte {
	b := []byte{byte(r.client), byte(r.op)}
	b = binary.LittleEndian.AppendUint32(b, r.number)
	return binary.LittleEndian.AppendUint64(b, uint64(r.amount))
}

func parseRequest(b []byte) request {
	return request{
		client: int(b[0]), op: opKind(b[1]),
		number: binary.LittleEndian.Uint32(b[2:]), amount: int64(binary.LittleEndian.Uint64(b[6:])),
	}
}

type job struct {
	cost int
	kind event.Kind
	req  request
	disk uint32
}

// session is what the machine remembers of a client: its newest request and the answer.
type session struct {
	number   uint32
	answered bool
	answer   answer
}

// machine is the toy in the place of the computer: a counter that serves clients, with instructions, positions,
// a disk and a console. It is deterministic: entries in, outputs out.
type machine struct {
	pos       event.Position
	delivered event.Seq
	hash      uint64
	jobs      []job
	left      int // instructions until the first job is done
	counter   int64
	version   uint64
	sessions  []session
	forgetful bool      // a mutation: repeated requests are executed again
	onDisk    []request // requests that wait for the disk, by disk request number-1
	disk      []uint32  // disk requests that the shell has not taken
	outs      []said    // outputs that the shell has not taken
	chains    []uint64  // said.chain of every output so far
	down      bool      // has shut down
}

func newMachine(clients int, forgetful bool) *machine {
	return &machine{hash: 1, sessions: make([]session, clients), forgetful: forgetful}
}

// run executes up to a position, or less if the machine falls idle.
func (m *machine) run(until event.Position) {
	for m.pos < until && len(m.jobs) > 0 && !m.down {
		n := min(m.left, int(until-m.pos))
		m.pos += event.Position(n)
		m.left -= n
		if m.left == 0 {
			j := m.jobs[0]
			m.jobs = m.jobs[1:]
			if len(m.jobs) > 0 {
				m.left = m.jobs[0].cost
			}
			m.finish(j)
		}
	}
}

// deliver gives the machine an entry at the present position.
func (m *machine) deliver(e *event.Entry) {
	m.delivered++
	m.hash = mix(mix(m.hash, uint64(e.Kind)), uint64(m.pos))
	for _, b := range e.Data {
		m.hash = mix(m.hash, uint64(b))
	}
	switch e.Kind {
	case event.KindNet:
		m.add(job{cost: requestCost, kind: event.KindNet, req: parseRequest(e.Data)})
	case event.KindClock:
		m.add(job{cost: chatterCost, kind: event.KindClock})
	case event.KindDisk:
		m.add(job{cost: diskCost, kind: event.KindDisk, disk: binary.LittleEndian.Uint32(e.Data)})
	case event.KindCommit:
		m.down = m.down || len(e.Data) > 0
	}
}

func (m *machine) add(j job) {
	if m.jobs = append(m.jobs, j); len(m.jobs) == 1 {
		m.left = j.cost
	}
}

func (m *machine) finish(j job) {
	switch j.kind {
	case event.KindNet:
		m.serve(j.req)
	case event.KindClock:
		m.say(said{})
	case event.KindDisk:
		r := m.onDisk[j.disk-1]
		m.answer(r)
	}
}

// serve executes a request once and answers it as often as it is asked.
func (m *machine) serve(r request) {
	s := &m.sessions[r.client]
	switch {
	case r.number < s.number:
		return // answered long ago
	case r.number == s.number && !m.forgetful:
		if s.answered {
			m.say(said{reply: true, answer: s.answer})
		}
		return
	}
	m.version++
	if r.op != opRead {
		m.counter += r.amount
	}
	m.hash = mix(m.hash, uint64(m.counter))
	*s = session{number: r.number, answer: answer{r.client, r.number, m.counter, m.version}}
	if r.op == opSync {
		m.onDisk = append(m.onDisk, r)
		m.disk = append(m.disk, uint32(len(m.onDisk)))
		return
	}
	m.answer(r)
}

func (m *machine) answer(r request) {
	if s := &m.sessions[r.client]; s.number == r.number {
		s.answered = true
		m.say(said{reply: true, answer: s.answer})
	}
}

func (m *machine) say(s said) {
	s.n = len(m.chains) + 1
	m.hash = mix(m.hash, uint64(s.n)+uint64(m.pos)<<20)
	s.chain = m.hash
	s.need = m.delivered + 1
	m.chains = append(m.chains, s.chain)
	m.outs = append(m.outs, s)
}

func (m *machine) digest() uint64 { return mix(mix(m.hash, uint64(m.pos)), uint64(m.counter)) }
