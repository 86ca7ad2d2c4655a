package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A system is a running network of two servers with a service attached to the second.
type system struct {
	name    string
	ports   [2]int // where clients attach
	pids    [2]int // the servers
	service int    // process id
	env     []string
	profile string // folder for CPU profiles, empty for none
	closers []func() error
}

// stop ends what the system started, last first.
func (s *system) stop() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i](); err != nil {
			fmt.Fprintf(os.Stderr, "bench: stop %s: %v\n", s.name, err)
		}
	}
}

// A task is what a client or service process is told.
type task struct {
	System   string        `json:"system"`
	Port     int           `json:"port"`
	Workload workload      `json:"workload"`
	Time     time.Duration `json:"time"`
	Profile  string        `json:"profile"` // file, empty for none
}

// A result is what one run of a case brought.
type result struct {
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	Rate float64       `json:"rate"` // requests, or events and messages delivered to one subscriber, a second
	Lost float64       `json:"lost"` // share of what was published and not delivered

	Done float64       `json:"done"`         // requests, or messages delivered to one subscriber, in all
	CPU  time.Duration `json:"cpu_per_done"` // processor time of all processes of the system, for each of them
}

// measure runs a client process for one case.
func (s *system) measure(ctx context.Context, c workload, d time.Duration) (result, error) {
	t := task{System: s.name, Workload: c, Time: d, Port: s.ports[1]}
	if c.Cross {
		t.Port = s.ports[0]
	}
	if s.profile != "" {
		t.Profile = filepath.Join(s.profile, "client.pprof")
	}
	cmd, err := s.command(ctx, "client", t)
	if err != nil {
		return result{}, err
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	before := s.cpu()
	if err := cmd.Run(); err != nil {
		return result{}, err
	}
	used := s.cpu() - before + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, err
	}
	r.CPU = time.Duration(float64(used) / r.Done)
	return r, nil
}

// cpu is the processor time that servers and service have used so far.
func (s *system) cpu() time.Duration {
	return cpuOf(s.pids[0]) + cpuOf(s.pids[1]) + cpuOf(s.service)
}

// startService starts the service process at the second server and waits until it serves.
func (s *system) startService(ctx context.Context) error {
	t := task{System: s.name, Port: s.ports[1]}
	if s.profile != "" {
		t.Profile = filepath.Join(s.profile, "service.pprof")
	}
	cmd, err := s.command(ctx, "service", t)
	if err != nil {
		return err
	}
	stop, _, err := start(cmd)
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	s.closers = append(s.closers, stop)
	s.service = cmd.Process.Pid
	return nil
}

// command makes the command line of a process of this very program.
func (s *system) command(ctx context.Context, role string, spec any, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-role", role, "-spec", string(b)}, args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// start runs a process that prints a line when it is ready and ends when its
// stdin does. It returns how to end it, and the line.
func start(cmd *exec.Cmd) (stop func() error, line string, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(err, stop())
	}
	return stop, strings.TrimSpace(line), nil
}

// awaitEnd returns when stdin ends: the parent wants this process to stop.
func awaitEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }

// cpuOf reads a process's processor time, in steps of 10 ms; 0 where /proc does not tell.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the state on: utime and stime are 11 further
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// residentKiB reads a process's resident memory; 0 where /proc does not tell.
func residentKiB(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}
