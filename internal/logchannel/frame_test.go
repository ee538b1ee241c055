package logchannel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"understudy/event"
	"understudy/replica"
)

var sampleMessages = []replica.Message{
	{
		Type: replica.MsgAppend, View: 3, Sent: 12345 * time.Microsecond, Released: 41,
		Entries: []event.Entry{
			{Seq: 42, Pos: 1 << 40, Kind: event.KindNet, Data: bytes.Repeat([]byte{7}, 1514)},
			{Seq: 43, Pos: 1<<40 + 9, Kind: event.KindCommit},
		},
	},
	{Type: replica.MsgAppend, View: 1},
	{Type: replica.MsgAppend, View: 7, InSync: true, SyncAt: 12},
	{Type: replica.MsgAppend, View: 7, InSync: true},
	{Type: replica.MsgAppend, View: 7, InSync: true, SyncAt: 3, Ask: true},
	{Type: replica.MsgHandOver, View: 8, Held: 99},
	{Type: replica.MsgAck, View: 3, Echo: time.Second, Held: 43, Executed: 40, Progress: 1 << 50, Gap: true},
}

func TestMessagesSurviveTheWire(t *testing.T) {
	var wire []byte
	for i := range sampleMessages {
		wire = AppendMessage(wire, &sampleMessages[i])
	}
	r := bufio.NewReader(bytes.NewReader(wire))
	var buf []byte
	for i, want := range sampleMessages {
		kind, body, err := ReadFrame(r, &buf)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseMessage(kind, body)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("message %d: %+v, %v", i, got, err)
		}
	}
	if _, _, err := ReadFrame(r, &buf); err != io.EOF {
		t.Fatalf("after the last frame: %v", err)
	}
}

func TestDamagedFramesAreRefused(t *testing.T) {
	good := AppendMessage(nil, &sampleMessages[0])
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		var buf []byte
		kind, body, err := ReadFrame(bufio.NewReader(bytes.NewReader(bad)), &buf)
		if err == nil {
			_, err = ParseMessage(kind, body)
		}
		if err == nil {
			t.Fatalf("byte %d damaged, and nobody noticed", i)
		}
	}
	for _, head := range [][]byte{{0, 0, 0, 0, 0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}} {
		var buf []byte
		if _, _, err := ReadFrame(bufio.NewReader(bytes.NewReader(head)), &buf); !errors.Is(err, ErrFrame) {
			t.Fatalf("length % x: %v", head[:4], err)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	for i := range sampleMessages {
		b := AppendMessage(nil, &sampleMessages[i])
		f.Add(b[HeadBytes], b[HeadBytes+1:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		m, err := ParseMessage(kind, body)
		if err != nil {
			return
		}
		if m.Sent < 0 || m.Echo < 0 {
			return // beyond what a clock gives; the core refuses an echo of the future
		}
		again := AppendMessage(nil, &m)
		if _, err := ParseMessage(again[HeadBytes], again[HeadBytes+1:]); err != nil {
			t.Fatalf("%+v cannot be sent on: %v", m, err)
		}
	})
}
