package link

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Sizes of what one system call brings: the largest datagram train that the
// kernel makes, and the control messages with it.
const (
	trainBytes   = 64 << 10
	trainControl = 256
)

// A groConn receives with UDP_GRO: one system call brings a train of datagrams of
// the same sender and size, which ReadBatch hands out one by one. QUIC finds
// ReadBatch by itself, and sends through the embedded socket as ever. One
// goroutine reads.
type groConn struct {
	*net.UDPConn
	train   []byte // the buffer of the train
	rest    []byte // what of it was not handed out yet
	size    int    // of a datagram of the train; the last may be shorter
	control []byte // the buffer of the control messages
	passed  []byte // control messages that concern each datagram
	sender  *net.UDPAddr
}

// withReceiveOffload wraps a socket so that it receives with offload, if it is one
// that can.
func withReceiveOffload(socket net.PacketConn) (net.PacketConn, error) {
	udp, ok := socket.(*net.UDPConn)
	if !ok {
		return socket, nil
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	if err != nil {
		return nil, err
	}
	if optErr != nil {
		return socket, nil // a kernel before 5.0
	}
	return &groConn{UDPConn: udp, train: make([]byte, trainBytes), control: make([]byte, trainControl)}, nil
}

// ReadBatch fills messages with at least one datagram.
func (g *groConn) ReadBatch(messages []ipv4.Message, _ int) (int, error) {
	for len(g.rest) == 0 {
		if err := g.receive(); err != nil {
			return 0, err
		}
	}
	n := 0
	for n < len(messages) && len(g.rest) > 0 {
		datagram := g.rest[:min(g.size, len(g.rest))]
		m := &messages[n]
		m.N = copy(m.Buffers[0], datagram)
		m.NN = copy(m.OOB, g.passed)
		m.Addr = g.sender
		g.rest = g.rest[len(datagram):]
		n++
	}
	return n, nil
}

// receive waits for a train. An error of a single datagram (a host that cannot be
// reached, no memory for the moment) does not end the reader.
func (g *groConn) receive() error {
	n, controlN, _, from, err := g.ReadMsgUDPAddrPort(g.train, g.control)
	if err != nil {
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || !isTransient(err) {
			return err
		}
		return nil
	}
	// Datagrams keep the address, so it is made anew only when the sender changes.
	if g.sender == nil || g.sender.AddrPort() != from {
		g.sender = net.UDPAddrFromAddrPort(from)
	}
	g.rest = g.train[:n]
	g.splitControl(g.control[:controlN], n)
	return nil
}

// splitControl finds the size of the train's datagrams and keeps the other control
// messages, which hold for each of them.
func (g *groConn) splitControl(control []byte, n int) {
	g.size = max(n, 1)
	g.passed = g.passed[:0]
	for len(control) > 0 {
		header, body, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return
		}
		if header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO {
			if size := groSize(body); size > 0 {
				g.size = size
			}
		} else {
			g.passed = append(g.passed, control[:len(control)-len(rest)]...)
		}
		control = rest
	}
}

// groSize reads the datagram size from the control message: an int.
func groSize(body []byte) int {
	if len(body) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(body))
}

func isTransient(err error) bool {
	for _, errno := range []syscall.Errno{
		unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTDOWN,
		unix.ENOMEM, unix.ENOBUFS, unix.EINTR, unix.EPERM, unix.EMSGSIZE,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
