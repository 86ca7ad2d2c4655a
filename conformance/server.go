package conformance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A server is where a case awaits the subject's connections: a TCP port of its
// own, and sometimes the Unix socket that relay.md 1.3 derives from it.
type server struct {
	endpoint string // tcp, unix or unsafe
	dir      string // IRIS_RUNTIME_DIR of the subject
	port     int

	accepted chan accepted
	waits    sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	listeners []net.Listener
}

type accepted struct {
	net.Conn
	unix bool
}

func newServer(endpoint, dir string) (*server, error) {
	s := &server{endpoint: endpoint, dir: dir, accepted: make(chan accepted, 64)}
	return s, s.listen()
}

func (s *server) socket() string { return filepath.Join(s.dir, fmt.Sprintf("%d.sock", s.port)) }

// listen opens the port, the same one each time.
func (s *server) listen() error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	s.serve(l, false)
	if s.endpoint != "unix" && s.endpoint != "unsafe" {
		return nil
	}
	if s.endpoint == "unsafe" { // relay.md 1.4: others can write it
		if err := os.Chmod(s.dir, 0o777); err != nil {
			return err
		}
	}
	u, err := net.Listen("unix", s.socket())
	if err != nil {
		return err
	}
	if err := os.Chmod(s.socket(), 0o600); err != nil {
		return errors.Join(err, u.Close())
	}
	s.serve(u, true)
	return nil
}

func (s *server) serve(l net.Listener, unix bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	s.waits.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case s.accepted <- accepted{nc, unix}:
			default: // nobody awaits so many
				_ = nc.Close()
			}
		}
	})
}

// accept waits for a connection.
func (s *server) accept(patience time.Duration) (net.Conn, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-s.accepted:
		switch {
		case s.endpoint == "unix" && !a.unix:
			return nil, errors.Join(errors.New("it came over TCP although there is a socket (1.2)"), a.Close())
		case s.endpoint == "unsafe" && a.unix:
			return nil, errors.Join(errors.New("it came over a socket in a folder that others can write (1.4)"), a.Close())
		}
		return a.Conn, nil
	case <-timer.C:
		return nil, errPatience
	}
}

// close closes the port; listen opens it again.
func (s *server) close() {
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.listeners = nil
	s.mu.Unlock()
	s.waits.Wait()
	if s.endpoint == "unsafe" {
		_ = os.Chmod(s.dir, 0o700)
	}
	for {
		select {
		case a := <-s.accepted:
			_ = a.Close()
		default:
			return
		}
	}
}
