//go:build unix

package node

import "syscall"

// reservedFiles are kept for what a node opens besides its clients' connections:
// sockets, the log, and connections that are only being refused.
const reservedFiles = 64

// maxConnections is how many clients the process has file descriptors for, at
// most most: the rest are refused with a reason, rather than left unaccepted.
func maxConnections(most int) int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return most
	}
	have := min(uint64(files.Cur), uint64(most)+reservedFiles) // also keeps what is infinite within an int
	return max(1, int(have)-reservedFiles)
}
