package link

import (
	"encoding/binary"
	"fmt"
)

// version is that of the protocol of the control stream and the lanes.
const version = 1

// Sizes of a hello: what is read of it, what it may grow to in versions to come,
// and the smallest limit for messages that makes sense.
const (
	helloBytes      = 6
	maxHelloBytes   = 1024
	minMessageLimit = 1024
)

// A hello is the first message each way on the control stream.
type hello struct {
	version    uint16
	maxMessage uint32 // bytes of a message that the sender accepts
}

// append encodes the hello.
func (h hello) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.version)
	return binary.BigEndian.AppendUint32(b, h.maxMessage)
}

// parseHello reads a hello. What follows the known fields is for other versions.
// An unknown version is not an error here.
func parseHello(b []byte) (hello, error) {
	if len(b) < helloBytes {
		return hello{}, fmt.Errorf("hello of %d bytes, less than %d", len(b), helloBytes)
	}
	h := hello{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])}
	if h.version == version && h.maxMessage < minMessageLimit {
		return hello{}, fmt.Errorf("hello with a limit of %d bytes, less than %d", h.maxMessage, minMessageLimit)
	}
	return h, nil
}
