package relay

import (
	"fmt"
	"net"
	"strconv"
)

// Listen opens the endpoint for port: TCP on 127.0.0.1 and ::1, and the Unix
// socket of package endpoint. Only 127.0.0.1 is essential, and stands for the
// port: who has it owns the others. What else fails is a warning. With port 0
// the system chooses one. Connections have TCP_NODELAY set, as Go does.
func Listen(port int) (listeners []net.Listener, warnings []error, err error) {
	first, err := listenTCP("127.0.0.1", port)
	if err != nil {
		return nil, nil, fmt.Errorf("relay: listen at port %d: %w (if another node runs there, stop it or choose another port)", port, err)
	}
	port = first.Addr().(*net.TCPAddr).Port
	listeners = append(listeners, first)
	if l, err := listenTCP("::1", port); err != nil {
		warnings = append(warnings, fmt.Errorf("relay: listen on IPv6: %w", err))
	} else {
		listeners = append(listeners, l)
	}
	switch l, err := listenSocket(port); {
	case err != nil:
		warnings = append(warnings, fmt.Errorf("relay: listen at the Unix socket: %w", err))
	case l != nil:
		listeners = append(listeners, l)
	}
	return listeners, warnings, nil
}

func listenTCP(host string, port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}
