package link

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	udpHeaderBytes = 8    // that a filter sees in front of a datagram
	firstQUICByte  = 0x40 // no packet of QUIC begins with less
	wholeDatagram  = 1 << 18
)

// thinOut puts the filter of ThinProbes on a socket, or takes it off.
func thinOut(socket net.PacketConn, offset int, word uint16, with, without uint32) error {
	conn, ok := socket.(syscall.Conn)
	if !ok {
		return errCannotThin
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	change := detach
	if with > 1 || without > 1 {
		program, err := bpf.Assemble(thinning(offset, word, with, without))
		if err != nil {
			return err
		}
		change = func(fd int) error { return attach(fd, program) }
	}
	var changed error
	err = raw.Control(func(fd uintptr) { changed = change(int(fd)) })
	return errors.Join(err, changed)
}

// attach replaces the filter of a socket.
func attach(fd int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, op := range program {
		filter[i] = unix.SockFilter{Code: op.Op, Jt: op.Jt, Jf: op.Jf, K: op.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// detach removes the filter of a socket, if there is one.
func detach(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// thinning is the filter in the kernel's language. A train of datagrams, which has one
// sender, is judged by its first.
func thinning(offset int, word uint16, with, without uint32) []bpf.Instruction {
	const hasWord, keep, drop = 7, 10, 11
	to := func(from, target uint8) uint8 { return target - from - 1 }
	return []bpf.Instruction{
		0:       bpf.LoadAbsolute{Off: udpHeaderBytes, Size: 1},
		1:       bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstQUICByte, SkipTrue: to(1, keep)},
		2:       bpf.LoadAbsolute{Off: udpHeaderBytes + uint32(offset), Size: 2},
		3:       bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(word), SkipTrue: to(3, hasWord)},
		4:       bpf.LoadExtension{Num: bpf.ExtRand},
		5:       bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: without},
		6:       bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: to(6, keep), SkipFalse: to(6, drop)},
		hasWord: bpf.LoadExtension{Num: bpf.ExtRand},
		8:       bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: with},
		9:       bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: to(9, keep), SkipFalse: to(9, drop)},
		keep:    bpf.RetConstant{Val: wholeDatagram},
		drop:    bpf.RetConstant{Val: 0},
	}
}
