package wire

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

var benchSizes = []int{64, 1 << 10, 64 << 10}

func benchRequest(size int) Request {
	return Request{ID: 12345, Cluster: []byte("upper"), Budget: 5000, Payload: make([]byte, size)}
}

func benchReply(size int) Reply { return Reply{ID: 12345, Payload: make([]byte, size)} }

func BenchmarkAppendRequest(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := benchRequest(size)
			buf := make([]byte, 0, r.Size())
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendRequest(buf[:0], r)
			}
		})
	}
}

func BenchmarkParseRequest(b *testing.B) {
	content := content(b, AppendRequest(nil, benchRequest(64)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRequestWithHeaders(b *testing.B) {
	r := benchRequest(64)
	r.Headers = EncodeHeaders(map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "a"})
	content := content(b, AppendRequest(nil, r))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendReply(b *testing.B) {
	r := benchReply(64)
	buf := make([]byte, 0, r.Size())
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendReply(buf[:0], r)
	}
}

func BenchmarkParseReply(b *testing.B) {
	content := content(b, AppendReply(nil, benchReply(64)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReply(content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	m := Publish{Topic: []byte("news"), Payload: make([]byte, 128)}
	buf := make([]byte, 0, m.Size())
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendPublish(buf[:0], m)
	}
}

func BenchmarkParsePublish(b *testing.B) {
	content := content(b, AppendPublish(nil, Publish{Topic: []byte("news"), Payload: make([]byte, 128)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePublish(content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	m := Event{Topic: []byte("news"), Payload: make([]byte, 128)}
	buf := make([]byte, 0, m.Size())
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], m)
	}
}

func BenchmarkParseEvent(b *testing.B) {
	content := content(b, AppendEvent(nil, Event{Topic: []byte("news"), Payload: make([]byte, 128)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEvent(content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendData(b *testing.B) {
	d := Data{ID: NodeTunnel + 7, Last: true, Payload: make([]byte, 64<<10)}
	buf := make([]byte, 0, d.Size())
	b.SetBytes(int64(len(d.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendData(buf[:0], d)
	}
}

func BenchmarkParseData(b *testing.B) {
	content := content(b, AppendData(nil, Data{ID: NodeTunnel + 7, Last: true, Payload: make([]byte, 64<<10)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseData(content); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats bytes for ever, a segment per read.
type endless struct {
	bytes []byte
	at    int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.bytes[e.at:])
	e.at = (e.at + n) % len(e.bytes)
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			frame := AppendRequest(nil, benchRequest(size))
			r := NewReader(&endless{bytes: bytes.Repeat(frame, 64)}, DefaultLimits().Frame)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOutput writes frames to a socket that is read, batch of them at a time.
func BenchmarkOutput(b *testing.B) {
	for name, pair := range pairs() {
		for _, size := range benchSizes {
			for _, batch := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/%d/batch=%d", name, size, batch), func(b *testing.B) {
					near, far := pair(b)
					drained := make(chan struct{})
					go func() {
						defer close(drained)
						_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{far}, make([]byte, 256<<10))
					}()
					o := NewOutput(near, 8<<20)
					r := benchRequest(size)
					b.SetBytes(int64(r.Size()))
					b.ReportAllocs()
					n := 0
					for b.Loop() {
						for put(o, r) != nil {
							if err := o.AwaitRoom(b.Context()); err != nil {
								b.Fatal(err)
							}
						}
						if n++; n%batch == 0 {
							o.Flush()
						}
					}
					if err := o.Close(b.Context()); err != nil {
						b.Fatal(err)
					}
					<-drained
				})
			}
		}
	}
}
