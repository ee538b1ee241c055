package debian

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"

	"github.com/ulikunitz/xz"
)

// Limits on .xz files: what dpkg and the kernel's build write stays far below them.
const (
	xzMaxDictBytes  = 64 << 20 // xz -9
	xzMaxBlockBytes = 96 << 20 // decoded at once when blocks are decoded in parallel
	xzMaxBlocks     = 1 << 12  // each costs the decoder a dictionary
	xzHeaderBytes   = 12       // stream header and stream footer alike
)

type xzBlock struct {
	off, unpaddedBytes, plainBytes int64
}

// NewXZReader decompresses the .xz stream in r, of sizeBytes bytes. Files of several blocks, as dpkg-deb writes
// large packages, are decoded by several goroutines, in order. The caller must Close it.
//
// Only files of a single stream are taken. Source: The .xz File Format, version 1.2.1.
func NewXZReader(r io.ReaderAt, sizeBytes int64) (io.ReadCloser, error) {
	header, blocks, err := xzLayout(r, sizeBytes)
	if err != nil {
		return nil, err
	}
	parallel := len(blocks) > 1
	for _, b := range blocks {
		parallel = parallel && b.plainBytes <= xzMaxBlockBytes
	}
	if !parallel {
		x, err := xz.NewReader(bufio.NewReaderSize(io.NewSectionReader(r, 0, sizeBytes), 1<<16))
		if err != nil {
			return nil, fmt.Errorf("read xz: %w", err)
		}
		return io.NopCloser(x), nil
	}
	return startXZBlocks(r, header, blocks), nil
}

// xzLayout reads the index at the end of the file and checks each block's header.
func xzLayout(r io.ReaderAt, sizeBytes int64) (header []byte, blocks []xzBlock, err error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w xz file: "+format, append([]any{ErrFormat}, args...)...)
	}
	if sizeBytes < 2*xzHeaderBytes+8 || sizeBytes%4 != 0 {
		return nil, nil, bad("size %d", sizeBytes)
	}
	header = make([]byte, xzHeaderBytes)
	footer := make([]byte, xzHeaderBytes)
	if _, err := r.ReadAt(header, 0); err != nil {
		return nil, nil, fmt.Errorf("read xz header: %w", err)
	}
	if _, err := r.ReadAt(footer, sizeBytes-xzHeaderBytes); err != nil && err != io.EOF {
		return nil, nil, fmt.Errorf("read xz footer: %w", err)
	}
	if string(header[:6]) != "\xfd7zXZ\x00" || string(footer[10:]) != "YZ" {
		return nil, nil, bad("magic bytes missing, or it is cut off")
	}
	indexBytes := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	if indexBytes > sizeBytes-2*xzHeaderBytes || indexBytes > 20*xzMaxBlocks {
		return nil, nil, bad("index of %d bytes", indexBytes)
	}
	index := make([]byte, indexBytes)
	if _, err := r.ReadAt(index, sizeBytes-xzHeaderBytes-indexBytes); err != nil {
		return nil, nil, fmt.Errorf("read xz index: %w", err)
	}
	p := index[1:]
	if index[0] != 0 {
		return nil, nil, bad("no index")
	}
	next := func() int64 {
		v, n := binary.Uvarint(p)
		if n <= 0 || v > 1<<40 {
			err = bad("number in index")
			return 0
		}
		p = p[n:]
		return int64(v)
	}
	count := next()
	if err != nil || count > xzMaxBlocks {
		return nil, nil, bad("%d blocks", count)
	}
	off := int64(xzHeaderBytes)
	for range count {
		b := xzBlock{off: off, unpaddedBytes: next(), plainBytes: next()}
		if err != nil {
			return nil, nil, err
		}
		off += (b.unpaddedBytes + 3) &^ 3
		if off > sizeBytes-xzHeaderBytes-indexBytes || b.unpaddedBytes < 8 {
			return nil, nil, bad("block of %d bytes", b.unpaddedBytes)
		}
		if err := checkXZBlockHeader(r, b.off); err != nil {
			return nil, nil, err
		}
		blocks = append(blocks, b)
	}
	// Anything between the last block and the index would be a second stream or padding.
	if off != sizeBytes-xzHeaderBytes-indexBytes {
		return nil, nil, bad("index and blocks do not add up")
	}
	return header, blocks, nil
}

// checkXZBlockHeader takes only blocks with the single filter LZMA2 and a dictionary that is not out of measure: the
// decoder would allocate whatever the header says.
func checkXZBlockHeader(r io.ReaderAt, off int64) error {
	var buf [64]byte
	n, err := r.ReadAt(buf[:], off)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read xz block header: %w", err)
	}
	h := buf[:n]
	if len(h) < 8 || h[1]&0x3f != 0 {
		return fmt.Errorf("%w xz file: block header (several filters, or damage)", ErrFormat)
	}
	p := h[2:]
	for _, flag := range []byte{0x40, 0x80} { // compressed size, uncompressed size present
		if h[1]&flag != 0 {
			_, n := binary.Uvarint(p)
			if n <= 0 {
				return fmt.Errorf("%w xz file: block header", ErrFormat)
			}
			p = p[n:]
		}
	}
	if len(p) < 3 || p[0] != 0x21 || p[1] != 1 || p[2] > 40 {
		return fmt.Errorf("%w xz file: filter other than LZMA2", ErrFormat)
	}
	if dict := int64(2|p[2]&1) << (p[2]/2 + 11); dict > xzMaxDictBytes {
		return fmt.Errorf("%w xz file: dictionary of %d bytes, at most %d are taken", ErrFormat, dict, xzMaxDictBytes)
	}
	return nil
}

type xzResult struct {
	plain []byte
	err   error
}

// xzBlocks reads the plain bytes of blocks that goroutines decode ahead of it.
type xzBlocks struct {
	queue chan chan xzResult // in block order; its capacity bounds what is decoded ahead
	stop  chan struct{}
	now   bytes.Reader
	err   error
}

func startXZBlocks(r io.ReaderAt, header []byte, blocks []xzBlock) *xzBlocks {
	ahead := max(1, min(runtime.GOMAXPROCS(0), 4))
	x := &xzBlocks{queue: make(chan chan xzResult, ahead-1), stop: make(chan struct{})}
	go func() {
		defer close(x.queue)
		for _, b := range blocks {
			result := make(chan xzResult, 1)
			select {
			case x.queue <- result:
			case <-x.stop:
				return
			}
			go func() {
				plain, err := decodeXZBlock(r, header, b)
				result <- xzResult{plain, err}
			}()
		}
	}()
	return x
}

func (x *xzBlocks) Read(p []byte) (int, error) {
	for x.now.Len() == 0 {
		if x.err != nil {
			return 0, x.err
		}
		result, ok := <-x.queue
		if !ok {
			x.err = io.EOF
			continue
		}
		got := <-result
		x.err = got.err
		x.now.Reset(got.plain)
	}
	return x.now.Read(p)
}

// Close ends the goroutines; those that decode a block finish it first, and Close waits for them, so that the
// file beneath may be closed afterwards.
func (x *xzBlocks) Close() error {
	if x.err == io.ErrClosedPipe {
		return nil
	}
	close(x.stop)
	for result := range x.queue {
		<-result
	}
	x.now.Reset(nil)
	x.err = io.ErrClosedPipe
	return nil
}

// decodeXZBlock wraps one block in a stream of its own, so that the library checks its size and checksum as usual.
func decodeXZBlock(r io.ReaderAt, header []byte, b xzBlock) ([]byte, error) {
	index := []byte{0}
	index = binary.AppendUvarint(index, 1)
	index = binary.AppendUvarint(index, uint64(b.unpaddedBytes))
	index = binary.AppendUvarint(index, uint64(b.plainBytes))
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	tail := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	tail = append(tail, header[6:8]...)
	footer := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(tail))
	footer = append(append(footer, tail...), "YZ"...)

	stream := io.MultiReader(bytes.NewReader(header), io.NewSectionReader(r, b.off, (b.unpaddedBytes+3)&^3),
		bytes.NewReader(index), bytes.NewReader(footer))
	x, err := xz.NewReader(bufio.NewReaderSize(stream, 1<<16))
	if err != nil {
		return nil, fmt.Errorf("read xz: %w", err)
	}
	var plain bytes.Buffer
	plain.Grow(int(min(b.plainBytes, xzMaxBlockBytes)) + bytes.MinRead)
	if _, err := io.Copy(&plain, io.LimitReader(x, b.plainBytes+1)); err != nil {
		return nil, fmt.Errorf("read xz block: %w", err)
	}
	if int64(plain.Len()) != b.plainBytes {
		return nil, fmt.Errorf("%w xz file: block holds %d bytes, index says %d", ErrFormat, plain.Len(), b.plainBytes)
	}
	return plain.Bytes(), nil
}

// DecompressXZ gives the plain bytes of a small .xz file, at most maxBytes of them.
func DecompressXZ(data []byte, maxBytes int64) ([]byte, error) {
	x, err := NewXZReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	defer x.Close()
	plain, err := io.ReadAll(io.LimitReader(x, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read xz: %w", err)
	}
	if int64(len(plain)) > maxBytes {
		return nil, fmt.Errorf("%w xz file: more than %d bytes within", ErrFormat, maxBytes)
	}
	return plain, nil
}
