package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	startPatience = 30 * time.Second // for the answer to info
	stopPatience  = 10 * time.Second // three times what docs/subject.md, Start and end, allows: the machine may be busy
	// releasePatience is for what a case has left open to be closed.
	releasePatience = 2 * time.Second
	maxLine         = 64 << 20
	logTail         = 4096
)

// Errors of a subject as a whole.
var (
	// ErrSubject says that the subject could not be started.
	ErrSubject = errors.New("conformance: the subject does not start")
	// ErrControl says that the subject breaks docs/subject.md.
	ErrControl = errors.New("conformance: the subject breaks the control protocol")
	errCrashed = errors.New("the subject is gone")
)

// Info is what a subject says of itself and its binding.
type Info struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Language string   `json:"language"`
	Protocol []int    `json:"protocol"`
	Features []string `json:"features"`
}

// A subject is a running subject. Safe for concurrent use.
type subject struct {
	info  Info
	dir   string // IRIS_RUNTIME_DIR
	cmd   *exec.Cmd
	in    io.WriteCloser
	done  chan struct{} // closed when the process has ended
	ended error         // of the process; set before done

	writing sync.Mutex // one line at a time

	mu       sync.Mutex // guards the fields below
	log      []byte     // the end of its standard error
	last     int        // id of a command
	waiting  map[int]*command
	conns    map[string]*player // by conn
	requests map[string]*player // by request
	broken   error              // it broke the control protocol
}

// A command is one that was sent, and its answer once done is closed.
type command struct {
	id     int
	op     string
	p      *player // nil: the runner's own
	done   chan struct{}
	answer answer
}

// An answer is what a command came to.
type answer struct {
	OK    map[string]any `json:"ok"`
	Error string         `json:"error"`
	Text  string         `json:"text"`
}

// A notice is what happened without a command.
type notice map[string]any

// startSubject starts the program and makes its acquaintance.
func startSubject(ctx context.Context, args []string, dir string) (*subject, error) {
	s := &subject{dir: dir, done: make(chan struct{}), waiting: map[int]*command{}, conns: map[string]*player{}, requests: map[string]*player{}}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = append(os.Environ(), "IRIS_RUNTIME_DIR="+dir)
	s.cmd.Stderr = s
	s.cmd.WaitDelay = time.Second
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.in = in
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSubject, err)
	}
	go func() { // ends with the process
		s.read(out)
		err := s.cmd.Wait()
		s.mu.Lock()
		s.ended = err
		s.mu.Unlock()
		close(s.done)
		s.lose()
	}()
	if err := s.meet(ctx); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// Write keeps the end of the subject's log.
func (s *subject) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, b...)
	if len(s.log) > 2*logTail {
		s.log = append([]byte(nil), s.log[len(s.log)-logTail:]...)
	}
	return len(b), nil
}

func (s *subject) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ToValidUTF8(string(s.log[max(0, len(s.log)-logTail):]), "?")
}

// meet asks for the info, and for what no subject can do.
func (s *subject) meet(ctx context.Context) error {
	a, err := s.ask(ctx, "info", startPatience)
	if errors.Is(err, ErrControl) {
		return err
	}
	if err == nil && a.Error == "gone" {
		err = errCrashed
	}
	if err != nil {
		return fmt.Errorf("%w: info: %w\n%s", ErrSubject, err, s.tail())
	}
	text, err := json.Marshal(a.OK)
	if err == nil {
		err = json.Unmarshal(text, &s.info)
	}
	if err != nil || a.Error != "" || s.info.Name == "" || len(s.info.Protocol) == 0 {
		return fmt.Errorf("%w: info was answered with %v %s %s", ErrControl, a.OK, a.Error, a.Text)
	}
	if a, err = s.ask(ctx, "dance-on-the-moon", startPatience); err != nil {
		return fmt.Errorf("%w: an op that does not exist: %w", ErrControl, err)
	}
	if a.Error != "unsupported" {
		return fmt.Errorf("%w: an op that does not exist was answered with %q, not unsupported", ErrControl, a.Error)
	}
	return nil
}

func (s *subject) ask(ctx context.Context, op string, patience time.Duration) (answer, error) {
	c, err := s.send(nil, map[string]any{"op": op})
	if err != nil {
		return answer{}, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.answer, s.failed()
	case <-timer.C:
		return answer{}, errPatience
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (s *subject) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// send sends a command on behalf of p.
func (s *subject) send(p *player, fields map[string]any) (*command, error) {
	c := &command{p: p, done: make(chan struct{})}
	c.op, _ = fields["op"].(string)
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.last++
	c.id = s.last
	s.waiting[c.id] = c
	if name, ok := fields["conn"].(string); ok && p != nil {
		s.conns[name] = p
	}
	s.mu.Unlock()
	fields["id"] = c.id
	line, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("%w: %w", errCrashed, err)
	}
	return c, nil
}

// read reads answers and notices until the subject closes its output.
func (s *subject) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := s.line(lines.Bytes()); err != nil {
			s.mu.Lock()
			s.broken = errors.Join(s.broken, fmt.Errorf("%w: %w: %.200s", ErrControl, err, lines.Bytes()))
			s.mu.Unlock()
			s.lose()
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
}

func (s *subject) line(text []byte) error {
	var l struct {
		ID *int `json:"id"`
		answer
		Notice string `json:"notice"`
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	switch {
	case l.Notice != "":
		var n notice
		if err := json.Unmarshal(text, &n); err != nil {
			return err
		}
		s.notify(n)
		return nil
	case l.ID == nil:
		return errors.New("neither an answer nor a notice")
	case (l.OK == nil) == (l.Error == ""):
		return errors.New("an answer has ok or error")
	}
	s.mu.Lock()
	c := s.waiting[*l.ID]
	delete(s.waiting, *l.ID)
	s.mu.Unlock()
	if c == nil {
		return errors.New("an answer to no command, or a second one")
	}
	s.answered(c, l.answer)
	return nil
}

func (s *subject) answered(c *command, a answer) {
	if c.p == nil {
		c.answer = a
		close(c.done)
		return
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.answer = a
	close(c.done)
	c.p.notifyLocked()
}

// notify gives a notice to the play that it belongs to.
func (s *subject) notify(n notice) {
	name, _ := n["conn"].(string)
	request, _ := n["request"].(string)
	s.mu.Lock()
	p := s.conns[name]
	if p == nil {
		p = s.requests[request]
	} else if request != "" {
		s.requests[request] = p
	}
	s.mu.Unlock()
	if p == nil {
		return // of a play that is over
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notices = append(p.notices, n)
	p.notifyLocked()
}

// lose tells all plays that the subject is gone.
func (s *subject) lose() {
	s.mu.Lock()
	waiting, plays := s.waiting, map[*player]bool{}
	s.waiting = map[int]*command{}
	for _, p := range s.conns {
		plays[p] = true
	}
	err := fmt.Errorf("%w: %v", errCrashed, s.ended)
	if s.broken != nil {
		err = s.broken
	}
	s.mu.Unlock()
	for p := range plays {
		p.fail(err)
	}
	for _, c := range waiting {
		s.answered(c, answer{Error: "gone", Text: err.Error()})
	}
}

// forget drops what belongs to a play that is over.
func (s *subject) forget(p *player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, of := range s.conns {
		if of == p {
			delete(s.conns, name)
		}
	}
	for name, of := range s.requests {
		if of == p {
			delete(s.requests, name)
		}
	}
}

// gone tells whether the process has ended.
func (s *subject) gone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// responds tells whether the subject still answers; one that does not is killed.
func (s *subject) responds(ctx context.Context) bool {
	if s.gone() {
		return false
	}
	a, err := s.ask(ctx, "info", stopPatience)
	if errors.Is(err, errPatience) {
		s.kill()
	}
	return err == nil && a.Error != "gone"
}

// stop ends the input; the subject has 3 seconds to exit with 0.
func (s *subject) stop() error {
	s.writing.Lock()
	_ = s.in.Close()
	s.writing.Unlock()
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ended != nil {
			return fmt.Errorf("%w: at the end of its input it ended with %w", ErrControl, s.ended)
		}
		return nil
	case <-timer.C:
		s.kill()
		return fmt.Errorf("%w: it goes on %v behind the end of its input", ErrControl, stopPatience)
	}
}

func (s *subject) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.in.Close()
	<-s.done
}
