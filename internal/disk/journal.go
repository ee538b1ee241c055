package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const (
	journalHeadBytes  = 20
	journalDataBytes  = 1 << 20 // of one record
	journalResetBytes = 64 << 20
	maxEpochRecords   = 1 << 20
	journalSeed       = 0x756e6a31 // "unj1", what the first record's checksum begins with
)

// The kinds of a journal's records.
const (
	journalWrite  = 1
	journalZero   = 2
	journalCommit = 3
)

// Journal stages what is written to a machine's disks in an epoch and applies it when the epoch is committed.
// A host that dies at any time leaves disks that hold, after OpenJournal, exactly the epochs committed before,
// or one more if it died within Commit. While the journal is open nobody else writes to the disks: they are
// not started. It is for one goroutine.
//
// What belongs into an epoch are the writes whose completion the machine has been told of in it, in their
// order. Those still in flight at its end are in the machine's state, and are carried out when it goes live.
//
// The file is a row of records: CRC-32C, kind, disk, two zero bytes, sectors (32 bits), first sector or, of a
// commit, the epoch (64 bits), all little-endian; behind a write its bytes. A checksum begins with the one of
// the record before: what a discarded epoch left behind does not continue what overwrote its beginning.
type Journal struct {
	path  string
	file  journalFile
	disks []journalDisk

	end       int64  // of the records that count
	chain     uint32 // the last one's checksum
	committed mark   // where the last committed epoch ended
	staged    []journalRecord

	resetBytes int64 // a journal that is longer is emptied

	epoch uint64
	known bool // an epoch was committed since the journal was emptied by a reopen
	buf   []byte
	err   error // after it nothing is certain any more: the journal must be opened again
}

type mark struct {
	end   int64
	chain uint32
}

type journalRecord struct {
	kind, disk uint8
	count      uint32
	sector     uint64 // of a commit: the epoch
	data       int64  // where its bytes are in the file
}

type journalFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

type journalDisk interface {
	io.WriterAt
	zero(off, n int64) error
	Sync() error
	geometry() geometry
	name() string
}

// rawDisk is the file of a disk that is not started.
type rawDisk struct {
	*os.File
	d *Disk
}

func (r rawDisk) zero(off, n int64) error { return zero(r.File, off, n) }
func (r rawDisk) geometry() geometry      { return r.d.size }
func (r rawDisk) name() string            { return r.d.path }

// OpenJournal opens or makes the journal of disks, which are not started, and applies the epochs that were
// committed. An epoch that was not is dropped.
func OpenJournal(path string, disks []*Disk) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = fmt.Errorf("open journal %s: not a regular file", path)
	case !lock(f, path):
		err = fmt.Errorf("open journal %s: in use by another machine", path)
	case st.Size() == 0:
		err = syncDir(path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	raw := make([]journalDisk, len(disks))
	for i, d := range disks {
		raw[i] = rawDisk{d.file, d}
	}
	j, err := newJournal(path, f, raw)
	if err != nil {
		f.Close()
	}
	return j, err
}

func newJournal(path string, f journalFile, disks []journalDisk) (*Journal, error) {
	if len(disks) > 256 {
		return nil, fmt.Errorf("open journal %s: more than 256 disks", path)
	}
	j := &Journal{path: path, file: f, disks: disks, chain: journalSeed, resetBytes: journalResetBytes}
	j.committed = mark{0, journalSeed}
	if err := j.recover(); err != nil {
		return nil, err
	}
	return j, nil
}

// Epoch is the last one that was committed. It reports false where that is not known: none was since the disks
// were last closed in good order.
func (j *Journal) Epoch() (epoch uint64, known bool) { return j.epoch, j.known }

// Write stages a write of whole sectors. After an error the epoch can only be discarded.
func (j *Journal) Write(disk uint8, sector uint64, data []byte) error {
	if len(data)%SectorBytes != 0 {
		return fmt.Errorf("write journal %s: %d bytes are not whole sectors", j.path, len(data))
	}
	for len(data) > 0 {
		p := data[:min(len(data), journalDataBytes)]
		n := len(p) / SectorBytes
		if err := j.stage(journalRecord{kind: journalWrite, disk: disk, sector: sector, count: uint32(n)}, p); err != nil {
			return err
		}
		data, sector = data[len(p):], sector+uint64(n)
	}
	return nil
}

// Zero stages a discard: the sectors read as zeros from then on.
func (j *Journal) Zero(disk uint8, sector uint64, count uint32) error {
	return j.stage(journalRecord{kind: journalZero, disk: disk, sector: sector, count: count}, nil)
}

func (j *Journal) stage(r journalRecord, p []byte) error {
	switch {
	case j.err != nil:
		return j.err
	case len(j.staged) == maxEpochRecords:
		return fmt.Errorf("write journal %s: more than %d requests in an epoch", j.path, maxEpochRecords)
	}
	if err := j.check(r); err != nil {
		return err
	}
	if err := j.append(&r, p); err != nil {
		return err
	}
	j.staged = append(j.staged, r)
	return nil
}

// check tells whether a record's sectors are a disk's.
func (j *Journal) check(r journalRecord) error {
	if int(r.disk) >= len(j.disks) {
		return fmt.Errorf("journal %s: there is no disk %d", j.path, r.disk)
	}
	if n := j.disks[r.disk].geometry().sectors; r.sector > n || uint64(r.count) > n-r.sector {
		return fmt.Errorf("journal %s: sector %d and %d more are not disk %d's", j.path, r.sector, r.count, r.disk)
	}
	return nil
}

// append writes a record behind the others. When that goes wrong, the next one takes its place.
func (j *Journal) append(r *journalRecord, p []byte) error {
	b := append(j.buf[:0], make([]byte, journalHeadBytes)...)
	b[4], b[5] = r.kind, r.disk
	binary.LittleEndian.PutUint32(b[8:], r.count)
	binary.LittleEndian.PutUint64(b[12:], r.sector)
	b = append(b, p...)
	j.buf = b
	sum := crc32.Update(j.chain, castagnoli, b[4:])
	binary.LittleEndian.PutUint32(b, sum)
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		return writeError(j.path, err)
	}
	r.data = j.end + journalHeadBytes
	j.end, j.chain = j.end+int64(len(b)), sum
	return nil
}

// Discard drops what was staged since the last commit.
func (j *Journal) Discard() {
	j.staged = j.staged[:0]
	j.end, j.chain = j.committed.end, j.committed.chain
}

// Commit makes what was staged the content of epoch, which is above all before it, and applies it. When it
// returns the epoch is durable. After an error it is not known whether it is: the journal must be opened again.
func (j *Journal) Commit(epoch uint64) error {
	if j.err != nil {
		return j.err
	}
	if j.known && epoch <= j.epoch {
		return fmt.Errorf("commit epoch %d: epoch %d is committed already", epoch, j.epoch)
	}
	if err := j.append(&journalRecord{kind: journalCommit, count: uint32(len(j.staged)), sector: epoch}, nil); err != nil {
		j.err = err
		return err
	}
	if err := j.file.Sync(); err != nil {
		j.err = writeError(j.path, err)
		return j.err
	}
	j.epoch, j.known = epoch, true
	j.committed = mark{j.end, j.chain}
	err := j.apply(j.staged)
	j.staged = j.staged[:0]
	if err == nil && j.end >= j.resetBytes {
		err = j.reset()
	}
	j.err = err
	return err
}

// apply carries out staged records on the disks. To do so again, after a crash, is harmless.
func (j *Journal) apply(records []journalRecord) error {
	for _, r := range records {
		if err := j.check(r); err != nil {
			return err
		}
		d := j.disks[r.disk]
		off, n := int64(r.sector)*SectorBytes, int64(r.count)*SectorBytes
		var err error
		if r.kind == journalZero {
			if n > 0 {
				err = d.zero(off, n)
			}
		} else {
			if int64(cap(j.buf)) < n {
				j.buf = make([]byte, n)
			}
			b := j.buf[:n]
			if _, err := j.file.ReadAt(b, r.data); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read journal %s: %w", j.path, err)
			}
			_, err = d.WriteAt(b, off)
		}
		if err != nil {
			return writeError(d.name(), err)
		}
	}
	return nil
}

// reset empties the journal when the disks hold durably what it says. First its beginning is made void: of a
// part that is left by a crash during the cut, old epochs would be applied over newer ones. Then it is durably
// empty before anything is written to it again: no old record is ever read behind a new one.
func (j *Journal) reset() error {
	for _, d := range j.disks {
		if err := d.Sync(); err != nil {
			return writeError(d.name(), err)
		}
	}
	_, err := j.file.WriteAt(make([]byte, journalHeadBytes), 0)
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		err = j.file.Truncate(0)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return writeError(j.path, err)
	}
	j.end, j.chain = 0, journalSeed
	j.committed = mark{0, journalSeed}
	return nil
}

// recover applies every epoch that was committed, in order, and empties the journal.
func (j *Journal) recover() error {
	var epoch []journalRecord
	for {
		r, ok, err := j.read()
		if err != nil {
			return err
		}
		if !ok {
			break // the end, or where a crash tore the last epoch
		}
		if r.kind != journalCommit {
			if len(epoch) == maxEpochRecords {
				break
			}
			epoch = append(epoch, r)
			continue
		}
		if int(r.count) != len(epoch) || j.known && r.sector <= j.epoch {
			return fmt.Errorf("read journal %s: epoch %d does not fit what is before it", j.path, r.sector)
		}
		if err := j.apply(epoch); err != nil {
			return err
		}
		epoch = epoch[:0]
		j.epoch, j.known = r.sector, true
	}
	return j.reset()
}

// read reads the next record. It reports false where there is no whole one.
func (j *Journal) read() (r journalRecord, ok bool, err error) {
	full := func(b []byte, off int64) (bool, error) {
		n, err := j.file.ReadAt(b, off)
		if n == len(b) || err == nil || errors.Is(err, io.EOF) {
			return n == len(b), nil
		}
		return false, fmt.Errorf("read journal %s: %w", j.path, err)
	}
	b := append(j.buf[:0], make([]byte, journalHeadBytes)...)
	if ok, err := full(b, j.end); !ok {
		return r, false, err
	}
	r = journalRecord{
		kind: b[4], disk: b[5], count: binary.LittleEndian.Uint32(b[8:]), sector: binary.LittleEndian.Uint64(b[12:]),
		data: j.end + journalHeadBytes,
	}
	n := 0
	if r.kind == journalWrite {
		if r.count > journalDataBytes/SectorBytes {
			return r, false, nil
		}
		n = int(r.count) * SectorBytes
	}
	b = append(b, make([]byte, n)...)
	j.buf = b
	if ok, err := full(b[journalHeadBytes:], r.data); !ok {
		return r, false, err
	}
	sum := crc32.Update(j.chain, castagnoli, b[4:])
	if sum != binary.LittleEndian.Uint32(b) || r.kind < journalWrite || r.kind > journalCommit {
		return r, false, nil
	}
	j.end, j.chain = j.end+int64(len(b)), sum
	return r, true, nil
}

// Close makes what was committed durable on the disks, drops the rest and closes the journal.
func (j *Journal) Close() error {
	err := j.err
	if err == nil {
		err = j.reset()
	}
	if e := j.file.Close(); err == nil && e != nil {
		err = fmt.Errorf("close journal: %w", e)
	}
	j.err = errors.Join(errors.New("the journal is closed"), err)
	return err
}
