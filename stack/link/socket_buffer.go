package link

import "log/slog"

// wantedReceiveBuffer is the receive buffer of a socket, in bytes, below which
// bursts are likely to be lost: what QUIC recommends.
const wantedReceiveBuffer = 7 << 20

// warnOfSmallBuffer tells an operator that the system grants too little.
func warnOfSmallBuffer(log *slog.Logger, granted int) {
	if granted == 0 || granted >= wantedReceiveBuffer {
		return
	}
	log.Warn("the UDP receive buffer is small: datagrams are lost in bursts, and links are slower than they could be",
		"bytes", granted, "wanted", wantedReceiveBuffer,
		"remedy", "as root, on Linux: sysctl -w net.core.rmem_max=7340032 (on BSD and macOS: kern.ipc.maxsockbuf), then start the node again")
}
